"""Adam: torch's path, the first step by hand, the printed form, and formulas that are nearly right."""

from functools import partial

import pytest
import torch

from optimization.descents import apart, by_formula, first_steps, follows, hands_over, number
from vivace.base.errors import InputError
from vivace.optimization import Adam

OPTIONS = {"lr": 0.01, "betas": (0.8, 0.99)}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_path_is_torchs(weight_decay, dtype):
    assert follows(Adam, torch.optim.Adam, dtype=dtype, weight_decay=weight_decay, **OPTIONS)


def test_state_goes_to_torch_and_back():
    assert hands_over(Adam, torch.optim.Adam, **OPTIONS)


@pytest.mark.parametrize("gradient", [1e-3, 1.0, 1e3])
def test_first_step_is_the_rate(gradient):
    assert first_steps(Adam(number(), 0.01, eps=0), [gradient]) == pytest.approx([0.01])


def test_printed_form_by_hand():
    # m = 0.1 g, v = 0.001 g^2: 0.1 / sqrt(0.001) = 3.162; then m = 0.19 g, v = 0.001999 g^2
    printed = Adam(number(), 0.01, eps=0, bias_correction=False)
    assert first_steps(printed, [5.0, 5.0]) == pytest.approx([0.01 * 10**0.5, 0.01 * 0.19 / 0.001999**0.5])


def test_a_zero_gradient_needs_eps():
    assert first_steps(Adam(number()), [0.0]) == [0]
    assert torch.tensor(first_steps(Adam(number(), eps=0), [0.0])).isnan().all()


class MutantUncorrected(Adam):
    def __init__(self, params, lr, betas):
        super().__init__(params, lr, betas, bias_correction=False)


class MutantEpsInside(Adam):
    """sqrt(v_hat + eps), as in some texts."""

    def update(self, group, theta, g, m, v, step):
        beta1, beta2 = group["betas"]
        m.mul_(beta1).add_(g, alpha=1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        m_hat, v_hat = m / (1 - beta1 ** step.item()), v / (1 - beta2 ** step.item())
        theta.sub_(group["lr"] * m_hat / (v_hat + group["eps"]).sqrt())


class MutantNotSquared(Adam):
    """v is a mean of |g|, and no root is drawn."""

    def update(self, group, theta, g, m, v, step):
        beta1, beta2 = group["betas"]
        m.mul_(beta1).add_(g, alpha=1 - beta1)
        v.mul_(beta2).add_(g.abs(), alpha=1 - beta2)
        m_hat, v_hat = m / (1 - beta1 ** step.item()), v / (1 - beta2 ** step.item())
        theta.sub_(group["lr"] * m_hat / (v_hat + group["eps"]))


@pytest.mark.parametrize("mutant", [MutantUncorrected, MutantEpsInside, MutantNotSquared])
def test_rejects(mutant):
    theirs = partial(torch.optim.Adam, **OPTIONS)
    if mutant is MutantEpsInside:  # only small gradients tell
        assert first_steps(by_formula(mutant)(number(), 0.01), [1e-6]) != pytest.approx(
            first_steps(torch.optim.Adam(number(), 0.01), [1e-6]), rel=0.1
        )
    else:
        assert apart(partial(by_formula(mutant), **OPTIONS), theirs) > 1e-3


def test_bad_input():
    with pytest.raises(InputError, match="each of betas is 1, but must be at least 0 and below 1"):
        Adam(number(), betas=(0.9, 1))
    with pytest.raises(InputError, match="eps is -1e-08"):
        Adam(number(), eps=-1e-8)
    theirs = torch.optim.Adam(number(), amsgrad=True)
    ours = Adam(number())
    ours.load_state_dict(theirs.state_dict())
    with pytest.raises(InputError, match=r"can't do amsgrad=True, only"):
        ours.step()
