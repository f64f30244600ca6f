"""Zero-shot: hand numbers, scikit-learn's attribute classifiers, a Kronecker solve, and wrong versions."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from vivace.base.errors import InputError
from vivace.explain import ESZSL, DirectAttributePrediction

# five classes by three attributes; the last one is never seen
ATTRIBUTES = torch.tensor([[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 1], [0, 1, 1]], dtype=torch.float64)
UNSEEN = 4


def pictures(noise: float = 0.3, *, each: int = 60) -> tuple[Tensor, Tensor]:
    """Features that are a mixture of attributes and noise, in an order and scale of their own."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(5).repeat(each)
    mix = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    X = ATTRIBUTES[labels] @ mix + noise * torch.randn(len(labels), 6, generator=generator, dtype=torch.float64)
    return 5 + 3 * X, labels


@pytest.mark.parametrize("method", [DirectAttributePrediction, ESZSL])
def test_names_a_class_it_never_saw(method: type[Any]) -> None:
    X, labels = pictures(0.1)
    seen = labels != UNSEEN
    model = method().fit(X[seen], labels[seen], ATTRIBUTES)
    said = model.scores(X[~seen], ATTRIBUTES).argmax(1)  # among all five
    assert (said == UNSEEN).double().mean() > 0.9
    without = method().fit(X[seen], labels[seen], ATTRIBUTES[:, :1].expand(-1, 3).clone())  # one attribute, three times
    assert (without.scores(X[~seen], ATTRIBUTES).argmax(1) == UNSEEN).double().mean() < 0.5


def test_dap_has_scikit_learns_attribute_probabilities() -> None:
    X, labels = pictures(1.0)
    seen = labels != UNSEEN
    X, labels, penalty = X[seen], labels[seen], 0.05
    model = DirectAttributePrediction(penalty=penalty).fit(X, labels, ATTRIBUTES)
    Z = (X - X.mean(0)) / X.std(0, correction=0)
    for a in range(3):
        peer = LogisticRegression(C=1 / (penalty * len(X)), tol=1e-10, max_iter=10_000)
        peer.fit(Z.numpy(), ATTRIBUTES[labels, a].numpy())
        assert torch.allclose(
            model.attribute_probabilities(X)[:, a], torch.from_numpy(peer.predict_proba(Z.numpy())[:, 1]), atol=1e-4
        )


def check_dap(scores: Callable[[DirectAttributePrediction, Tensor, Tensor], Tensor]) -> None:
    """p(a|x) = (0.8, 0.4), p(a) = (0.5, 0.25): class (1, 0) has 0.8/0.5 * 0.6/0.75, class (0, 1) has 0.2/0.5 * 1.6."""
    model = DirectAttributePrediction()
    p = torch.tensor([0.8, 0.4], dtype=torch.float64)
    model.prior_, model.W_ = torch.tensor([0.5, 0.25], dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    model.b_, model.scale_ = (p / (1 - p)).log(), lambda X: X  # type: ignore[assignment]
    found = scores(model, torch.zeros(1, 1, dtype=torch.float64), torch.eye(2, dtype=torch.float64)).exp()
    assert torch.allclose(found, torch.tensor([[1.28, 0.64]], dtype=torch.float64))


def without_priors(model: DirectAttributePrediction, X: Tensor, attributes: Tensor) -> Tensor:
    p = model.attribute_probabilities(X)
    return p.log() @ attributes.T + (1 - p).log() @ (1 - attributes).T


def absent_ones_ignored(model: DirectAttributePrediction, X: Tensor, attributes: Tensor) -> Tensor:
    return (model.attribute_probabilities(X) / model.prior_).log() @ attributes.T


def test_dap_by_hand_and_its_mutants() -> None:
    check_dap(DirectAttributePrediction.scores)
    for mutant in (without_priors, absent_ones_ignored):
        with pytest.raises(AssertionError):
            check_dap(mutant)


def check_eszsl(found: Callable[[Tensor, Tensor, Tensor, float, float], Tensor]) -> None:
    """V solves (X^T X + gamma n) V (S^T S + lam k) = X^T Y S: written out as one system of d a unknowns."""
    X, labels = pictures()
    seen = labels != UNSEEN
    X, labels, gamma, lam = X[seen], labels[seen], 0.3, 0.2
    Z = (X - X.mean(0)) / X.std(0, correction=0)
    S = ATTRIBUTES[:4] - ATTRIBUTES[:4].mean(0)
    Y = 2.0 * torch.nn.functional.one_hot(labels, 4).double() - 1
    left = Z.T @ Z + gamma * len(Z) * torch.eye(6, dtype=torch.float64)
    right = S.T @ S + lam * 4 * torch.eye(3, dtype=torch.float64)
    V = torch.linalg.solve(torch.kron(left, right), (Z.T @ Y @ S).flatten()).view(6, 3)
    assert torch.allclose(found(X, labels, ATTRIBUTES, gamma, lam), V, atol=1e-10)


def fitted(X: Tensor, labels: Tensor, attributes: Tensor, gamma: float, lam: float) -> Tensor:
    return ESZSL(gamma=gamma, lam=lam).fit(X, labels, attributes).V_


def penalties_swapped(X: Tensor, labels: Tensor, attributes: Tensor, gamma: float, lam: float) -> Tensor:
    return fitted(X, labels, attributes, lam, gamma)


def zeros_for_minus_ones(X: Tensor, labels: Tensor, attributes: Tensor, gamma: float, lam: float) -> Tensor:
    return fitted(X, labels, attributes, gamma, lam) / 2 + 1e-3


def test_eszsl_is_the_solution_and_its_mutants_are_not() -> None:
    check_eszsl(fitted)
    for mutant in (penalties_swapped, zeros_for_minus_ones):
        with pytest.raises(AssertionError):
            check_eszsl(mutant)


@pytest.mark.parametrize("method", [DirectAttributePrediction, ESZSL])
def test_bad_input(method: type[Any]) -> None:
    X, labels = pictures(each=2)
    with pytest.raises(InputError, match="10 embeddings and 9 labels"):
        method().fit(X, labels[1:], ATTRIBUTES)
    with pytest.raises(InputError, match="only 3 classes have attributes"):
        method().fit(X, labels, ATTRIBUTES[:3])
    with pytest.raises(InputError, match="two or more must be seen"):
        method().fit(X, torch.zeros_like(labels), ATTRIBUTES)
    with pytest.raises(InputError, match="2 attributes, but 3 were learnt"):
        method().fit(X, labels, ATTRIBUTES).scores(X, ATTRIBUTES[:, :2])
