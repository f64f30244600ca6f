"""Experiment: the perceptron: what one unit can learn, in how many mistakes, and what it can't."""

from collections.abc import Mapping
from itertools import combinations, product
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Bool, Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.svm import SVC
from torch import Tensor

from vivace.base.data import ImageFolder, Labelled, digits
from vivace.base.drawing import BLUE, GREY, ORANGE, RED, drawing
from vivace.base.errors import InputError
from vivace.base.parameters import FolderPath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.separability import separating_plane
from vivace.networks import Perceptron, mistake_bound, perceptron_epoch
from vivace.networks.perceptron import step

QUICK = {"sampled": 60}

NAMES = {"0001": "AND", "0111": "OR", "0110": "XOR", "1001": "XNOR", "1110": "NAND", "1000": "NOR", "0000": "never",
         "1111": "always", "0011": "a", "0101": "b", "1100": "not a", "1010": "not b", "0010": "a, not b",
         "0100": "b, not a", "1011": "a or not b", "1101": "b or not a"}  # fmt: skip
PASSES = 100  # after which a truth table counts as not learnt
SIDE = 16  # the side that pictures of one's own are reduced to

Weights = Float[np.ndarray, " weights"]  # the intercept last


@checked
def run(*, first: Annotated[int, Ge(0), Le(9)] = 1, second: Annotated[int, Ge(0), Le(9)] = 7, data: FolderPath = None,
        sampled: Annotated[int, Ge(10), Le(1000)] = 300, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """One unit learns all that a plane separates, and nothing else: truth tables, then pictures.

    vivace run perceptron        8 s on two cores; 14 of 16 truth tables learnt, AND in 6 passes, OR in 4, XOR never

    first: the digit at which the unit must stay silent
    second: the digit at which it must fire
    data: a folder with two sub-folders of pictures, one a class, to be told apart instead of the digits
    sampled: hidden weights of a net of step functions that are changed a little, to see whether the loss changes
    seed: the initial weights of that net
    """
    if first == second:
        raise InputError(f"--first and --second are both {first}; two different digits are needed")
    report = Report(
        "One perceptron learns what a plane separates, and nothing else",
        "The unit fires, $y = 1$, if $w x + b > 0$. Rosenblatt's rule $w \\leftarrow w + (t - y) x$ changes nothing "
        "where it is right. If a plane separates the classes with margin $\\gamma$, and no row is longer than $R$, "
        "it makes at most $(R / \\gamma)^2$ mistakes in all (Novikoff); if none does, it never comes to rest.",
    )
    given = two_classes(first, second, data)
    tell(Step(0, 4, "truth tables"))
    _truth_tables(report)
    tell(Step(1, 4, "two classes of pictures"))
    show_pictures(report, given)
    tell(Step(2, 4, "pairs of digits"))
    _bound(report)
    tell(Step(3, 4, "layers of step functions"))
    _stacked_steps(report, sampled, seed)
    tell(Step(4, 4, "done"))
    return report


def walk(X: Float[np.ndarray, "n d"], t: Bool[np.ndarray, " n"], passes: int) -> tuple[list[Weights], int | None]:
    """The weights at first and after each mistake; the pass that was the first without one, or None."""
    rows, W = np.column_stack([X, np.ones(len(X))]), np.zeros((X.shape[1] + 1, 1))
    path = [W[:, 0].copy()]
    for i in range(passes):
        before = len(path)
        for j in range(len(rows)):
            if perceptron_epoch(rows[j : j + 1], t[j : j + 1, None], W)[0]:
                path.append(W[:, 0].copy())
        if len(path) == before:
            return path, i + 1
    return path, None


def _truth_tables(report: Report) -> None:
    rows, learnt, agreed = [], {}, 0
    outputs, random = set(), np.random.default_rng(0).normal(scale=10, size=(10_000, 2))
    for inputs in (2, 3):
        X = np.array(list(product((0.0, 1.0), repeat=inputs)))
        for values in product((False, True), repeat=2**inputs):
            t = np.array(values)
            path, passes = walk(X, t, PASSES)
            plane = separating_plane(X, t) is not None
            agreed += (passes is not None) == plane
            if inputs == 2:
                key = "".join(str(int(y)) for y in values)
                learnt[key] = (path[-1], passes)
                outputs |= set(step(random @ path[-1][:2] + path[-1][2]).tolist())
                rows.append((NAMES[key], key, "yes" if plane else "no", passes or f"not in {PASSES}"))
    report.table("truth-tables", ("function", "of 00 01 10 11", "a plane separates", "passes, the last faultless"),
                 rows, "All functions of two truth values; weights from zero, rows in their order.")  # fmt: skip
    count = sum(passes is not None for _, passes in learnt.values())
    report.claim("3.1.c1", agreed, low=16 + 256, unit="functions", detail="of all 16 truth tables of two inputs and "
                 f"all 256 of three: 'learnt within {PASSES} passes' and 'a linear programme finds a plane' are both "
                 f"true or both false; {count} of the 16 are learnt")  # fmt: skip
    both, either, xor = (learnt[key][1] for key in ("0001", "0111", "0110"))
    report.claim("3.1.x1", (both == 6) + (either == 4) + (xor is None), low=3, unit="functions",
                 detail=f"of three: AND {both} passes, OR {either}, XOR not in {PASSES}")  # fmt: skip
    report.claim("3.1.c2", len(outputs), high=2, unit="values", detail="different outputs of the 16 units at 10,000 "
                 f"random points of the plane: {sorted(outputs)}")  # fmt: skip
    report.figure("learnt", _draw_truth_tables(learnt), "The sixteen functions with the line that was learnt and the "
                  "side on which the unit fires; a filled dot is a 1. No line does for XOR and XNOR.")  # fmt: skip


def _draw_truth_tables(learnt: Mapping[str, tuple[Weights, int | None]]) -> Figure:
    figure, axes = drawing(2, 8, width=11, height=3.4)
    order = sorted(learnt, key=lambda key: (learnt[key][1] or PASSES + 1, key))
    for key, ax in zip(order, np.ravel(axes), strict=True):
        w, passes = learnt[key]
        color = BLUE if passes else RED
        if passes:
            side = np.linspace(-0.5, 1.5, 100)
            z = w[0] * side[None, :] + w[1] * side[:, None] + w[2]
            ax.contourf(side, side, z > 0, levels=[0.5, 1.5], colors=[BLUE], alpha=0.2)
            ax.contour(side, side, z, levels=[0], colors=[BLUE], linewidths=1.5)
        for (a, b), value in zip(product((0, 1), repeat=2), key, strict=True):
            ax.plot(a, b, "o", color=color, markersize=8, markerfacecolor=color if value == "1" else "none")
        ax.set(xlim=(-0.5, 1.5), ylim=(-0.5, 1.5), aspect="equal", xticks=(), yticks=())
        ax.spines[:].set_visible(False)
        if ax in axes[:, 0]:
            ax.set_ylabel("b")
        if ax in axes[1]:
            ax.set_xlabel("a")
        ax.set_title(f"{NAMES[key]}\n{_passes(passes)}", fontsize=9, color=color)
    return figure


def _passes(count: int | None) -> str:
    return "never learnt" if count is None else f"{count} pass" + ("" if count == 1 else "es")


def two_classes(first: int, second: int, data: FolderPath) -> Labelled:
    """Pictures with labels 0 and 1: two digits, or the two classes of a folder."""
    if data is None:
        every = digits("train")
        chosen = every.taken(torch.nonzero((every.labels == first) | (every.labels == second))[:, 0])
        return Labelled(chosen.images, (chosen.labels == second).long(), (str(first), str(second)))
    own = ImageFolder(data, size=SIDE, grey=True)
    if len(own.classes) != 2:
        raise InputError(f"{data} has {len(own.classes)} sub-folders; one perceptron tells two classes apart")
    return own.read()


def show_pictures(report: Report, given: Labelled) -> None:
    """One unit on all pixels: its weights are a picture; and on two principal components: its line is a film."""
    X, t = given.images.flatten(1).double().numpy(), given.labels.numpy() == 1
    silent, fires = given.classes
    unit = Perceptron(max_iter=1000).fit(X, t)
    w = torch.from_numpy(unit.coef_[0]).view(given.images.shape[1:])
    shown = {f"mean of {name}": given.images[given.labels == k].mean(0) for k, name in enumerate(given.classes)}
    report.images("weights", {**shown, f"weights: red for {fires}, blue for {silent}": _signed(w)},
                  f"{len(t)} pictures of {silent} and {fires}: "
                  + (f"learnt after {unit.mistakes_.sum()} mistakes in {unit.n_iter_} passes." if unit.separated_ else
                     f"not separated in {unit.n_iter_} passes; {100 * unit.score(X, t):.1f} % right."))  # fmt: skip
    mean = X.mean(0)
    components = np.linalg.svd(X - mean, full_matrices=False)[2][:2]
    plane = (X - mean) @ components.T
    path, passes = walk(plane, t, 40)
    report.video("line", _film(plane, t, path, given.classes), fps=4, caption="The same pictures by their first two "
                 "principal components; the line after each mistake, which is circled" +
                 (f", at rest in pass {passes}." if passes else f"; no rest in {40} passes."))  # fmt: skip


def _signed(w: Float[Tensor, "1 h w"]) -> Float[Tensor, "3 h w"]:
    """Red where positive, blue where negative, white at zero."""
    share = (w / w.abs().max().clamp(min=1e-12))[0]
    return torch.stack([1 + share.clamp(max=0), 1 - share.abs(), 1 - share.clamp(min=0)]).float()


def _film(X: Float[np.ndarray, "n 2"], t: Bool[np.ndarray, " n"], path: list[Weights], classes: tuple[str, ...],
          frames: int = 48) -> Float[Tensor, "f 3 h w"]:  # fmt: skip
    figure, ax = drawing(width=5.6, height=4.4)
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(100)
    for k, (name, color) in enumerate(zip(classes, (BLUE, ORANGE), strict=True)):
        ax.plot(*X[t == k].T, ".", color=color, label=name, markersize=4)
    (low, high), margin = (X.min(0), X.max(0)), 0.1 * np.ptp(X, axis=0).clip(0.1)
    ax.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]),
           xlabel="first principal component", ylabel="second")  # fmt: skip
    ax.legend(frameon=False, loc="upper right")
    (line,) = ax.plot([], [], color=RED, linewidth=2)
    (mistake,) = ax.plot([], [], "o", color=RED, markersize=11, markerfacecolor="none")
    shots = []
    for i in np.unique(np.geomspace(1, len(path), frames).round().astype(int)) - 1:
        w = path[i]
        if w[:2].any():
            nearest, along = -w[2] * w[:2] / (w[:2] @ w[:2]), np.array([-w[1], w[0]]) / np.linalg.norm(w[:2])
            reach = 4 * np.abs(X).max()
            line.set_data(*np.stack([nearest - reach * along, nearest + reach * along]).T)
        if i:
            change = w - path[i - 1]  # (t - y) [x, 1]
            mistake.set_data(*(change[:2] * change[2])[:, None])
        ax.set_title(
            f"after {i} mistake{'' if i == 1 else 's'}: {(step(X @ w[:2] + w[2]) == t).mean():.1%} right", size=10
        )
        canvas.draw()
        shots.append(torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy()).movedim(-1, 0) / 255)
    return torch.stack([*shots, *[shots[-1]] * 6])


