"""Finite differences against closed forms, scipy and torch; wrong gradients are caught."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime

from vivace.base.errors import InputError
from vivace.optimization import check_gradient, finite_differences, relative_error

W = np.random.default_rng(0).normal(size=(3, 4))
SCHEMES = {"forward": 1e-7, "central": 1e-9, "complex": 1e-15}


def f(w):
    """Smooth, and made of what works for complex numbers as well."""
    return (np.tanh(w @ w.T) * np.exp(w.sum() / 10)).sum() + (w[0] ** 3).sum()


def torch_gradient(w: np.ndarray) -> np.ndarray:
    t = torch.tensor(w, requires_grad=True)
    ((t @ t.T).tanh() * (t.sum() / 10).exp()).sum().add((t[0] ** 3).sum()).backward()
    return t.grad.numpy()


def follows_torch(gradient: Callable[..., np.ndarray], tolerance: float) -> bool:
    return relative_error(gradient(f, W), torch_gradient(W)) < tolerance


@pytest.mark.parametrize(("scheme", "tolerance"), SCHEMES.items())
def test_a_scheme_is_as_exact_as_it_should_be(scheme: str, tolerance: float) -> None:
    assert follows_torch(lambda f, w: finite_differences(f, w, scheme=scheme), tolerance)


def test_forward_differences_are_scipys() -> None:
    ours = finite_differences(f, W, scheme="forward")
    theirs = approx_fprime(W.ravel(), lambda w: f(w.reshape(3, 4)), 2.0**-26).reshape(3, 4)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_by_hand() -> None:
    cube = np.array([2.0])
    assert finite_differences(lambda w: w[0] ** 3, cube, scheme="forward", step=1.0) == [27 - 8]
    assert finite_differences(lambda w: w[0] ** 3, cube, scheme="central", step=1.0) == [(27 - 1) / 2]
    assert finite_differences(lambda w: w[0] ** 3, cube, scheme="complex", step=1.0) == [12 - 1]  # Im (2 + i)^3
    assert finite_differences(lambda w: 3.0 * w, np.array(5.0)) == pytest.approx(3)


@pytest.mark.parametrize(("scheme", "order"), [("forward", 1), ("central", 2), ("complex", 2)])
def test_the_error_shrinks_with_the_steps_power(scheme: str, order: int) -> None:
    coarse, fine = (relative_error(finite_differences(f, W, scheme=scheme, step=h), torch_gradient(W))
                    for h in (1e-2, 1e-3))  # fmt: skip
    assert np.log10(coarse / fine) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize(("scheme", "evaluations"), [("forward", 13), ("central", 24), ("complex", 12)])
def test_counts_its_evaluations(scheme: str, evaluations: int) -> None:
    seen = []
    finite_differences(lambda w: (seen.append(w.copy()), f(w))[1], W, scheme=scheme)
    assert len(seen) == evaluations
    assert all((point != W).sum() <= 1 for point in seen), "one weight at a time"
    assert np.array_equal(W, np.random.default_rng(0).normal(size=(3, 4))), "the weights are left as they were"


def without_half(f, w):
    """Mutant: central differences over h, not 2h."""
    return 2 * finite_differences(f, w)


def all_at_once(f, w):
    """Mutant: the slope along the diagonal, for every weight."""
    return np.full(w.shape, (f(w + 1e-6) - f(w - 1e-6)) / 2e-6)


def not_put_back(f, w):
    """Mutant: each weight stays moved."""
    point, gradient = w.copy(), np.empty(w.shape)
    for i in np.ndindex(w.shape):
        before = f(point)
        point[i] += 1e-2
        gradient[i] = (f(point) - before) / 1e-2
    return gradient


@pytest.mark.parametrize("mutant", [without_half, all_at_once, not_put_back])
def test_rejects_the_mutant(mutant: Callable) -> None:
    assert not follows_torch(mutant, 1e-5)


def test_the_check_passes_the_right_gradient_and_names_the_wrong_weight() -> None:
    truth = torch_gradient(W)
    assert check_gradient(f, W, truth) < 1e-9
    wrong = truth.copy()
    wrong[1, 2] += 0.01
    with pytest.raises(InputError, match=r"worst at weight \[1, 2\]"):
        check_gradient(f, W, wrong)
    assert check_gradient(f, W, wrong, tolerance=0.1) > 1e-4
    assert relative_error(np.zeros(2), np.zeros(2)) == 0
    with pytest.raises(InputError, match="off by nan"):
        check_gradient(f, W, truth * np.nan)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="above 0, not -1"):
        finite_differences(f, W, step=-1.0)
    with pytest.raises(InputError, match=r"shape \(4,\), the weights \(3, 4\)"):
        check_gradient(f, W, np.ones(4))
