"""Least squares descended in closed form, against descent step by step; and on features that repeat each other."""

import torch

from vivace.experiments.optimization.descent_difficulties import least_squares_descent

X = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor([1.0, 3.0, 10.0])
Y = X @ torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64) + X[:, 0] * X[:, 1]


def test_counts_the_steps_that_descent_takes() -> None:
    H = 2 / len(X) * X.T @ X
    curvature, best = torch.linalg.eigvalsh(H), torch.linalg.lstsq(X, Y[:, None]).solution[:, 0]
    w, steps = torch.zeros(3, dtype=torch.float64), 0
    while (X @ (w - best)).square().mean() > 0.01 * Y.var():
        w, steps = w - 2 / (curvature[0] + curvature[-1]) * H @ (w - best), steps + 1
    _, values, found, kappa = least_squares_descent(X, Y)
    assert found == steps > 10 and abs(kappa / (curvature[-1] / curvature[0]) - 1) < 1e-9
    assert (values[1:] <= values[:-1] * (1 + 1e-9)).all()


def test_repeated_features_and_unlike_units_come_to_an_end() -> None:
    twin = least_squares_descent(torch.cat([X, X[:, :1]], 1), Y)
    assert 1 < twin[3] < 1e4  # the direction that does not exist has no curvature to count
    *_, steps, kappa = least_squares_descent(X * torch.tensor([1.0, 1.0, 1e10]), Y)
    assert kappa > 1e20 and steps > 1e18
