"""Objectives: numbers by hand on maps, tokens and vectors, a network left as it was, and wrong versions."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.explain.objectives import Objective, channel, direction, energy, logit, neuron, rivals

# two pictures of two channels of 2 x 2
MAPS = torch.tensor([[[[1.0, 2], [3, 4]], [[5, 6], [7, 8]]], [[[0.0, 0], [0, 4]], [[-1, -1], [-1, -5]]]])


class Toy(nn.Module):
    """Shows its input as maps, as tokens (positions first, channels last) and, averaged, as scores."""

    def __init__(self) -> None:
        super().__init__()
        self.maps, self.tokens = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        self.tokens(x.flatten(2).transpose(1, 2))
        return self.maps(x).mean((2, 3))


def check(channel: Callable[..., Objective]) -> None:
    """Means over the four positions: 2.5 and 6.5 in the first picture, 1 and -2 in the second."""
    assert channel("maps", 0)(Toy(), MAPS).tolist() == [2.5, 1]
    assert channel("maps", [1, 0])(Toy(), MAPS).tolist() == [6.5, 1]
    assert channel("tokens", 1)(Toy(), MAPS).tolist() == [6.5, -2]
    both = channel("maps", [0, 1])(Toy(), torch.cat([MAPS, MAPS]))  # two views of each picture
    assert both.tolist() == [2.5, -2, 2.5, -2]


def test_channels_by_hand() -> None:
    check(channel)


def of(read: Callable[[Tensor, object], Tensor]) -> Callable[..., Objective]:
    return lambda layer, index: Objective(((1.0, layer, lambda A: read(A, index)),))


def squared(A: Tensor, index: object) -> Tensor:
    """The printed objective: what is strongly negative counts, too."""
    return channel("", index).terms[0][2](A.square())


def loudest_position(A: Tensor, index: object) -> Tensor:
    return channel("", index).terms[0][2](A.flatten(2).amax(2) if A.ndim == 4 else A.amax(1))


@pytest.mark.parametrize("mutant", [squared, loudest_position])
def test_rejects(mutant: Callable[[Tensor, object], Tensor]) -> None:
    with pytest.raises(AssertionError):
        check(of(mutant))


def test_a_neuron_has_a_place_the_middle_where_not_given() -> None:
    assert neuron("maps", 0)(Toy(), MAPS).tolist() == [4, 4]
    assert neuron("maps", [1, 0], (0, 1))(Toy(), MAPS).tolist() == [6, 0]


def test_logits_are_the_models_output() -> None:
    assert logit(1)(Toy(), MAPS).tolist() == [6.5, -2]
    assert logit([1, 0])(Toy(), MAPS).tolist() == [6.5, 1]


def test_objectives_add_and_scale() -> None:
    whole = 2 * channel("maps", 0) - logit(1) * 0.5 + -neuron("maps", 0)
    assert whole(Toy(), MAPS).tolist() == [2 * 2.5 - 0.5 * 6.5 - 4, 2 * 1 - 0.5 * -2 - 4]


def test_a_direction_by_hand() -> None:
    """(3, 4) / 5: positions give (3 a + 4 b) / 5; of a unit vector it is the channel."""
    vector = torch.tensor([3.0, 4.0])
    expected = [(3 * 2.5 + 4 * 6.5) / 5, (3 * 1 + 4 * -2) / 5]
    torch.testing.assert_close(direction("maps", vector)(Toy(), MAPS), torch.tensor(expected))
    torch.testing.assert_close(direction("tokens", 7 * vector)(Toy(), MAPS), torch.tensor(expected))
    exactly_met = vector[None, :, None, None].expand(1, 2, 2, 2)
    for cosine in (0.0, 2.0):
        assert direction("maps", vector, cosine=cosine)(Toy(), exactly_met).tolist() == pytest.approx([5])
        across = direction("maps", torch.tensor([1.0, 0]), cosine=cosine)(Toy(), exactly_met)
        assert across.tolist() == pytest.approx([3 * 0.6**cosine])


def test_energy_is_the_mean_square() -> None:
    assert energy("maps")(Toy(), MAPS).tolist() == [(1 + 4 + 9 + 16 + 25 + 36 + 49 + 64) / 8, (16 + 1 + 1 + 1 + 25) / 8]


def test_no_hook_remains_and_what_lies_deeper_is_not_computed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(99, 1))  # the last would fail
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(channel("1", 2)(model, x), model[:2](x)[:, 2].mean((1, 2)))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(("wrong", "told"), [
    (channel("maps", 2), "0 to 1"), (channel("maps", [0, 1, 0]), "3 channels for 2 pictures"),
    (channel("map", 0), "no layer named 'map'"), (neuron("tokens", 0), "a place in a map"),
    (neuron("maps", 0, (2, 0)), "no position"), (logit(-1), "no channel -1"),
    (direction("maps", torch.ones(3)), "3 numbers in a layer of 2"),
])  # fmt: skip
def test_tells_what_is_wrong(wrong: Objective, told: str) -> None:
    with pytest.raises(InputError, match=told):
        wrong(Toy(), MAPS)


def test_what_has_no_channels_has_no_objective() -> None:
    with pytest.raises(InputError, match="not zero"):
        direction("maps", torch.zeros(2))
    with pytest.raises(InputError, match="a tuple, not a tensor"):
        logit(0)(Pair(), MAPS)
    with pytest.raises(InputError, match=r"\(16,\), not \(B, K, h, w\)"):
        channel("inner", 0)(Pair(), MAPS)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Flatten(0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(x), x


def check_rivals(rivals: Callable[..., Objective]) -> None:
    """Of the scores 1, 2, 4, 7 the two strongest beside class 3 are 4 and 2, beside class 0 they are 7 and 4."""
    scores = torch.tensor([[1.0, 2, 4, 7], [1, 2, 4, 7]])[..., None, None]
    assert rivals([3, 0], 2)(nn.Flatten(), scores).tolist() == [3, 5.5]
    assert rivals(3)(nn.Flatten(), scores).tolist() == pytest.approx([7 / 3, 7 / 3])  # there are no five others


def test_rivals_by_hand() -> None:
    check_rivals(rivals)


def test_rivals_rejects_a_mutant_that_counts_the_class_itself() -> None:
    def mutant(index: object, count: int = 5) -> Objective:
        return Objective(((1.0, None, lambda y: y.topk(min(count, y.shape[1] - 1)).values.mean(1)),))

    with pytest.raises(AssertionError):
        check_rivals(mutant)
