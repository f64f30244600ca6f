"""Initialisation: torch.nn.init's moments, and the variances that random nets measure; mutants fail the same checks."""

import math

import pytest
import torch
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.networks import ACTIVATIONS, fans, gradients, he_, signals, xavier_

SHAPE = (300, 500)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moments(weight: Tensor) -> Tensor:
    w = weight.double()
    return torch.stack([w.mean(), w.square().mean().sqrt(), w.pow(4).mean().pow(0.25), w.abs().max()])


def alike(ours, theirs, shape=SHAPE) -> bool:
    """Mean, two moments, and the largest (in reach of chance): the shape and the size of the distribution."""
    a, b = moments(ours(torch.empty(shape))), moments(theirs(torch.empty(shape)))
    return (
        (a - b)[0].abs() < 0.02 * b[1]
        and torch.allclose(a[1:3], b[1:3], rtol=0.01)
        and bool((a / b)[3].log().abs() < 0.2)
    )


PAIRS = {
    "xavier uniform": (xavier_, nn.init.xavier_uniform_),
    "xavier normal": (lambda w: xavier_(w, distribution="normal", gain=2), lambda w: nn.init.xavier_normal_(w, gain=2)),
    "he normal": (he_, lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")),
    "he uniform": (
        lambda w: he_(w, distribution="uniform"),
        lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"),
    ),
    "he out": (lambda w: he_(w, fan="out"), lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu")),
    "he leaky": (lambda w: he_(w, leak=0.5), lambda w: nn.init.kaiming_normal_(w, a=0.5)),
}
MUTANTS = {
    "xavier uniform": lambda w: w.uniform_(
        -math.sqrt(2 / sum(w.shape)), math.sqrt(2 / sum(w.shape))
    ),  # spread as reach
    "xavier normal": lambda w: w.normal_(0, 4 * 2 / sum(w.shape)),  # variance for spread
    "he normal": lambda w: w.normal_(0, math.sqrt(2 / w.shape[0])),  # the other fan
    "he uniform": he_,
    "he out": he_,
    "he leaky": lambda w: he_(w, leak=0),
}


@pytest.mark.parametrize("name", PAIRS)
def test_is_torchs_distribution(name: str) -> None:
    ours, theirs = PAIRS[name]
    for shape in (SHAPE, (60, 90, 5, 5)):
        assert alike(ours, theirs, shape)
    assert not alike(MUTANTS[name], theirs)


def test_fans() -> None:
    for shape in ((3, 5), (3, 5, 2, 7)):
        assert fans(shape) == nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    assert fans((3, 5, 2, 7)) == (70, 42)


def test_same_seed_same_weights() -> None:
    a, b, c = (he_(torch.empty(4, 5), generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def measured(name: str, scale: float, layers: int, width: int = 1000) -> tuple[Tensor, Tensor]:
    """Mean squares of z and of dL/dz through a wide random net, by autograd."""
    f = ACTIVATIONS[name].f
    generator = seeded(3)
    z = torch.randn(200, width, generator=generator).requires_grad_()
    passed = [z]
    for _ in range(layers):
        W = torch.randn(width, width, generator=generator) * math.sqrt(scale / width)
        passed.append(f(passed[-1]) @ W)
    back = torch.randn(200, width, generator=generator)
    slopes = torch.autograd.grad((passed[-1] * back).sum(), passed)
    return torch.stack([p.square().mean() for p in passed]), torch.stack([g.square().mean() for g in slopes])


def predicts(signals, gradients) -> bool:
    for name, scale in (("relu", 2.0), ("relu", 1.0), ("tanh", 1.0), ("sigmoid", 1.0), ("gelu", 2.0)):
        q, g = measured(name, scale, 6)
        f, slope = ACTIVATIONS[name].f, ACTIVATIONS[name].slope
        expected = signals(f, 6, scale=scale)
        if not torch.allclose(expected.float(), q, rtol=0.15):
            return False
        if not torch.allclose(gradients(slope, expected, scale=scale).float(), g, rtol=0.25):
            return False
    return True


def test_variances_are_those_of_random_nets() -> None:
    assert predicts(signals, gradients)
    assert not predicts(lambda f, n, scale: signals(f, n, scale=scale / 2), gradients)  # mutant: one 2 forgotten
    assert not predicts(signals, lambda s, q, scale: gradients(s, q, scale=scale).flip(0))  # mutant: wrong way round


def test_relus_closed_form() -> None:
    f, slope = ACTIVATIONS["relu"].f, ACTIVATIONS["relu"].slope
    assert torch.allclose(signals(f, 50, scale=2, start=3), torch.full((51,), 3.0).double())  # He keeps it, exactly
    assert torch.allclose(signals(f, 4, scale=1), torch.tensor([1, 1 / 2, 1 / 4, 1 / 8, 1 / 16]).double())
    assert torch.allclose(gradients(slope, torch.ones(5), scale=1)[0], torch.tensor(1 / 16).double())


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"fans need a weight .* this one is \(3,\)"):
        he_(torch.empty(3))