def _bound(report: Report) -> None:
    """Mistakes on every pair of digits, against what Novikoff's theorem allows for the widest margin."""
    every = digits("train")
    X, labels = every.images.flatten(1).double().numpy(), every.labels.numpy()
    made, allowed = [], []
    for one, other in combinations(range(10), 2):
        which = (labels == one) | (labels == other)
        A, t = X[which], labels[which] == other
        unit = Perceptron(max_iter=1000).fit(A, t)
        widest = SVC(kernel="linear", C=1e6).fit(A, t)
        w = np.append(widest.coef_[0], widest.intercept_[0])
        made.append(int(unit.mistakes_.sum()) if unit.separated_ else np.inf)
        allowed.append(mistake_bound(np.column_stack([A, np.ones(len(A))]), t, w))
    share = np.array(made) / np.array(allowed)
    report.claim("3.1.x2", share.max(), high=1, detail="the largest share of (R / gamma)^2 that the mistakes reach, of "
                 f"the 45 pairs of digits, each learnt faultlessly; gamma by a support vector machine; least share "
                 f"{share.min():.2f}")  # fmt: skip
    figure, ax = drawing(width=5.2, height=4.2)
    ends = (0.8 * min(made), 1.3 * max(allowed))
    ax.loglog(ends, ends, color=GREY, linewidth=1)
    ax.loglog(allowed, made, "o", color=BLUE, alpha=0.8)
    ax.annotate("the bound", (ends[1] / 2, ends[1] / 2), rotation=45, ha="right", va="bottom", color=GREY)
    ax.set(xlabel="mistakes allowed, $(R / \\gamma)^2$", ylabel="mistakes made")
    report.figure("bound", figure, "Each dot is a pair of digits, 64 pixels each: the narrower the gap between them, "
                  "the more mistakes, but never more than the theorem allows.")  # fmt: skip


