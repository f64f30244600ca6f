"""Experiment: pictures grouped without labels, and what the groups have to do with classes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from matplotlib.backends.backend_agg import FigureCanvasAgg
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture
from torch import Tensor

from vivace.base.data import Labelled, digits
from vivace.base.drawing import drawing
from vivace.base.errors import InputError
from vivace.base.images import SUFFIXES, crop_center, grid, read_image, resize
from vivace.base.parameters import FolderPath, Seed, checked
from vivace.base.report import Report, Tell, ignore
from vivace.experiments.labelled_pictures import cnn_features, directions, patches, pixels
from vivace.experiments.parts import in_turn
from vivace.generative import PCA
from vivace.learning import KMeans, LogisticRegression, kmeans_plus_plus, lloyd

QUICK = {"pictures": 12, "side": 64, "seen": 300}

Groups = Int[np.ndarray, " n"]


@checked
def run(*, data: FolderPath = None, groups: Annotated[int, Ge(2), Le(100)] = 10,
        pictures: Annotated[int, Ge(8), Le(500)] = 40, side: Annotated[int, Ge(32), Le(512)] = 96,
        seen: Annotated[int, Ge(200), Le(1438)] = 1000, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """k-means finds groups without labels; whether they are the classes depends on what it is shown.

    vivace run kmeans        15 s on two cores; 79 % of digits in their digit's group, 98 % with labels; squares of
    photographs: adjusted Rand index 0.43 from pixels, 0.94 from a network's features

    data: a folder of your own pictures to group (sub-folders are looked into, and their names are not used)
    groups: into how many
    pictures: how many squares are cut from each of the ten shipped photographs
    side: pixels to which a picture is enlarged for the network whose features are grouped
    seen: digits that the network looks at
    seed: the starts of k-means, and where the squares are cut
    """
    report = Report("Pictures grouped without labels")
    train, test = digits("train"), digits("test")
    parts = [
        ("grouping digits", partial(_digits, report, train, test, seed)),
        ("choosing for it", partial(_choices, report, train, seed)),
        ("grouping photographs", partial(_photographs, report, pictures, side, groups, seed)),
        ("a network looks at digits", partial(_seen, report, train, seen, seed)),
        ("filming", partial(_film, report, train, seed)),
    ]
    if data is not None:
        folder = Path(data).expanduser()
        parts.insert(0, ("grouping yours", partial(_yours, report, folder, _own(folder, groups), groups, side, seed)))
    in_turn(parts, tell)
    return report


def _own(folder: Path, groups: int) -> list[Path]:
    """The pictures in a folder and below it."""
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; a folder is needed" if folder.exists() else f"no folder {folder}")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    if len(paths) < groups:
        raise InputError(f"{folder} has {len(paths)} pictures; {groups} groups need at least as many")
    return paths


def _yours(report: Report, folder: Path, paths: Sequence[Path], groups: int, side: int, seed: int) -> None:
    """Your own pictures, each cut to its middle square, and which of them lie together."""
    images = torch.stack([crop_center(resize(read_image(path, max_side=8 * side), side), side) for path in paths])
    labels = _grouped(report, "yours", images, groups, side, seed)
    rows = sorted((int(label), str(path.relative_to(folder))) for label, path in zip(labels, paths, strict=True))
    report.table("groups-of-yours", ("group", "picture"), rows, "Which picture lies in which group.")


def _digits(report: Report, train: Labelled, test: Labelled, seed: int) -> None:
    """Ten groups of digits against their labels, which k-means never sees (1.1.c2, 1.1.c3, 1.1.x5)."""
    X, y, X_test, truth = pixels(train.images), train.labels.numpy(), pixels(test.images), test.labels.numpy()
    model = KMeans(10, random_state=seed).fit(X)
    codes = PCA(20).fit_transform(X)
    found = {
        "k-means": model.labels_,
        "Ward's agglomerative clustering": AgglomerativeClustering(10).fit_predict(X),
        "Gaussian mixture (of 20 principal components)": GaussianMixture(10, random_state=seed).fit_predict(codes),
    }
    rows = [(name, *agreement(y, labels), f"{100 * purity(y, labels):.1f}") for name, labels in found.items()]
    report.table("digits", ("method, no labels", "adjusted Rand index", "mutual information", "purity, %"), rows,
                 f"{len(y):,} digits in ten groups, compared with the labels afterwards: 1 (100 %) is the digits "
                 "themselves; by chance the index is 0.")  # fmt: skip
    report.images("centers", {f"mostly {name}: {size}": _enlarged(center) for name, size, center in zip(
        names_of(y, model.labels_), np.bincount(model.labels_).tolist(), model.cluster_centers_, strict=True)},
        "The ten centres, each the mean of its digits, and how many these are.")  # fmt: skip
    index = adjusted_rand_score(y, model.labels_)
    report.claim("1.1.c2", index, low=0.5, detail=f"adjusted Rand index of k-means with k = 10 on the pixels of "
                 f"{len(y):,} digits, against the hidden labels; chance 0")  # fmt: skip
    report.claim("1.1.x5", index, low=0.95, detail="the same index, asked for near 1: the groups are the digits")
    named = float(np.mean(names_of(y, model.labels_)[model.predict(X_test)] == truth))
    taught = LogisticRegression().fit(X, y).score(X_test, truth)
    report.claim("1.1.c3", 100 * (taught - named), low=5, unit="points", detail=f"of {len(truth)} unseen digits, "
                 f"softmax regression names {taught:.1%} rightly, k-means with its groups named by majority "
                 f"{named:.1%}")  # fmt: skip
    report.summary = (
        "Nobody tells k-means what a picture shows: it looks for ten centres $c_j$ with the smallest "
        "$\\sum_i \\min_j \\lVert x_i - c_j \\rVert^2$. "
        f"**{100 * purity(y, model.labels_):.0f} %** of the digits lie in a group of mostly their kind. Named by "
        f"majority, its groups name {named:.1%} of unseen digits; softmax regression, given the labels, {taught:.1%}."
    )


def _choices(report: Report, train: Labelled, seed: int) -> None:
    """The same digits, grouped after other choices: each is guidance (1.1.c4)."""
    X = pixels(train.images)
    usual = KMeans(10, random_state=seed).fit_predict(X)
    scale = X.std(0)
    others = {
        "k = 5": KMeans(5, random_state=seed).fit_predict(X),
        "k = 20": KMeans(20, random_state=seed).fit_predict(X),
        "angles (rows of length 1)": KMeans(10, random_state=seed).fit_predict(directions(X)),
        "scaling (every pixel with variance 1)": KMeans(10, random_state=seed).fit_predict(
            X / np.where(scale > 0, scale, 1)),
    }  # fmt: skip
    agree = {name: float(adjusted_rand_score(usual, labels)) for name, labels in others.items()}
    linked = [AgglomerativeClustering(10, metric=metric, linkage="complete").fit_predict(X)
              for metric in ("euclidean", "manhattan")]  # fmt: skip
    agree["distance (Manhattan for Euclidean, complete linkage)"] = float(adjusted_rand_score(*linked))
    again = float(adjusted_rand_score(usual, KMeans(10, random_state=seed + 1000).fit_predict(X)))
    rows = [(name, round(value, 3)) for name, value in {"the random starts": again, **agree}.items()]
    report.table("choices", ("changed", "agreement with the usual groups"), rows,
                 "Adjusted Rand index of two partitions of the same digits; usual: k = 10, Euclidean, raw pixels. The "
                 "last row compares two distances in another algorithm, which allows any.")  # fmt: skip
    k, _, _, scaling, distance = agree.values()
    report.claim("1.1.c4", min(k, scaling, distance), low=0.9, detail=f"agreement of the groups when k is 5 for 10 "
                 f"({k:.2f}), pixels are scaled ({scaling:.2f}), the distance is Manhattan's ({distance:.2f}): the "
                 "least; near 1, choosing would be no guidance")  # fmt: skip


def _photographs(report: Report, count: int, side: int, groups: int, seed: int) -> None:
    """Squares of ten photographs: pixels, or what a network sees in them (1.1.x6)."""
    given = patches(count, side=64, seed=seed)
    y = given.labels.numpy()
    rows, index = [], {}
    for name, X in (("pixels", pixels(given.images)), ("network", directions(cnn_features(given.images, side)))):
        labels = KMeans(10, random_state=seed).fit_predict(X)
        index[name] = adjusted_rand_score(y, labels)
        rows.append((name, *agreement(y, labels), f"{100 * purity(y, labels):.1f}"))
    report.table("photographs", ("what is grouped", "adjusted Rand index", "mutual information", "purity, %"), rows,
                 f"{count} squares of each of ten photographs ({', '.join(given.classes)}), in ten groups: "
                 "does a group come from one photograph?")  # fmt: skip
    report.claim("1.1.x6", index["network"] - index["pixels"], low=0.2, detail=f"adjusted Rand index of groups by a "
                 f"network's features, {index['network']:.2f}, less that by pixels, {index['pixels']:.2f}")  # fmt: skip
    _grouped(report, "groups", given.images, groups, side, seed)


def _grouped(report: Report, name: str, images: Float[Tensor, "n 3 h w"], groups: int, side: int, seed: int
             ) -> Groups:  # fmt: skip
    """The groups by a network's features, the largest first (1, 2, ...), and sheets of their pictures."""
    found = KMeans(groups, random_state=seed).fit_predict(directions(cnn_features(images, side)))
    rank = np.argsort(np.argsort(-np.bincount(found, minlength=groups), kind="stable"))
    labels = 1 + rank[found]
    sheets = {}
    for j in range(1, 1 + min(10, groups)):
        mine = np.flatnonzero(labels == j)
        shown = resize(images[torch.from_numpy(mine[:9])], (64, 64))
        blank = torch.ones(9 - len(shown), 3, 64, 64)
        sheets[f"group {j}: {len(mine)} pictures"] = grid(torch.cat([shown, blank]), columns=3)
    report.images(name, sheets, "The largest groups, nine pictures of each, as the network's features have them.")
    return labels


