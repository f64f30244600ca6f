"""Ensembles against scikit-learn's soft vote, and the decomposition against numbers by hand and a loop."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.cnn import Ensemble, decomposition


def as_layer(model: LogisticRegression) -> nn.Linear:
    layer = nn.Linear(4, 3).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(model.coef_))
        layer.bias.copy_(torch.from_numpy(model.intercept_))
    return layer


Vote = Callable[[list[nn.Linear], Tensor], Tensor]


def is_soft_vote(vote: Vote) -> bool:
    """The probabilities of three regressions of different strength, averaged by scikit-learn."""
    x, y = load_iris(return_X_y=True)
    strengths = [(str(C), LogisticRegression(C=C, max_iter=2000)) for C in (1e-3, 0.1, 100)]
    voting = VotingClassifier(strengths, voting="soft").fit(x, y)
    members = [as_layer(model) for model in voting.estimators_]
    with torch.no_grad():
        found = vote(members, torch.from_numpy(x)).softmax(1).numpy()
    return bool(np.allclose(found, voting.predict_proba(x), atol=1e-9))


def test_is_scikit_learns_soft_vote() -> None:
    assert is_soft_vote(lambda members, x: Ensemble(members)(x))


def mean_of_logits(members: list[nn.Linear], x: Tensor) -> Tensor:
    """A geometric mean of the probabilities, which is not the vote."""
    return torch.stack([member(x) for member in members]).mean(0)


def probabilities_as_logits(members: list[nn.Linear], x: Tensor) -> Tensor:
    return torch.stack([member(x).softmax(1) for member in members]).mean(0)


def first_alone(members: list[nn.Linear], x: Tensor) -> Tensor:
    return members[0](x)


@pytest.mark.parametrize("mutant", [mean_of_logits, probabilities_as_logits, first_alone])
def test_rejects(mutant: Vote) -> None:
    assert not is_soft_vote(mutant)


def test_its_output_is_a_logarithm_of_probabilities_even_far_out() -> None:
    members = [nn.Linear(2, 3) for _ in range(2)]
    with torch.no_grad():
        for member in members:
            member.weight.mul_(1e3)
    logs = Ensemble(members)(torch.randn(5, 2))
    assert torch.isfinite(logs).all() and torch.allclose(logs.exp().sum(1), torch.ones(5))


def test_decomposition_by_hand() -> None:
    """Two members, one picture of class 0: (0.9, 0.1) and (0.5, 0.5)."""
    p = torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]], dtype=torch.float64)
    members, ambiguity, vote = decomposition(p, torch.tensor([0]))
    assert math.isclose(members, (0.02 + 0.5) / 2)
    assert math.isclose(ambiguity, 2 * 0.2**2)
    assert math.isclose(vote, 2 * 0.3**2)


def test_the_vote_gains_exactly_the_ambiguity() -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(7, 40, 5, generator=generator, dtype=torch.float64).softmax(2)
    labels = torch.randint(5, (40,), generator=generator)
    members, ambiguity, vote = decomposition(p, labels)
    assert math.isclose(members - ambiguity, vote)
    target = F.one_hot(labels, 5).double()
    loop = sum(float(((p[i, n] - target[n]) ** 2).sum()) for i in range(7) for n in range(40)) / (7 * 40)
    assert math.isclose(members, loop)
    same = p[:1].expand(3, -1, -1)
    assert abs(decomposition(same, labels)[1]) < 1e-30


def test_bad_input() -> None:
    with pytest.raises(InputError, match="one member"):
        Ensemble([])
