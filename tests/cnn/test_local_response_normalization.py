"""Local response normalisation against torch's, the paper's formula written out, and one place by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.cnn import LocalResponseNormalization, local_response_normalization


def responses(channels: int = 11, seed: int = 0) -> Tensor:
    """As large as those of a net that is fed bytes, so that alpha = 1e-4 matters."""
    return 100 * torch.randn(2, channels, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def formula(a: Tensor, n: int, alpha: float, beta: float, k: float) -> Tensor:
    """Section 3.3, one channel at a time."""
    channels, b = a.shape[1], torch.empty_like(a)
    for i in range(channels):
        window = range(max(0, i - n // 2), min(channels - 1, i + n // 2) + 1)
        b[:, i] = a[:, i] / (k + alpha * sum(a[:, j] ** 2 for j in window)) ** beta
    return b


def is_the_papers(f: Callable[[Tensor], Tensor]) -> bool:
    return all(torch.allclose(f(a), formula(a, 5, 1e-4, 0.75, 2.0)) for a in (responses(), responses(2, 1)))


def test_the_papers_formula() -> None:
    assert is_the_papers(local_response_normalization)
    assert is_the_papers(LocalResponseNormalization())
    assert "alpha=0.0001" in repr(LocalResponseNormalization())


def test_one_place_by_hand() -> None:
    """Three channels 1, 2, 3 with alpha = beta = k = 1, n = 3: over 1 + 5, 1 + 14 and 1 + 13."""
    a = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    b = local_response_normalization(a, neighbours=3, alpha=1.0, beta=1.0, k=1.0)
    torch.testing.assert_close(b.flatten(), torch.tensor([1 / 6, 2 / 15, 3 / 14]))


MUTANTS: dict[str, Callable[[Tensor], Tensor]] = {
    "torch's alpha: of the mean": nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0),
    "torch's k": lambda a: local_response_normalization(a, k=1.0),
    "only the channel itself": lambda a: local_response_normalization(a, neighbours=1),
    "two neighbours too many": lambda a: local_response_normalization(a, neighbours=7),
    "a window that goes round": lambda a: a / (2 + 1e-4 * sum(a.roll(d, 1).square() for d in range(-2, 3))).pow(0.75),
    "over places, not channels": lambda a: local_response_normalization(a.transpose(1, 2)).transpose(1, 2),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_rejects_the_mutant(mutant: Callable[[Tensor], Tensor]) -> None:
    assert not is_the_papers(mutant)


@pytest.mark.parametrize("n", [1, 3, 5, 9, 31])
def test_torchs_with_alpha_times_n(n: int) -> None:
    a, g = responses().requires_grad_(), responses(seed=1)
    torchs = nn.LocalResponseNorm(n, alpha=n * 1e-3, beta=0.6, k=1.5)(a)
    ours = local_response_normalization(a, neighbours=n, alpha=1e-3, beta=0.6, k=1.5)
    torch.testing.assert_close(ours, torchs)
    gradients = [torch.autograd.grad(b, a, g)[0] for b in (ours, torchs)]
    torch.testing.assert_close(*gradients)


def test_its_gradient_is_the_derivative() -> None:
    a = (responses() / 50).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: local_response_normalization(a, alpha=0.3), a)


def test_inhibits_neighbours_and_nothing_else() -> None:
    a = torch.full((1, 9, 1, 1), 10.0)
    louder = a.clone()
    louder[:, 4] = 1000
    before, after = local_response_normalization(a).flatten(), local_response_normalization(louder).flatten()
    assert [i for i in range(9) if i != 4 and after[i] < before[i]] == [2, 3, 5, 6]
    assert torch.equal(after[[0, 1, 7, 8]], before[[0, 1, 7, 8]])


@pytest.mark.parametrize("neighbours", [0, 4, -1])
def test_a_window_without_a_middle_is_refused(neighbours: int) -> None:
    with pytest.raises(InputError, match="odd"):
        local_response_normalization(responses(), neighbours=neighbours)
