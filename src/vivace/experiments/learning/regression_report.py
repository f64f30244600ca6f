"""Experiment: the whole report on a regression: folds and hold-out, plots of errors, cost, what there is to read."""

import pickle
from functools import partial
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeRegressor
from threadpoolctl import threadpool_limits

from vivace.base.drawing import BLUE, GREY, ORANGE, RED, drawing
from vivace.base.errors import InputError
from vivace.base.parameters import FilePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.base.tables import Table, diabetes, read_table
from vivace.experiments.timing import quickest
from vivace.learning import LinearRegression
from vivace.learning.diagnostics import NormalQQ, calibration_line, learning_curve, normal_qq, residuals
from vivace.learning.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from vivace.learning.scaling import StandardScaler
from vivace.learning.splits import KFold, three_way_split

QUICK = {"trees": 20, "repeats": 100}

LEAST = 15  # rows of a file: ten neighbours are asked for of four fifths of them, or of 70 %
MOST = 5000  # rows of a file that are used, drawn at random
DEGREES = 3  # of Student's t distribution: heavy tails
LEVEL = 0.01  # how often normal residuals may be called not normal

Models = dict[str, Any]


@checked
def run(*, data: FilePath = None, target: str | None = None, trees: Annotated[int, Ge(10), Le(1000)] = 100,
        repeats: Annotated[int, Ge(50), Le(5000)] = 400, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Five regressions of one table, evaluated in full: metrics, residuals, learning curve, cost and a checklist.

    vivace run regression_report        8 s on two cores; a linear model explains 50 % of the variance of patients it
    has not seen, a forest of 100 trees 44 %; Q-Q plots of 442 residuals reveal Student's t every time

    data: a CSV file whose first line names its columns (default: scikit-learn's diabetes patients, 442 rows)
    target: the column to predict (default: the last)
    trees: in the random forest
    repeats: how often residuals are drawn, and the table is split, for the claims
    seed: for the order of rows, the trees and the drawn residuals
    """
    table = _reduced(read_table(data, target) if data else diabetes(), seed)
    if len(table.y) < LEAST:
        raise InputError(f"{data} has {len(table.y)} rows; a report needs at least {LEAST}")
    if np.abs(table.X).max() > np.finfo(np.float32).max:
        raise InputError(f"{data} holds features beyond 3e38, which trees don't take; another unit would help")
    models = _models(trees, seed)
    report = Report(
        f"A regression report: {table.target} from {len(table.names)} features of {len(table.y):,} rows",
        f"{table.name}. Every number but the fitting times is of rows that the model has not seen: five folds, each "
        "predicted by a model of the other four." + table.remark,
    )
    with threadpool_limits(1):
        tell(Step(0, 5, "five models, five folds"))
        held_out = _compared(report, table, models, seed)
        tell(Step(1, 5, "plots"))
        _plots(report, table, held_out)
        tell(Step(2, 5, "learning curve"))
        _learning_curve(report, table, models, seed)
        tell(Step(3, 5, "what the models can be read"))
        _interpretability(report, table, models, seed)
        _checklist(report, table, held_out)
        tell(Step(4, 5, "Q-Q plots of drawn residuals; hold-out against folds"))
        _qq_power(report, repeats, seed)
        _hold_out(report, repeats, seed)
    return report


def _reduced(table: Table, seed: int) -> Table:
    few = np.random.default_rng(seed).permutation(len(table.y))[:MOST]
    return Table(table.X[few], table.y[few], table.names, table.target, table.name, table.remark)


def _models(trees: int, seed: int) -> Models:
    return {
        "the mean": DummyRegressor(),
        "linear": LinearRegression(),
        "10 nearest neighbours": make_pipeline(StandardScaler(), KNeighborsRegressor(10)),
        "tree of depth 3": DecisionTreeRegressor(max_depth=3, random_state=seed),
        f"forest of {trees} trees": RandomForestRegressor(trees, min_samples_leaf=3, random_state=seed),
    }


def _compared(report: Report, table: Table, models: Models, seed: int) -> dict[str, np.ndarray]:
    """Held-out predictions; errors in folds and in one hold-out set, and what each model costs."""
    X, y = table.X, table.y
    parts = three_way_split(len(y), random_state=seed)
    accuracy, cost, held_out = [], [], {}
    for name, model in models.items():
        said = held_out[name] = cross_val_predict(model, X, y, cv=KFold(5, shuffle=True, random_state=seed))
        folds = [r2_score(y[test], said[test]) for _, test in KFold(5, shuffle=True, random_state=seed).split(X)]
        once = model.fit(X[parts.train], y[parts.train]).predict(X[parts.test])
        accuracy.append((name, root_mean_squared_error(y, said), mean_absolute_error(y, said),
                         f"{r2_score(y, said):.3f}", f"{np.mean(folds):.3f} ± {np.std(folds):.3f}",
                         f"{r2_score(y[parts.test], once):.3f}"))  # fmt: skip
        fitting, asking = quickest([partial(model.fit, X, y), partial(model.predict, X)])
        cost.append((name, f"{1e3 * fitting:.2f}", f"{1e6 * asking / len(y):.2f}", f"{len(pickle.dumps(model)):,}"))
    report.table("metrics", ("model", "RMSE", "MAE", "R^2, folds pooled", "R^2, mean of folds", "R^2, hold-out set"),
                 accuracy, f"RMSE and MAE in units of {table.target}. The hold-out set has {len(parts.test)} "
                           "rows.")  # fmt: skip
    report.table("cost", ("model", "fitting, ms", "a prediction, μs", "size, bytes"), cost,
                 f"Computational efficiency: {len(y):,} rows, one thread of this machine; size as Python stores the "
                 "model.")  # fmt: skip
    return held_out


def _plots(report: Report, table: Table, held_out: dict[str, np.ndarray]) -> None:
    """Predicted against actual, residuals against predicted, and the Q-Q plot, of the linear model."""
    y, said = table.y, held_out["linear"]
    off = residuals(y, said)
    qq, (slope, intercept) = normal_qq(off), calibration_line(y, said)
    figure, axes = drawing(1, 3, width=12, height=3.9)
    dots = {"marker": "o", "linestyle": "", "markersize": 3, "alpha": 0.5, "color": BLUE}
    ends = np.array([said.min(), said.max()])
    axes[0].plot(said, y, **dots)
    axes[0].plot(ends, ends, color=GREY, linestyle="--", label="right")
    axes[0].plot(ends, slope * ends + intercept, color=ORANGE, label=f"fitted: slope {slope:.2f}")
    axes[0].set(xlabel=f"predicted {table.target}", ylabel=f"actual {table.target}", title="predicted against actual")
    axes[1].plot(said, off, **dots)
    axes[1].axhline(0, color=GREY, linestyle="--")
    middles, spreads = _by_tenths(said, off)
    for sign in (-1, 1):
        axes[1].plot(middles, sign * spreads, color=RED, label="deviation, by tenths" if sign > 0 else None)
    axes[1].set(xlabel=f"predicted {table.target}", ylabel="residual", title="residuals")
    axes[2].plot(qq.theoretical, qq.ordered, **dots)
    axes[2].plot(qq.theoretical, qq.intercept + qq.slope * qq.theoretical, color=ORANGE,
                 label=f"correlation {qq.correlation:.4f}")  # fmt: skip
    axes[2].set(xlabel="normal quantile", ylabel="residual", title="normal Q-Q plot")
    for each in axes:
        each.legend(frameon=False, fontsize=8)
    report.figure("plots", figure, "The linear model on rows it has not seen. A funnel in the middle plot would say "
                  "that the errors grow with the prediction, a curve that something is not linear.")  # fmt: skip


def _by_tenths(said: np.ndarray, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tenths = np.array_split(np.argsort(said), 10)
    return np.array([said[rows].mean() for rows in tenths]), np.array([off[rows].std() for rows in tenths])


def _learning_curve(report: Report, table: Table, models: Models, seed: int) -> None:
    X, y = table.X, table.y
    folds = list(KFold(5, shuffle=True, random_state=seed).split(X))
    most = min(len(train) for train, _ in folds)
    sizes = np.unique(np.geomspace(min(25, most), most, 9).astype(int)).tolist()
    lines = {}
    for name in ("linear", "tree of depth 3"):
        curve = learning_curve(models[name], X, y, sizes=sizes, error=root_mean_squared_error, folds=folds,
                               generator=np.random.default_rng(seed))  # fmt: skip
        lines[f"{name}, rows fitted to"] = sizes, curve.train
        lines[f"{name}, rows not seen"] = sizes, curve.test
    report.curve("learning-curve", lines, x="training rows", y=f"RMSE, {table.target}",
                 caption="Where the two curves of a model have met, more rows will not help it; where a gap is left, "
                         "they will.")  # fmt: skip


def _interpretability(report: Report, table: Table, models: Models, seed: int) -> None:
    """What can be read off each model, and which features it leans on when they are shuffled in rows not seen."""
    X, y = table.X, table.y
    parts = three_way_split(len(y), ratio=(70, 0, 30), random_state=seed)
    lean: dict[str, np.ndarray] = {}
    read: list[tuple[str, str]] = [("the mean", "1 number")]
    for name, model in list(models.items())[1:]:
        model.fit(X[parts.train], y[parts.train])
        found = permutation_importance(
            model, X[parts.test], y[parts.test], n_repeats=5, random_state=seed, scoring="r2"
        )
        lean[name] = found.importances_mean
        read.append((name, _readable(name, model, len(table.names))))
    order = np.argsort(-np.max(list(lean.values()), axis=0))[:15]
    rows = [(table.names[i], *(f"{values[i]:+.3f}" for values in lean.values())) for i in order]
    report.table("importance", ("feature", *lean), rows, "Interpretability: by how much R^2 falls on rows not seen "
                 "when a feature's values are shuffled. Of two correlated features each can stand in for the "
                 "other.")  # fmt: skip
    report.table("reading", ("model", "what there is to read"), read, "Interpretability: how much one has to look at.")


def _readable(name: str, model: Any, features: int) -> str:
    if name == "linear":
        return f"{features + 1} numbers: what a unit of each feature adds to the prediction"
    if name.startswith("tree"):
        return f"{model.get_n_leaves()} rules of at most {model.get_depth()} conditions"
    if name.startswith("forest"):
        return f"{sum(tree.get_n_leaves() for tree in model.estimators_):,} rules: not to be read"
    return "the neighbours of a case, as examples; no rule"


def _checklist(report: Report, table: Table, held_out: dict[str, np.ndarray]) -> None:
    """What the field in question may require, each with the number that answers it, for the linear model."""
    y, said = table.y, held_out["linear"]
    off = np.abs(residuals(y, said))
    high, low = y >= np.quantile(y, 0.75), y <= np.quantile(y, 0.25)
    over = np.maximum(said - y, 0).sum() / off.sum()
    outside = float(np.mean((said < y.min()) | (said > y.max())))
    half = table.X[:, int(np.argmax(np.abs(np.corrcoef(table.X, y, rowvar=False)[-1, :-1])))]
    groups = [off[half <= np.median(half)].mean(), off[half > np.median(half)].mean()]
    rows = [
        ("How large is the error that nine of ten stay below?", f"{np.quantile(off, 0.9):.4g}", "tolerance of the use"),
        ("How large is the worst?", f"{off.max():.4g}", "cost of a single bad case"),
        (
            "Are the highest quarter predicted too low?",
            f"{np.mean((said - y)[high]):+.4g}",
            "near 0 if extremes matter",
        ),
        ("Are the lowest quarter predicted too high?", f"{np.mean((said - y)[low]):+.4g}", "near 0 if extremes matter"),
        ("Share of the error that is over-prediction", f"{over:.0%}", "50 % unless one side is dearer"),
        ("Predictions outside of all targets seen", f"{outside:.1%}", "0 if they would be impossible"),
        (
            "Mean absolute error in two halves by the strongest feature",
            " and ".join(f"{g:.4g}" for g in groups),
            "equal: fairness",
        ),
        ("How many rows for each feature?", f"{len(y) / len(table.names):.0f}", "10 or more, else regularise"),
        ("Are rows dependent (time, person, place)?", "not in the table", "then split by time or group"),
    ]
    report.table("checklist", ("requirement of the domain", "linear model", "what to hold it against"), rows,
                 "No metric answers these by itself. The last one only somebody who knows the data can "
                 "answer.")  # fmt: skip


def _qq_power(report: Report, repeats: int, seed: int) -> None:
    """How often the correlation of a Q-Q plot gives heavy tails away, in residuals of a least-squares fit."""
    table = diabetes()
    shown = {}
    caught = {}
    for n in (442, 30):
        generator = np.random.default_rng((seed, n))
        X = np.column_stack([np.ones(n), table.X[generator.permutation(442)[:n], :4]])
        away = np.eye(n) - X @ np.linalg.pinv(X)  # what a least-squares fit leaves of the noise
        draws = {
            "normal": generator.normal(size=(max(400, 2 * repeats), n)),
            "t": generator.standard_t(DEGREES, (repeats, n)),
        }
        found = {name: [normal_qq(away @ noise) for noise in rows] for name, rows in draws.items()}
        limit = np.quantile([qq.correlation for qq in found["normal"]], LEVEL)
        caught[n] = float(np.mean([qq.correlation < limit for qq in found["t"]]))
        tails = {
            name: float(np.median([np.abs(qq.from_line[[0, -1]]).max() for qq in qqs])) for name, qqs in found.items()
        }
        if n == 442:
            shown = {"normal": _typical(found["normal"]), f"Student's t, {DEGREES} degrees": _typical(found["t"])}
            ends = f"the farthest end lies {tails['t']:.1f} deviations from the line, {tails['normal']:.1f} if normal"
    report.claim("1.10.c5", caught[442], low=0.8,
                 detail=f"share of sets of 442 residuals with Student-t noise of {DEGREES} degrees whose Q-Q "
                 f"correlation is below that of 99 % of normal ones; {ends}")  # fmt: skip
    report.claim("1.10.x8", caught[30], low=0.8, detail="the same for 30 residuals")
    figure, axes = drawing(1, 2, width=9.6)
    for each, (name, qq) in zip(axes, shown.items(), strict=True):
        each.plot(qq.theoretical, qq.ordered, "o", markersize=3, alpha=0.6, color=BLUE)
        each.plot(qq.theoretical, qq.intercept + qq.slope * qq.theoretical, color=ORANGE)
        each.set(title=f"{name}: correlation {qq.correlation:.3f}", xlabel="normal quantile", ylabel="residual")
    report.figure("qq", figure, "Residuals of the same fit of 442 rows, with normal and with heavy-tailed noise.")


def _typical(plots: list[NormalQQ]) -> NormalQQ:
    """The one of middling correlation."""
    return sorted(plots, key=lambda qq: qq.correlation)[len(plots) // 2]


def _hold_out(report: Report, repeats: int, seed: int) -> None:
    """How far R^2 by one hold-out set, and by five folds, changes with the luck of the split."""
    table = diabetes()
    once, folds = [], []
    for i in range(repeats):
        parts = three_way_split(442, random_state=(seed + 1) * 10_000 + i)
        model = LinearRegression().fit(table.X[parts.train], table.y[parts.train])
        once.append(r2_score(table.y[parts.test], model.predict(table.X[parts.test])))
        said = cross_val_predict(model, table.X, table.y, cv=KFold(5, shuffle=True, random_state=i))
        folds.append(r2_score(table.y, said))
    report.claim("1.10.x9", float(np.std(once) / np.std(folds)), low=2,
                 detail=f"standard deviation over splits of R^2, diabetes: {np.std(once):.3f} by a hold-out set of 15 "
                 f"%, {np.std(folds):.3f} by five folds")  # fmt: skip
    figure, axes = drawing()
    bins = np.linspace(min(once), max(once), 40)
    axes.hist(once, bins=bins, color=ORANGE, label="one hold-out set of 15 %")
    axes.hist(folds, bins=bins, color=BLUE, label="five folds")
    axes.set(xlabel="R^2 of the linear model on rows not seen", ylabel="splits")
    axes.legend(frameon=False)
    report.figure("hold-out", figure, f"{repeats} random splits of the same 442 patients.")
