"""Experiment: a class for every pixel: U-Net with and without its skips, and a fully convolutional network."""

from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from vivace.base.hooks import activations
from vivace.base.images import read_image
from vivace.base.parameters import Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore, part_of
from vivace.base.segmentation_data import Segmented, camvid
from vivace.cnn import FullyConvolutional, UNet, efficientnet_lite0
from vivace.learning import confusion_matrix

QUICK = {"steps": 80, "pictures": 48, "runs": 2}

TEXTURES = ("brick", "grass", "gravel")
COLORS = {
    "textures": ((217, 89, 64), (64, 166, 77), (89, 115, 217), (0, 0, 0)),
    "camvid": ((130, 190, 230), (150, 75, 60), (200, 200, 120), (110, 80, 130), (70, 70, 190), (60, 140, 50),
               (230, 150, 60), (120, 120, 120), (90, 20, 140), (235, 90, 90), (30, 200, 190), (0, 0, 0)),
}  # fmt: skip
SIDE = 128  # of composed pictures; FCN-32s has 4 x 4 cells on them
HEIGHT = 192  # of street scenes, 256 wide: both divide by 32
SEEDS = 6  # regions in a picture
BATCH = 4
NEAR = 3  # pixels from a border that count as near it
SIZES = ((64, 64), (61, 90), (33, 128))
LAYERS = ("blocks.4", "blocks.10", "head")  # at an 8th, a 16th and a 32nd of the size
KINDS = ("U-Net", "without skips", "FCN-32s", "FCN-8s")
UNTRAINED = "FCN-8s from nothing"


class Told(NamedTuple):
    """What one network says about the test pictures, and how right it is, in per cent."""

    labels: Int[Tensor, "n h w"]
    whole: float
    near: float
    overlap: float


