"""Experiment: what RMSE, MAE and R^2 say of a regression, and where they disagree."""

from typing import Annotated

import numpy as np
from annotated_types import Ge, Le
from sklearn.linear_model import QuantileRegressor
from threadpoolctl import threadpool_limits

from vivace.base.drawing import BLUE, ORANGE, drawing
from vivace.base.errors import InputError
from vivace.base.parameters import FilePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.base.tables import Table, diabetes, houses, read_table
from vivace.learning import LinearRegression
from vivace.learning.feature_matrix import FeatureMatrix
from vivace.learning.metrics import (
    adjusted_r2_score,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    r2_score,
    root_mean_squared_error,
)
from vivace.learning.scaling import StandardScaler
from vivace.learning.splits import three_way_split

QUICK = {"rows": 3000, "repeats": 60}

FEW = 15  # rows to fit ten features to: too few
NOISE = 60  # useless features, added one after the other
DRAWS = 1_000_000


@checked
def run(*, data: FilePath = None, target: str | None = None, rows: Annotated[int, Ge(1000), Le(20_000)] = 6000,
        repeats: Annotated[int, Ge(20), Le(10_000)] = 400, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """RMSE, MAE and R^2: their units, their limits, and two models that they rank differently.

    vivace run regression_metrics        4 s on two cores; R^2 of a model with ten features fitted to 15 patients is
    about -1 for others; RMSE/MAE is 1.2533 for normal errors

    data: a CSV file whose first line names its columns (default: scikit-learn's diabetes patients, 442 rows)
    target: the column to predict (default: the last)
    rows: houses on which two models are compared
    repeats: how often a model is fitted to too few rows
    seed: for splits, noise and houses
    """
    table = read_table(data, target) if data else diabetes()
    least = max(FEW + 5, 2 * (len(table.names) + 3))  # half of them must outnumber the features and one of noise
    if len(table.y) < least:
        raise InputError(f"{data} has {len(table.y)} rows of {len(table.names)} features; {least} rows are needed")
    report = Report(
        f"What metrics say of a regression: {table.target} from {len(table.names)} features",
        "$\\text{RMSE} = \\sqrt{\\frac1n\\sum e_i^2}$ and $\\text{MAE} = \\frac1n\\sum |e_i|$ are in the target's "
        "unit; $R^2 = 1 - \\frac{\\sum e_i^2}{\\sum (y_i - \\bar y)^2}$ has none, and compares with the mean of $y$."
        + table.remark,
    )
    generator = np.random.default_rng(seed)
    with threadpool_limits(1):
        tell(Step(0, 3, "errors of all kinds"))
        _inequality(report, generator)
        _units(report, table, seed)
        tell(Step(1, 3, "the range of R^2"))
        _range(report, table, repeats, generator)
        _useless_features(report, table, generator)
        tell(Step(2, 3, "two models, two rankings"))
        _rankings(report, rows, seed)
    report.claims.sort(key=lambda claim: claim.id)
    return report


def _inequality(report: Report, generator: np.random.Generator) -> None:
    """RMSE over MAE for errors of many kinds."""
    kinds = {
        "all of one size": generator.choice([-1.0, 1.0], DRAWS),
        "uniform": generator.uniform(-1, 1, DRAWS),
        "normal": generator.normal(size=DRAWS),
        "Laplace": generator.laplace(size=DRAWS),
        "Student, 3 degrees": generator.standard_t(3, DRAWS),
        "one in a hundred is 30 times as large": generator.normal(size=DRAWS)
        * np.where(generator.random(DRAWS) < 0.01, 30, 1),
    }
    ratios = {name: _ratio(errors) for name, errors in kinds.items()}
    short = min(_ratio(generator.standard_t(2, size)) for size in generator.integers(1, 50, 5000))
    report.claim("1.10.c1", min(short, *ratios.values()), low=1 - 1e-9,
                 detail="least RMSE/MAE of 5,000 short vectors of Student errors and six long ones")  # fmt: skip
    report.claim("1.10.x1", ratios["normal"], low=1.25, high=1.257,
                 detail=f"RMSE/MAE of {DRAWS:,} normal errors; sqrt(pi/2) = {np.sqrt(np.pi / 2):.4f}")  # fmt: skip
    report.table("ratios", ("errors", "RMSE / MAE"), [(name, f"{ratio:.4f}") for name, ratio in ratios.items()],
                 "1 where all errors are of one size; the heavier the tails, the larger.")  # fmt: skip


def _ratio(errors: np.ndarray) -> float:
    zero = np.zeros(len(errors))
    return root_mean_squared_error(zero, errors) / mean_absolute_error(zero, errors)


def _units(report: Report, table: Table, seed: int) -> None:
    """The target in another unit: held-out predictions of a model fitted before and after."""
    parts = three_way_split(len(table.y), random_state=seed)
    rows = np.concatenate([parts.validation, parts.test])
    found = []
    for factor in (1.0, 1000.0):
        y = table.y * factor
        said = LinearRegression().fit(table.X[parts.train], y[parts.train]).predict(table.X[rows])
        found.append(_metrics(y[rows], said))
    plain, large = found
    report.claim("1.10.c2", round(large["RMSE"] / plain["RMSE"], 6), low=1000, high=1000,
                 detail="RMSE with the target a thousand times as large, over RMSE; fitted again, test "
                        "rows")  # fmt: skip
    report.claim("1.10.x2", round(large["MSE"] / plain["MSE"], 3), low=1000, high=1000, detail="the same for MSE")
    report.claim("1.10.x3", round(large["R^2"] - plain["R^2"], 9), low=0, high=0, detail="the same for R^2: difference")
    report.table(
        "units",
        ("metric", f"{table.target}", f"{table.target}, a thousand times as large"),
        [(name, f"{plain[name]:.6g}", f"{large[name]:.6g}") for name in plain],
        f"The same model and test rows ({len(rows)}).",
    )


def _metrics(y: np.ndarray, said: np.ndarray) -> dict[str, float]:
    found = {"MSE": mean_squared_error(y, said), "RMSE": root_mean_squared_error(y, said),
             "MAE": mean_absolute_error(y, said), "R^2": r2_score(y, said)}  # fmt: skip
    return found if (y == 0).any() else found | {"MAPE": mean_absolute_percentage_error(y, said)}


def _range(report: Report, table: Table, repeats: int, generator: np.random.Generator) -> None:
    """R^2 on the other rows, of least squares fitted to 15."""
    inside, outside = [], []
    for _ in range(repeats):
        order = generator.permutation(len(table.y))
        train, rest = order[:FEW], order[FEW:]
        model = LinearRegression().fit(table.X[train], table.y[train])
        inside.append(r2_score(table.y[train], model.predict(table.X[train])))
        outside.append(r2_score(table.y[rest], model.predict(table.X[rest])))
    middle = float(np.median(outside))
    report.claim("1.10.c3", middle, low=0, high=1,
                 detail=f"median R^2 on the other rows, least squares of {len(table.names)} features fitted to {FEW} "
                 f"rows, {repeats} times; on those rows themselves {np.median(inside):.2f}")  # fmt: skip
    by_hand = r2_score(np.array([1.0, 2.0, 3.0]), np.array([3.0, 3.0, -5.0]))
    report.claim(
        "1.10.x4", round(by_hand, 9), low=-33.5, high=-33.5, detail="R^2 of (3, 3, -5) for the truth (1, 2, 3)"
    )
    figure, axes = drawing()
    axes.hist(np.clip(outside, -10, 1), bins=np.linspace(-10, 1, 45), color=ORANGE, label="rows not seen")
    axes.hist(inside, bins=np.linspace(-10, 1, 45), color=BLUE, alpha=0.8, label="rows fitted to")
    axes.set(xlabel="R^2 (all below -10 stand at -10)", ylabel="fits", yscale="log")
    axes.legend(frameon=False, loc="upper left")
    report.figure("range", figure, f"{repeats} fits of {len(table.names)} features to {FEW} rows each.")


def _useless_features(report: Report, table: Table, generator: np.random.Generator) -> None:
    """Columns of noise, one more at a time: R^2 of the rows fitted to, adjusted, and of other rows."""
    parts = three_way_split(len(table.y), ratio=(50, 0, 50), random_state=0)
    d = table.X.shape[1]
    most = min(NOISE, len(parts.train) - d - 2)
    X = np.column_stack([StandardScaler().fit_transform(table.X), generator.normal(size=(len(table.y), most))])
    y = table.y
    lines: dict[str, list[float]] = {"rows fitted to": [], "adjusted": [], "rows not seen": []}
    for added in range(most + 1):
        columns = slice(0, d + added)
        model = LinearRegression().fit(X[parts.train, columns], y[parts.train])
        said = model.predict(X[parts.train, columns])
        lines["rows fitted to"].append(r2_score(y[parts.train], said))
        lines["adjusted"].append(adjusted_r2_score(y[parts.train], said, d + added))
        lines["rows not seen"].append(r2_score(y[parts.test], model.predict(X[parts.test, columns])))
    fitted, held_out = lines["rows fitted to"], lines["rows not seen"]
    report.claim(
        "1.10.x5",
        float(np.diff(fitted).min()),
        low=-1e-9,
        detail=f"least change of the training R^2 as {most} columns of noise are added one by one; "
        f"{fitted[0]:.2f} to {fitted[-1]:.2f}, on other rows {held_out[0]:.2f} to {held_out[-1]:.2f}",
    )
    report.curve("useless-features", {name: (list(range(most + 1)), values) for name, values in lines.items()},
                 x="useless features added", y="R^2", caption="Noise never lowers the R^2 of the rows that the model "
                 "is fitted to. Adjusted R^2 takes back what chance explains; rows not seen show the "
                 "harm.")  # fmt: skip


def _rankings(report: Report, rows: int, seed: int) -> None:
    """Least squares and least absolute errors on skewed prices: each is best by its own metric."""
    table = houses(2 * rows, seed=seed)
    train = {name: values[:rows] for name, values in table.columns.items()}
    matrix = FeatureMatrix(mark_holes=False).fit(train)
    X = StandardScaler().fit(matrix.transform(train)).transform(matrix.transform(table.columns))
    models = {
        "least squares": LinearRegression(),
        "least absolute errors": QuantileRegressor(quantile=0.5, alpha=0, solver="highs"),
    }
    found, truth = {}, table.y[rows:]
    for name, model in models.items():
        said = model.fit(X[:rows], table.y[:rows]).predict(X[rows:])
        found[name] = _metrics(truth, said) | {"mean error": float(np.mean(said - truth))}
    square, absolute = found.values()
    gains = absolute["RMSE"] / square["RMSE"] - 1, square["MAE"] / absolute["MAE"] - 1
    report.claim("1.10.c6", 100 * min(gains), low=0.3, unit="%",
                 detail=f"least squares is better by {gains[0]:.1%} in RMSE, least absolute errors by {gains[1]:.1%} "
                 f"in MAE; {rows:,} houses not seen; the lesser gain")  # fmt: skip
    report.table("rankings", ("model", *square), [(name, *values.values()) for name, values in found.items()],
                 "Prices in 1000 $. Each model wins by the metric that it was fitted to; the mean error says who is "
                 "right in sum.")  # fmt: skip
