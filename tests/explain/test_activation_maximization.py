"""Activation maximisation: closed forms on a linear model, bytes, a model left as it was, and wrong versions."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from vivace.base.errors import InputError
from vivace.base.report import Step
from vivace.explain.activation_maximization import Maximized, activation_maximization
from vivace.explain.image_parameterization import ImageParameters, high_frequencies
from vivace.explain.image_transformations import ImageTransformations
from vivace.explain.objectives import Objective, channel, logit

SIZE = (6, 8)
NUMBERS = 3 * 6 * 8
PLAIN = {"smoothness": 0.0, "l2": 0.0}


def linear(seed: int = 0) -> nn.Sequential:
    """Two scores <w, x> of a picture."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(NUMBERS, 2, bias=False))
    weight = torch.randn(2, NUMBERS, generator=torch.Generator().manual_seed(seed))
    model[1].weight = nn.Parameter(weight)
    return model


def pixels(limit: str = "none", count: int = 1) -> ImageParameters:
    return ImageParameters(SIZE, count=count, basis="pixel", decorrelate=False, limit=limit,
                           generator=torch.Generator().manual_seed(3))  # fmt: skip


def check(climb: Callable[..., Maximized]) -> None:
    """Plain ascent of <w, I>: I moves by rate w at each step, and to 1/2 + w N / (2 lambda) with the penalty."""
    model = linear()
    w = model[1].weight.detach().view(2, 3, *SIZE)
    start = pixels(count=2)().detach()
    free = climb(model, logit([0, 1]), SIZE, steps=5, rate=0.1, parameters=pixels(count=2), optimizer=SGD, **PLAIN)
    torch.testing.assert_close(free.images, start + 5 * 0.1 * w)
    values = [((start[i] + n * 0.1 * w[i]) * w[i]).sum() for n in range(5) for i in (0, 1)]
    torch.testing.assert_close(free.activations, torch.stack(values).view(5, 2))
    held = climb(model, logit([0, 1]), SIZE, steps=25, rate=10, parameters=pixels(count=2), optimizer=SGD,
                 **PLAIN | {"l2": 5})  # fmt: skip
    torch.testing.assert_close(held.images, 0.5 + w * NUMBERS / 10, atol=1e-3, rtol=1e-3)


def test_closed_forms() -> None:
    check(activation_maximization)


def descends(model: nn.Module, objective: Objective, *given: object, **more: object) -> Maximized:
    made = activation_maximization(model, -objective, *given, **more)
    return made._replace(activations=-made.activations)


def rewards_size(model: nn.Module, objective: Objective, *given: object, l2: float = 0, **more: object) -> Maximized:
    return activation_maximization(model, objective, *given, l2=-l2, **more)


def penalty_shared(model: nn.Module, objective: Objective, *given: object, l2: float = 0, **more: object) -> Maximized:
    """The penalty's mean over the batch with the sum of the objectives."""
    return activation_maximization(model, objective, *given, l2=l2 / 2, **more)


def squares(model: nn.Module, objective: Objective, *given: object, **more: object) -> Maximized:
    """The printed objective, which also climbs towards what is strongly negative."""
    terms = tuple((weight, layer, lambda A, read=read: read(A).square()) for weight, layer, read in objective.terms)
    return activation_maximization(model, Objective(terms), *given, **more)


@pytest.mark.parametrize("mutant", [descends, rewards_size, penalty_shared, squares])
def test_rejects(mutant: Callable[..., Maximized]) -> None:
    with pytest.raises((AssertionError, InputError)):
        check(mutant)


def test_clipping_ends_in_black_and_white() -> None:
    """A linear score's best picture in [0, 1] is 1 where the weight is positive, and 0 elsewhere."""
    model = linear()
    made = activation_maximization(model, logit(0), SIZE, steps=60, parameters=pixels("clip"), **PLAIN)
    assert torch.equal(made.images[0].flatten(), (model[1].weight[0] > 0).float())


def convolutional() -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Dropout(0.5))
    for weight in model.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) / 3
    return model


climb = partial(activation_maximization, convolutional(), channel("2", 3), (32, 32), steps=12,
                views=ImageTransformations())  # fmt: skip


def test_same_seed_same_bytes() -> None:
    def made(seed: int) -> Tensor:
        return climb(generator=torch.Generator().manual_seed(seed)).images

    before = torch.get_rng_state()
    first, second, other = made(1), made(1), made(2)
    assert first.numpy().tobytes() == second.numpy().tobytes()
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_pictures_of_a_batch_do_not_mix() -> None:
    model = convolutional()
    both = ImageParameters((32, 32), count=2, generator=torch.Generator().manual_seed(0))
    alone = []
    for index in (0, 1):
        one = ImageParameters((32, 32))
        one.numbers.data = both.numbers.data[index : index + 1].clone()
        given = {"steps": 8, "views": None, "l2": 3.0, "frequency": 5.0}
        alone.append(activation_maximization(model, channel("2", index), (32, 32), parameters=one, **given).images)
    together = activation_maximization(model, channel("2", [0, 1]), (32, 32), parameters=both, **given).images
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("regularizer", [{"smoothness": 400.0}, {"frequency": 400.0}, {"blur": 1.0}])
def test_each_takes_high_frequencies_away(regularizer: dict[str, float]) -> None:
    def made(**more: float) -> Tensor:
        start = ImageParameters((32, 32), basis="pixel", generator=torch.Generator().manual_seed(0))
        return climb(views=None, parameters=start, **({"smoothness": 0.0, "l2": 0.0} | more)).images

    assert high_frequencies(made(**regularizer)) < 0.7 * high_frequencies(made())


def test_the_activation_rises_and_is_told() -> None:
    told: list[Step] = []
    made = climb(tell=told.append, generator=torch.Generator().manual_seed(0))
    assert made.activations[-1] > made.activations[0]
    assert [step.values["activation"] for step in told] == pytest.approx(made.activations[:, 0].tolist())
    assert told[-1].done == told[-1].total == 12 and told[-1].image.shape == (3, 32, 32)


def test_the_model_stays_as_it_was() -> None:
    model = convolutional().train()
    model[0].bias.requires_grad_(False)  # type: ignore[union-attr]
    weights = [weight.clone() for weight in model.parameters()]
    with torch.no_grad():
        made = activation_maximization(model, channel("2", 0), (32, 32), steps=2)
    assert model.training and model[3].training
    assert [weight.requires_grad for weight in model.parameters()] == [True, False, True, True]
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert not any(module._forward_hooks for module in model.modules())
    assert not made.images.requires_grad


class Blind(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), 2)


def test_tells_what_is_wrong() -> None:
    with pytest.raises(InputError, match="at least one step"):
        climb(steps=0)
    with pytest.raises(InputError, match="does not depend on the picture"):
        activation_maximization(Blind(), logit(0), SIZE)
    with pytest.raises(InputError, match="smaller rate"):
        squares(linear(), logit(0), SIZE, steps=60, rate=100, parameters=pixels(), optimizer=SGD, **PLAIN)
    with pytest.raises(InputError, match="no layer named '4'"):
        activation_maximization(convolutional(), channel("4", 0), (32, 32))
