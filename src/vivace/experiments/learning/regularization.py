"""Experiment: ridge and lasso: what each does to the weights, to errors on new rows, and to collinear features."""

from collections.abc import Callable
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le
from scipy import optimize
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from vivace.base.drawing import GREY, PALETTE, drawing
from vivace.base.parameters import FilePath, Seed, checked
from vivace.base.report import Report, Tell, ignore
from vivace.base.tables import Table, diabetes, read_table
from vivace.experiments.least_squares import standard
from vivace.experiments.parts import in_turn
from vivace.learning import Lasso, LinearRegression, Ridge, lasso_path, ridge_path
from vivace.learning.scaling import StandardScaler
from vivace.learning.splits import KFold

QUICK = {"repeats": 20}

TRUE, FEATURES = 5, 30  # features that matter, of those there are
LAMBDAS = np.geomspace(1e-4, 10, 31)  # of the mean squared error plus lambda |w|^2


@checked
def run(*, data: FilePath = None, target: str | None = None, repeats: Annotated[int, Ge(10), Le(1000)] = 100,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Ridge shrinks, the lasso chooses: weights over the penalty, and when a penalty helps.

    vivace run regularization        10 s on two cores; of 30 features the lasso leaves out 20 or more, ridge none

    data: a CSV file whose first line names its columns (default: scikit-learn's diabetes patients, 442 rows)
    target: the column to predict (default: the last); every other column of numbers is a feature
    repeats: data sets drawn for each comparison
    seed: of the draws
    """
    table = read_table(data, target) if data else diabetes()
    generator = np.random.default_rng(seed)
    report = Report(f"Ridge and lasso: {table.target} from {len(table.names)} features")
    parts: list[tuple[str, Callable[[], None]]] = [
        ("weights over the penalty", lambda: _paths(report, table)),
        ("zeros", lambda: _zeros(report, generator, repeats)),
        ("a singular design", lambda: _singular(report, table)),
        ("the closed form as printed", lambda: _closed_form(report, generator)),
        ("errors on new rows", lambda: _generalisation(report, generator, repeats)),
        ("collinear features", lambda: _collinear(report, generator, repeats)),
    ]
    in_turn(parts, tell)
    return report


def _paths(report: Report, table: Table) -> None:
    """Each feature's weight over the penalty, and the penalty that ten folds choose."""
    A, b = standard(table.X), standard(table.y)
    n = len(b)
    alphas, lasso = lasso_path(A, b)
    lambdas = np.geomspace(1e-3, 100, 100)
    ridge = ridge_path(A, b, n * lambdas)
    figure, both = drawing(1, 2, width=10, height=4, sharey=True)
    for axes, x, coefs, title in zip(both, (lambdas, alphas), (ridge, lasso), ("ridge", "lasso"), strict=True):
        for i, j in enumerate(np.argsort(-np.abs(lasso[-1]))[:10]):
            style = "-" if i < len(PALETTE) else "--"
            axes.plot(x, coefs[:, j], style, color=PALETTE[i % len(PALETTE)], linewidth=1.8, label=table.names[j])
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.set(xscale="log", xlabel="penalty", title=title)
    both[0].set_ylabel("weight (standardised)")
    both[1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    report.figure(
        "paths",
        figure,
        "Ridge draws all weights towards zero and none to it; the lasso drops one after the "
        "other. Features and target are standardised.",
    )

    folds = KFold(10, shuffle=True, random_state=0)

    def error(model: Ridge | Lasso) -> float:
        scaled = make_pipeline(StandardScaler(), model)  # each fold scales by the rows that it learns from
        return float(-cross_val_score(scaled, table.X, b, cv=folds, scoring="neg_mean_squared_error").mean())

    chosen = {
        "ridge": min((error(Ridge(n * x)), x) for x in lambdas[::4]),
        "lasso": min((error(Lasso(x)), x) for x in alphas[::4]),
    }
    kept = np.count_nonzero(Lasso(chosen["lasso"][1]).fit(A, b).coef_)
    plain = error(Ridge(0))
    report.summary = (
        f"On {table.name}, standardised: ten folds choose $\\lambda = {chosen['ridge'][1]:.3g}$ for ridge, "
        f"$\\frac1n\\lVert Xw-y\\rVert^2 + \\lambda \\lVert w\\rVert_2^2$, with an error of {chosen['ridge'][0]:.4f} "
        f"on rows left out (without a penalty {plain:.4f}), and {chosen['lasso'][1]:.3g} for the lasso, with "
        f"{chosen['lasso'][0]:.4f} and {kept} of {len(table.names)} features left." + table.remark
    )


def _drawn(generator: np.random.Generator, n: int, *, features: int = FEATURES) -> tuple[np.ndarray, ...]:
    """Rows of correlated features, five of which matter, and the same for testing."""
    w = np.zeros(features)
    w[:TRUE] = (3, -2, 1.5, -1, 1)
    common = generator.normal(size=(n + 1000, 1))
    X = 0.8 * generator.normal(size=(n + 1000, features)) + 0.6 * common
    y = X @ w + 2 * generator.normal(size=n + 1000)
    return X[:n], y[:n], X[n:], y[n:]


def _zeros(report: Report, generator: np.random.Generator, repeats: int) -> None:
    """Exact zeros of either penalty (1.9.c1)."""
    dropped, missed, ridge = [], [], []
    for _ in range(repeats):
        X, y, _, _ = _drawn(generator, 200)
        coef = Lasso(0.25).fit(X, y).coef_
        dropped.append(np.count_nonzero(coef[TRUE:] == 0))
        missed.append(np.count_nonzero(coef[:TRUE] == 0))
        ridge.append(np.count_nonzero(Ridge(0.25 * len(y)).fit(X, y).coef_ == 0))
    report.claim(
        "1.9.c1",
        np.median(dropped) if max(ridge) == 0 else 0,
        low=10,
        unit=f"of {FEATURES - TRUE} features",
        detail=f"that don't matter and get weight exactly 0 from the lasso (median of {repeats} draws of 200 "
        f"rows); ridge: at most {max(ridge)} of all; features that matter and were lost: {sum(missed)}",
    )


def _singular(report: Report, table: Table) -> None:
    """A feature twice: the condition number of X^T X with and without a penalty (1.9.c2)."""
    A = standard(table.X)
    twin = np.column_stack([A, A[:, 0]])
    G = twin.T @ twin
    rows = [[alpha, float(np.linalg.cond(G + alpha * np.eye(len(G))))] for alpha in (0.0, 0.001, 0.1, 10.0)]
    report.claim(
        "1.9.c2",
        rows[2][1],
        high=1e6,
        detail=f"condition number of X^T X + 0.1 I with the first feature twice; without the penalty {rows[0][1]:.2g}",
    )
    report.table(
        "diagonal",
        ["penalty on the diagonal", "condition number"],
        rows,
        "A feature twice: one eigenvalue of $X^\\top X$ is 0, and becomes the penalty.",
    )


def _closed_form(report: Report, generator: np.random.Generator) -> None:
    """(X^T X + lambda I)^-1 X^T y against the numerical minimum of MSE + lambda |w|^2 (1.9.c3, 1.9.x1, 1.9.x2)."""
    n, penalty = 50, 0.1
    X = generator.normal(size=(n, 3))
    y = X @ [1.0, -0.5, 0.5] + generator.normal(size=n)

    def loss(w: np.ndarray) -> float:
        return float(np.mean((X @ w - y) ** 2) + penalty * w @ w)

    least = optimize.minimize(loss, np.zeros(3), tol=1e-14, method="BFGS").x
    printed, right = (Ridge(alpha, fit_intercept=False).fit(X, y).coef_ for alpha in (penalty, n * penalty))
    rows = [
        [name, *(f"{v:.5f}" for v in w), f"{loss(w):.6f}"]
        for name, w in (
            ("numerical minimum", least),
            ("(X^T X + n lambda I)^-1 X^T y", right),
            ("(X^T X + lambda I)^-1 X^T y", printed),
        )
    ]
    report.table(
        "closed-form",
        ["weights", "w1", "w2", "w3", "MSE + 0.1 |w|^2"],
        rows,
        "50 rows: with the mean of squares in the loss, the diagonal takes n lambda.",
    )
    scale = float(np.linalg.norm(least))
    report.claim(
        "1.9.c3",
        float(np.linalg.norm(printed - least)) / scale,
        high=1e-4,
        detail="relative distance of (X^T X + lambda I)^-1 X^T y from the numerical minimum; 50 rows, lambda 0.1",
    )
    report.claim("1.9.x1", float(np.linalg.norm(right - least)) / scale, high=1e-4, detail="the same, with n lambda")
    shifted = y + 100
    ones = np.column_stack([X, np.ones(n)])
    whole = np.linalg.solve(ones.T @ ones + n * penalty * np.eye(4), ones.T @ shifted)
    moved = float(np.mean(ones @ whole - shifted))
    report.claim(
        "1.9.x2",
        abs(moved),
        high=0.1,
        detail="targets moved up by 100 and the intercept penalised with the "
        "weights: mean error of the predictions on the very rows (deviation of the targets about 1.5)",
    )


def _generalisation(report: Report, generator: np.random.Generator, repeats: int) -> None:
    """Error on new rows over lambda, few rows and many (1.9.c4, 1.9.x3)."""
    lines, gains = {}, {}
    for n in (40, 2000):
        errors = np.zeros((repeats, len(LAMBDAS)))
        plain = np.zeros(repeats)
        for r in range(repeats):
            X, y, new_X, new_y = _drawn(generator, n)
            plain[r] = np.mean((LinearRegression().fit(X, y).predict(new_X) - new_y) ** 2)
            for i, penalty in enumerate(LAMBDAS):
                errors[r, i] = np.mean((Ridge(n * penalty).fit(X, y).predict(new_X) - new_y) ** 2)
        middle = errors.mean(0)
        gains[n] = 1 - middle.min() / plain.mean()
        lines[f"{n:,} rows, ridge"] = (LAMBDAS, middle)
        lines[f"{n:,} rows, no penalty"] = (LAMBDAS, np.full(len(LAMBDAS), plain.mean()))
    words = f"the best lambda's mean squared error on 1,000 new rows, less than without a penalty; {FEATURES} features"
    report.claim(
        "1.9.c4", min(gains.values()), low=0.02, detail=f"share by which {words}: the lesser of 40 and 2,000 rows"
    )
    report.claim("1.9.x3", gains[40], low=0.2, detail=f"the same for 40 rows (for 2,000: {gains[2000]:.2%})")
    report.curve(
        "generalisation",
        lines,
        x="lambda",
        y="mean squared error on new rows",
        log_x=True,
        log_y=True,
        caption="With few rows a U: variance falls before bias rises. With many there is little variance to "
        "save, and a large penalty only does harm.",
    )


def _collinear(report: Report, generator: np.random.Generator, repeats: int) -> None:
    """Coefficients of nearly equal features over resamples (1.9.c5)."""
    n = 100
    x = generator.normal(size=n)
    X = np.column_stack([x, x + 0.05 * generator.normal(size=n), generator.normal(size=n)])
    y = X @ [1.0, 1.0, 1.0] + generator.normal(size=n)
    draws = generator.integers(0, n, (10 * repeats, n))
    spread = {
        alpha: np.std([Ridge(alpha).fit(X[rows], y[rows]).coef_ for rows in draws], axis=0) for alpha in (0.0, 5.0)
    }
    report.claim(
        "1.9.c5",
        spread[5.0][:2].max() / spread[0.0][:2].min(),
        high=0.5,
        detail="deviation of the weights of two "
        f"features that correlate by {np.corrcoef(X[:, 0], X[:, 1])[0, 1]:.4f} over {len(draws)} resamples: with "
        "a penalty of 5 over without",
    )
    report.table(
        "resamples",
        ["feature", "deviation without penalty", "with penalty 5"],
        [
            [name, float(a), float(b)]
            for name, a, b in zip(("x1", "x2, nearly x1", "x3, apart"), *spread.values(), strict=True)
        ],
        "The same hundred rows, drawn again with replacement: what a single weight is worth.",
    )
