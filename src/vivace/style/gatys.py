"""Neural style transfer: change a picture's pixels until a network sees one picture's content in another's style.

Gatys, Ecker, Bethge, "Image style transfer using convolutional neural networks" (2016), eq. 1 to 7.
In: content (3, H, W) and style (3, h, w), RGB, [0, 1], sides of at least 32. Out: the picture (3, H, W) in [0, 1].
Departs from the paper: errors are relative to their target's size, so that a weight means the same in every network.
By default also coarse to fine, from the content in the style's colours, with total variation and Grams that are centred
and half whitened; the paper: coarsest=None, init="noise", recolor=False, smoothness=0, center=False, whiten=0.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError, unknown
from vivace.base.hooks import activations, find_layer
from vivace.base.images import check_image, resize, total_variation
from vivace.base.progress import Step, Tell, ignore, part_of
from vivace.style.gram import gram_matrix

MIN_SIDE = 32  # below this the deepest layers have a pixel or two, and no statistics

Maps = list[Float[Tensor, "b _ _ _"]]
See = Callable[[Float[Tensor, "b 3 h w"]], tuple[Maps, Maps]]  # pictures to (content maps, style maps)
Layer = str | tuple[str, str]
Optimizer = Literal["lbfgs", "adam", "gd"]
Start = Literal["content", "noise", "style"]


@dataclass(frozen=True)
class Gaze:
    """Where to look in a network: layers by name, or (layer, the 1x1 convolution and norm that it feeds)."""

    content: tuple[Layer, ...]
    style: tuple[Layer, ...]
    enlarge: float = 1.0  # a network that halves its input at once sees strokes only in a larger picture
    margin: int = 8  # pixels mirrored around the picture, so that padding inside the network leaves no frame


# before the activations: after ReLU6, and in the blocks' narrow outputs, too much is lost
LITE0 = Gaze(
    content=(("blocks.4", "blocks.5.expand"),),
    style=("stem.norm", *((f"blocks.{i - 1}", f"blocks.{i}.expand") for i in (1, 2, 3, 4, 5, 6, 8))),
    enlarge=1.5,
)
VGG19 = Gaze(  # the paper's conv4_2, and conv1_1 to conv5_1, after their ReLU
    content=("features.22",),
    style=("features.1", "features.6", "features.11", "features.20", "features.29"),
)


def seeing(model: nn.Module, gaze: Gaze) -> See:
    """What `gatys` asks of a model: pictures in; content maps and style maps, the last of them the colours, out."""
    layers = [*gaze.content, *gaze.style]
    names = list(dict.fromkeys(layer if isinstance(layer, str) else layer[0] for layer in layers))
    folded = {layer: _folded(find_layer(model, layer[1])) for layer in layers if isinstance(layer, tuple)}

    def see(images: Float[Tensor, "b 3 h w"]) -> tuple[Maps, Maps]:
        x = F.pad(images, (gaze.margin,) * 4, mode="reflect")
        if gaze.enlarge != 1:
            x = F.interpolate(x, scale_factor=gaze.enlarge, mode="bilinear", align_corners=False)
        found = dict(zip(names, activations(model, x, names), strict=True))
        seen = {name: _inner(maps, gaze.margin / min(x.shape[-2:]) * gaze.enlarge) for name, maps in found.items()}
        maps = [seen[at] if isinstance(at, str) else F.conv2d(seen[at[0]], *folded[at]) for at in layers]
        return maps[: len(gaze.content)], [*maps[len(gaze.content) :], images]

    return see


def _inner(maps: Float[Tensor, "b c h w"], margin: float) -> Float[Tensor, "b c ih iw"]:
    """Maps without a margin, which is given as a share of the shorter side."""
    cells = math.ceil(margin * min(maps.shape[-2:]))
    return maps[..., cells : maps.shape[-2] - cells, cells : maps.shape[-1] - cells]


def _folded(unit: nn.Module) -> tuple[Float[Tensor, "r i 1 1"], Float[Tensor, " r"]]:
    """A 1x1 convolution and its norm as weight and bias with one output more than inputs, all distances kept.

    They put out W (x, 1). With W = QR, distances and Gram distances are those of R (x, 1), since Q's columns are
    orthonormal: an expansion from 24 to 144 channels costs the Gram of 25.
    """
    conv, norm = unit.get_submodule("conv"), unit.get_submodule("norm")
    weight = next(conv.parameters())
    probes = torch.eye(weight.shape[1] + 1).to(weight)[:, :-1]  # each input alone, then none
    with torch.no_grad():
        out = norm(conv(probes[..., None, None]))[..., 0, 0].double()
    W = torch.cat([out[:-1] - out[-1], out[-1:]]).T
    R = torch.linalg.qr(W).R.to(weight)
    return R[:, :-1, None, None], R[:, -1]


def gatys(
    see: See,
    content: Float[Tensor, "3 h w"],
    style: Float[Tensor, "3 sh sw"],
    *,
    steps: int = 60,
    content_weight: float = 0.2,
    style_weight: float = 1.0,
    layer_weights: Sequence[float] | None = None,
    center: bool = True,
    whiten: float = 0.5,
    smoothness: float = 0.1,
    recolor: bool = True,
    coarsest: int | None = 128,
    init: Start = "content",
    optimizer: Optimizer = "lbfgs",
    rate: float | None = None,
    generator: torch.Generator | None = None,
    tell: Tell = ignore,
) -> Float[Tensor, "3 h w"]:
    """The content in the style. `see` is what a network sees, such as `seeing(model, LITE0)`.

    steps: evaluations of the loss at full size; each coarser level takes twice as many, in half the time
    layer_weights: one for each style map, of which the proportions count; equal where not given
    center: take the style's mean off the features before their Gram, so that it is their variation that has to match
    whiten: 0 leaves the Grams as they are, 1 lets every direction in a layer's feature space count the same
    smoothness: weight of the total variation
    recolor: give the content the style's colours first
    coarsest: shorter side of the first level; more follow, each at most twice as large. None: full size only
    rate: step size of Adam (0.01 where not given) or of gradient descent (0.003)
    generator: for `init="noise"`
    """
    for image in (content, style):
        check_image(image)
        if min(image.shape[-2:]) < MIN_SIDE:
            found = " x ".join(str(side) for side in image.shape[-2:])
            raise InputError(f"style transfer needs pictures of at least {MIN_SIDE} x {MIN_SIDE}; this one is {found}")
    if recolor:
        content = recolored(content, style)
    shorter = min(content.shape[-2:])
    sides = _levels(shorter, coarsest or shorter)
    x = _start(init, content, style, generator)
    for index, side in enumerate(sides):
        size, style_size = (_scaled(image.shape[-2:], side / shorter) for image in (content, style))
        goal = Goal(see, resize(content, size)[None], resize(style, style_size)[None], layer_weights,
                    weights=(content_weight, style_weight, smoothness), center=center, whiten=whiten)  # fmt: skip
        turns = steps * 2 ** (len(sides) - 1 - index)
        heard = part_of(tell, steps * 2 ** len(sides) - 2 * turns, steps * (2 ** len(sides) - 1))
        x = _minimized(goal, resize(x, size), turns, optimizer, rate, heard).clamp(0, 1)
    return x[0]


class Goal:
    """What is minimised at one size (eq. 7): the targets are taken once, from pictures of that size."""

    def __init__(
        self,
        see: See,
        content: Float[Tensor, "1 3 h w"],
        style: Float[Tensor, "1 3 sh sw"],
        layer_weights: Sequence[float] | None = None,
        *,
        weights: tuple[float, float, float],
        center: bool,
        whiten: float,
    ) -> None:
        self.see, self.weights = see, weights
        with torch.no_grad():
            self.P, maps = see(content)[0], see(style)[1]
            self.styles = [StyleTarget(features, center=center, whiten=whiten) for features in maps]
        w = list(layer_weights or [1.0] * len(maps))
        if len(w) != len(maps) or min(w) < 0 or sum(w) == 0:
            raise InputError(f"layer weights are {len(maps)} numbers of at least 0 that are not all 0, not {w}")
        self.w = [w_l / sum(w) for w_l in w]

    def __call__(self, x: Float[Tensor, "1 3 h w"]) -> tuple[Tensor, Tensor, Tensor]:
        """The loss and, of it, the content's error and the style's."""
        content_maps, style_maps = self.see(x)
        errors = [(f - p).square().sum() / p.square().sum() for f, p in zip(content_maps, self.P, strict=True)]
        content = torch.stack(errors).mean()
        layers = zip(self.w, self.styles, style_maps, strict=True)
        style = torch.stack([w_l * target(f) for w_l, target, f in layers]).sum()
        alpha, beta, gamma = self.weights
        return alpha * content + beta * style + gamma * total_variation(x), content, style


class StyleTarget:
    """A layer's style: its Gram A, about the style's mean, and the measure in which others are compared with it."""

    def __init__(self, features: Float[Tensor, "1 c h w"], *, center: bool, whiten: float) -> None:
        self.mean = features.mean((2, 3), keepdim=True) * center
        self.A = gram_matrix(features - self.mean)
        values, vectors = torch.linalg.eigh(self.A.double())
        values = values.clamp_min(1e-6)  # a style without variation is a target, too
        shrunk = (values + 0.1 * values.mean()) ** -whiten  # few positions leave directions empty: not to be blown up
        self.root = ((vectors * shrunk.sqrt()[:, None]) @ vectors.mT).to(features)
        self.size = float((values * shrunk).square().sum())

    def __call__(self, features: Float[Tensor, "1 c h w"]) -> Float[Tensor, ""]:
        G = gram_matrix(features - self.mean)
        return (self.root @ (G - self.A) @ self.root).square().sum() / self.size


def recolored(image: Float[Tensor, "3 h w"], style: Float[Tensor, "3 sh sw"]) -> Float[Tensor, "3 h w"]:
    """The picture with the style's mean colour and covariance; what was lighter stays lighter.

    Both covariances are factored in the order luma, blue, red (Cholesky): luma becomes luma, scaled, and only then do
    the colours follow.
    """
    luma = torch.tensor([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]]).to(image).double()
    (x, mean, L), (_, style_mean, style_L) = (_colors(luma @ picture.flatten(1).double()) for picture in (image, style))
    moved = style_L @ torch.linalg.solve_triangular(L, x - mean, upper=False) + style_mean
    return torch.linalg.solve(luma, moved).to(image).view_as(image).clamp(0, 1)


def _colors(x: Float[Tensor, "3 n"]) -> tuple[Float[Tensor, "3 n"], Float[Tensor, "3 1"], Float[Tensor, "3 3"]]:
    """The colours, their mean, and the Cholesky factor of their covariance with a little grey noise (3 %) in it."""
    mean = x.mean(1, keepdim=True)
    covariance = (x - mean) @ (x - mean).T / x.shape[1]
    return x, mean, torch.linalg.cholesky(covariance + 1e-3 * torch.eye(3).to(x))


def _minimized(
    goal: Goal, x: Float[Tensor, "1 3 h w"], steps: int, optimizer: Optimizer, rate: float | None, tell: Tell
) -> Float[Tensor, "1 3 h w"]:
    """The picture after `steps` evaluations of the goal and its gradient."""
    x = x.clone().contiguous().requires_grad_()
    rounds, scale = steps, 1.0
    solver: torch.optim.Optimizer
    match optimizer:
        case "lbfgs":  # all in one call; it takes gradients as small as ours for zero, hence the scale
            solver = torch.optim.LBFGS([x], max_iter=steps, max_eval=steps, history_size=20, tolerance_grad=0,
                                       tolerance_change=0)  # fmt: skip
            rounds, scale = 1, 1e4
        case "adam":
            solver = torch.optim.Adam([x], lr=rate or 0.01, fused=True)
        case "gd":
            solver = torch.optim.SGD([x], lr=rate or 0.003)
        case _:
            raise unknown("optimizer", optimizer, get_args(Optimizer))
    size, done = f"{x.shape[-1]} x {x.shape[-2]}", 0

    def closure() -> Tensor:
        nonlocal done
        done += 1
        loss, content, style = goal(x)
        (x.grad,) = torch.autograd.grad(scale * loss, x)  # and none for the network's weights
        values = {"loss": loss.item(), "content": content.item(), "style": style.item()}
        tell(Step(done, steps, size, values, x.detach()[0].clamp(0, 1)))
        return scale * loss.detach()

    for _ in range(rounds):
        solver.step(closure)
    if not bool(x.isfinite().all()):
        raise InputError(f"{optimizer} diverged at {size}: take a smaller rate, or the optimizer lbfgs")
    return x.detach()


def _start(
    init: Start, content: Float[Tensor, "3 h w"], style: Float[Tensor, "3 sh sw"], generator: torch.Generator | None
) -> Float[Tensor, "1 3 h w"]:
    match init:
        case "content":
            return content[None]
        case "style":
            return resize(style, (content.shape[-2], content.shape[-1]))[None]
        case "noise":
            device = generator.device if generator else content.device
            return torch.rand(content[None].shape, generator=generator, device=device).to(content)
    raise unknown("start", init, get_args(Start))


def _levels(full: int, coarsest: int) -> list[float]:
    """The shorter side at each level, the coarsest first, in equal ratios of at most 2."""
    count = max(0, math.ceil(math.log2(full / coarsest)))
    return [full * (coarsest / full) ** (level / count) for level in range(count, 0, -1)] + [full]


def _scaled(size: torch.Size, scale: float) -> tuple[int, int]:
    return max(MIN_SIDE, round(size[0] * scale)), max(MIN_SIDE, round(size[1] * scale))
