"""Experiment: class activation maps, and the heads that they and Grad-CAM need."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.images import middle_square, overlay, read_image
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import EfficientNetLite, class_names, efficientnet_lite0
from vivace.explain import cam, grad_cam, map_and_gradient

QUICK = {"pictures": 200}


@checked
def run(*, image: ImagePath = "chelsea", other: ImagePath = "coffee", seed: Seed = 0,
        pictures: Annotated[int, Ge(50), Le(10_000)] = 1000, tell: Tell = ignore) -> Report:  # fmt: skip
    """CAM is read off the classifier's weights; Grad-CAM finds the same weights, and others where there are none.

    vivace run cam        8 s on one processor; alpha Z = w to 16 digits, 8 of 10 heads have a Grad-CAM and 2 a CAM

    image: a picture, the left half of what is explained
    other: a second one, the right half: each half has its own class
    pictures: random pictures by which the weights for other heads' maps are sought
    seed: the random pictures and networks
    """
    report = Report(
        "CAM and Grad-CAM: when they are the same, and when only one exists",
        "$M_c(i,j) = \\sum_k w_k^c F_k(i,j)$ needs a weight for each map: a classifier directly on the maps' averages. "
        "Grad-CAM takes $\\alpha_k^c = \\frac{1}{Z} \\sum_{i,j} \\partial y^c / \\partial A^k_{ij}$ in its place.",
    )
    tell(Step(0, 2, "the backbone's maps"))
    _the_same_map(report, efficientnet_lite0(weights="imagenet"), image, other)
    tell(Step(1, 2, "other heads"))
    _heads(report, pictures, seed)
    tell(Step(2, 2, "done"))
    return report


def _the_same_map(report: Report, model: EfficientNetLite, left: str | Path, right: str | Path) -> None:
    """On a network with global average pooling: weights, means and signs of the two maps, in float64."""
    halves = [read_image(source, max_side=1024) for source in (left, right)]
    scene = torch.cat([middle_square(half, 224) for half in halves], dim=2)
    model, x = model.double(), scene[None].double()
    with torch.inference_mode():
        logits = model(x)[0]
        classes = [int(model(half).argmax()) for half in x.split(224, dim=3)] + [int(logits.argmin())]
    w, b = model.classifier.weight.detach(), model.classifier.bias.detach()
    batch = x.expand(len(classes), -1, -1, -1)
    M, L = cam(model, batch, classes), grad_cam(model, batch, classes)
    A, dy_dA = map_and_gradient(model, batch, classes)
    Z = A[0, 0].numel()
    alpha = dy_dA.mean((2, 3))
    names = [class_names()[c] for c in classes]
    off = (alpha * Z - w[classes]).abs().max() / w[classes].abs().max()
    report.claim("5.1.c3", off, high=1e-9,
                 detail=f"largest |alpha Z - w| over largest |w|; {len(alpha[0])} maps, {Z} positions")  # fmt: skip
    report.claim("5.1.c4", ((M.mean((1, 2)) + b[classes] - logits[classes]) / logits[classes]).abs().max(), high=1e-9,
                 detail=f"largest relative distance of mean(CAM) from the logit less its bias, in float64; the biases "
                 f"are {', '.join(f'{bias:.3f}' for bias in b[classes].tolist())}")  # fmt: skip
    report.claim("5.1.x5", (M[:2] < 0).double().mean(), high=0,
                 detail=f"share of the CAMs' {2 * Z} cells that are negative; Grad-CAM is 0 there, elsewhere CAM / Z "
                 f"(largest difference {float((M.relu() / Z - L).abs().max()):.0e})")  # fmt: skip
    signed, positive = ({"picture": scene} for _ in range(2))
    for name, m, heat in zip(names[:2], M.float(), L.float(), strict=False):
        signed[f"CAM: {name}"] = _signed(scene, m)
        positive[f"Grad-CAM: {name}"] = overlay(scene, heat / heat.max().clamp_min(1e-12))
    report.images("cam", signed, "CAM has a sign: red speaks for the class, blue against it.")
    report.images("grad_cam", positive, "Grad-CAM cuts off what speaks against: red says much, blue says nothing.")
    points = {name: (w[c], a * Z) for name, c, a in zip(names, classes, alpha, strict=True)}
    report.curve("weights", points, x="classifier's weight w", y="alpha Z", points=True,
                 caption="A point a map: Grad-CAM's mean gradients are the classifier's weights over Z.")  # fmt: skip


def _signed(picture: Tensor, values: Tensor) -> Tensor:
    """A map over a grey picture: red where it is positive, blue where negative, the stronger the farther from 0."""
    size = (picture.shape[1], picture.shape[2])
    m = F.interpolate((values / values.abs().max())[None, None], size=size, mode="bilinear")[0]
    color = torch.where(
        m > 0, torch.tensor([0.9, 0.1, 0.0])[:, None, None], torch.tensor([0.0, 0.2, 1.0])[:, None, None]
    )
    return torch.lerp(picture.mean(0, keepdim=True).expand(3, -1, -1), color, 0.8 * m.abs())


def _heads(report: Report, pictures: int, seed: int) -> None:
    """Ten heads on the same small body: can weights of maps make up the score, and does Grad-CAM find any?"""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(pictures, 3, 4, 4, generator=generator, dtype=torch.float64)
    x = F.interpolate(3 * noise, size=16, mode="bilinear")
    rows, as_expected, explained, errors = [], [], [], []
    for name, (net, score, averaged) in _networks(seed).items():
        left = _left_by_the_best_weights(net, x, score)
        has_cam = _finds(partial(cam, net, x, 0, layer="body"))
        works = _finds(partial(_alpha, net, x, score))
        as_expected.append((left < 1e-9) == averaged == has_cam)
        explained.append(works)
        if works:
            errors.append(_slope_error(net, x[:1], score))
        found = f"yes, alpha within {errors[-1]:.0e}" if works else "no"
        rows.append((name, f"{left:.1g}", "yes" if has_cam else "no", found))
    report.claim("5.1.c1", sum(as_expected) / len(rows), low=1,
                 detail=f"share of {len(rows)} heads for which the best weights of the maps' means leave nothing of "
                 f"the score's variance over {pictures} pictures (< 1e-9), and CAM is found, if and only if the head "
                 "is global average pooling and one linear layer")  # fmt: skip
    report.claim(
        "5.1.c2",
        sum(explained) / len(rows),
        low=1,
        detail=f"share of {len(rows)} CNNs, alike but for their heads, for which Grad-CAM finds weights",
    )
    report.claim("5.1.x6", max(errors), high=1e-5,
                 detail=f"the {len(errors)} differentiable heads: largest relative distance of alpha Z from the slope "
                 "of the score as a map is shifted, measured without autograd")  # fmt: skip
    columns = ("head", "variance that the best weights leave", "CAM", "Grad-CAM")
    report.table("heads", columns, rows, "CAM exists where a weight for each map makes up the score. Grad-CAM needs a "
                 "differentiable way from a spatial map to a score; a hard decision or a sign cuts it.")  # fmt: skip


Score = Callable[[Tensor], Tensor]


class Attention(nn.Module):
    """A weighted average over positions, the weights depending on what is there; then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.classifier = nn.Conv2d(8, 1, 1), nn.Linear(8, 5)

    def forward(self, A: Tensor) -> Tensor:
        a = (10 * self.query(A)).flatten(2).softmax(2)  # (B, 1, h*w)
        return self.classifier((A.flatten(2) * a).sum(2))


