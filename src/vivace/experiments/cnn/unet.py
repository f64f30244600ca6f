"""Experiment: a class for every pixel: U-Net with and without its skips, and a fully convolutional network."""

from typing import Annotated

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
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import UNet, efficientnet_lite0
from vivace.cnn.fully_convolutional import FullyConvolutional

QUICK = {"steps": 120, "pictures": 48, "runs": 2}

TEXTURES = ("brick", "grass", "gravel")
COLORS = torch.tensor([[0.85, 0.35, 0.25], [0.25, 0.65, 0.3], [0.35, 0.45, 0.85]])
SIDE = 64
SEEDS = 4  # regions in a picture
BATCH = 8
NEAR = 3  # pixels from a border that count as near it
SIZES = ((64, 64), (61, 90), (33, 128))


@checked
def run(*, steps: Annotated[int, Ge(20), Le(20_000)] = 300, pictures: Annotated[int, Ge(16), Le(2000)] = 160,
        width: Annotated[int, Ge(2), Le(64)] = 8, runs: Annotated[int, Ge(1), Le(10)] = 3, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """Which texture is at each pixel: maps that shrink and grow back, and what skips are for.

    vivace run unet        2 min on two cores; near borders a U-Net without skips is 10 points worse or more

    steps: of 8 pictures each, for every network
    pictures: composed to learn from, of three shipped textures' left halves; tests are of their right halves
    width: channels at the top of the U-Net; the paper's has 64
    runs: networks of each kind
    seed: of the pictures and the first networks
    """
    train, test = (_composed(count, half, seed + place) for place, (count, half) in
                   enumerate(((pictures, "left"), (32, "right"))))  # fmt: skip
    report = Report(
        "U-Net: a class for every pixel",
        f"Pictures of {SIDE} x {SIDE} are put together from crops of brick, grass and gravel, in grey, with random "
        f"borders. Networks learn to say for each pixel which it is: {pictures} pictures, {steps} steps.",
    )
    kinds = ("U-Net", "without skips", "FCN-32s", "FCN-8s")
    whole, near = {kind: torch.zeros(runs) for kind in kinds}, {kind: torch.zeros(runs) for kind in kinds}
    border = _near_borders(test[1])
    said: dict[str, Int[Tensor, "n h w"]] = {}
    for turn in range(runs):
        for place, kind in enumerate(kinds):
            tell(Step(turn * len(kinds) + place, runs * len(kinds), f"{kind}, run {turn + 1}"))
            with seeded(seed + turn):
                said[kind], net = _learnt(kind, train, test[0], steps, width, seed + turn)
            if kind == "U-Net":
                unet = net
            right = said[kind] == test[1]
            whole[kind][turn], near[kind][turn] = 100 * right.float().mean(), 100 * right[border].float().mean()
    rows = [(kind, round(float(whole[kind].mean()), 1), round(float(near[kind].mean()), 1)) for kind in kinds]
    report.table("accuracy", ("network", "pixels right, %", f"within {NEAR} pixels of a border, %"), rows,
                 "FCN: EfficientNet-Lite0 as ImageNet left it, only scores and enlarging are learned.")  # fmt: skip
    tiles: dict[str, Tensor] = {}
    for i in range(3):
        tiles |= {f"{i + 1} picture": test[0][i], f"{i + 1} truth": _coloured(test[1][i])}
        tiles |= {f"{i + 1} {kind}": _coloured(said[kind][i]) for kind in kinds}
    report.images("pictures", tiles, "Red: brick, green: grass, blue: gravel.")
    with torch.no_grad():
        same = sum(unet(torch.rand(1, 3, *size)).shape[-2:] == size for size in SIZES)
    report.claim("4.9.x7", same, low=len(SIZES), detail=f"of {len(SIZES)} sizes, how many come back as they went in")
    for claim, better, worse, low, what in (
        ("4.9.x8", near["U-Net"], near["without skips"], 3, "near borders, U-Net less the same without skips"),
        ("4.9.x9", whole["FCN-8s"], whole["FCN-32s"], 3, "FCN-8s less FCN-32s"),
    ):
        gain = better - worse
        report.claim(claim, gain.mean(), low=low, spread=float(gain.std()) / runs**0.5 if runs > 1 else 0.0,
                     unit="points", detail=f"pixels right, {what}, {runs} runs")  # fmt: skip
    return report


def _composed(count: int, half: str, seed: int) -> tuple[Float[Tensor, "n 3 h w"], Int[Tensor, "n h w"]]:
    """Pictures of regions around random points, each filled from a random crop of a texture, and the textures."""
    generator = torch.Generator().manual_seed(seed)
    sources = []
    for name in TEXTURES:
        grey = read_image(name).mean(0)
        grey = F.avg_pool2d(grey[None], 2)[0]
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
    return images[:, None].expand(-1, 3, -1, -1).contiguous(), labels


def _near_borders(labels: Int[Tensor, "n h w"]) -> Bool[Tensor, "n h w"]:
    """Where two textures lie within a few pixels."""
    each = F.one_hot(labels, len(TEXTURES)).movedim(-1, 1).float()
    return F.max_pool2d(each, 2 * NEAR + 1, 1, NEAR).sum(1) > 1


def _learnt(kind: str, train: tuple[Tensor, Tensor], pictures: Tensor, steps: int, width: int, seed: int
            ) -> tuple[Int[Tensor, "n h w"], nn.Module]:  # fmt: skip
    """What a network of that kind says about the pictures once it has learnt, and the network."""
    images, labels = train
    if "Net" in kind or "skips" in kind:
        net: nn.Module = UNet(len(TEXTURES), width=width, depth=3, padded=True, norm=True, skips=kind == "U-Net")
        _train(net, [images], labels, steps, seed)
        with torch.no_grad():
            return net(pictures).argmax(1), net
    layers = ["head"] if kind == "FCN-32s" else ["blocks.4", "blocks.10", "head"]
    backbone = efficientnet_lite0(weights="imagenet")
    net = FullyConvolutional(backbone, layers, classes=len(TEXTURES))
    with torch.no_grad():
        maps, unseen = (activations(backbone, some, layers) for some in (images, pictures))
    _train(net, maps, labels, steps, seed, decode=True)
    with torch.no_grad():
        return net.decode(unseen).argmax(1), net


def _train(
    net: nn.Module, inputs: list[Tensor], labels: Tensor, steps: int, seed: int, *, decode: bool = False
) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer = AdamW([weight for name, weight in net.named_parameters() if not name.startswith("backbone")], lr=5e-3,
                      fused=True)  # fmt: skip
    schedule = OneCycleLR(optimizer, 1e-2, total_steps=steps)
    net.train()
    for _ in range(steps):
        some = torch.randint(len(labels), (BATCH,), generator=generator)
        given = [part[some] for part in inputs]
        logits = net.decode(given) if isinstance(net, FullyConvolutional) and decode else net(given[0])
        optimizer.zero_grad()
        F.cross_entropy(logits, labels[some]).backward()
        optimizer.step()
        schedule.step()
    net.eval()


def _coloured(labels: Int[Tensor, "h w"]) -> Float[Tensor, "3 h w"]:
    return COLORS[labels].movedim(-1, 0)
