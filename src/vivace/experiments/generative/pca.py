"""Experiment: pictures rebuilt from a few numbers each, by PCA."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.figure import Figure
from sklearn import decomposition
from sklearn.metrics.pairwise import cosine_similarity, euclidean_distances
from torch import Tensor

from vivace.base.data import MNIST, ImageFolder, at_hand, digits, mnist
from vivace.base.drawing import PALETTE, drawing
from vivace.base.errors import InputError
from vivace.base.parameters import FolderPath, checked
from vivace.base.report import Report, Tell, ignore
from vivace.experiments.labelled_pictures import faces, pixels
from vivace.experiments.parts import in_turn
from vivace.generative import PCA
from vivace.learning import cosine_similarities, squared_distances

QUICK = {"dataset": "faces"}

KEPT = (2, 5, 10, 20, 50)  # components that pictures are rebuilt from
COMPARED = 2000  # pictures at most, between which all similarities are computed
AWAY = 1e6  # where the same points lie when distances are measured far from the origin


@checked
def run(*, data: FolderPath = None, dataset: Literal["auto", "mnist", "digits", "faces"] = "auto",
        components: Annotated[int, Ge(1), Le(500)] = 50, side: Annotated[int, Ge(8), Le(128)] = 32,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """PCA by one product and an eigen-solver; pictures rebuilt from a few numbers.

    vivace run pca        6 s on two cores; 50 of MNIST's 784 directions keep 83 % of its variance (of 100 faces:
    93 %); scikit-learn's components to 1e-8

    data: a folder of your own pictures instead, a sub-folder for each kind if there are several; grey, cut to squares
    dataset: mnist, scikit-learn's 8 x 8 digits, the 100 faces that come with scikit-image, or auto: mnist where it is
      there, else faces
    components: the most directions that pictures are rebuilt from
    side: pixels to which your own pictures are reduced
    """
    name, images, labels, classes = _given(data, dataset, side)
    X = pixels(images)
    comparable = len(X) > X.shape[1] and np.ptp(X, axis=0).any()  # else directions are not unique
    many = (name, X) if comparable else ("8 x 8 digits", pixels(digits("train").images))
    report = Report("")
    parts = (
        ("principal components", partial(_rebuilt, report, name, images, labels, classes, min(components, *X.shape))),
        ("against scikit-learn", partial(_compared, report, *many)),
        ("far from the origin", partial(_far, report)),
    )
    in_turn(parts, tell)
    return report


def _given(data: FolderPath, dataset: str, side: int) -> tuple[str, Tensor, Tensor, tuple[str, ...]]:
    """Name, grey pictures, their kinds and what these are called."""
    if data is not None:
        own = ImageFolder(data, size=side, grey=True, flat=True).read()
        if len(own.labels) < 3:
            raise InputError(f"{data} has {len(own.labels)} pictures; three are needed for two directions")
        return Path(data).resolve().name, *own
    if dataset == "mnist" or (dataset == "auto" and at_hand(*MNIST["train"])):
        given = mnist("train")
        return "MNIST's digits", *given.taken(torch.arange(20_000))
    if dataset == "digits":
        return "8 x 8 digits", *digits("train")
    images = faces().images[:100]
    return "faces", images, torch.zeros(100, dtype=torch.int64), ("face",)


def _rebuilt(report: Report, name: str, images: Float[Tensor, "n 1 h w"], labels: Int[Tensor, " n"],
             classes: tuple[str, ...], most: int) -> None:  # fmt: skip
    """Mean, components, pictures rebuilt, and how much of the variance is kept."""
    X, shape = pixels(images), images.shape[1:]
    model = PCA(most).fit(X)
    share = np.cumsum(model.explained_variance_ratio_)
    report.title = f"PCA: {most} numbers for each of {len(X):,} pictures keep {share[-1]:.0%} of the variance"
    report.summary = (
        f"{name[0].upper()}{name[1:]} have {X.shape[1]} pixels. PCA centres them, takes the covariance "
        "$S = \\frac{1}{n-1} Z^\\top Z$ and its eigenvectors of largest eigenvalue, the rows of $V$. A picture's code "
        "is $V (x - \\bar x)$, the picture rebuilt from it $\\bar x + V^\\top V (x - \\bar x)$: the best that any so "
        "few directions can do."
    )
    shown = {"the mean": torch.from_numpy(model.mean_.reshape(shape)).float().clamp(0, 1)}
    shown |= {f"{i + 1}: {model.explained_variance_ratio_[i]:.1%}": _signed(model.components_[i].reshape(shape[1:]))
              for i in range(min(7, most))}  # fmt: skip
    report.images("components", shown, "The mean and the first directions, with their shares of the variance: blue "
                  "pixels grow brighter along the direction, red ones darker.")  # fmt: skip
    report.figure("rebuilt", _rows_of_rebuilt(model, X, labels, shape), "Each column a picture: rebuilt from more and "
                  "more components, and as it is (last row).")  # fmt: skip
    report.curve("variance", {"kept": (np.arange(1, most + 1), 100 * share)}, x="components",
                 y="variance kept, %", caption="The cumulated eigenvalues, over the sum of all of them.")  # fmt: skip
    report.figure("map", _map(model, X, labels, classes), "Every picture at its first two codes; its kind, where "
                  "it has one, was not used.")  # fmt: skip


def _rows_of_rebuilt(model: PCA, X: Float[np.ndarray, "n d"], labels: Int[Tensor, " n"], shape: torch.Size) -> Figure:
    """Pictures of different kinds, where there are, rebuilt from the first 2, 5, 10, ... components."""
    firsts = [int(torch.nonzero(labels == k)[0, 0]) for k in labels.unique().tolist()]
    chosen = np.array((firsts + [i for i in range(len(X)) if i not in firsts])[:10])
    codes = model.transform(X[chosen])
    kept = [r for r in KEPT if r <= codes.shape[1]]
    rows = [codes[:, :r] @ model.components_[:r] + model.mean_ for r in kept] + [X[chosen]]
    figure = Figure(figsize=(0.9 * len(chosen) + 1.2, 0.9 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(chosen), squeeze=False)
    for line, row, name in zip(axes, rows, [*(f"{r} numbers" for r in kept), f"{X.shape[1]} pixels"], strict=True):
        for each, picture in zip(line, row, strict=True):
            each.imshow(picture.reshape(shape[1:]), cmap="gray", vmin=0, vmax=1)
            each.set(xticks=(), yticks=())
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def _map(model: PCA, X: Float[np.ndarray, "n d"], labels: Int[Tensor, " n"], classes: tuple[str, ...]) -> Figure:
    codes = model.transform(X[:COMPARED])
    second = codes[:, 1] if codes.shape[1] > 1 else np.zeros(len(codes))
    figure, axes = drawing(width=6.4, height=4.8)
    colors = [*PALETTE, "#444444", "#a16207"]
    for k, kind in enumerate(classes[:10]):
        mine = (labels[:COMPARED] == k).numpy()
        axes.plot(codes[mine, 0], second[mine], ".", markersize=4, color=colors[k], label=kind)
    axes.set(xlabel="code along the first component", ylabel="along the second")
    if len(classes) > 1:
        axes.legend(frameon=False, markerscale=2.5, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _signed(component: Float[np.ndarray, "h w"]) -> Float[Tensor, "3 h w"]:
    colors = colormaps["RdBu"](0.5 + 0.5 * component / np.abs(component).max())[..., :3]
    return torch.from_numpy(colors).float().movedim(-1, 0)


def _compared(report: Report, name: str, X: Float[np.ndarray, "n d"]) -> None:
    """What products and an eigen-solver give, against scikit-learn (1.8.c5)."""
    count = min(10, *X.shape)
    ours, peer = PCA(count).fit(X), decomposition.PCA(count, svd_solver="full").fit(X)
    some = X[:COMPARED]
    apart = {
        "principal components": np.abs(ours.components_ - peer.components_).max(),
        "their variances (relative)": np.abs(ours.explained_variance_ / peer.explained_variance_ - 1).max(),
        "codes": np.abs(ours.transform(X) - peer.transform(X)).max(),
        "cosine similarities": np.abs(cosine_similarities(some, some) - cosine_similarity(some)).max(),
        "squared distances": np.abs(squared_distances(some, some) - euclidean_distances(some, squared=True)).max(),
    }
    rows = [(what, f"{value:.0e}") for what, value in apart.items()]
    report.table("apart", ("what", "largest difference from scikit-learn"), rows,
                 f"{name[0].upper()}{name[1:]}: the first {count} components of {len(X):,} pictures, and all pairs of "
                 f"{len(some):,}.")  # fmt: skip
    report.claim("1.8.c5", max(apart.values()), high=1e-8, detail="largest difference from scikit-learn of components, "
                 "variances, codes, cosine similarities and squared distances, made of products and one "
                 "eigen-solver")  # fmt: skip


def _far(report: Report) -> None:
    """The textbook's expansion of a distance loses digits far from the origin; centring saves them (1.8.x6, 1.8.x7)."""
    X = pixels(digits("test").images)
    truth = np.square(X[:, None] - X).sum(2)
    Y = X + AWAY
    expanded = np.square(Y).sum(1)[:, None] - 2 * Y @ Y.T + np.square(Y).sum(1)
    report.claim("1.8.x6", np.abs(expanded - truth).max(), high=1e-4, detail="largest error of |x|^2 - 2 x.y + |y|^2 "
                 f"between {len(X)} digits whose pixels lie at {AWAY:g} instead of 0; the distances go up to "
                 f"{truth.max():.0f}")  # fmt: skip
    report.claim("1.8.x7", np.abs(squared_distances(Y, Y) - truth).max(), high=1e-4,
                 detail="the same, measured from the mean")  # fmt: skip