def _stacked_steps(report: Report, sampled: int, seed: int) -> None:
    """How the loss of a net 64-32-10 answers to a small change of a hidden weight: with steps, and with sigmoids."""
    every = digits("train")
    X, labels = every.images.flatten(1).double()[:500], every.labels[:500]
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(64, 32, generator=generator, dtype=torch.float64) / 4
    V = torch.randn(32, 10, generator=generator, dtype=torch.float64) / 4
    hidden = {"step": lambda z: (z > 0).double(), "sigmoid": torch.sigmoid}
    seen = torch.nonzero(X.std(0) > 0.1)[:, 0]  # a pixel that is always black moves nothing
    pixels = seen[torch.randint(len(seen), (sampled,), generator=generator)].tolist()
    chosen = list(zip(pixels, torch.randint(32, (sampled,), generator=generator).tolist(), strict=True))

    def loss(name: str, place: tuple[int, int], change: float) -> float:
        moved = W.clone()
        moved[place] += change
        return torch.nn.functional.cross_entropy(hidden[name](X @ moved) @ V, labels).item()

    answer = {name: float(np.mean([loss(name, place, 1e-7) != loss(name, place, -1e-7) for place in chosen]))
              for name in hidden}  # fmt: skip
    report.claim("3.1.c6", answer["step"], low=0.5, detail=f"share of {sampled} hidden weights whose change by "
                 "1e-7 changes the loss of a net 64-32-10 of steps on 500 digits; with sigmoids "
                 f"{answer['sigmoid']:.2f}")  # fmt: skip
    changes = np.linspace(-0.4, 0.4, 401)
    lines: dict[str, Any] = {name: (changes, [loss(name, chosen[0], c) for c in changes]) for name in hidden}
    report.curve("stairs", {name: (x, np.array(y) - np.mean(y)) for name, (x, y) in lines.items()},
                 x="change of one hidden weight", y="loss, less its mean",
                 caption="With steps the loss is a staircase: flat almost everywhere, its gradient zero.")  # fmt: skip
