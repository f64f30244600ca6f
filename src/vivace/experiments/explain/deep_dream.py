"""Experiment: DeepDream on a photograph of yours."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.images import read_image
from vivace.base.parameters import FilePath, ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore, part_of
from vivace.cnn import efficientnet_lite0, fold_batch_norms, load_model
from vivace.explain import blurred, deep_dream, energy

QUICK = {"size": 192, "steps": 4, "layer": "blocks.9"}

DEPTHS = ("blocks.2", "blocks.9", "blocks.12")  # of EfficientNet-Lite0: strokes, eyes, things


@checked
def run(*, image: ImagePath = "chelsea", layer: str | None = None, weights: FilePath = None,
        size: Annotated[int, Ge(64), Le(2048)] = 400, octaves: Annotated[int, Ge(2), Le(8)] = 4,
        steps: Annotated[int, Ge(1), Le(200)] = 10, rate: Annotated[float, Gt(0), Le(0.2)] = 0.01, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """A photograph dreams: whatever a layer sees in it, it gets more of, from strokes to eyes.

    vivace run deep_dream --image me.jpg        20 s on one processor; four octaves add 2.7 times
                                                as much that is coarser than 32 pixels as one

    image: the photograph
    layer: what dreams, by its dotted name ("blocks.9"); where not given, three layers from shallow to deep
    weights: a network of yours, a file that `vivace run finetune` left; where not given, EfficientNet-Lite0
    size: the longer side in pixels that the photograph is reduced to
    octaves: at how many sizes it dreams, the smallest first
    steps: of the ascent at each size
    rate: how far a step moves a pixel, on average
    seed: the random moves
    """
    photo = read_image(image, max_side=size)
    model: nn.Module = load_model(weights)[0] if weights else fold_batch_norms(efficientnet_lite0(weights="imagenet"))
    if weights and layer is None:
        raise InputError("say which layer of your network dreams: --layer, by its dotted name")
    model = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    report = Report(
        "DeepDream: more of what the network sees",
        "Gradient ascent of $\\frac{1}{n} \\sum A^2$, the mean square of all that a layer puts out, from a photograph "
        "instead of noise. It begins on a small picture and goes on at larger ones, each with its own fine strokes.",
    )
    layers = [layer] if layer else list(DEPTHS)
    total = (len(layers) + 1) * octaves * steps
    dreams, frames = {"photograph": photo}, []

    def watch(step: Step) -> None:
        if step.image.shape == photo.shape:
            frames.append(step.image)
        tell(step)

    for number, name in enumerate(layers):
        heard = part_of(watch if number == len(layers) - 1 else tell, number * octaves * steps, total)
        g = torch.Generator().manual_seed(seed)
        dreams[name] = deep_dream(model, photo, energy(name), octaves=octaves, steps=steps, rate=rate, generator=g,
                                  tell=heard)  # fmt: skip
    g = torch.Generator().manual_seed(seed)
    once = deep_dream(model, photo, energy(layers[-1]), octaves=1, steps=octaves * steps, rate=rate, generator=g,
                      tell=part_of(tell, len(layers) * octaves * steps, total))  # fmt: skip
    with_octaves, without = (_coarse(dream - photo) for dream in (dreams[layers[-1]], once))
    report.claim("5.3.x3", with_octaves / without, low=1,
                 detail=f"share of what the dream added that is coarser than 32 pixels, in {octaves} octaves "
                 f"({with_octaves:.3f}) over that in one, of as many steps ({without:.3f}); {layers[-1]}")  # fmt: skip
    report.images("dreams", dreams, "Each layer has its own taste: shallow ones strokes, deep ones parts of animals "
                  "and things, since that is what the network learnt to see.")  # fmt: skip
    report.images("octaves", {"one size only": once, f"{octaves} octaves": dreams[layers[-1]]},
                  "The same number of steps: what begins on a small picture grows large.")  # fmt: skip
    if len(frames) > 1:
        report.video("dream", torch.stack(frames), fps=6, caption=f"The last octave: {layers[-1]} sets in.")
    tell(Step(total, total, "done"))
    return report


def _coarse(added: Tensor) -> float:
    """The share of a change's variance that is left when details finer than 32 pixels are taken away."""
    added = added[None] - added.mean()
    return float(blurred(added, 32 / 6).square().mean() / added.square().mean().clamp_min(1e-12))
