"""AdamW: torch's path, decay by hand, and decay in the wrong place."""

from functools import partial

import pytest
import torch

from optimization.descents import apart, by_formula, first_steps, follows, hands_over, number
from vivace.base.errors import InputError
from vivace.optimization import Adam, AdamW

OPTIONS = {"lr": 0.01, "betas": (0.8, 0.99), "weight_decay": 0.3}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_path_is_torchs(dtype):
    assert follows(AdamW, torch.optim.AdamW, dtype=dtype, **OPTIONS)


def test_state_goes_to_torch_and_back():
    assert hands_over(AdamW, torch.optim.AdamW, **OPTIONS)


def test_decay_does_not_depend_on_the_gradient():
    for gradient in (0.0, 1e-3, 1e3):
        theta = torch.full((), 2.0, dtype=torch.float64)
        (step,) = first_steps(AdamW([theta], 0.1, weight_decay=0.5, eps=1e-20), [gradient])
        assert step == pytest.approx(2 * 0.05 + 0.1 * (gradient > 0))


class MutantDecayAfter(AdamW):
    """Shrinks what the step has led to, not what it began with."""

    def update(self, group, theta, g, m, v, step):
        Adam.update(self, {**group, "weight_decay": 0.0}, theta, g, m, v, step)
        theta.mul_(1 - group["lr"] * group["weight_decay"])


class MutantWithoutRate(AdamW):
    """The paper's lambda without lr in it."""

    def update(self, group, theta, g, m, v, step):
        super().update({**group, "weight_decay": group["weight_decay"] / group["lr"]}, theta, g, m, v, step)


@pytest.mark.parametrize("mutant", [Adam, MutantDecayAfter, MutantWithoutRate])
def test_rejects(mutant):
    assert apart(partial(by_formula(mutant), **OPTIONS), partial(torch.optim.AdamW, **OPTIONS)) > 1e-5


def test_bad_input():
    with pytest.raises(InputError, match=r"weight_decay is -0\.1, but must be at least 0"):
        AdamW(number(), weight_decay=-0.1)
