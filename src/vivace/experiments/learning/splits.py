"""Experiment: rows into train, validation and test; which sizes, and which ratio."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from scipy.optimize import curve_fit
from scipy.spatial import cKDTree
from sklearn.model_selection import cross_val_score
from threadpoolctl import threadpool_limits

from vivace.base.drawing import BLUE, GREY, ORANGE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.base.tables import houses
from vivace.learning import LinearRegression
from vivace.learning.feature_matrix import FeatureMatrix
from vivace.learning.scaling import StandardScaler
from vivace.learning.splits import KFold, split_sizes, three_way_split

QUICK = {"rows": 100_000}

LARGEST_SWEPT = 2000  # every n up to this is split
SHARES = np.geomspace(0.005, 0.45, 200)  # of the rows, for test; as many for validation, the rest for training
NEIGHBOURS = 5
ASKED = 20_000  # houses that a classifier's true error is measured on
TEST_SETS = 100  # of 10,000 rows each

Errors = dict[int, float]


@checked
def run(*, rows: Annotated[int, Ge(30_000), Le(3_000_000)] = 1_000_000, seed: Seed = 0, tell: Tell = ignore) -> Report:
    """Sizes that add up, and what the test share costs.

    vivace run splits        10 s on two cores; 70:15:15 adds up for every n; with a million rows a test set of 1 %
    knows the accuracy to 0.3 points, with a hundred rows one of 15 % to 8

    rows: the most rows that a classifier is trained on; its learning curve is measured up to there
    seed: for the houses and their order
    """
    report = Report(
        "Train, validation and test: 70:15:15 always adds up, and is seldom the best ratio",
        "Sizes are rounded by the largest remainder. For the ratio, a house is to be called dear (above the median "
        "price) or not: with a test share $t$, and as much for validation, $(1 - 2t)n$ rows are left to train on. That "
        "costs accuracy, $e((1-2t)n) - e(n)$, while a small test set costs precision, $\\sqrt{e(1-e)/(tn)}$. Their sum "
        "is the total risk.",
    )
    with threadpool_limits(1):
        tell(Step(0, 4, f"every n up to {LARGEST_SWEPT:,}"))
        _sizes(report)
        tell(Step(1, 4, "learning curves"))
        curves = _learning_curves(rows, seed)
        _best_ratio(report, curves)
        tell(Step(2, 4, "how precise a test set is"))
        _precision(report, seed)
        tell(Step(3, 4, "folds for small data"))
        _small(report, seed)
    report.claims.sort(key=lambda claim: claim.id)
    return report


def _sizes(report: Report) -> None:
    """Every n up to 2000, with and without classes; and what plain rounding would do."""
    wrong = 0
    for n in range(1, LARGEST_SWEPT + 1):
        labels = np.arange(n) % 7 % 3
        for given in (None, labels):
            parts = three_way_split(n, labels=given, random_state=n)
            together = np.concatenate(parts)
            sizes = np.array([len(part) for part in parts])
            off_share = (np.abs(sizes - n * np.array([0.7, 0.15, 0.15])) >= 1).any()
            wrong += off_share or len(together) != n or len(np.unique(together)) != n or together.max() >= n
    report.claim(
        "1.2.c1",
        int(wrong),
        high=0,
        unit="splits",
        detail=f"of {2 * LARGEST_SWEPT:,} (n = 1 to {LARGEST_SWEPT:,}, plain and stratified) with a row lost or twice, "
        "or a size a row or more off its share",
    )
    off = sum(round(0.7 * n) + 2 * round(0.15 * n) != n for n in range(1, LARGEST_SWEPT + 1))
    report.claim(
        "1.2.x1",
        off,
        high=0,
        unit="of 2,000 sizes",
        detail="round(0.7 n) + 2 round(0.15 n) is not n",
    )
    shown = [(n, *(int(size) for size in split_sizes(n)), round(0.7 * n) + 2 * round(0.15 * n)) for n in
             (1, 3, 10, 99, 442, 1797, 70_000, 1_000_000)]  # fmt: skip
    report.table(
        "sizes",
        ("n", "train", "validation", "test", "sum if each is rounded by itself"),
        shown,
        f"70:15:15 by the largest remainder. Rounded one by one, the sizes miss n for {off} of the {LARGEST_SWEPT:,}.",
    )


def _learning_curves(rows: int, seed: int) -> dict[str, Errors]:
    """The error of a slow learner (nearest neighbours) and a fast one (a linear model), by the number of houses."""
    X, dear, scaled = _houses(rows, seed)
    asked, truth, _ = _houses(ASKED, seed + 1, scaled)
    curves: dict[str, Errors] = {"nearest neighbours": {}, "linear": {}}
    for size in (int(10**exponent) for exponent in np.arange(2, np.log10(rows) + 1e-9, 0.5)):
        repeats = range(max(1, min(40, 10_000 // size)))
        errors = [
            (_neighbours(X[part], dear[part], asked, truth), _linear(X[part], dear[part], asked, truth))
            for part in (slice(i * size, (i + 1) * size) for i in repeats)
        ]
        for curve, error in zip(curves.values(), np.mean(errors, axis=0), strict=True):
            curve[size] = float(error)
    return curves


def _houses(n: int, seed: int, scale: Callable[[dict[str, np.ndarray]], np.ndarray] | None = None
            ) -> tuple[np.ndarray, np.ndarray, Callable[[dict[str, np.ndarray]], np.ndarray]]:  # fmt: skip
    """Seven numbers of each house, and whether it is dear; scaled as the first houses were."""
    table = houses(n, seed=seed)
    numbers = {name: values for name, values in table.columns.items() if name != "situation"}
    if scale is None:
        matrix = FeatureMatrix(mark_holes=False).fit(numbers)
        scaler = StandardScaler().fit(matrix.transform(numbers))

        def scale(columns: dict[str, np.ndarray]) -> np.ndarray:
            return scaler.transform(matrix.transform(columns))

    return scale(numbers), table.y > 175, scale  # 175,000 $: the median


def _neighbours(X: np.ndarray, dear: np.ndarray, asked: np.ndarray, truth: np.ndarray) -> float:
    _, nearest = cKDTree(X).query(asked[: ASKED if len(X) < 500_000 else ASKED // 2], k=NEIGHBOURS)
    return float(np.mean((dear[nearest].mean(1) > 0.5) != truth[: len(nearest)]))


def _linear(X: np.ndarray, dear: np.ndarray, asked: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean((LinearRegression().fit(X, dear * 1.0).predict(asked) > 0.5) != truth))


def _best_ratio(report: Report, curves: dict[str, Errors]) -> None:
    """Total risk over the test share, for every n and both learners."""
    sizes = np.geomspace(100, 1_000_000, 41)
    figure, axes = drawing(1, 2, width=9.6)
    worst: list[float] = []
    rows: list[tuple[object, ...]] = []
    for (name, curve), color in zip(curves.items(), (ORANGE, BLUE), strict=True):
        n, error = np.array(list(curve)), np.array(list(curve.values()))
        (floor, a, b), _ = curve_fit(_power, n, error, p0=(error.min() * 0.9, 0.2, 0.4), sigma=np.sqrt(1 / n) + 0.02,
                                     bounds=([0, 0, 0.05], [0.5, 50, 1.5]), max_nfev=20_000)  # fmt: skip
        axes[0].semilogx(n, error, "o", color=color, markersize=4)
        axes[0].semilogx(sizes, _power(sizes, floor, a, b), color=color,
                       label=f"{name}: {floor:.3f} + {a:.2f} n^-{b:.2f}")  # fmt: skip
        fitted = partial(_power, floor=floor, a=a, b=b)
        risks = np.array([sum(_risk(fitted, size, SHARES)) for size in sizes])
        excess = np.array([float(sum(_risk(fitted, size, 0.15))) for size in sizes]) / risks.min(1)
        worst.append(float(excess.max()))
        axes[1].semilogx(sizes, 100 * SHARES[risks.argmin(1)], color=color, label=name)
        rows += [
            (name, f"{size:,}", ratio, *(f"{100 * float(part):.2f}" for part in _risk(fitted, size, share)))
            for size in (100, 10_000, 1_000_000) for ratio, share in (("70:15:15", 0.15), ("98:1:1", 0.01))
        ]  # fmt: skip
        within = risks <= 1.1 * risks.min(1, keepdims=True)
        ends = [(SHARES[row].min(), SHARES[row].max()) for row in within]
        axes[1].fill_between(sizes, *(100 * np.transpose(ends)), color=color, alpha=0.15, linewidth=0)
    axes[1].axhline(15, color=GREY, linestyle="--", label="70:15:15")
    axes[0].set(xlabel="training rows", ylabel="error rate")
    axes[1].set(xlabel="rows in all", ylabel="test share with the least total risk, %", ylim=(0, 50))
    for each in axes:
        each.legend(frameon=False, fontsize=8)
    report.claim(
        "1.2.c3",
        max(worst),
        high=1.1,
        detail="total risk of 70:15:15 over that of the best ratio, at the worst n of 100 to 1,000,000: "
        f"{worst[0]:.2f} for nearest neighbours, {worst[1]:.2f} for the linear model",
    )
    report.figure(
        "ratio",
        figure,
        "Left: learning curves, measured (dots) and fitted. Right: the best test share (line) and all that are at most "
        "10 % worse (band). How the best share moves with n depends on how fast the learner still improves.",
    )
    report.table(
        "ratios",
        (
            "learner",
            "n",
            "ratio",
            "accuracy lost to training on fewer rows, points",
            "standard error of the test, points",
        ),
        rows,
        "At a million rows 98:1:1 loses nothing and knows the accuracy to 0.3 points, which is mostly enough; what "
        "70:15:15 costs there depends on the learner. At a hundred rows neither test set is of use.",
    )


def _power(n: Any, floor: float, a: float, b: float) -> Any:
    return floor + a * n**-b


def _risk(error: Callable[[Any], Any], n: float, share: np.ndarray | float) -> tuple[Any, Any]:
    """Accuracy lost by training on fewer rows, and the standard error of the accuracy measured."""
    p = error((1 - 2 * share) * n)
    return p - error(n), np.sqrt(p * (1 - p) / (share * n))


def _precision(report: Report, seed: int) -> None:
    """How far accuracies measured on test sets of one size lie apart, at both ends of the sweep."""
    X, dear, scaled = _houses(1000, seed + 2)
    model = LinearRegression().fit(X, dear * 1.0)
    right = []
    for batch in range(10):  # 100,000 rows at a time
        asked, truth, _ = _houses(TEST_SETS * 1000, seed + 10 + batch, scaled)
        right.append((model.predict(asked) > 0.5) == truth)
    hits = np.concatenate(right)
    rows, apart = [], {}
    for size in (15, 150, 1000, 10_000):
        apart[size] = float(hits[: len(hits) // size * size].reshape(-1, size).mean(1).std(ddof=1))
        rows.append((size, f"{100 * apart[size]:.2f}", f"{100 * np.sqrt(0.25 / size):.2f}"))
    report.claim(
        "1.2.x2",
        100 * apart[15],
        high=5,
        unit="points",
        detail="standard deviation of the accuracy over test sets of 15 rows: 15 % of n = 100",
    )
    report.claim(
        "1.2.x3",
        100 * apart[10_000],
        high=0.5,
        unit="points",
        detail="standard deviation of the accuracy over 100 test sets of 10,000: 1 % of a million",
    )
    report.table(
        "precision",
        ("rows in the test set", "accuracies lie apart by (standard deviation, points)", "never more than, points"),
        rows,
        "One linear classifier on fresh test sets, a million houses in all. What a test set can tell is a matter of "
        "its number of rows, not of its share.",
    )


def _small(report: Report, seed: int) -> None:
    """A hundred rows: the accuracy by one hold-out set of 15, and by ten folds."""
    asked, truth, scaled = _houses(ASKED, seed + 3)
    off: list[tuple[float, float]] = []
    for i in range(60):
        X, dear, _ = _houses(100, seed + 100 + i, scaled)
        parts = three_way_split(100, labels=dear, random_state=i)
        right = 1 - _linear(X, dear, asked, truth)
        held_out = 1 - _linear(X[parts.train], dear[parts.train], X[parts.test], dear[parts.test])
        folds = cross_val_score(_Above(), X, dear * 1.0, cv=KFold(10, shuffle=True, random_state=i))
        off.append((held_out - right, float(folds.mean()) - right))
    hold_out, k_fold = np.sqrt(np.mean(np.square(off), axis=0))
    report.claim(
        "1.2.x4",
        hold_out / k_fold,
        low=1.5,
        detail=f"RMS error of the accuracy measured at n = 100: {hold_out:.3f} by 15 rows held out, {k_fold:.3f} "
        "by ten folds; 60 samples",
    )


class _Above(LinearRegression):
    """The linear model as a classifier, for cross-validation: its score is the accuracy."""

    def score(self, X: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean((self.predict(X) > 0.5) == (y > 0.5)))
