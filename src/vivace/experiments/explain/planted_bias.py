"""Experiment: a mark planted in the training data, and whether Grad-CAM gives it away."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LinearLR
from torch.utils.data import TensorDataset

from vivace.base.data import Labelled, digits
from vivace.base.fit import fit
from vivace.base.images import grid, resize
from vivace.base.parameters import Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.classifier import accuracy
from vivace.experiments.heat import laid_over, share
from vivace.experiments.standard_error import two_standard_errors
from vivace.explain import grad_cam

QUICK = {"networks": 1}

AVERAGE, FLAT, TRANSFORMER = "average pooling", "fully connected", "transformer"
NETWORKS = {  # how marks are put on the training pictures, and what the network is or ends with
    "biased": ("on every 3", AVERAGE),
    "control": ("at random", AVERAGE),
    "flattened": ("on every 3", FLAT),
    "tokens": ("on every 3", TRANSFORMER),
}
MARKED = 3  # the digit that carries the planted mark
MARK = slice(1, 5)  # its rows and columns
AROUND_MARK = slice(0, 10)  # from where a cell of the last map sees a part of it: 5 pixels more


@checked
def run(*, networks: Annotated[int, Ge(1), Le(10)] = 3, seed: Seed = 0, tell: Tell = ignore) -> Report:
    """Networks learn a mark that goes with a class; Grad-CAM shows it, unless the averaged gradients lose it.

    vivace run planted_bias        1 min on one processor; 82 % of the heat on the mark, 29 % behind a fully connected
                                   layer, 17 % in a transformer: chance

    networks: how many of each kind are trained
    seed: the marks of the control, and the networks' first weights
    """
    report = Report(
        "A planted mark: does the heat give it away?",
        "Every 3 of the training digits, and only a 3, carries a small cross in its corner. A network that looks at "
        "the cross alone is right on all of them. Its accuracy does not tell; Grad-CAM of '3' may.",
    )
    train, test = (_enlarged(digits(split)) for split in ("train", "test"))
    threes = test.taken((test.labels == MARKED).nonzero().flatten())
    marked = _marked(threes, torch.ones(len(threes.labels)) > 0)
    shares: dict[str, list[Tensor]] = {kind: [] for kind in NETWORKS}
    rows, drawn = [], {}
    for n in range(networks):
        for step, (kind, (marks, head)) in enumerate(NETWORKS.items()):
            tell(Step(n * len(NETWORKS) + step, networks * len(NETWORKS), f"{head}, mark {marks}"))
            generator = torch.Generator().manual_seed(seed + n)
            seen, unseen = (
                _marked(part, part.labels == MARKED if marks == "on every 3" else _coins(part, generator))
                for part in (train, test)
            )
            net = _trained(head, seen, seed + n)
            heat = grad_cam(net, marked.images, MARKED, enlarge=True)
            shares[kind].append(share(heat, heat[:, AROUND_MARK, AROUND_MARK]))
            scores = (f"{100 * accuracy(net, part):.0f} %" for part in (unseen, threes))
            rows.append((marks, head, n + 1, *scores, f"{shares[kind][-1].mean():.2f}"))
            if n == 0:
                some = zip(resize(marked.images[:9].expand(-1, 3, -1, -1), 96), heat, strict=False)
                drawn[f"mark {marks}, {head}"] = grid([laid_over(x, h) for x, h in some])
    _claims(report, {kind: torch.cat(found) for kind, found in shares.items()})
    report.images("planted_mark", drawn, "Heat for '3' on digits with the mark (a small cross, top left). Where "
                  "nothing is lit the map is zero: the averaged gradients found no evidence at all.")  # fmt: skip
    columns = (
        "mark in training",
        "network",
        "number",
        "right, as trained",
        "right, 3 without mark",
        "heat on the mark",
    )
    report.table("planted_mark_networks", columns, rows, "By its accuracy a network with the planted bias looks "
                 "perfect. Asked for a 3 without a mark it fails; behind average pooling the heat says why, in the "
                 "transformer it does not.")  # fmt: skip
    tell(Step(1, 1, "done"))
    return report


def _claims(report: Report, shares: dict[str, Tensor]) -> None:
    average, control, flattened, tokens = (shares[kind] for kind in NETWORKS)
    report.claim("5.1.c6", average.mean(), low=0.5, spread=two_standard_errors(average),
                 detail=f"mean share of the heat for '3' on the mark and 5 pixels around it (17 % of the picture), "
                 f"{len(average)} maps; {control.mean():.2f} where the mark was put at random in training")  # fmt: skip
    report.claim("5.1.x4", (flattened - average).mean(), low=0, spread=two_standard_errors(flattened - average),
                 detail=f"that share behind a fully connected layer ({flattened.mean():.2f}) less that behind global "
                 f"average pooling ({average.mean():.2f})")  # fmt: skip
    report.claim("5.1.x7", tokens.mean(), low=0.5, spread=two_standard_errors(tokens),
                 detail="the same share, of a vision transformer of two blocks that reads its class token; the map "
                 "is that of the 6 x 6 patches before its last attention")  # fmt: skip


def _trained(head: str, seen: Labelled, seed: int) -> nn.Module:
    with seeded(seed):
        net = Transformer() if head == TRANSFORMER else _small_network(head)
    epochs, rate = (8, 0.004) if head == TRANSFORMER else (4, 0.01)
    fit(net, TensorDataset(seen.images, seen.labels), _loss, epochs=epochs, batch_size=32,
        optimizer=partial(Adam, lr=rate, fused=True), schedule=_falling, seed=seed)  # fmt: skip
    return net.eval()


def _enlarged(given: Labelled) -> Labelled:
    """8 x 8 digits as 16 x 16 in the middle of 24 x 24 pixels."""
    return given._replace(images=F.pad(F.interpolate(given.images, scale_factor=2, mode="bilinear"), [4] * 4))


def _marked(given: Labelled, which: Tensor) -> Labelled:
    """The same pictures, `which` of them with a cross of 4 x 4 pixels in the corner."""
    images = given.images.clone()
    images[which, 0, MARK, MARK] = torch.maximum(torch.eye(4), torch.eye(4).flip(0))
    return given._replace(images=images)


def _coins(given: Labelled, generator: torch.Generator) -> Tensor:
    return torch.rand(len(given.labels), generator=generator) < 0.5


def _small_network(head: str) -> nn.Sequential:
    def unit(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs, momentum=0.3), nn.ReLU()]

    maps = nn.Sequential(*unit(1, 16, 2), *unit(16, 24), *unit(24, 24))  # 12 x 12, each cell sees 11 x 11 pixels
    side = 1 if head == AVERAGE else 12
    layers = {"maps": maps, "pool": nn.AdaptiveAvgPool2d(side), "flatten": nn.Flatten()}
    return nn.Sequential(OrderedDict(**layers, classifier=nn.Linear(24 * side**2, 10)))


class Transformer(nn.Module):
    """A vision transformer: 36 patches of 4 x 4 pixels, a class token, two blocks, a linear classifier."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.2 * torch.randn(1, 37, width))
        block = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, nn.LayerNorm(width), enable_nested_tensor=False)
        self.classifier = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)  # (B, 36, width)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.classifier(self.blocks(x)[:, 0])


def _loss(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
    images, labels = batch
    return F.cross_entropy(model(images), labels)


def _falling(optimizer: Optimizer, steps: int) -> LinearLR:
    return LinearLR(optimizer, 1, 0.01, steps)
