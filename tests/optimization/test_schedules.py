"""Schedules against torch's own, step by step; rates by hand; a training resumed; and mutants."""

import math
from functools import partial

import pytest
import torch
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, SequentialLR, StepLR
from torch.utils.data import TensorDataset

from vivace.base.errors import InputError
from vivace.base.fit import fit
from vivace.optimization import cosine, one_cycle, scaled_rate, step_decay, warm_up

RATE = 0.3
STEPS = 60


def adam():
    return AdamW([torch.zeros(1, requires_grad=True)], lr=RATE)


def sgd():
    return SGD([torch.zeros(1, requires_grad=True)], lr=RATE, momentum=0.9)


def walked(schedule, make=sgd):
    """The rate and the momentum at each of the steps."""
    optimizer = make()
    scheduler, found = schedule(optimizer), []
    for _ in range(STEPS):
        group = optimizer.param_groups[0]
        found.append((group["lr"], group["betas"][0] if "betas" in group else group["momentum"]))
        optimizer.step()
        scheduler.step()
    return torch.tensor(found, dtype=torch.float64)


def warmed_cosine(optimizer):
    warm = LinearLR(optimizer, 1 / 12, total_iters=11)
    return SequentialLR(optimizer, [warm, CosineAnnealingLR(optimizer, STEPS - 12, eta_min=0.03)], [12])


PAIRS = {
    "step": (partial(step_decay, steps=STEPS, drops=3, factor=0.2), lambda o: StepLR(o, STEPS // 4, 0.2)),
    "cosine": (partial(cosine, steps=STEPS), lambda o: CosineAnnealingLR(o, STEPS)),
    "cosine with a floor": (partial(cosine, steps=STEPS, floor=0.1), lambda o: CosineAnnealingLR(o, STEPS, 0.03)),
    "warm-up": (partial(warm_up, steps=STEPS, warmup=0.2), lambda o: LinearLR(o, 1 / 12, total_iters=11)),
    "one cycle": (partial(one_cycle, steps=STEPS), lambda o: OneCycleLR(o, RATE, STEPS)),
    "a cycle of one's own": (
        partial(one_cycle, steps=STEPS, rise=0.45, start=0.2, end=0.01, momentum=(0.5, 0.8)),
        lambda o: OneCycleLR(o, RATE, STEPS, pct_start=0.45, div_factor=5, final_div_factor=20, base_momentum=0.5,
                             max_momentum=0.8),
    ),
}  # fmt: skip


def agree(schedule, peer, make=sgd) -> bool:
    return torch.allclose(walked(schedule, make), walked(peer, make), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("make", [sgd, adam])
@pytest.mark.parametrize("name", PAIRS)
def test_is_torchs(name, make):
    assert agree(*PAIRS[name], make)


@pytest.mark.filterwarnings("ignore:The epoch parameter")  # SequentialLR's own call
def test_warmed_cosine_is_torchs_two_in_sequence():
    assert agree(partial(cosine, steps=STEPS, warmup=0.2, floor=0.1), warmed_cosine)


MUTANTS = {
    "a drop too early": ("step", partial(step_decay, steps=STEPS - 4, drops=3, factor=0.2)),
    "a drop more": ("step", partial(step_decay, steps=STEPS, drops=4, factor=0.2)),
    "ends a step early": ("cosine", partial(cosine, steps=STEPS - 1)),
    "floor as a rate": ("cosine with a floor", partial(cosine, steps=STEPS, floor=0.03)),
    "starts at zero": ("warm-up", lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: min(1, t / 12))),
    "momentum left alone": ("one cycle", lambda o: OneCycleLR(o, RATE, STEPS, cycle_momentum=False)),
    "straight lines": ("one cycle", lambda o: OneCycleLR(o, RATE, STEPS, anneal_strategy="linear")),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_rejects(mutant):
    name, wrong = MUTANTS[mutant]
    assert not agree(wrong, PAIRS[name][1])


def test_rules_by_hand():
    """From 32 to 128: root 2, linear 4. From 32 to 1024: 5.66 and 32."""
    assert scaled_rate(0.1, 128, 32, rule="sqrt") == pytest.approx(0.2)
    assert scaled_rate(0.1, 128, 32) == pytest.approx(0.4)
    assert scaled_rate(1, 1024, 32, rule="sqrt") == pytest.approx(math.sqrt(32)) and scaled_rate(1, 1024, 32) == 32
    assert scaled_rate(0.4, 32, 128) == pytest.approx(0.1), "and back"


def test_the_rule_of_the_linear_rate_keeps_a_quadratics_path():
    """Four steps of rate r and one of 4r move equally far to first order: the reason for the linear rule."""
    rate, w = 1e-4, 1.0
    for _ in range(4):
        w -= rate * w
    assert w == pytest.approx(1 - scaled_rate(rate, 4, 1) * 1, abs=1e-7)
    assert w != pytest.approx(1 - scaled_rate(rate, 4, 1, rule="sqrt") * 1, abs=1e-4)


def test_fit_takes_it_and_resumes_with_it(tmp_path):
    def trained(epochs_seen, folder, **more):
        generator = torch.Generator().manual_seed(0)
        model = torch.nn.Linear(3, 1)
        with torch.no_grad():
            model.weight.fill_(0.5)
            model.bias.zero_()
        x = torch.randn(32, 3, generator=generator)

        def tell(step):
            if epochs_seen and step.text.startswith(f"epoch {epochs_seen} ") and "train_loss" in step.values:
                raise KeyboardInterrupt

        fitted = fit(model, TensorDataset(x, x.sum(1, keepdim=True)),
                     lambda m, batch: (m(batch[0]) - batch[1]).square().mean(), epochs=4, batch_size=8,
                     optimizer=lambda p: SGD(p, lr=0.1, momentum=0.9), schedule=one_cycle, folder=folder, tell=tell,
                     **more)  # fmt: skip
        return model.weight.detach().clone(), [row["lr"] for row in fitted.history]

    whole = trained(0, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(2, tmp_path / "part")
    again = trained(0, tmp_path / "part", resume=tmp_path / "part")
    assert torch.equal(whole[0], again[0]) and whole[1] == again[1] and len(set(whole[1])) == 4


def test_bad_input():
    for schedule in (warm_up, step_decay, cosine, one_cycle):
        with pytest.raises(InputError, match="at least 1 step, not 0"):
            schedule(sgd(), 0)
    for call, message in (
        (lambda: cosine(sgd(), 10, warmup=1.0), "warmup is 1.0"),
        (lambda: cosine(sgd(), 10, floor=2.0), "floor is 2.0"),
        (lambda: step_decay(sgd(), 10, drops=-1), "drops is -1"),
        (lambda: one_cycle(sgd(), 3), "rise is 0.3 of 3 steps"),
        (lambda: scaled_rate(0.1, 0, 32), "sizes given are 0 and 32"),
    ):
        with pytest.raises(InputError, match=message):
            call()