@checked
def run(*, data: Literal["textures", "camvid"] = "textures", steps: Annotated[int, Ge(20), Le(20_000)] = 300,
        pictures: Annotated[int, Ge(16), Le(2000)] = 160, width: Annotated[int, Ge(2), Le(64)] = 8,
        runs: Annotated[int, Ge(1), Le(10)] = 3, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Which texture, or thing, is at each pixel: maps that shrink and grow back, and what skips are for.

    vivace run unet        2 min; near borders a U-Net without skips is some 13 points worse

    data: composed of three shipped textures, tested on their right halves; or CamVid's streets, from VIVACE_DATA
    steps: of 4 pictures each, for every network; U-Nets see a quarter of each picture
    pictures: to learn from; CamVid has 367
    width: channels at the top of the U-Net; the paper's has 64
    runs: networks of each kind
    seed: of the pictures and the first networks
    """
    train, test = _streets(pictures, tell) if data == "camvid" else _textures(pictures, seed)
    kinds = (*KINDS, UNTRAINED) if data == "camvid" else KINDS
    backbone = efficientnet_lite0(weights="imagenet")
    maps = [_maps(backbone, part.images) for part in (train, test)]
    told: dict[str, list[Told]] = {kind: [] for kind in kinds}
    for turn in range(runs):
        for place, kind in enumerate(kinds):
            now = part_of(tell, steps * (turn * len(kinds) + place), steps * runs * len(kinds))
            with seeded(seed + turn):
                net = _network(kind, backbone, len(train.classes), width)
                logits = _learnt(net, kind, train, test.images, maps, steps, seed + turn, now)
            told[kind].append(_told(logits.argmax(1), test))
            if kind == "U-Net":
                unet = net
    report = Report("U-Net: a class for every pixel", _summary(data, train, test, steps))
    _shown(report, data, test, told)
    _claims(report, told, unet)
    return report


def _summary(data: str, train: Segmented, test: Segmented, steps: int) -> str:
    height, width = train.images.shape[-2:]
    what = {
        "textures": f"Pictures of {height} x {width} are put together from crops of brick, grass and gravel, in grey, "
        "with random borders.",
        "camvid": f"Street scenes from a driving car (CamVid), {height} x {width} pixels, each pixel one of "
        f"{len(train.classes)} classes.",
    }
    return (
        f"{what[data]} Networks learn to say for each pixel which it is: {len(train.images)} pictures, {steps} steps, "
        f"{len(test.images)} others to test on."
    )


def _shown(report: Report, data: str, test: Segmented, told: dict[str, list[Told]]) -> None:
    rows = [(kind, *(round(float(np.mean(values)), 1) for values in list(zip(*all_runs, strict=True))[1:]))
            for kind, all_runs in told.items()]  # fmt: skip
    words = "FCN: EfficientNet-Lite0 as ImageNet left it, only scores and enlarging are learned. Overlap (mIoU): of "
    words += "the pixels that are of a class or were said to be, the share that both are, averaged over classes."
    if UNTRAINED in told:
        words += " From nothing: the same network untrained, learned in whole, from the same crops as the U-Nets."
    columns = ("network", "pixels right, %", f"within {NEAR} pixels of a border, %", "overlap, %")
    report.table("accuracy", columns, rows, words)
    tiles: dict[str, Tensor] = {}
    for row, i in enumerate(torch.linspace(0, len(test.images) - 1, 3).long().tolist(), 1):
        tiles |= {f"{row} picture": test.images[i], f"{row} truth": _coloured(test.labels[i], data)}
        tiles |= {f"{row} {kind}": _coloured(each[-1].labels[i], data) for kind, each in told.items()}
    named = {"textures": "Red: brick, green: grass, blue: gravel.",
             "camvid": "Brown: building, purple: road, blue: pavement, green: tree, violet: car, red: pedestrian, "
             "black: nobody said."}  # fmt: skip
    report.images("pictures", tiles, named[data], columns=len(tiles) // 3)


def _claims(report: Report, told: dict[str, list[Told]], unet: nn.Module) -> None:
    with torch.no_grad():
        same = sum(unet(torch.rand(1, 3, *size)).shape[-2:] == size for size in SIZES)
    report.claim("4.9.x7", same, low=len(SIZES), detail=f"of {len(SIZES)} sizes, how many come back as they went in")
    near, whole = ({kind: torch.tensor([getattr(each, field) for each in all_runs]) for kind, all_runs in told.items()}
                   for field in ("near", "whole"))  # fmt: skip
    for claim, better, worse, what in (
        ("4.9.x8", near["U-Net"], near["without skips"], "near borders, U-Net less the same without skips"),
        ("4.9.x9", whole["FCN-8s"], whole["FCN-32s"], "FCN-8s less FCN-32s"),
    ):
        gain = better - worse
        runs = len(gain)
        report.claim(claim, gain.mean(), low=3, spread=2 * float(gain.std()) / runs**0.5 if runs > 1 else 0.0,
                     unit="points", detail=f"pixels right, {what}, {runs} runs")  # fmt: skip


def _streets(pictures: int, tell: Tell) -> tuple[Segmented, Segmented]:
    """CamVid, so many of its pictures, spread over its videos, to learn from."""
    train, test = camvid("train", size=HEIGHT, tell=tell), camvid("val", size=HEIGHT, tell=tell)
    some = torch.linspace(0, len(train.images) - 1, min(pictures, len(train.images))).long()
    return Segmented(train.images[some], train.labels[some], train.classes), test


def _textures(count: int, seed: int) -> tuple[Segmented, Segmented]:
    """Of the textures' left halves to learn from, and 32 of their right halves."""
    return _composed(count, "left", seed), _composed(32, "right", seed + 1)


def _composed(count: int, half: str, seed: int) -> Segmented:
    """Pictures of regions around random points, each filled from a random crop of a texture."""
    generator = torch.Generator().manual_seed(seed)
    sources = []
    for name in TEXTURES:
        grey = F.avg_pool2d(read_image(name).mean(0, keepdim=True), 2)[0]
        middle = grey.shape[1] // 2
        sources.append(grey[:, :middle] if half == "left" else grey[:, middle:])
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    images, labels = torch.zeros(count, SIDE, SIDE), torch.zeros(count, SIDE, SIDE, dtype=torch.long)
    for i in range(count):
        points = SIDE * torch.rand(SEEDS, 2, generator=generator)
        nearest = ((y[..., None] - points[:, 0]).square() + (x[..., None] - points[:, 1]).square()).argmin(-1)
        kinds = torch.randint(len(TEXTURES), (SEEDS,), generator=generator)
        labels[i] = kinds[nearest]
        for kind, source in enumerate(sources):
            top, left = (int(torch.randint(n - SIDE + 1, (), generator=generator)) for n in source.shape)
            here = labels[i] == kind
            images[i][here] = source[top : top + SIDE, left : left + SIDE][here]
    return Segmented(images[:, None].expand(-1, 3, -1, -1).contiguous(), labels, TEXTURES)


@torch.no_grad()
def _maps(backbone: nn.Module, images: Tensor) -> list[Tensor]:
    """What the backbone's layers put out for all pictures: computed once, since it stays as it is."""
    batches = [activations(backbone, batch, LAYERS) for batch in images.split(8)]
    return [torch.cat(layer) for layer in zip(*batches, strict=True)]


def _network(kind: str, backbone: nn.Module, classes: int, width: int) -> nn.Module:
    if kind in ("U-Net", "without skips"):
        return UNet(classes, width=width, depth=3, padded=True, norm=True, skips=kind == "U-Net")
    if kind == UNTRAINED:
        return FullyConvolutional(efficientnet_lite0(), LAYERS, classes=classes)
    return FullyConvolutional(backbone, LAYERS if kind == "FCN-8s" else LAYERS[-1:], classes=classes)


def _learnt(net: nn.Module, kind: str, train: Segmented, unseen: Tensor, maps: list[list[Tensor]], steps: int,
            seed: int, tell: Tell) -> Float[Tensor, "n k h w"]:  # fmt: skip
    """What a network of that kind says about the unseen pictures once it has learnt."""
    generator = torch.Generator().manual_seed(seed)
    frozen = kind in ("FCN-32s", "FCN-8s")
    learning = [weight for name, weight in net.named_parameters() if not (frozen and name.startswith("backbone"))]
    optimizer = AdamW(learning, lr=5e-3, fused=True)
    schedule = OneCycleLR(optimizer, 1e-2, total_steps=steps)
    net.train(not frozen)
    for step in range(steps):
        tell(Step(step, steps, kind))
        some = torch.randint(len(train.labels), (BATCH,), generator=generator)
        if isinstance(net, FullyConvolutional) and frozen:
            labels = train.labels[some]
            logits = net.decode([layer[some] for layer in maps[0][-len(net.layers) :]])
        else:
            images, labels = _quarters(train.images[some], train.labels[some], generator)
            logits = net(images)
        optimizer.zero_grad()
        F.cross_entropy(logits, labels, ignore_index=len(train.classes)).backward()
        optimizer.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        if isinstance(net, FullyConvolutional) and frozen:
            return net.decode(maps[1][-len(net.layers) :])
        return torch.cat([net(batch) for batch in unseen.split(8)])


def _quarters(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same random quarter of all pictures and of their labels."""
    height, width = (side // 2 for side in labels.shape[-2:])
    top, left = (int(torch.randint(side + 1, (), generator=generator)) for side in (height, width))
    here = (..., slice(top, top + height), slice(left, left + width))
    return images[here], labels[here]


def _told(said: Int[Tensor, "n h w"], test: Segmented) -> Told:
    count = len(test.classes)
    known = test.labels < count
    right, near = said == test.labels, _near_borders(test.labels, count) & known
    table = confusion_matrix(test.labels[known].numpy(), said[known].numpy(), classes=count)
    both, either = table.diagonal(), table.sum(0) + table.sum(1) - table.diagonal()
    overlap = float(np.mean(both[either > 0] / either[either > 0]))
    return Told(said, *(100 * float(share) for share in (right[known].float().mean(), right[near].float().mean(),
                                                         overlap)))  # fmt: skip


def _near_borders(labels: Int[Tensor, "n h w"], classes: int) -> Bool[Tensor, "n h w"]:
    """Where two classes lie within a few pixels."""
    each = F.one_hot(labels, classes + 1)[..., :classes].movedim(-1, 1).float()
    return F.max_pool2d(each, 2 * NEAR + 1, 1, NEAR).sum(1) > 1


def _coloured(labels: Int[Tensor, "h w"], data: str) -> Float[Tensor, "3 h w"]:
    return torch.tensor(COLORS[data])[labels].movedim(-1, 0) / 255