class Captions(nn.Module):
    """A recurrent network that starts from the picture's average features and says four words."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.word = nn.GRU(8, 16, batch_first=True), nn.Linear(16, 11)

    def forward(self, A: Tensor) -> Tensor:
        states, _ = self.recurrent(A.mean((2, 3))[:, None].expand(-1, 4, -1))
        return self.word(states).log_softmax(2)


class NearestPrototype(nn.Module):
    """A hard decision: 1 for the class whose prototype is nearest, 0 for the others."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.rand(5, 8))

    def forward(self, A: Tensor) -> Tensor:
        distances = torch.cdist(A.mean((2, 3)), self.prototypes)
        return F.one_hot(distances.argmin(1), 5).to(A)


class Signs(nn.Module):
    """A binarised network: only the signs of the maps go on."""

    def forward(self, A: Tensor) -> Tensor:
        return torch.sign(A - 0.05)


def first_class(output: Tensor) -> Tensor:
    return output[:, 0]


def caption(output: Tensor) -> Tensor:
    """The log-probability of one sentence of four words."""
    return output[:, range(4), (3, 1, 4, 1)].sum(1)


def _networks(seed: int) -> dict[str, tuple[nn.Sequential, Score, bool]]:
    """Ten CNNs that differ in their heads alone; the score to explain; is it averages and one linear layer?"""

    flat = nn.Flatten()

    def averages(*rest: nn.Module) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), flat, *rest)

    def two_layers(inputs: int) -> list[nn.Module]:
        return [nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, 5)]

    with seeded(seed):
        heads: dict[str, tuple[nn.Module, Score, bool]] = {
            "average, linear": (averages(nn.Linear(8, 5)), first_class, True),
            "average, dropout, linear": (averages(nn.Dropout(), nn.Linear(8, 5)), first_class, True),
            "average, two layers": (averages(*two_layers(8)), first_class, False),
            "maximum, linear": (nn.Sequential(nn.AdaptiveMaxPool2d(1), flat, nn.Linear(8, 5)), first_class, False),
            "all positions, linear": (nn.Sequential(flat, nn.Linear(1152, 5)), first_class, False),
            "all positions, two layers": (nn.Sequential(flat, *two_layers(1152)), first_class, False),
            "attention, linear": (Attention(), first_class, False),
            "caption of four words": (Captions(), caption, False),
            "signs, average, linear": (nn.Sequential(Signs(), averages(nn.Linear(8, 5))), first_class, False),
            "nearest prototype": (NearestPrototype(), first_class, False),
        }
        body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    return {
        name: (nn.Sequential(OrderedDict(body=body, head=head)).double().eval(), score, averaged)
        for name, (head, score, averaged) in heads.items()
    }


