"""Linear regression against scikit-learn, NumPy, torch's autograd and numbers by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import linear_model
from sklearn.datasets import load_diabetes
from sklearn.utils.estimator_checks import parametrize_with_checks

from vivace.base.errors import InputError
from vivace.base.tables import read_table
from vivace.experiments.learning.linear_regression import run
from vivace.learning import LinearRegression, gradient_descent, mse, mse_gradient

Fit = Callable[..., tuple[Any, Any]]
X, Y = load_diabetes(return_X_y=True, scaled=False)


@parametrize_with_checks([LinearRegression(), LinearRegression(fit_intercept=False)])
def test_has_scikit_learns_manners(estimator: Any, check: Any) -> None:
    check(estimator)


def ours(X: Any, y: Any, weights: Any = None) -> tuple[Any, Any]:
    model = LinearRegression().fit(X, y, weights)
    return model.coef_, model.intercept_


def without_intercept(X: Any, y: Any, weights: Any = None) -> tuple[Any, Any]:
    return LinearRegression(fit_intercept=False).fit(X, y, weights).coef_, 0.0


def penalised_intercept(X: Any, y: Any, weights: Any = None) -> tuple[Any, Any]:
    model = linear_model.Ridge(alpha=1.0).fit(X, y, weights)
    return model.coef_, model.intercept_


def weights_not_rooted(X: Any, y: Any, weights: Any = None) -> tuple[Any, Any]:
    return ours(X, y, None if weights is None else np.square(weights))


def weights_forgotten_in_the_mean(X: Any, y: Any, weights: Any = None) -> tuple[Any, Any]:
    coef = without_intercept(X - X.mean(0), y - y.mean(0), weights)[0]
    return coef, y.mean(0) - X.mean(0) @ coef.T


def agrees_with_scikit_learn(fit: Fit) -> bool:
    weights = np.random.default_rng(0).integers(0, 4, len(X)).astype(float)
    both = np.stack([Y, np.log(Y)], axis=1)
    for given in ((X, Y), (X, both), (X, Y, weights), (X, both, weights)):
        coef, intercept = fit(*given)
        peer = linear_model.LinearRegression(tol=1e-12).fit(*given)
        if not (np.allclose(coef, peer.coef_, rtol=1e-8) and np.allclose(intercept, peer.intercept_, rtol=1e-8)):
            return False
    return True


def test_agrees_with_scikit_learn() -> None:
    assert agrees_with_scikit_learn(ours)


@pytest.mark.parametrize(
    "mutant", [without_intercept, penalised_intercept, weights_not_rooted, weights_forgotten_in_the_mean]
)
def test_rejects_fit(mutant: Fit) -> None:
    assert not agrees_with_scikit_learn(mutant)


def test_three_points_by_hand() -> None:
    model = LinearRegression().fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 4.0])
    assert model.coef_ == pytest.approx([3 / 2]) and model.intercept_ == pytest.approx(5 / 6)
    assert model.solver_ == "cholesky" and model.condition_ == pytest.approx(1)
    assert LinearRegression(fit_intercept=False).fit([[1.0], [2.0]], [1.0, 3.0]).coef_ == pytest.approx([7 / 5])


def test_keeps_the_dtype_but_counts_in_double() -> None:
    model = LinearRegression().fit(X.astype(np.float32), Y)
    assert model.coef_.dtype == np.float32 and model.predict(X.astype(np.float32)).dtype == np.float32
    assert np.allclose(model.coef_, linear_model.LinearRegression().fit(X, Y).coef_, rtol=1e-5)


def test_units_of_measurement_and_origins_do_not_matter() -> None:
    scale, shift = 10.0 ** np.arange(-5, 5), 1e4 * 10.0 ** np.arange(-5, 5)
    plain, moved = LinearRegression().fit(X, Y), LinearRegression().fit(X * scale + shift, Y)
    assert moved.solver_ == "cholesky"
    assert np.allclose(moved.coef_ * scale, plain.coef_, rtol=1e-6)


def textbook(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.linalg.inv(X.T @ X) @ (X.T @ y)


def normal_equation_solved(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.linalg.solve(X.T @ X, X.T @ y)


def trusting(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    return LinearRegression(fit_intercept=False).fit(X, y).coef_


def survives_ill_conditioning(solve: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> bool:
    """Degree 12 on 50 points of [0, 1], every coefficient 1: X has a condition number of 4e8, X^T X its square."""
    V = np.vander(np.linspace(0, 1, 50), 13)
    return bool(np.abs(solve(V, V.sum(1)) - 1).max() < 1e-6)


def test_survives_ill_conditioning() -> None:
    assert survives_ill_conditioning(trusting)


@pytest.mark.parametrize("mutant", [textbook, normal_equation_solved])
def test_rejects_the_bare_normal_equation(mutant: Any) -> None:
    assert not survives_ill_conditioning(mutant)


def test_singular_designs_get_the_shortest_solution_and_say_so() -> None:
    centred = X - X.mean(0)
    for columns in ([*range(10), 3], [0, 1, 2, 0, 1, 2]):  # duplicates
        model = LinearRegression().fit(X[:, columns], Y)
        assert model.solver_ == "lstsq" and model.condition_ > 1e12
        assert np.allclose(model.coef_, np.linalg.pinv(centred[:, columns]) @ (Y - Y.mean()))
    wide = LinearRegression().fit(X[:6], Y[:6])
    assert wide.solver_ == "lstsq" and np.allclose(wide.predict(X[:6]), Y[:6])
    assert np.allclose(wide.coef_, np.linalg.pinv(X[:6] - X[:6].mean(0)) @ (Y[:6] - Y[:6].mean()))


def test_a_constant_column_gets_no_weight() -> None:
    constant = LinearRegression().fit(np.column_stack([np.full(len(X), 0.1), X]), Y)
    assert constant.solver_ == "lstsq" and abs(constant.coef_[0]) < 1e-8
    assert np.allclose(constant.coef_[1:], LinearRegression().fit(X, Y).coef_)


def streamed(X: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
    model = LinearRegression()
    for start, stop in ((0, 3), (3, 4), (4, 150), (150, 151), (151, len(X))):
        model.partial_fit(X[start:stop], y[start:stop])
    return model.coef_, model.intercept_


def without_the_row_between_means(X: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
    """Products of batches centred on their own means, simply added."""
    batches = [slice(0, 151), slice(151, None)]
    A = np.concatenate([X[b] - X[b].mean(0) for b in batches])
    coef = np.linalg.lstsq(A, np.concatenate([y[b] - y[b].mean() for b in batches]))[0]
    return coef, y.mean() - X.mean(0) @ coef


def raw_products(X: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
    """X^T X less n times the product of means: cancels where the mean is large."""
    n, m = len(X), X.mean(0)
    coef = np.linalg.solve(X.T @ X - n * np.outer(m, m), X.T @ y - n * m * y.mean())
    return coef, y.mean() - m @ coef


def agrees_with_all_rows_at_once(fit: Fit) -> bool:
    """Rows in the order of the target, so that batches differ, far from the origin."""
    order = np.argsort(Y)
    moved = X[order] + 1e6
    coef = linear_model.LinearRegression().fit(X, Y).coef_
    return np.allclose(fit(moved, Y[order])[0], coef, rtol=1e-5)


def test_streaming_agrees_with_all_rows_at_once() -> None:
    assert agrees_with_all_rows_at_once(streamed)
    assert agrees_with_all_rows_at_once(ours)


@pytest.mark.parametrize("mutant", [without_the_row_between_means, raw_products])
def test_rejects_streaming(mutant: Fit) -> None:
    assert not agrees_with_all_rows_at_once(mutant)


def test_more_rows_than_one_block() -> None:
    rng = np.random.default_rng(0)
    A = rng.normal(size=(150_000, 3)) + np.linspace(0, 5, 150_000)[:, None]
    w = rng.uniform(size=len(A))
    model, peer = LinearRegression().fit(A, A @ [1, 2, 3] + w, w), linear_model.LinearRegression()
    peer.fit(A, A @ [1, 2, 3] + w, w)
    assert np.allclose(model.coef_, peer.coef_, rtol=1e-10) and np.isclose(model.intercept_, peer.intercept_)


def test_streaming_with_too_few_rows_yet_is_truncated_and_recovers() -> None:
    standard = (X - X.mean(0)) / X.std(0)
    model = LinearRegression().partial_fit(standard[:6], Y[:6])
    assert model.solver_ == "truncated" and np.allclose(model.predict(standard[:6]), Y[:6])
    assert model.partial_fit(standard[6:], Y[6:]).solver_ == "cholesky"
    assert np.allclose(model.coef_, LinearRegression().fit(standard, Y).coef_, rtol=1e-8)


def test_streaming_keeps_weak_directions_that_rounding_has_spared() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 60))
    A, y = np.column_stack([a, a + 1e-5 * b]), 3 * a - b
    model = LinearRegression()
    for start in range(0, 60, 15):
        model.partial_fit(A[start : start + 15], y[start : start + 15])
    assert model.solver_ == "truncated" and np.allclose(model.predict(A), y, atol=1e-3)
    assert LinearRegression().fit(A, y).solver_ == "lstsq"


def test_fit_then_partial_fit_goes_on() -> None:
    model = LinearRegression().fit(X[:200], Y[:200]).partial_fit(X[200:], Y[200:])
    assert np.allclose(model.coef_, LinearRegression().fit(X, Y).coef_, rtol=1e-8)
    with pytest.raises(InputError, match="start with partial_fit"):
        LinearRegression().fit(X[:5], Y[:5]).partial_fit(X, Y)
    with pytest.raises(InputError, match="2 targets"):
        model.partial_fit(X, np.stack([Y, Y], axis=1))


def without_two(A: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    return mse_gradient(A, y, w) / 2


def without_n(A: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    return mse_gradient(A, y, w) * len(A)


def uphill(A: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    return -mse_gradient(A, y, w)


def is_the_gradient(gradient: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> bool:
    w = torch.linspace(-1, 2, 10, dtype=torch.float64, requires_grad=True)
    torch.nn.functional.mse_loss(torch.from_numpy(X) @ w, torch.from_numpy(Y)).backward()
    assert w.grad is not None
    return np.allclose(gradient(X, Y, w.detach().numpy()), w.grad.numpy(), rtol=1e-10)


def test_gradient_against_autograd() -> None:
    assert is_the_gradient(mse_gradient)


@pytest.mark.parametrize("mutant", [without_two, without_n, uphill])
def test_rejects_gradient(mutant: Any) -> None:
    assert not is_the_gradient(mutant)


def test_one_step_by_hand() -> None:
    A, y = np.array([[1.0], [3.0]]), np.array([2.0, 4.0])
    assert mse(A, y, np.array([1.0])) == 1.0
    assert mse_gradient(A, y, np.array([1.0])) == pytest.approx([-4.0])  # (1*-1 + 3*-1) * 2/2
    path = gradient_descent(A, y, steps=1, step_size=0.05, start=np.array([1.0]))
    assert path.ravel() == pytest.approx([1.0, 1.2])
    assert gradient_descent(A, y, steps=1)[1] == pytest.approx([1.4])  # one weight: 1/L lands on the minimum, 14/10


def test_descent_never_rises_at_one_over_l_and_diverges_beyond_two_over_l() -> None:
    A, y = (X - X.mean(0)) / X.std(0), Y - Y.mean()
    L = 2 / len(A) * np.linalg.norm(A, 2) ** 2
    down = [mse(A, y, w) for w in gradient_descent(A, y, steps=300)]
    assert (np.diff(down) <= 0).all()
    up = [mse(A, y, w) for w in gradient_descent(A, y, steps=300, step_size=2.02 / L, start=np.ones(10))]
    assert up[-1] > 10 * up[0]


def test_descent_from_zero_finds_the_shortest_of_many_solutions() -> None:
    A, y = ((X - X.mean(0)) / X.std(0))[:, [0, 1, 2, 2]], np.stack([Y, Y**2 / 300], axis=1)
    assert np.allclose(gradient_descent(A, y, steps=2000)[-1], np.linalg.pinv(A) @ y)


def table(rows: list[str], header: str = "a,b") -> bytes:
    return "\n".join([header, *rows]).encode()


GOOD = [f"{i},{i * i}" for i in range(15)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\x00", "not a CSV file"),
        ("a,b\n1,2".encode("utf-16"), "not a CSV file"),
        (table(GOOD, "1,2"), "first line must name the columns"),
        (table(GOOD, "a,a"), "each once"),
        (table(GOOD, "a"), "two or more columns"),
        (table(GOOD[:9]), "has 9 rows; at least 10"),
        (table([*GOOD, "3"]), "row 16 below the header: 1 cells under 2 columns"),
        (table([*GOOD, ",3"]), "row 16 below the header: 'a' is empty"),
        (table([*GOOD, "nan,3"]), "'a' is 'nan'"),
        (table([*GOOD, "1e300,3"]), "'a' is '1e300'"),
        (table([*GOOD, "3,1o"]), "'b' is '1o'"),
        (table([f"{i},red" for i in range(15)]), "target 'b' is not a column of numbers"),
        (table([f"{i},5" for i in range(15)]), "nothing to predict"),
        (table([f"red,{i}" for i in range(15)]), "no column of numbers that vary"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        run(data=path)


def test_a_file_or_column_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*mine\.csv"):
        run(data=tmp_path / "mine.csv")
    with pytest.raises(InputError, match="is a folder"):
        run(data=tmp_path)
    (tmp_path / "mine.csv").write_bytes(table(GOOD, "size,price"))
    with pytest.raises(InputError, match=r"no column named 'prize'; try price, size"):
        run(data=tmp_path / "mine.csv", target="prize")


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    lines = [f"c{i % 3};{i},5;{i % 5};1;{i * i}" for i in range(20)]
    (tmp_path / "mine.csv").write_bytes(b"\xef\xbb\xbf" + table(lines, "city;size;rooms;always;price"))
    found = read_table(tmp_path / "mine.csv", None)
    assert found.names == ["size", "rooms"] and found.target == "price" and "city, always" in found.remark
    assert found.X[3].tolist() == [3.5, 3.0] and found.y[3] == 9
    assert read_table(tmp_path / "mine.csv", "rooms").names == ["size", "price"]
