"""Experiment: what makes a style network smaller or faster, and what only seems to."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from vivace.base.cost import cost
from vivace.base.images import crop_center, middle_square, read_image, reduce_to
from vivace.base.parameters import FilePath, FolderPath, ImagePath, Seed, checked
from vivace.base.report import Report, Tell, ignore
from vivace.cnn import make_permanent, prune_magnitude, quantized, sparse_bytes, stored_bytes
from vivace.experiments.stylizers import STYLE_SIDE, learned, perceptual_loss, photographs, stylizer, train_stylizer
from vivace.experiments.timing import quickest
from vivace.experiments.training_flags import need_training
from vivace.style import FeedForward, one_pass, slimmed, ssim

QUICK = {"size": 192, "retrain": 0, "rounds": 3}

PICTURES = ("astronaut", "chelsea", "coffee", "china")
ZEROS = (0.5, 0.8)  # shares of weights
CHANNELS = (0.25, 0.5)  # shares of the residual blocks' inner channels


@checked
def run(*, content: ImagePath = "astronaut", style: ImagePath = "swirls", weights: FilePath = None,
        size: Annotated[int, Ge(96), Le(2048)] = 256, retrain: Annotated[int, Ge(0), Le(100_000)] = 40,
        data: FolderPath = None, rounds: Annotated[int, Ge(1), Le(100)] = 4, seed: Seed = 0, tell: Tell = ignore
        ) -> Report:  # fmt: skip
    """A style network pruned, slimmed, and in fewer bits.

    vivace run fast_inference        60 s on two cores, most of it to train the slimmed network a little

    content: the picture that is stylised
    style: the shipped network: swirls or poppies
    weights: a file of weights that a training left, instead
    size: the side of the square that is stylised
    retrain: steps in which the slimmed network gets used to what is gone; 0: none
    data: the folder of photographs for that; without it BSDS500's where VIVACE_DATA has them, or the shipped ones
    rounds: how often each time is taken; the least counts
    seed: of those steps
    """
    need_training(retrain, "--retrain", data=data)
    net = stylizer(learned(style, weights))
    photo = middle_square(read_image(content), size)
    others = [crop_center(reduce_to(read_image(name), 320), 192) for name in PICTURES]
    ways = _ways(net, torch.stack(others))
    if retrain:
        slim = slimmed(net, CHANNELS[-1])
        loss = perceptual_loss(read_image(style, max_side=STYLE_SIDE))
        train_stylizer(slim, loss, photographs(data), steps=retrain, rate=5e-4, seed=seed, tell=tell)
        ways.append(_Way(f"{CHANNELS[-1]:.0%} of channels out, {retrain} steps", slim, stored_bytes(slim), slim=True))
    made = {way.name: way(photo) for way in ways}
    first = made[ways[0].name]
    seconds = quickest([lambda way=way: way(photo) for way in ways], rounds=rounds)  # type: ignore[misc]
    likeness = [float(ssim(picture[None], first[None])) for picture in made.values()]
    macs = cost(net, (3, *photo.shape[-2:])).multiply_adds
    slim_macs = {way.name: cost(way.net, (3, *photo.shape[-2:])).multiply_adds for way in ways if way.slim}
    report = Report(
        "Pruned, slimmed, in fewer bits",
        "Ways to make a style network smaller. Zeros among the weights are multiplied like any number; channels that "
        "are gone are not. Each way's answer is compared with the network's own (SSIM, 1 for the same).",
    )
    rows = [(way.name, round(way.bytes / 1000), round(slim_macs.get(way.name, macs) / 1e6), f"{took:.3f}",
             f"{alike:.3f}") for way, took, alike in zip(ways, seconds, likeness, strict=True)]  # fmt: skip
    report.table("ways", ("", "kilobytes", "million multiply-adds", "seconds", "SSIM"), rows,
                 f"One picture of {photo.shape[-1]} x {photo.shape[-2]}, one thread; 8 bits are simulated, so their "
                 "time is not that of integer arithmetic.")  # fmt: skip
    shown = {f"{way.name}, SSIM {alike:.2f}": made[way.name] for way, alike in zip(ways, likeness, strict=True)}
    report.images("pictures", shown, "The same picture, each way.", columns=4)
    found = {way.name: place for place, way in enumerate(ways)}
    zeros, gone, eight = found[_zeros(ZEROS[-1])], found[_gone(CHANNELS[-1])], found[EIGHT]
    report.claim("6.7.c5", seconds[zeros] / seconds[0], high=0.6,
                 detail=f"seconds with {ZEROS[-1]:.0%} of the weights at zero, {seconds[zeros]:.3f}, over those of the "
                 f"whole network, {seconds[0]:.3f}")  # fmt: skip
    report.claim("6.7.x7", slim_macs[_gone(CHANNELS[-1])] / macs, high=0.8,
                 detail=f"multiply-adds without {CHANNELS[-1]:.0%} of the blocks' inner channels over all; seconds "
                 f"{seconds[gone] / seconds[0]:.2f}, bytes {ways[gone].bytes / ways[0].bytes:.2f}")  # fmt: skip
    report.claim("6.7.x8", likeness[eight], low=0.9,
                 detail=f"SSIM of the answer in 8 bits with the network's own, in "
                 f"{ways[eight].bytes / ways[0].bytes:.2f} of the bytes")  # fmt: skip
    return report


@dataclass(frozen=True)
class _Way:
    """A network made smaller, and what its file takes."""

    name: str
    net: nn.Module
    bytes: int
    dtype: torch.dtype = torch.float32
    slim: bool = False  # whether it has fewer channels

    def __call__(self, picture: Tensor) -> Tensor:
        return one_pass(self.net, picture.to(self.dtype)).float()


EIGHT = "8 bits"


def _ways(net: FeedForward, calibration: Tensor) -> list[_Way]:
    """The network itself first."""
    eight = quantized(net, calibration)
    half = deepcopy(net).bfloat16()
    ways = [_Way("32 bits", net, stored_bytes(net)), _Way("bfloat16", half, stored_bytes(half), torch.bfloat16),
            _Way(EIGHT, eight, stored_bytes(eight))]  # fmt: skip
    for share in ZEROS:
        pruned = deepcopy(net)
        prune_magnitude(pruned, share)
        make_permanent(pruned)
        ways.append(_Way(_zeros(share), pruned, sparse_bytes(pruned)))
    for share in CHANNELS:
        slim = slimmed(net, share).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        ways.append(_Way(_gone(share), slim, stored_bytes(slim), slim=True))
    return ways


def _zeros(share: float) -> str:
    return f"{share:.0%} zeros"


def _gone(share: float) -> str:
    return f"{share:.0%} of inner channels out"