def _left_by_the_best_weights(net: nn.Sequential, x: Tensor, score: Score) -> float:
    """The share of the score's variance that no weighted sum of the maps' means explains."""
    with torch.inference_mode():
        y, means = score(net(x)), net[0](x).mean((2, 3))
    y, means = y - y.mean(), means - means.mean(0)
    left = y - means @ torch.linalg.lstsq(means, y[:, None]).solution[:, 0]
    return float(left.square().sum() / y.square().sum())


def _alpha(net: nn.Module, x: Tensor, score: Score) -> Tensor:
    """Grad-CAM's weights times Z: (B, K)."""
    _, dy_dA = map_and_gradient(net, x, score, layer="body")
    return dy_dA.sum((2, 3))


def _slope_error(net: nn.Sequential, x: Tensor, score: Score) -> float:
    """alpha Z against the change of the score as a whole map is shifted, relative to the largest."""
    e, alpha = 1e-5, _alpha(net, x, score)[0]
    with torch.inference_mode():
        body, head = net
        A = body(x)
        shifts = e * torch.eye(len(alpha), dtype=A.dtype)[:, :, None, None]  # one map each
        slopes = (score(head(A + shifts)) - score(head(A - shifts))) / (2 * e)
    return float((alpha - slopes).abs().max() / alpha.abs().max())


def _finds(explain: Callable[[], Tensor]) -> bool:
    """Whether there is an explanation at all, and one that is not zero everywhere."""
    try:
        return bool(explain().any())
    except InputError:
        return False
