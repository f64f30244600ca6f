"""The Gram matrix against numbers by hand, a naive loop and its invariants; mutants fail the same check."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vivace.base.errors import InputError
from vivace.style import gram_matrix, style_distance

BY_HAND = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [0.0, 1.0]]]])  # (1, 2, 2, 2)
GRAM = torch.tensor([[[7.5, 1.5], [1.5, 0.5]]])  # (1+4+9+16)/4, (2+4)/4, (1+1)/4


def random_features(seed: int = 0, shape: tuple[int, ...] = (2, 3, 4, 5)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(features: Tensor) -> Tensor:
    """The definition, one product at a time."""
    b, c, h, w = features.shape
    G = torch.zeros(b, c, c, dtype=features.dtype)
    for n in range(b):
        for i in range(c):
            for j in range(c):
                G[n, i, j] = sum(features[n, i, y, x] * features[n, j, y, x] for y in range(h) for x in range(w)) / (
                    h * w
                )
    return G


def is_gram(gram: Callable[[Tensor], Tensor]) -> bool:
    """The numbers by hand, the loop, and no trace of where things are."""
    F = random_features()
    shuffled = F.flatten(2)[:, :, torch.randperm(20, generator=torch.Generator().manual_seed(1))].reshape(F.shape)
    found = gram(F)
    return (
        found.shape == (2, 3, 3)
        and torch.allclose(gram(BY_HAND), GRAM)
        and torch.allclose(found, naive(F))
        and torch.allclose(found, gram(shuffled))
    )


def test_gram_is_the_gram() -> None:
    assert is_gram(gram_matrix)


MUTANTS: dict[str, Callable[[Tensor], Tensor]] = {
    "the sum, not the mean": lambda F: gram_matrix(F, divide=False),
    "divided by the channels too": lambda F: gram_matrix(F) / F.shape[1],
    "centred: the covariance": lambda F: gram_matrix(F - F.mean((2, 3), keepdim=True)),
    "over the channels: positions against positions": lambda F: F.flatten(2).mT @ F.flatten(2) / F.shape[1],
    "cosines": lambda F: torch.corrcoef(F[0].flatten(1))[None].expand(len(F), -1, -1),
    "one picture's for all": lambda F: gram_matrix(F[:1]).expand(len(F), -1, -1),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_rejects_the_mutant(mutant: Callable[[Tensor], Tensor]) -> None:
    assert not is_gram(mutant)


def test_symmetric_and_positive_semidefinite() -> None:
    G = gram_matrix(random_features(2, (1, 30, 2, 3)))  # more channels than positions
    assert torch.allclose(G, G.mT) and torch.linalg.eigvalsh(G).min() > -1e-12


def test_its_gradient_is_the_derivative() -> None:
    F = random_features(3, (1, 3, 2, 4)).requires_grad_()
    assert torch.autograd.gradcheck(gram_matrix, F) and torch.autograd.gradgradcheck(gram_matrix, F)
    plain = random_features(4, (2, 5, 6, 7)).requires_grad_()
    target = random_features(5, (2, 5, 5))
    (ours,) = torch.autograd.grad((gram_matrix(plain) - target).square().sum(), plain)
    flat = plain.flatten(2)
    (theirs,) = torch.autograd.grad((flat @ flat.mT / 42 - target).square().sum(), plain)
    assert torch.allclose(ours, theirs)


def test_distance_is_eq_4() -> None:
    """E = 1 / (4 N^2 M^2) sum (G - A)^2 with Grams that are sums over M positions of N channels."""
    F, P = random_features(6, (2, 3, 4, 5)), random_features(7, (2, 3, 4, 5))
    G, A = gram_matrix(F, divide=False), gram_matrix(P, divide=False)
    paper = (G - A).square().sum((1, 2)) / (4 * 3**2 * 20**2)
    assert torch.allclose(style_distance([F], [P]), paper)
    for mutant in ((G - A).square().mean((1, 2)) / (4 * 3**2 * 20**2), (G - A).abs().sum((1, 2)), paper.mean()):
        assert not torch.allclose(mutant.expand(2), paper)
    assert style_distance([F], [F]).eq(0).all()
    assert torch.allclose(style_distance([0 * F], [P], relative=True), torch.ones(2, dtype=torch.float64))


def test_style_distance_weighs_layers_of_any_size() -> None:
    one, two = random_features(8, (1, 3, 4, 5)), random_features(9, (1, 2, 6, 2))
    other, bigger = random_features(10, (1, 3, 8, 8)), random_features(11, (1, 2, 3, 3))
    parts = [style_distance([a], [b]) for a, b in ((one, other), (two, bigger))]
    assert torch.allclose(style_distance([one, two], [other, bigger]), (parts[0] + parts[1]) / 2)
    assert torch.allclose(style_distance([one, two], [other, bigger], [1.0, 0.0]), parts[0])
    with pytest.raises(InputError, match="layers"):
        style_distance([one, two], [other])
    with pytest.raises(InputError, match="channels"):
        style_distance([one], [bigger])
