"""Experiment: the gradients of convolution and pooling made by hand, and a network trained with nothing else."""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Float, Int
from torch import Tensor

from vivace.base.data import Labelled, digits
from vivace.base.images import middle_square, read_image
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import (
    average_pool2d_backward,
    bias_gradient,
    convolution_backward,
    input_gradient,
    max_pool2d_backward,
    max_pool2d_recorded,
    weight_gradient,
)

QUICK = {"settings": 100, "epochs": 10}

EXACT = 1e-12  # of the largest gradient, in float64: rounding
BATCH = 32


@checked
def run(*, image: ImagePath = "chelsea", settings: Annotated[int, Ge(10), Le(10_000)] = 500,
        epochs: Annotated[int, Ge(1), Le(100)] = 20, rate: Annotated[float, Gt(0), Le(1)] = 0.1, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """Gradients through convolution and pooling by hand: which recipe is right, and a network trained with it.

    vivace run convolution_backward        2 s on two cores; autograd's gradients to 1e-15, 95 % of digits by hand

    image: the picture on which is shown where the gradients of pooling go
    settings: how many random kernels, strides, paddings, dilations and groups are compared with autograd
    epochs: how often the network sees 1439 digits
    rate: its learning rate
    seed: all random numbers
    """
    report = Report(
        "Backward through convolution and pooling, by hand",
        "Forward $y_p = b + \\sum_k w_k x_{p+k}$. Backward, with $g = \\partial L / \\partial y$: "
        "$\\partial L / \\partial w_k = \\sum_p g_p x_{p+k}$ is a correlation of input and gradient, "
        "$\\partial L / \\partial x_q = \\sum_k g_{q-k} w_k$ a full convolution with the kernel turned by 180 degrees, "
        "and $\\partial L / \\partial b = \\sum_p g_p$. Everything is compared with torch's autograd in float64.",
    )
    generator = torch.Generator().manual_seed(seed)
    _recipes(report, generator)
    _any_setting(report, settings, generator)
    _pooling(report, generator)
    _where_gradients_go(report, read_image(image).expand(3, -1, -1))
    _training(report, epochs, rate, seed, tell)
    return report


def _recipes(report: Report, generator: torch.Generator) -> None:
    """What is taught for the weight, and what is right for weight and input, on a 3 x 3 kernel (c2, c3, c4, x1)."""
    x, w, g = (_noise(generator, 1, 1, *size) for size in ((8, 8), (3, 3), (6, 6)))
    true_dx, true_dw = _autograd(x, w, g)
    turned = {
        "correlation of input and turned gradient": F.conv2d(x, g.flip(2, 3)),
        "correlation of input and gradient, then turned": F.conv2d(x, g).flip(2, 3),
    }
    border = F.pad(g, (2, 2, 2, 2))
    one = torch.stack([g[0, 0, p, q] * x[0, 0, p : p + 3, q : q + 3] for p in range(6) for q in range(6)])
    weights = {name: _error(found, true_dw) for name, found in turned.items()} | {
        "one output position alone (the nearest of 36)": min(_error(each, true_dw) for each in one),
        "sum over all output positions": _error(one.sum(0)[None, None], true_dw),
        "correlation of input and gradient": _error(weight_gradient(g, x, (3, 3)), true_dw),
    }
    inputs = {
        "full convolution, kernel not turned": _error(F.conv2d(border, w), true_dx),
        "full convolution, kernel turned by 180 degrees": _error(input_gradient(g, w, (8, 8)), true_dx),
    }
    rows = [(what, recipe, f"{error:.1e}", "right" if error < EXACT else "wrong")
            for what, errors in (("kernel", weights), ("input", inputs))
            for recipe, error in errors.items()]  # fmt: skip
    report.table("recipes", ("gradient of the", "recipe", "error", ""), rows, "A 3 x 3 kernel on 8 x 8 numbers; the "
                 "largest error as a share of the largest gradient.")  # fmt: skip
    report.claim("4.5.c2", min(weights[name] for name in turned), high=EXACT,
                 detail="error of the kernel's gradient if anything is turned, in the better of two readings; without "
                 f"turning {weights['correlation of input and gradient']:.1e}")  # fmt: skip
    report.claim("4.5.c3", inputs["full convolution, kernel turned by 180 degrees"], high=EXACT,
                 detail="error of the input's gradient; with the kernel not turned "
                 f"{inputs['full convolution, kernel not turned']:.2f}")  # fmt: skip
    report.claim("4.5.c4", weights["one output position alone (the nearest of 36)"], high=EXACT,
                 detail="error of dL/dy times dy/dw at one output position, the nearest of 36")  # fmt: skip
    report.claim("4.5.x1", weights["sum over all output positions"], high=EXACT,
                 detail="error of the sum of dL/dy_p times dy_p/dw over all output positions p")  # fmt: skip


def _noise(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _error(found: Tensor, true: Tensor) -> float:
    """The largest difference as a share of the largest true value; 0 where all of both are zero."""
    apart = float((found - true).abs().max())
    return apart / float(true.abs().max()) if apart else 0.0


def _autograd(x: Tensor, w: Tensor, g: Tensor, b: Tensor | None = None, **setting: Any) -> tuple[Tensor, ...]:
    given = [tensor.clone().requires_grad_() for tensor in (x, w, b) if tensor is not None]
    bias = given[2] if b is not None else None
    return torch.autograd.grad(F.conv2d(given[0], given[1], bias, **setting), given, g)


def _any_setting(report: Report, count: int, generator: torch.Generator) -> None:
    """Stride, padding, dilation and groups at random (x2)."""

    def one(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    worst = torch.zeros(3)
    for _ in range(count):
        groups, k = one(1, 3), one(1, 5)
        setting = {"stride": one(1, 4), "padding": one(0, 4), "dilation": one(1, 3), "groups": groups}
        size = setting["dilation"] * (k - 1) + 1
        x = _noise(generator, one(1, 3), groups * one(1, 3), size + one(0, 9), size + one(0, 9))
        w = _noise(generator, groups * one(1, 3), x.shape[1] // groups, k, k)
        b = _noise(generator, len(w))
        g = _noise(generator, *F.conv2d(x, w, b, **setting).shape)
        pairs = zip(convolution_backward(g, x, w, **setting), _autograd(x, w, g, b, **setting), strict=True)
        worst = worst.maximum(torch.tensor([_error(ours, true) for ours, true in pairs]))
    report.claim("4.5.x2", worst.max(), high=EXACT, detail=f"largest error in {count} random settings: input "
                 f"{worst[0]:.1e}, kernel {worst[1]:.1e}, bias {worst[2]:.1e}")  # fmt: skip


def _pooling(report: Report, generator: torch.Generator) -> None:
    """Windows of four: to the maximum alone (c1), to the first of equals (c5), to all alike (c6)."""
    g = torch.tensor([[[[7.0]]]], dtype=torch.float64)

    def gradient(window: list[list[float]]) -> Tensor:
        given = torch.tensor([[window]], dtype=torch.float64)
        ours = max_pool2d_backward(g, max_pool2d_recorded(given, 2)[1], (2, 2))
        given.requires_grad_()
        (theirs,) = torch.autograd.grad(F.max_pool2d(given, 2), given, g)
        return torch.stack([ours[0, 0], theirs[0, 0]]) / 7

    only, tie = gradient([[1, 4], [2, 3]]), gradient([[2, 2], [2, 2]])
    report.claim("4.5.c1", (only - torch.tensor([[0.0, 1], [0, 0]])).abs().max(), high=0,
                 detail=f"[[1, 4], [2, 3]]: shares of the gradient {only[0].tolist()}, by both")  # fmt: skip
    report.claim("4.5.c5", (tie - torch.tensor([[1.0, 0], [0, 0]])).abs().max(), high=0,
                 detail=f"four equal values: shares of the gradient {tie[0].tolist()}, by both")  # fmt: skip
    average = average_pool2d_backward(g, (2, 2), 2)[0, 0] / 7
    maps, gradients = _noise(generator, 2, 3, 9, 9).requires_grad_(), _noise(generator, 2, 3, 4, 4)
    (true,) = torch.autograd.grad(F.avg_pool2d(maps, 3, 2), maps, gradients)
    overlapping = _error(average_pool2d_backward(gradients, (9, 9), 3, stride=2), true)
    report.claim("4.5.c6", max(float((average - 0.25).abs().max()), overlapping), high=EXACT,
                 detail=f"largest distance from a share of 0.25 each; overlapping windows against autograd "
                 f"{overlapping:.1e}")  # fmt: skip
    equal = torch.ones(1, 1, 2, 2, requires_grad=True)
    (shared,) = torch.autograd.grad(equal.amax((2, 3)).sum(), equal)
    report.claim("4.5.x3", (shared - torch.tensor([[1.0, 0], [0, 0]])).abs().max(), high=0,
                 detail=f"torch's amax over four equal values: shares {shared[0, 0].tolist()}")  # fmt: skip


def _where_gradients_go(report: Report, picture: Float[Tensor, "3 h w"]) -> None:
    """A gradient of one for each window, led back through one to three poolings to the pixels of a picture."""
    square = middle_square(picture, 96)
    maps = square.mean(0)[None, None]
    shown = {"picture": _enlarged(square)}
    sizes, records = [], []
    for times in (1, 2, 3):
        sizes.append((maps.shape[2], maps.shape[3]))
        maps, argmax = max_pool2d_recorded(maps, 2)
        records.append(argmax)
        back = average = torch.ones_like(maps)
        for size, record in zip(reversed(sizes), reversed(records), strict=True):
            back, average = max_pool2d_backward(back, record, size), average_pool2d_backward(average, size, 2)
        share = float((back > 0).float().mean())
        shown[f"max pooling, {times} x: {share:.1%} of the pixels"] = _enlarged(_marked(square, back[0, 0]))
    shown["average pooling: all of them, each a little"] = _enlarged(_marked(square, average[0, 0] / 64 + 0.35))
    report.images("gradients", shown, "Where a gradient from each window of the pooled map arrives (orange): with max "
                  "pooling only at the recorded maxima, fewer each time; with average pooling everywhere.")  # fmt: skip


def _marked(picture: Float[Tensor, "3 h w"], weight: Float[Tensor, "h w"]) -> Float[Tensor, "3 h w"]:
    orange = torch.tensor([0.96, 0.62, 0.04])[:, None, None]
    weight = weight.clamp(0, 1)
    return (1 - weight) * (0.25 + 0.5 * picture.mean(0)) + weight * orange


def _enlarged(picture: Float[Tensor, "3 h w"]) -> Tensor:
    return picture.repeat_interleave(4, 1).repeat_interleave(4, 2)


class Notes(NamedTuple):
    """What the forward pass keeps for the way back."""

    x: Tensor  # the pictures
    before1: Tensor  # before the ReLU
    winners1: Tensor
    pooled1: Tensor
    before2: Tensor
    winners2: Tensor
    pooled2: Tensor
    logits: Tensor


Weights = dict[str, Tensor]


def _forward(W: Weights, x: Tensor) -> Notes:
    """conv 3 x 3, ReLU, max pool, conv 3 x 3, ReLU, max pool, fully connected."""
    before1 = F.conv2d(x, W["w1"], W["b1"], padding=1)
    pooled1, winners1 = max_pool2d_recorded(before1.relu(), 2)
    before2 = F.conv2d(pooled1, W["w2"], W["b2"], padding=1)
    pooled2, winners2 = max_pool2d_recorded(before2.relu(), 2)
    logits = pooled2.flatten(1) @ W["w3"].T + W["b3"]
    return Notes(x, before1, winners1, pooled1, before2, winners2, pooled2, logits)


def _backward(W: Weights, n: Notes, labels: Int[Tensor, " b"], winners: Callable[[Tensor], Tensor] | None = None
              ) -> Weights:  # fmt: skip
    """From the mean cross-entropy back to all weights; `winners` may choose among equal maxima otherwise."""
    dz = (n.logits.softmax(1) - F.one_hot(labels, 10)) / len(labels)
    d = (dz @ W["w3"]).view_as(n.pooled2)
    winners1, winners2 = (n.winners1, n.winners2) if winners is None else map(winners, (n.before1, n.before2))
    d2 = max_pool2d_backward(d, winners2, n.before2.shape[2:]) * (n.before2 > 0)
    d = input_gradient(d2, W["w2"], n.pooled1.shape[2:], padding=1)
    d1 = max_pool2d_backward(d, winners1, n.before1.shape[2:]) * (n.before1 > 0)
    return {
        "w1": weight_gradient(d1, n.x, (3, 3), padding=1), "b1": bias_gradient(d1),
        "w2": weight_gradient(d2, n.pooled1, (3, 3), padding=1), "b2": bias_gradient(d2),
        "w3": dz.T @ n.pooled2.flatten(1), "b3": dz.sum(0),
    }  # fmt: skip


def _last_winners(before: Tensor) -> Tensor:
    """The recorded places if, of equal maxima, the last one counted."""
    values = before.relu()
    return values[0, 0].numel() - 1 - max_pool2d_recorded(values.flip(2, 3), 2)[1].flip(2, 3)


def _training(report: Report, epochs: int, rate: float, seed: int, tell: Tell) -> None:
    """Two networks from the same weights, one with these gradients, one with autograd's, step for step (x4 to x6)."""
    train, test = digits("train"), digits("test")
    generator = torch.Generator().manual_seed(seed)
    ours = {"w1": _noise(generator, 8, 1, 3, 3) * (2 / 9) ** 0.5, "b1": torch.zeros(8),
            "w2": _noise(generator, 16, 8, 3, 3) * (2 / 72) ** 0.5, "b2": torch.zeros(16),
            "w3": _noise(generator, 10, 64) * (1 / 64) ** 0.5, "b3": torch.zeros(10)}  # fmt: skip
    ours = {name: weight.double() for name, weight in ours.items()}
    theirs = {name: weight.clone().requires_grad_() for name, weight in ours.items()}
    losses: dict[str, list[float]] = {"by hand": [], "autograd": []}
    apart, ties, tie_effect = 0.0, [], 0.0
    for epoch in range(epochs):
        tell(Step(epoch, epochs, "training by hand and by autograd"))
        for places in torch.randperm(len(train.labels), generator=generator).split(BATCH):
            x, labels = train.images[places].double(), train.labels[places]
            notes = _forward(ours, x)
            gradients = _backward(ours, notes, labels)
            losses["by hand"].append(F.cross_entropy(notes.logits, labels).item())
            loss = F.cross_entropy(_torch(theirs, x), labels)
            true = torch.autograd.grad(loss, list(theirs.values()))
            losses["autograd"].append(loss.item())
            if places[0] % 8 == 0:  # now and then
                ties.append(_tied(notes.before1.relu()))
                other = _backward(ours, notes, labels, _last_winners)
                tie_effect = max(tie_effect, *(_error(other[name], gradients[name]) for name in ours))
            with torch.no_grad():
                for (name, weight), gradient in zip(theirs.items(), true, strict=True):
                    ours[name] -= rate * gradients[name]
                    weight -= rate * gradient
                    apart = max(apart, float((ours[name] - weight).abs().max()))
    steps = len(losses["by hand"])
    report.curve("training", {name: (range(1, steps + 1), values) for name, values in losses.items()}, x="step",
                 y="cross-entropy", log_y=True, caption="The two losses are the same to rounding: one line hides the "
                 f"other. Digits of 8 x 8, two convolutions, two max poolings, batches of {BATCH}.")  # fmt: skip
    report.claim("4.5.x4", apart, high=1e-9, detail=f"largest difference between any two weights at any of {steps} "
                 "steps, by hand against autograd, float64")  # fmt: skip
    report.claim("4.5.x5", _accuracy(ours, test), low=0.9, detail=f"accuracy on {len(test.labels)} digits not "
                 "learnt from, trained with gradients by hand only")  # fmt: skip
    share = sum(ties) / len(ties)
    report.claim("4.5.x6", share, high=0.01, detail="share of the first pooling's windows, after a ReLU, in which "
                 "several values are the maximum")  # fmt: skip
    report.claim("4.5.x7", tie_effect, high=EXACT, detail="largest change of a weight's gradient if the last of equal "
                 "maxima got it instead of the first, after a ReLU")  # fmt: skip


def _torch(W: Weights, x: Tensor) -> Tensor:
    for n in ("1", "2"):
        x = F.max_pool2d(F.conv2d(x, W["w" + n], W["b" + n], padding=1).relu(), 2)
    return F.linear(x.flatten(1), W["w3"], W["b3"])


def _tied(maps: Tensor) -> float:
    """The share of 2 x 2 windows whose maximum stands in them more than once."""
    windows = F.unfold(maps.flatten(0, 1)[:, None], 2, stride=2)  # (B * C, 4, L)
    return float(((windows == windows.amax(1, keepdim=True)).sum(1) > 1).float().mean())


def _accuracy(W: Weights, given: Labelled) -> float:
    return float((_forward(W, given.images.double()).logits.argmax(1) == given.labels).float().mean())
