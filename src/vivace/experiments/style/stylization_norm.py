"""Experiment: instance against batch normalisation in a network that stylises."""

from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from vivace.base.images import crop_center, read_image
from vivace.base.parameters import FolderPath, ImagePath, Seed, checked
from vivace.base.report import Report, Tell, ignore, part_of
from vivace.experiments.standard_error import two_standard_errors
from vivace.experiments.stylizers import new_net, perceptual_loss, photograph, photographs, train_stylizer
from vivace.style import LITE0, FeedForward, PerceptualLoss, one_pass
from vivace.style.feed_forward import Normalization

QUICK = {"steps": 30, "repeats": 2, "side": 48, "batch_size": 2}

# a shallow look, so that many trainings take seconds
SHALLOW = replace(LITE0, content=LITE0.style[3:4], style=LITE0.style[:4], enlarge=1.0, margin=4)
KINDS: tuple[Normalization, ...] = ("instance", "batch")
CONTRASTS = (1.0, 0.5, 0.25)
SHOWN = "china"


@checked
def run(*, style: ImagePath = "swirls", data: FolderPath = None, steps: Annotated[int, Ge(20), Le(100_000)] = 60,
        repeats: Annotated[int, Ge(2), Le(20)] = 3, width: Annotated[int, Ge(1), Le(64)] = 8,
        side: Annotated[int, Ge(48), Le(256)] = 64, batch_size: Annotated[int, Ge(1), Le(64)] = 4, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """Networks learn a style with instance normalisation, and others with batch normalisation.

    vivace run stylization_norm        90 s on two cores; the loss with instance normalisation is the smaller

    style: the picture whose style is learned
    data: the folder of photographs to learn on; without it BSDS500's where VIVACE_DATA has them, or the shipped ones
    steps: of each training
    repeats: trainings of each kind, from other weights and on other crops
    width: channels of the networks at full size
    side: of the squares that are cut from the photographs
    batch_size: squares in one step
    seed: of the first of the trainings
    """
    painting = read_image(style, max_side=4 * side)
    loss = perceptual_loss(painting, gaze=SHALLOW)
    photos = photographs(data)
    some = [photograph(path, side=side) for path in photographs(data, part="test")[:16]]
    held_out = torch.stack([crop_center(photo, side) for photo in some])
    learned_on = torch.stack([crop_center(photograph(path, side=side), side) for path in photos[:64]])
    trainings = len(KINDS) * repeats
    found: dict[str, Tensor] = {}  # kind to (repeats, contrasts) of losses
    curves: dict[str, tuple[list[float], list[float]]] = {}
    shown = {"photograph": crop_center(read_image(SHOWN, max_side=320), 192)}
    for index, kind in enumerate(KINDS):
        rows = []
        for repeat in range(repeats):
            net = new_net(width, normalization=kind, seed=seed + repeat)
            first = (index * repeats + repeat) * steps
            fitted = train_stylizer(net, loss, photos, steps=steps, side=side, batch_size=batch_size,
                                    seed=seed + repeat, tell=part_of(tell, first, trainings * steps))  # fmt: skip
            _settle_averages(net, learned_on)
            told = fitted.history
            curves[f"{kind}, {repeat + 1}"] = [row["step"] for row in told], [row["train_loss"] for row in told]
            rows.append([_loss(net, loss, _faded(held_out, contrast)) for contrast in CONTRASTS])
        found[kind] = torch.tensor(rows)
        shown[f"{kind} normalisation"] = one_pass(net, shown["photograph"])
        shown[f"{kind}, contrast {CONTRASTS[-1]:g}"] = one_pass(net, _faded(shown["photograph"], CONTRASTS[-1]))
    report = Report(
        "Instance or batch normalisation",
        "Instance normalisation takes each channel's mean and deviation off every picture by itself, so the picture's "
        "own contrast is gone before the style is laid on. Batch normalisation subtracts the training's means from "
        f"all pictures alike. Small networks, {repeats} of each kind, learned the same style in {steps} steps.",
    )
    report.curve("training", curves, x="step", y="loss", log_y=True, caption="Each training's loss on its own crops.")
    report.images("pictures", shown, "The last network of each kind, at the photograph's own and at a low contrast.",
                  columns=3)  # fmt: skip
    table = [(f"{contrast:g}", *(f"{found[kind][:, i].mean():.3f}" for kind in KINDS), f"{_ratio(found, i).mean():.2f}")
            for i, contrast in enumerate(CONTRASTS)]  # fmt: skip
    report.table(
        "losses",
        ("contrast", *KINDS, "instance over batch"),
        table,
        f"Loss on {len(held_out)} photographs that were not learned on; means over {repeats} trainings.",
    )
    ratio = _ratio(found, 0)
    report.claim(
        "6.7.c4",
        float(ratio.mean()),
        high=1,
        spread=two_standard_errors(ratio),
        detail=f"loss with instance over that with batch normalisation, {repeats} pairs of trainings",
    )
    return report


def _ratio(found: dict[str, Tensor], contrast: int) -> Tensor:
    """Loss with instance normalisation over loss with batch normalisation, for each pair of trainings."""
    return found["instance"][:, contrast] / found["batch"][:, contrast]


@torch.no_grad()
def _settle_averages(net: FeedForward, pictures: Tensor) -> None:
    """Batch normalisation's running means and variances anew: after a short training they lag behind the weights."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all that is seen
    net.train()
    for batch in pictures.split(16):
        net(batch)
    net.eval()


@torch.no_grad()
def _loss(net: FeedForward, loss: PerceptualLoss, pictures: Tensor) -> float:
    return float(loss(net(pictures), pictures)[0])


def _faded(pictures: Tensor, contrast: float) -> Tensor:
    """Nearer to each picture's own mean colour."""
    mean = pictures.mean((-2, -1), keepdim=True)
    return mean + contrast * (pictures - mean)
