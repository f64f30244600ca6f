"""Momentum: torch's path, numbers by hand, the printed form, and wrong orders that are noticed."""

from functools import partial

import pytest
import torch

from optimization.descents import apart, by_formula, first_steps, follows, hands_over, number
from vivace.base.errors import InputError
from vivace.optimization import SGD

KINDS = {"plain": {}, "heavy ball": {"momentum": 0.9}, "nesterov": {"momentum": 0.9, "nesterov": True}}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_path_is_torchs(options, weight_decay, dtype):
    assert follows(SGD, torch.optim.SGD, dtype=dtype, lr=0.02, weight_decay=weight_decay, **options)


def test_state_goes_to_torch_and_back():
    assert hands_over(SGD, torch.optim.SGD, lr=0.02, momentum=0.9)


def test_by_hand():
    # v = 1, 0.9 + 2, 0.9 * 2.9 - 1 = 1.61
    assert first_steps(SGD(number(), 0.1, 0.9), [1, 2, -1]) == pytest.approx([0.1, 0.29, 0.161])
    # Nesterov: g + 0.9 v = 1.9, 4.61, 0.449
    assert first_steps(SGD(number(), 0.1, 0.9, nesterov=True), [1, 2, -1]) == pytest.approx([0.19, 0.461, 0.0449])


@pytest.mark.parametrize("nesterov", [False, True])
def test_printed_form_differs_only_where_the_rate_changes(nesterov):
    steps = {}
    for inside in (False, True):
        optimizer = SGD(number(), 0.1, 0.9, nesterov=nesterov, rate_inside=inside)
        constant = first_steps(optimizer, [1, 2, -1])
        optimizer.param_groups[0]["lr"] = 0.01
        steps[inside] = constant, first_steps(optimizer, [1])
    assert steps[True][0] == pytest.approx(steps[False][0])
    if not nesterov:  # v = 0.9 * 1.61 + 1 = 2.449 outside; the printed velocity still has the old rate in it
        assert steps[False][1] == pytest.approx([0.02449]) and steps[True][1] == pytest.approx([0.1449 + 0.01])


class MutantDamped(SGD):
    """v = mu v + (1 - mu) g: a running mean of the gradients."""

    def update(self, group, theta, g, v):
        v.mul_(group["momentum"]).add_(g, alpha=1 - group["momentum"])
        theta.sub_(v, alpha=group["lr"])


class MutantSwapped(SGD):
    """theta moves before v knows the new gradient."""

    def update(self, group, theta, g, v):
        theta.sub_(v, alpha=group["lr"])
        v.mul_(group["momentum"]).add_(g)


@pytest.mark.parametrize("mutant", [MutantDamped, MutantSwapped])
def test_rejects(mutant):
    options = {"lr": 0.02, "momentum": 0.9}
    assert apart(partial(by_formula(mutant), **options), partial(torch.optim.SGD, **options)) > 1e-2


def test_returns_the_closures_loss_and_takes_half_precision():
    theta = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    optimizer = SGD([theta], 0.5)
    assert optimizer.step(lambda: (theta.square().sum().backward(), theta.square().sum())[1]).item() == 2
    assert theta.tolist() == [0, 0]


def test_bad_input():
    with pytest.raises(InputError, match="lr is -1, but must be at least 0"):
        SGD(number(), -1)
    with pytest.raises(InputError, match=r"momentum is 1, but must be at least 0 and below 1"):
        SGD(number(), 0.1, 1)
    with pytest.raises(InputError, match="needs a momentum above 0"):
        SGD(number(), 0.1, nesterov=True)
    theta = torch.ones(3, requires_grad=True)
    theta.grad = torch.eye(3)[0].to_sparse()
    with pytest.raises(InputError, match="dense, real gradients"):
        SGD([theta]).step()
    theirs = torch.optim.SGD(number(), 0.1, momentum=0.9, dampening=0.5)
    ours = SGD(number())
    ours.load_state_dict(theirs.state_dict())
    with pytest.raises(InputError, match=r"can't do dampening=0\.5, only"):
        ours.step()
