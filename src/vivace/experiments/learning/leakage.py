"""Experiment: leakage, or what the test rows must not have told the model."""

from collections.abc import Callable
from pathlib import Path
from textwrap import fill
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from vivace.base.data import SUFFIXES
from vivace.base.drawing import BLUE, RED, drawing
from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.base.parameters import FolderPath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.base.tables import diabetes
from vivace.learning.metrics import accuracy_score, r2_score
from vivace.learning.scaling import StandardScaler
from vivace.learning.splits import GroupKFold, StratifiedKFold, three_way_split

QUICK = {"repeats": 10, "features": 2000}

ROWS, KEPT = 60, 20  # of the table of noise: rows, features that selection keeps
SIDE = 16  # of a patch, in pixels
PATCHES = 40  # from each photograph
NATURAL = ("chelsea", "flower", "grass", "gravel", "moon", "hubble", "ihc", "retina")
MADE = ("brick", "china", "coffee", "coins", "motorcycle", "rocket", "camera", "astronaut")
LABELLINGS = 20

Scores = tuple[float, float]  # leaking, honest


@checked
def run(*, photos: FolderPath = None, features: Annotated[int, Ge(500), Le(50_000)] = 5000,
        repeats: Annotated[int, Ge(5), Le(500)] = 40, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Four leaks, measured: three that ruin a result, and one that hardly matters.

    vivace run leakage        5 s on two cores; noise is "predicted" at 95 %; patches of known photographs at 85 %,
    of new ones by chance; a scaler fitted on all rows changes R^2 by 0.001

    photos: a folder of four or more pictures, whose patches are sorted by photograph (default: 16 shipped ones)
    features: columns of pure noise that a selection chooses from
    repeats: how often each leak is measured, on other rows
    seed: for noise, splits, patches and labels
    """
    report = Report(
        "Leakage: what the test rows told the model",
        "Each pair of bars is the same model. On the left something was learned from the test rows, "
        "before or beside the training; on the right everything was learned from the training rows only.",
    )
    parts: list[tuple[str, Callable[[], Scores]]] = [
        ("features chosen on all rows", lambda: _mean(_selected, repeats, seed, features)),
        ("rare class copied before the split", lambda: _mean(_oversampled, repeats, seed)),
        ("patches of one photo on both sides", lambda: _patches(report, photos, seed)),
        ("scaler fitted on all rows", lambda: _mean(_scaled, 5 * repeats, seed)),
    ]
    found: dict[str, Scores] = {}
    with threadpool_limits(1):
        for i, (name, part) in enumerate(parts):
            tell(Step(i, len(parts), name))
            found[name] = part()
    _claims(report, list(found.values()))
    report.figure("leaks", _drawn(found), "Accuracy, balanced accuracy, accuracy, and R^2, in this order.")
    return report


def _claims(report: Report, found: list[Scores]) -> None:
    (noise, no_noise), (copies, no_copies), (photos, new_photos), (scaled, well_scaled) = found
    report.claim(
        "1.2.x7",
        noise - no_noise,
        low=0.2,
        detail=f"accuracy on pure noise: {noise:.3f} with features chosen on all {ROWS} rows, {no_noise:.3f} "
        "chosen inside each fold (chance 0.5)",
    )
    report.claim(
        "1.2.x8",
        copies - no_copies,
        low=0.1,
        detail=f"balanced accuracy for the worst tenth of the diabetes patients, nearest neighbour: {copies:.3f} "
        f"where they were copied before the split, {no_copies:.3f} where after",
    )
    report.claim(
        "1.2.x9",
        photos - new_photos,
        low=0.2,
        detail=f"accuracy of patches in a label that says nothing but which photograph: {photos:.3f} in random "
        f"folds, {new_photos:.3f} in folds by photograph (chance 0.5)",
    )
    report.claim(
        "1.2.x10",
        abs(scaled - well_scaled),
        low=0.01,
        detail=f"change of the test R^2 of nearest neighbours, diabetes: {scaled:.4f} with the scaler fitted on "
        f"all rows, {well_scaled:.4f} on the training rows",
    )


def _mean(part: Callable[..., Scores], repeats: int, seed: int, *more: int) -> Scores:
    leaking, honest = np.mean([part(np.random.default_rng((seed, i)), *more) for i in range(repeats)], axis=0)
    return float(leaking), float(honest)


class _Selecting(ClassifierMixin, BaseEstimator):
    """The features that differ most between two classes, and the nearer of the two means in them."""

    def __init__(self, kept: int = KEPT) -> None:
        self.kept = kept

    def fit(self, X: np.ndarray, y: np.ndarray) -> "_Selecting":
        self.classes_ = np.unique(y)
        self.columns_ = _most_different(X, y, self.kept)
        self.means_ = np.array([X[y == c][:, self.columns_].mean(0) for c in self.classes_])
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        distances = np.square(X[:, None, self.columns_] - self.means_).sum(2)
        return self.classes_[distances.argmin(1)]


def _most_different(X: np.ndarray, y: np.ndarray, kept: int) -> np.ndarray:
    return np.argsort(-np.abs(X[y == 0].mean(0) - X[y == 1].mean(0)))[:kept]


def _selected(generator: np.random.Generator, features: int) -> Scores:
    """Noise with labels by chance; the selection stands outside or inside of the cross-validation."""
    X, y = generator.normal(size=(ROWS, features)), generator.permutation(np.arange(ROWS) % 2)
    folds = StratifiedKFold(5)
    outside = cross_val_score(_Selecting(), X[:, _most_different(X, y, KEPT)], y, cv=folds)
    return float(outside.mean()), float(cross_val_score(_Selecting(), X, y, cv=folds).mean())


def _oversampled(generator: np.random.Generator) -> Scores:
    """The rare class, copied until it is as frequent as the other: before the split (leak), or in training only."""
    table = diabetes()
    y = (table.y > np.quantile(table.y, 0.9)).astype(int)
    X = StandardScaler().fit_transform(table.X)
    copied = _copied(y, np.arange(len(y)), generator)
    leaking = three_way_split(
        len(copied), ratio=(70, 0, 30), labels=y[copied], random_state=int(generator.integers(9**9))
    )
    honest = three_way_split(len(y), ratio=(70, 0, 30), labels=y, random_state=int(generator.integers(9**9)))
    scores = []
    for train, test in (
        (copied[leaking.train], copied[leaking.test]),
        (_copied(y, honest.train, generator), honest.test),
    ):
        said = KNeighborsClassifier(1).fit(X[train], y[train]).predict(X[test])
        scores.append(np.mean([accuracy_score(y[test][y[test] == c], said[y[test] == c]) for c in (0, 1)]))
    return float(scores[0]), float(scores[1])


def _copied(y: np.ndarray, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    rare = rows[y[rows] == 1]
    return np.concatenate([rows, generator.choice(rare, (y[rows] == 0).sum() - len(rare))])


def _scaled(generator: np.random.Generator) -> Scores:
    """Nearest neighbours on diabetes patients: the scaler saw all rows, or the training rows."""
    table = diabetes()
    train, _, test = three_way_split(len(table.y), ratio=(70, 0, 30), random_state=int(generator.integers(9**9)))
    all_rows = StandardScaler().fit(table.X).transform(table.X)
    neighbours = KNeighborsRegressor(10)
    leaking = neighbours.fit(all_rows[train], table.y[train]).predict(all_rows[test])
    honest = make_pipeline(StandardScaler(), neighbours).fit(table.X[train], table.y[train]).predict(table.X[test])
    return r2_score(table.y[test], leaking), r2_score(table.y[test], honest)


def _patches(report: Report, folder: FolderPath, seed: int) -> Scores:
    """Photographs get labels by chance, half of them 1: only a model that knows a photograph again can be right."""
    generator = np.random.default_rng(seed)
    names = [*NATURAL, *MADE] if folder is None else _pictures_in(folder)
    pictures = [read_image(name, max_side=256) for name in names]
    cut = [_cut(picture, generator) for picture in pictures]
    X = np.concatenate([_described(patches) for patches in cut])
    photo = np.repeat(np.arange(len(pictures)), PATCHES)
    shown = {name.split("/")[-1]: patches[0] for name, patches in zip(names[:8], cut, strict=False)}
    report.images(
        "patches", {name: resize(patch, 64) for name, patch in shown.items()}, "One patch of each photograph."
    )
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(1))
    scores = []
    for i in range(LABELLINGS):
        y = generator.permutation(np.arange(len(pictures)) % 2)[photo]
        shuffled = StratifiedKFold(4, shuffle=True, random_state=i)
        by_photo = GroupKFold(4, shuffle=True, random_state=i)
        scores.append([cross_val_score(model, X, y, cv=cv, groups=photo).mean() for cv in (shuffled, by_photo)])
    leaking, honest = np.mean(scores, axis=0)
    if folder is None:
        y = (photo >= len(NATURAL)).astype(int)
        cvs = StratifiedKFold(4, shuffle=True, random_state=0), GroupKFold(4, shuffle=True, random_state=0)
        real = [cross_val_score(model, X, y, cv=cv, groups=photo).mean() for cv in cvs]
        report.table(
            "photographs",
            ("label", "random folds", "folds by photograph"),
            [
                ("by chance", f"{leaking:.1%}", f"{honest:.1%}"),
                ("nature or made by people", f"{real[0]:.1%}", f"{real[1]:.1%}"),
            ],
            f"Nearest neighbour on the colours and contrast of {SIDE} x {SIDE} patches, {len(names)} photographs.",
        )
    return float(leaking), float(honest)


def _pictures_in(folder: FolderPath) -> list[str]:
    place = Path(str(folder)).expanduser()
    if not place.is_dir():
        raise InputError(f"no folder {place}")
    found = sorted(str(path) for path in place.iterdir() if path.suffix.lower() in SUFFIXES)
    if len(found) < 4:
        raise InputError(f"{place} has {len(found)} pictures; at least four are needed")
    return found


def _cut(picture: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Patches (n, 3, s, s) from places drawn at random."""
    if min(picture.shape[1:]) < SIDE:
        picture = resize(picture, SIDE)
    tops, lefts = (generator.integers(0, side - SIDE + 1, PATCHES) for side in picture.shape[1:])
    return torch.stack([picture[:, t : t + SIDE, x : x + SIDE] for t, x in zip(tops, lefts, strict=True)])


def _described(patches: torch.Tensor) -> np.ndarray:
    """Mean and deviation of each colour, and how steep the patch is down and across."""
    slopes = [torch.diff(patches, dim=dim).abs().mean((1, 2, 3)) for dim in (2, 3)]
    columns = [*patches.mean((2, 3)).unbind(1), *patches.std((2, 3)).unbind(1), *slopes]
    return torch.stack(columns, 1).double().numpy()


def _drawn(found: dict[str, Scores]) -> Figure:
    figure, axes = drawing(width=8)
    places = np.arange(len(found))
    for side, label, color in ((0, "with the leak", RED), (1, "without", BLUE)):
        heights = [scores[side] for scores in found.values()]
        bars = axes.bar(places + 0.36 * side - 0.18, heights, 0.34, color=color, label=label)
        axes.bar_label(bars, [f"{height:.2f}" for height in heights], fontsize=8)
    axes.set_xticks(places, [fill(name, 18) for name in found], fontsize=8)
    axes.set(ylabel="score on the test rows", ylim=(0, 1.12))
    axes.legend(frameon=False, ncols=2, loc="upper right")
    return figure
