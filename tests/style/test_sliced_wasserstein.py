"""The sliced Wasserstein distance against SciPy's exact one and an assignment problem; mutants fail the same check."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance
from torch import Tensor

from vivace.base.errors import InputError
from vivace.style import sliced_wasserstein, wasserstein_1d


def numbers(n: int, seed: int) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def is_wasserstein(distance: Callable[[Tensor, Tensor], Tensor]) -> bool:
    pairs = [(numbers(n, 1), 2 * numbers(m, 2) + 1) for n, m in ((6, 6), (6, 9), (7, 5), (1, 4))]
    return all(np.isclose(float(distance(x, y)), wasserstein_distance(x, y)) for x, y in pairs)


def test_on_a_line_it_is_scipys() -> None:
    assert is_wasserstein(lambda x, y: wasserstein_1d(x, y, p=1))


def _resampled(x: Tensor, y: Tensor) -> Tensor:
    levels = torch.linspace(0, 1, 50, dtype=x.dtype)
    return (x.quantile(levels) - y.quantile(levels)).abs().mean()


MUTANTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "not sorted": lambda x, y: (x[: min(len(x), len(y))] - y[: min(len(x), len(y))]).abs().mean(),
    "the means' distance": lambda x, y: (x.mean() - y.mean()).abs(),
    "squares": lambda x, y: wasserstein_1d(x, y, p=2),
    "quantiles interpolated": _resampled,
    "the larger set cut": lambda x, y: wasserstein_1d(x[: len(y)], y[: len(x)], p=1),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_rejects_the_mutant(mutant: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert not is_wasserstein(mutant)


def test_squares_are_the_cheapest_assignment() -> None:
    x, y = numbers(8, 3), numbers(8, 4) ** 2
    cost = (x[:, None] - y[None]).square().numpy()
    assert float(wasserstein_1d(x, y)) == pytest.approx(cost[linear_sum_assignment(cost)].mean())
    twice = y.repeat_interleave(2)  # the same distribution, another count
    assert float(wasserstein_1d(x, twice)) == pytest.approx(float(wasserstein_1d(x, y)))


def test_along_every_direction_it_is_the_line() -> None:
    F, P = numbers(2 * 3 * 20, 5).view(2, 3, 4, 5), numbers(2 * 3 * 12, 6).view(2, 3, 3, 4)
    found = sliced_wasserstein(F, P, 7, p=1, generator=torch.Generator().manual_seed(9))
    V = torch.randn(7, 3, generator=torch.Generator().manual_seed(9)).double()
    V = V / V.norm(dim=1, keepdim=True)
    for n in range(2):
        x, y = (V @ maps[n].flatten(1) for maps in (F, P))
        assert float(found[n]) == pytest.approx(
            np.mean([wasserstein_distance(a, b) for a, b in zip(x, y, strict=True)])
        )


def test_of_a_shift_it_is_the_length_over_the_channels() -> None:
    F = numbers(4 * 30, 7).view(1, 4, 5, 6)
    shift = torch.tensor([3.0, 0.0, 0.0, 4.0]).double().view(1, 4, 1, 1)
    found = sliced_wasserstein(F, F + shift, 4000, generator=torch.Generator().manual_seed(0))
    assert float(found) == pytest.approx(25 / 4, rel=0.1)  # the mean of (v . shift)^2 over the sphere


def test_forgets_where_things_are_and_has_a_gradient() -> None:
    F = numbers(2 * 3 * 20, 8).view(2, 3, 4, 5)
    assert float(sliced_wasserstein(F, F.flip(2, 3)).max()) < 1e-24
    P = numbers(2 * 3 * 6, 9).view(2, 3, 2, 3)
    assert torch.autograd.gradcheck(
        lambda f: sliced_wasserstein(f, P, generator=torch.Generator().manual_seed(0)), F.requires_grad_()
    )


def test_bad_input_is_named() -> None:
    F = torch.rand(1, 3, 4, 4)
    with pytest.raises(InputError, match="channels"):
        sliced_wasserstein(F, torch.rand(1, 4, 4, 4))
    with pytest.raises(InputError, match="direction"):
        sliced_wasserstein(F, F, 0)