def _seen(report: Report, train: Labelled, count: int, seed: int) -> None:
    """The same network's features of digits, unlike anything it was trained on (1.1.x7)."""
    y = train.labels[:count].numpy()
    raw = KMeans(10, random_state=seed).fit_predict(pixels(train.images[:count]))
    network = KMeans(10, random_state=seed).fit_predict(directions(cnn_features(train.images[:count], 64)))
    plain, deep = (float(adjusted_rand_score(y, labels)) for labels in (raw, network))
    report.claim("1.1.x7", deep - plain, low=0, detail=f"adjusted Rand index of {count} digits grouped by the "
                 f"network's features, {deep:.2f}, less that by their pixels, {plain:.2f}")  # fmt: skip


def _film(report: Report, train: Labelled, seed: int) -> None:
    """Lloyd's steps on the digits' first two principal components."""
    codes = PCA(2).fit_transform(pixels(train.images))
    generator = np.random.RandomState(seed)
    start = codes[generator.choice(len(codes), 10, replace=False)]  # worse than k-means++: more to see
    figure, axes = drawing(width=4.8, height=4.2)
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(100)
    dots = axes.scatter(*codes.T, s=6, c=np.zeros(len(codes)), cmap="tab10", vmin=0, vmax=9)
    heads = axes.scatter(*start.T, s=90, marker="X", c=np.arange(10), cmap="tab10", edgecolors="black")
    axes.set(xlabel="first principal component", ylabel="second")
    shots = []
    for step, (labels, centers) in enumerate(lloyd(codes, start, max_iter=40), start=1):
        dots.set_array(labels)
        spread = np.square(codes - centers[labels]).sum()
        axes.set_title(f"step {step}: squared distances {spread:,.0f}", fontsize=10)
        canvas.draw()
        shots.append(torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy()).movedim(-1, 0) / 255)
        heads.set_offsets(centers)
    report.video("lloyd", torch.stack([*shots, *[shots[-1]] * 6]), fps=4,
                 caption="Each digit takes the colour of the nearest centre (crosses); then every centre moves to the "
                 "mean of its digits. From ten digits drawn at random.")  # fmt: skip
    better = kmeans_plus_plus(codes, 10, random_state=seed)
    lines = {}
    for name, begin in (("ten digits at random", start), ("k-means++", better)):
        inertia = [float(np.square(codes - centers[labels]).sum()) for labels, centers in lloyd(codes, begin)]
        lines[name] = (np.arange(1, len(inertia) + 1), inertia)
    report.curve("inertia", lines, x="step", y="sum of squared distances", caption="It never rises, so the steps end; "
                 "where they end depends on the start.")  # fmt: skip


def names_of(y: Groups, labels: Groups) -> Int[np.ndarray, " k"]:
    """The class that most members of each group have."""
    return np.array([np.bincount(y[labels == j]).argmax() for j in range(labels.max() + 1)])


def purity(y: Groups, labels: Groups) -> float:
    """The share of pictures whose class is that of most in their group."""
    return float(np.mean(names_of(y, labels)[labels] == y))


def agreement(y: Groups, labels: Groups) -> tuple[str, str]:
    """Adjusted Rand index and normalised mutual information, in words."""
    return f"{adjusted_rand_score(y, labels):.3f}", f"{normalized_mutual_info_score(y, labels):.3f}"


def _enlarged(center: Float[np.ndarray, " 64"]) -> Float[Tensor, "1 h w"]:
    return torch.from_numpy(center.reshape(1, 8, 8)).float().repeat_interleave(10, 1).repeat_interleave(10, 2)
