"""Experiment: polynomials, fitted to a photograph's light and to noisy points, by the linear model's own solver."""

from functools import partial
from math import comb
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from matplotlib.figure import Figure
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from threadpoolctl import threadpool_limits
from torch import Tensor

from vivace.base.drawing import BLUE, GREY, ORANGE, RED, drawing
from vivace.base.errors import InputError
from vivace.base.images import read_image
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.timing import quickest
from vivace.learning import LinearRegression, PolynomialFeatures, Ridge, mse_gradient
from vivace.learning.splits import KFold

QUICK = {"size": 160, "repeats": 40}

ROWS = 24  # points that a curve is fitted to
NOISE = 0.3
PENALTY = 0.3  # of ridge
DEGREES = range(16)
EVEN = 1e-4  # unevenness of a picture's light, below which there is nothing to take off
CROSS = np.linspace(-1, 1, 400)[:, None]  # where a curve is compared with the truth


@checked
def run(*, image: ImagePath = "page", size: Annotated[int, Ge(32), Le(2048)] = 384,
        degree: Annotated[int, Ge(1), Le(8)] = 2, repeats: Annotated[int, Ge(10), Le(1000)] = 200, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """Polynomials by linear regression: the light on a page, and how high a degree may be.

    vivace run polynomial        15 s on two cores; a quadratic surface takes 74 % of the uneven light off a page

    image: a picture that is lit unevenly; the surface z = w1 x^2 + w2 xy + w3 y^2 + w4 x + w5 y + w6 is fitted to it
    size: the longer side in pixels that it is reduced to
    degree: of the surface
    repeats: draws of noisy points over which the errors of each degree are averaged
    seed: of the points and their noise
    """
    report = Report(
        f"Polynomials: degree {degree} over a picture's light, degrees 0 to {DEGREES[-1]} over noisy points"
    )
    with threadpool_limits(1):
        tell(Step(0, 4, "fitting the light"))
        _light(report, image, size, degree)
        tell(Step(1, 4, "fitting noisy points"))
        _degrees(report, repeats, seed)
        tell(Step(2, 4, "choosing a degree"))
        _chosen(report, seed)
        tell(Step(3, 4, "what it costs"))
        _costs(report, seed)
    return report


def _light(report: Report, source: ImagePath, size: int, degree: int) -> None:
    """A quadratic surface over (x, y) by least squares, taken off the picture (1.6.c1, 1.6.c2)."""
    picture = read_image(source, max_side=size)
    grey = picture.mean(0)
    X, z = _places(grey), grey.double().flatten().numpy()
    terms = PolynomialFeatures(degree).fit(X)
    A = terms.transform(X)
    bright = _paper(grey).flatten().numpy()  # what is written on the page is not its light
    before = _unevenness(_brightness(grey), bright) if bright.any() else 0.0
    if before < EVEN:
        raise InputError(f"the light on {source} is even, or there is none; a picture that is lit unevenly is needed")
    surfaces = {}
    for name, rows in (("plane", PolynomialFeatures(1).fit_transform(X)), ("surface", A)):
        model = LinearRegression(fit_intercept=False).fit(rows[bright], z[bright])
        surfaces[name] = torch.from_numpy(model.predict(rows)).reshape(grey.shape).float()
    level = surfaces["surface"].mean()
    flat = (picture * (level / surfaces["surface"].clamp(min=0.02))).clamp(0, 1)
    after = _unevenness(_brightness(flat.mean(0)), bright)
    report.summary = (
        f"The light on the picture as a surface $z = \\sum_{{j+k \\le {degree}}} w_{{jk}}\\, x^j y^k$ of "
        f"{len(terms.powers_)} terms, fitted by the normal equation to its paper ({bright.mean():.0%} of the pixels; "
        f"ink is left out), and divided off: the light's unevenness (deviation of local brightness) falls from "
        f"{before:.3f} to {after:.3f}. Below: how degree, noise and conditioning play together."
    )
    light, plane = (surfaces[name][None].clamp(0, 1) for name in ("surface", "plane"))
    pictures = {"as it is": picture, "the plane": plane, f"degree {degree}": light, "with even light": flat}
    report.images("light", pictures, "Fitted with one matrix of features and the linear model's solver.")
    names = terms.get_feature_names_out(["x", "y"])
    w = LinearRegression(fit_intercept=False).fit(A[bright], z[bright]).coef_
    report.table(
        "surface",
        ["term", "weight"],
        [[str(n), float(v)] for n, v in zip(names, w, strict=True)],
        "x and y run from -1 to 1, left to right and top to bottom.",
    )

    report.claim("1.6.c1", len(PolynomialFeatures(2).fit(X).powers_), low=6, high=6, unit="terms",
                 detail="counted for degree 2 in two variables; by C(d + p, p) it is "
                 f"{comb(4, 2)}, and for 10 variables of degree 3 {comb(13, 3)}")  # fmt: skip
    report.claim("1.6.x1", after / before, high=0.5, detail="unevenness of the light that is left, as a share")
    rng = np.random.default_rng(0)
    moved = [
        mse_gradient(A, z, w + step) - mse_gradient(A, z, w) - 2 / len(A) * A.T @ (A @ step)
        for step in rng.normal(size=(10, len(w)))
    ]
    lstsq = np.linalg.lstsq(A[bright], z[bright])[0]
    hessian = max(np.abs(m).max() for m in moved) / np.abs(A.T @ A / len(A)).max()
    report.claim("1.6.c2", max(hessian, float(np.abs(w - lstsq).max())), high=1e-8,
                 detail="the larger of: how far the Hessian (2/n) A^T A moves over 10 random places, and how far the "
                 "normal equation's weights are from lstsq's")  # fmt: skip


def _places(grey: Float[Tensor, "h w"]) -> Float[np.ndarray, "n 2"]:
    h, w = grey.shape
    y, x = np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _brightness(grey: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """The brightest nearby, smoothed: paper between letters."""
    reach = max(1, min(grey.shape) // 24)
    side = 2 * reach + 1
    top = torch.nn.functional.max_pool2d(grey[None], side, 1, reach)
    return torch.nn.functional.avg_pool2d(top, side, 1, reach, count_include_pad=False)[0]


def _paper(grey: Float[Tensor, "h w"]) -> Tensor:
    """Where a picture is nearly as bright as its surroundings."""
    return grey > 0.85 * _brightness(grey)


def _unevenness(brightness: Float[Tensor, "h w"], where: np.ndarray) -> float:
    values = brightness.flatten().numpy()[where]
    return float(values.std() / values.mean())


def _truth(x: np.ndarray) -> np.ndarray:
    return np.sin(2.5 * x[:, 0]) + 0.5 * x[:, 0]


def _points(generator: np.random.Generator, noise: float = NOISE) -> tuple[np.ndarray, np.ndarray]:
    x = np.concatenate([[[-1.0], [1.0]], generator.uniform(-1, 1, (ROWS - 2, 1))])  # no new point lies outside them
    return x, _truth(x) + noise * generator.normal(size=ROWS)


def _polynomial(degree: int, alpha: float = 0.0) -> Pipeline:
    model = Ridge(alpha, fit_intercept=False) if alpha else LinearRegression(fit_intercept=False)
    return make_pipeline(PolynomialFeatures(degree, basis="legendre"), model)


def _degrees(report: Report, repeats: int, seed: int) -> None:
    """Training and test error over the degree, with noise, without, and with a penalty (1.6.c3, 1.6.c4)."""
    generator = np.random.default_rng(seed)
    train, test, penalised, clean = (np.zeros((repeats, len(DEGREES))) for _ in range(4))
    new = generator.uniform(-1, 1, (500, 1))
    targets = _truth(new) + NOISE * generator.normal(size=500)
    for r in range(repeats):
        x, y = _points(generator)
        exact = _truth(x)
        for i, degree in enumerate(DEGREES):
            model = _polynomial(degree).fit(x, y)
            train[r, i] = np.mean((model.predict(x) - y) ** 2)
            test[r, i] = np.mean((model.predict(new) - targets) ** 2)
            penalised[r, i] = np.mean((_polynomial(degree, PENALTY).fit(x, y).predict(new) - targets) ** 2)
            clean[r, i] = np.mean((_polynomial(degree).fit(x, exact).predict(new) - _truth(new)) ** 2)
    rise = np.diff(train, axis=1).max()
    report.claim("1.6.c3", rise, high=1e-9,
                 detail=f"largest rise of the training error from one degree to the next, {repeats} draws")  # fmt: skip
    errors = {"training": train, "new points": test, "new points, ridge": penalised, "new points, no noise": clean}
    middle = {name: np.median(values, axis=0) for name, values in errors.items()}
    best = int(middle["new points"].argmin())
    report.claim("1.6.c4", middle["new points"][-1] / middle["new points"][best], low=1.5,
                 detail=f"median error on new points at degree {DEGREES[-1]} over that at the best degree "
                 f"({best})")  # fmt: skip
    plain = middle["new points"]
    report.claim("1.6.x2", (middle["new points, ridge"][-1] - plain[best]) / (plain[-1] - plain[best]), high=0.25,
                 detail=f"share of that rise that is left with a ridge penalty of {PENALTY}")  # fmt: skip
    report.claim("1.6.x3", middle["new points, no noise"][-1] / middle["new points, no noise"][best], high=1.0,
                 detail=f"the same without noise: degree {DEGREES[-1]} over degree {best}")  # fmt: skip
    report.curve(
        "degrees",
        {name: (DEGREES, np.maximum(values, 1e-8)) for name, values in middle.items()},
        log_y=True,
        x="degree",
        y="mean squared error (median)",
        caption=f"{repeats} draws of {ROWS} points with noise of variance {NOISE**2:.2g}, Legendre basis: the "
        "U is made by noise and few points.",
    )


def _chosen(report: Report, seed: int) -> None:
    """One draw: too low, right and too high a degree, and the one that cross-validation chooses."""
    x, y = _points(np.random.default_rng(seed))
    folds = KFold(6, shuffle=True, random_state=0)
    scores = [
        -cross_val_score(_polynomial(degree), x, y, cv=folds, scoring="neg_mean_squared_error").mean()
        for degree in DEGREES[:12]
    ]
    report.figure(
        "fits",
        _drawn(x, y, int(np.argmin(scores))),
        f"The same {ROWS} points: six folds choose the degree in the middle.",
    )


def _drawn(x: np.ndarray, y: np.ndarray, chosen: int) -> Figure:
    figure, axes = drawing(1, 3, width=10, height=3.4, sharey=True)
    for each, degree, word in zip(axes, (1, chosen, DEGREES[-1]), ("too stiff", "chosen", "too free"), strict=True):
        each.plot(CROSS, _truth(CROSS), color=GREY, linewidth=1.5, label="truth")
        each.plot(CROSS, _polynomial(degree).fit(x, y).predict(CROSS), color=BLUE, linewidth=2, label="fit")
        each.plot(x, y, "o", color=ORANGE, markersize=4, label="points")
        if degree == DEGREES[-1]:
            shrunk = _polynomial(degree, PENALTY).fit(x, y).predict(CROSS)
            each.plot(CROSS, shrunk, color=RED, linewidth=1.5, linestyle="--", label="fit with ridge")
        each.set(ylim=(-2.6, 2.6), xlabel="x", title=f"degree {degree}: {word}")
        each.legend(frameon=False, loc="lower right", fontsize=8)
    return figure


def _costs(report: Report, seed: int) -> None:
    """Columns, time and condition number over the degree (1.6.c5, 1.6.c6)."""
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(20_000, 5))
    y = X.sum(1)
    degrees = (1, 2, 3, 4)
    columns = [comb(5 + degree, degree) for degree in degrees]
    designs = [PolynomialFeatures(degree).fit_transform(X) for degree in degrees]
    seconds = quickest([partial(LinearRegression(fit_intercept=False).fit, A, y) for A in designs], rounds=2)
    report.claim("1.6.c5", seconds[-1] / seconds[0], low=2,
                 detail="processor time to solve for the weights, 20,000 rows: degree 4 in 5 "
                 f"variables ({columns[-1]} columns) over degree 1 ({columns[0]})")  # fmt: skip
    rows = [list(row) for row in zip(degrees, columns, seconds, strict=True)]
    report.table(
        "costs",
        ["degree", "columns, 5 variables", "seconds"],
        rows,
        "Each degree multiplies the columns; the normal equation's operations grow with their square, its time more "
        "slowly while they are few.",
    )

    x = np.linspace(0, 1, 200)[:, None]
    bases = {"powers of x": "monomial", "Legendre": "legendre", "Chebyshev": "chebyshev"}
    conditions = {
        name: [np.linalg.cond(PolynomialFeatures(d, basis=basis).fit_transform(x)) for d in DEGREES]
        for name, basis in bases.items()
    }
    powers = conditions["powers of x"]
    report.claim("1.6.c6", powers[12] / powers[4], low=1000,
                 detail=f"condition number of the powers of 200 points in [0, 1]: {powers[12]:.2g} at degree 12 over "
                 f"{powers[4]:.2g} at degree 4")  # fmt: skip
    report.claim("1.6.x4", conditions["Legendre"][12], high=10,
                 detail="condition number at degree 12 in the Legendre basis, same points")  # fmt: skip
    report.curve(
        "conditioning",
        {name: (DEGREES, values) for name, values in conditions.items()},
        log_y=True,
        x="degree",
        y="condition number of the feature matrix",
        caption="The same functions in three bases, 200 points in [0, 1].",
    )
