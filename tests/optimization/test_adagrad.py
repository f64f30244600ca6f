"""AdaGrad: torch's path, the first steps by hand, and formulas that are nearly right."""

from functools import partial

import pytest
import torch

from optimization.descents import apart, by_formula, first_steps, follows, hands_over, number
from vivace.base.errors import InputError
from vivace.optimization import Adagrad

OPTIONS = {"lr": 0.05}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_path_is_torchs(weight_decay, dtype):
    assert follows(Adagrad, torch.optim.Adagrad, dtype=dtype, weight_decay=weight_decay, **OPTIONS)


def test_state_goes_to_torch_and_back():
    assert hands_over(Adagrad, torch.optim.Adagrad, **OPTIONS)


def test_by_hand():
    # G = 9, 9 + 16 = 25, 25 + 144 = 169: each step lr * g / sqrt(G)
    assert first_steps(Adagrad(number(), 0.1, eps=0), [3, 4, -12]) == pytest.approx([0.1, 0.08, -0.1 * 12 / 13])


class MutantForgetting(Adagrad):
    """RMSprop's mean for the sum."""

    def update(self, group, theta, g, total, step):
        total.mul_(0.9)
        super().update(group, theta, g, total, step)


class MutantNoRoot(Adagrad):
    def update(self, group, theta, g, total, step):
        total.addcmul_(g, g)
        theta.sub_(group["lr"] * g / (total + group["eps"]))


@pytest.mark.parametrize("mutant", [MutantForgetting, MutantNoRoot])
def test_rejects(mutant):
    assert apart(partial(by_formula(mutant), **OPTIONS), partial(torch.optim.Adagrad, **OPTIONS)) > 1e-2


def test_bad_input():
    with pytest.raises(InputError, match="lr is -1, but must be at least 0"):
        Adagrad(number(), -1)
