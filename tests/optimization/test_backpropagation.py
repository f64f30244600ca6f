"""The worked step against torch.autograd, numbers by hand and the taught example; mutants fail the same check."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from vivace.base.errors import InputError
from vivace.optimization import Net, Trace, backpropagation_step

EXAMPLE = Net(np.array([[0.15, 0.2], [0.25, 0.3]]), np.array([0.1, 0.1]), np.array([[0.4, 0.45]]), np.array([0.1]))
X, TARGET = np.array([0.1, 0.2]), np.array([0.8])
ACTIVATIONS = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky relu": torch.nn.functional.leaky_relu,
}


def random_net(inputs: int, hidden: int, outputs: int, seed: int = 0) -> tuple[Net, np.ndarray, np.ndarray]:
    g = np.random.default_rng(seed)
    net = Net(g.normal(size=(hidden, inputs)), g.normal(size=hidden), g.normal(size=(outputs, hidden)),
              g.normal(size=outputs))  # fmt: skip
    return net, g.normal(size=inputs), g.normal(size=outputs)


def is_torchs(step: Callable[..., Trace]) -> bool:
    """Deltas, changes, new weights and the loss after them, for every activation, to 1e-12."""
    for name, f in ACTIVATIONS.items():
        for sizes in ((2, 2, 1), (3, 5, 4)):
            net, x, target = random_net(*sizes)
            trace = step(net, x, target, activation=name, rate=0.3)
            W1, b1, W2, b2 = (torch.tensor(array, requires_grad=True) for array in (net.W1, net.b1, net.W2, net.b2))

            def loss(W1, b1, W2, b2, f=f, x=x, target=target):
                return (f(W2 @ f(W1 @ torch.tensor(x) + b1) + b2) - torch.tensor(target)).square().sum() / 2

            now = loss(W1, b1, W2, b2)
            slopes = torch.autograd.grad(now, (W1, b1, W2, b2))
            new = [(w - 0.3 * g).detach() for w, g in zip((W1, b1, W2, b2), slopes, strict=True)]
            pairs = [(trace.forward.loss, now.detach()), (trace.delta1, slopes[1]), (trace.delta2, slopes[3]),
                     (trace.after.loss, loss(*new))]  # fmt: skip
            for ours, change, theirs, g in zip(
                _arrays(trace.updated), _arrays(trace.changes), new, slopes, strict=True
            ):
                pairs += [(ours, theirs), (change, -0.3 * g)]
            if not all(np.allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-14) for ours, theirs in pairs):
                return False
    return True


def _arrays(net: Net) -> tuple[np.ndarray, ...]:
    return net.W1, net.b1, net.W2, net.b2


def test_a_step_is_torchs() -> None:
    assert is_torchs(backpropagation_step)


def without_output_slope(net, x, target, **how) -> Trace:
    """Mutant: the output's delta is y - target."""
    return _with_delta2(net, x, target, how, lambda t: t.forward.y - target)


def upwards(net, x, target, **how) -> Trace:
    """Mutant: the step is added, not taken away."""
    trace = backpropagation_step(net, x, target, **how)
    return replace(trace, changes=Net(*(-change for change in _arrays(trace.changes))))


def updated_first(net, x, target, **how) -> Trace:
    """Mutant: the hidden deltas go back along weights that have been changed already."""
    trace = backpropagation_step(net, x, target, **how)
    return replace(trace, delta1=trace.delta1 * (trace.updated.W2.T @ trace.delta2) / (net.W2.T @ trace.delta2))


def biases_forgotten(net, x, target, **how) -> Trace:
    """Mutant: as in the course, no bias is changed."""
    trace = backpropagation_step(net, x, target, **how)
    return replace(trace, changes=replace(trace.changes, b1=0 * net.b1, b2=0 * net.b2))


def _with_delta2(net, x, target, how, delta) -> Trace:
    trace = backpropagation_step(net, x, target, **how)
    return replace(trace, delta2=delta(trace))


@pytest.mark.parametrize("mutant", [without_output_slope, upwards, updated_first, biases_forgotten])
def test_rejects_the_mutant(mutant: Callable[..., Trace]) -> None:
    assert not is_torchs(mutant)


def test_by_hand() -> None:
    """ReLU, so that the numbers fit on paper: z1 = (1, -1), h = (1, 0), y = 3, delta2 = 2, delta1 = (6, 0)."""
    net = Net(np.array([[1.0, 0.0], [0.0, -1.0]]), np.zeros(2), np.array([[3.0, 5.0]]), np.zeros(1))
    trace = backpropagation_step(net, np.ones(2), np.ones(1), activation="relu", rate=0.1)
    assert trace.forward.h.tolist() == [1, 0] and trace.forward.y == 3 and trace.forward.loss == 2
    assert trace.delta2 == 2 and trace.delta1.tolist() == [6, 0]
    np.testing.assert_allclose(trace.changes.W1, [[-0.6, -0.6], [0, 0]])
    np.testing.assert_allclose(trace.changes.W2, [[-0.2, 0]])
    np.testing.assert_allclose(trace.updated.b1, [-0.6, 0])


def test_the_courses_example_done_right() -> None:
    """z = 0.15 * 0.1 + 0.2 * 0.2 + 0.1 = 0.155 and so on; all names there, in order."""
    named = backpropagation_step(EXAMPLE, X, TARGET, rate=0.1).named()
    expected = {"z_h1": 0.155, "z_h2": 0.185, "h1": 0.538673, "h2": 0.546119, "z_y": 0.561222, "y": 0.636735,
                "loss": 0.0133277, "delta_y": -0.0377635, "delta_h1": -0.00375380, "delta_h2": -0.00421226,
                "change_v1": 0.00203423, "change_v2": 0.00206235, "change_c": 0.00377635, "change_w11": 3.75380e-5,
                "change_w22": 8.42451e-5, "change_b2": 4.21226e-4, "new_v1": 0.4020342, "y_after": 0.638142,
                "loss_after": 0.0130990}  # fmt: skip
    for name, value in expected.items():
        assert named[name] == pytest.approx(value, rel=3e-5), name
    assert list(named)[:7] == ["z_h1", "z_h2", "h1", "h2", "z_y", "y", "loss"] and len(named) == 7 + 3 + 9 + 9 + 7
    more = backpropagation_step(*random_net(3, 2, 2)).named()
    assert {"z_y2", "delta_y2", "change_v12", "new_c1", "y1_after"} <= set(more)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="takes 2 inputs and has 1 outputs"):
        backpropagation_step(EXAMPLE, np.ones(3), TARGET)
    with pytest.raises(InputError, match="a number, not nan"):
        backpropagation_step(EXAMPLE, X, TARGET, rate=np.nan)
    with pytest.raises(InputError, match="don't make a net"):
        Net(EXAMPLE.W1, EXAMPLE.b2, EXAMPLE.W2, EXAMPLE.b2)
