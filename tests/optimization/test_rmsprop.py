"""RMSprop: torch's path, the first steps by hand, and formulas that are nearly right."""

from functools import partial

import pytest
import torch

from optimization.descents import apart, by_formula, first_steps, follows, hands_over, number
from vivace.base.errors import InputError
from vivace.optimization import RMSprop

OPTIONS = {"lr": 0.003, "alpha": 0.95}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_path_is_torchs(weight_decay, dtype):
    assert follows(RMSprop, torch.optim.RMSprop, dtype=dtype, weight_decay=weight_decay, **OPTIONS)


def test_state_goes_to_torch_and_back():
    assert hands_over(RMSprop, torch.optim.RMSprop, **OPTIONS)


def test_by_hand():
    # v = 0.1 * 4, then 0.9 * 0.4 + 0.1 * 4 = 0.76: steps lr * 2 / sqrt(v); the first is lr / sqrt(1 - 0.9)
    found = first_steps(RMSprop(number(), 0.01, 0.9, eps=0), [2.0, 2.0])
    assert found == pytest.approx([0.01 * 10**0.5, 0.02 / 0.76**0.5])


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_leaves_the_gradient_alone(weight_decay):
    theta = torch.ones(3, requires_grad=True)
    theta.grad = g = torch.tensor([1.0, -2.0, 3.0])
    RMSprop([theta], weight_decay=weight_decay).step()
    assert g.tolist() == [1, -2, 3]


class MutantVariance(RMSprop):
    """Divides by v, not by its root."""

    def update(self, group, theta, g, v, step):
        v.mul_(group["alpha"]).addcmul_(g, g, value=1 - group["alpha"])
        theta.sub_(group["lr"] * g / (v + group["eps"]))


class MutantOldMean(RMSprop):
    """Divides by the mean without this gradient."""

    def update(self, group, theta, g, v, step):
        theta.sub_(group["lr"] * g / (v.sqrt() + 1e-2))
        v.mul_(group["alpha"]).addcmul_(g, g, value=1 - group["alpha"])


@pytest.mark.parametrize("mutant", [MutantVariance, MutantOldMean])
def test_rejects(mutant):
    assert apart(partial(by_formula(mutant), **OPTIONS), partial(torch.optim.RMSprop, **OPTIONS)) > 1e-3


def test_bad_input():
    with pytest.raises(InputError, match="alpha is 1, but must be at least 0 and below 1"):
        RMSprop(number(), alpha=1)
    theirs = torch.optim.RMSprop(number(), centered=True)
    ours = RMSprop(number())
    ours.load_state_dict(theirs.state_dict())
    with pytest.raises(InputError, match=r"can't do centered=True, only"):
        ours.step()
