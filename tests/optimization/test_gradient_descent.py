"""Gradient descent against numbers by hand, torch's own optimiser, least squares in closed form, and Armijo's rule."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vivace.base.errors import InputError
from vivace.optimization import gradient_descent

ONE = torch.ones((), dtype=torch.float64)
Path = Callable[[Any, Tensor, float, int], Tensor]


def rosenbrock(p: Tensor) -> Tensor:
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def ours(f: Any, start: Tensor, rate: float, steps: int) -> Tensor:
    return gradient_descent(f, start, rate, steps=steps, gradient_below=None).path


def uphill(f: Any, start: Tensor, rate: float, steps: int) -> Tensor:
    return ours(lambda p: -f(p), start, rate, steps)


def gradient_at_the_start_only(f: Any, start: Tensor, rate: float, steps: int) -> Tensor:
    step = ours(f, start, rate, 1).diff(dim=0)[0]
    return torch.stack([start + k * step for k in range(steps + 1)])


def steps_of_equal_length(f: Any, start: Tensor, rate: float, steps: int) -> Tensor:
    path = [start]
    for _ in range(steps):
        step = ours(f, path[-1], rate, 1).diff(dim=0)[0]
        path.append(path[-1] + rate * step / step.norm())
    return torch.stack(path)


def one_coordinate_after_the_other(f: Any, start: Tensor, rate: float, steps: int) -> Tensor:
    """Each partial derivative taken after the coordinates before it have moved already."""
    path = [start]
    for _ in range(steps):
        for i in range(len(start)):
            step = torch.zeros_like(start)
            step[i] = ours(f, path[-1], rate, 1).diff(dim=0)[0, i]
            path[-1:] = [path[-1] + step] if i else [path[-1], path[-1] + step]
    return torch.stack(path)


def agrees_with_torch(descend: Path) -> bool:
    start = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    p = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([p], lr=1e-3)
    expected = [start]
    for _ in range(20):
        optimizer.zero_grad()
        rosenbrock(p).backward()
        optimizer.step()
        expected.append(p.detach().clone())
    found = descend(rosenbrock, start, 1e-3, 20)
    return len(found) == 21 and torch.allclose(found, torch.stack(expected), rtol=1e-12)


def test_agrees_with_torch() -> None:
    assert agrees_with_torch(ours)


@pytest.mark.parametrize("mutant", [uphill, gradient_at_the_start_only, steps_of_equal_length,
                                    one_coordinate_after_the_other])  # fmt: skip
def test_rejects(mutant: Path) -> None:
    assert not agrees_with_torch(mutant)


@pytest.mark.parametrize(("rate", "factor"), [(0.1, 0.8), (0.9, -0.8), (1.0, -1.0), (1.1, -1.2)])
def test_parabola_by_hand(rate: float, factor: float) -> None:
    """theta^2: theta <- (1 - 2 rate) theta; 1.2^50 = 9100."""
    descent = gradient_descent(torch.square, ONE, rate, steps=50, gradient_below=None)
    torch.testing.assert_close(descent.path, factor ** torch.arange(51, dtype=torch.float64), rtol=1e-9, atol=0)
    torch.testing.assert_close(descent.values, descent.path**2)
    torch.testing.assert_close(descent.gradient_norms, 2 * descent.path.abs())
    assert descent.steps == 50 and descent.stopped == "steps" and descent.evaluations == 51


def test_each_rule_stops_where_it_should() -> None:
    """theta^2 at rate 1/4: theta, its move and its gradient halve each step."""

    def stop(**rules: float) -> tuple[str, int]:
        descent = gradient_descent(torch.square, ONE, 0.25, **{"gradient_below": None, **rules})
        return descent.stopped, descent.steps

    assert stop(gradient_below=0.01) == ("gradient", 8)  # 2 / 2^8 = 0.0078
    assert stop(move_below=0.01) == ("parameters", 7)  # from 2^-6 to 2^-7 it is 2^-7 = 0.0078
    assert stop(change_below=0.01) == ("loss change", 5)  # 4^-4 - 4^-5 = 0.0029
    assert stop(loss_below=0.01) == ("loss", 4)  # 4^-4 = 0.0039
    assert stop(steps=3) == ("steps", 3)
    assert stop(loss_below=2.0) == ("loss", 0)


def test_a_loss_that_does_not_change_is_not_the_end() -> None:
    """At rate 2/L descent jumps to and fro for ever: the loss is constant, the gradient is not zero."""
    assert gradient_descent(torch.square, ONE, 1.0, change_below=1e-9).stopped == "loss change"
    assert gradient_descent(torch.square, ONE, 1.0).stopped == "steps"


def test_divergence_is_said_and_leaves_finite_numbers() -> None:
    descent = gradient_descent(torch.square, ONE, 1.1)
    assert descent.stopped == "diverged" and descent.steps == 76  # 1.2^76 = 1.04e6
    steep = gradient_descent(lambda t: t**4, 3 * ONE, 1.0, far=float("inf"))
    assert steep.stopped == "diverged" and steep.path.isfinite().all() and steep.values.isfinite().all()


@pytest.mark.parametrize("backtrack", [False, True])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_reaches_least_squares_in_any_shape(shape: tuple[int, ...], backtrack: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(40, torch.Size(shape).numel(), generator=generator, dtype=torch.float64)
    y = torch.randn(40, generator=generator, dtype=torch.float64)
    descent = gradient_descent(lambda w: (X @ w.flatten() - y).square().mean(), torch.zeros(shape).double(), 0.1,
                               steps=2000, gradient_below=1e-6, backtrack=backtrack)  # fmt: skip
    assert descent.stopped == "gradient" and descent.end.shape == shape
    torch.testing.assert_close(descent.end.flatten(), torch.linalg.lstsq(X, y).solution, atol=1e-5, rtol=0)


def test_armijo_by_hand() -> None:
    """theta^2 from 1, gradient 2: rate 1 leads to -1 where f is 1 > 1 - 4/2; rate 1/2 to 0, where 0 <= 1 - 4/4."""
    descent = gradient_descent(torch.square, ONE, 1.0, backtrack=True)
    assert descent.path.tolist() == [1, 0] and descent.stopped == "gradient"
    assert descent.evaluations == 4  # the start, two tries, the new point


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=4), st.floats(1e-3, 1e6), st.integers(0, 100))
def test_armijo_never_goes_up_and_falls_as_promised(curvatures: list[float], rate: float, seed: int) -> None:
    D = torch.tensor(curvatures, dtype=torch.float64)
    start = torch.randn(len(D), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    descent = gradient_descent(lambda t: (D * t * t).sum() / 2, start, rate, steps=20, backtrack=True)
    moves = descent.path.diff(dim=0).norm(dim=1)
    promised = moves * descent.gradient_norms[:-1] / 2  # rate * |g|^2 / 2
    assert (descent.values.diff() <= -promised * (1 - 1e-6) + 1e-12).all()


def test_a_rate_that_never_helps_is_said() -> None:
    ramp = gradient_descent(lambda t: torch.where(t.detach() == 1, t, t + 5), ONE, backtrack=True)
    assert ramp.stopped == "no descent" and ramp.steps == 0


def test_many_points_at_once() -> None:
    starts = torch.tensor([[3.0], [-2.0], [0.5]], dtype=torch.float64)
    together = gradient_descent(lambda p: (p**4).sum(), starts, 0.01, steps=30).path
    for i in range(3):
        alone = gradient_descent(lambda p: (p**4).sum(), starts[i], 0.01, steps=30).path
        torch.testing.assert_close(together[:, i], alone)


def test_leaves_the_start_alone_and_keeps_its_dtype() -> None:
    start = torch.ones(2, requires_grad=True)
    descent = gradient_descent(lambda p: p.square().sum(), start, steps=3)
    assert start.tolist() == [1, 1] and start.grad is None and descent.path.dtype == torch.float32
    assert not descent.path.requires_grad


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": torch.tensor([float("nan")])}, "start must be finite"),
        ({"start": torch.zeros(0)}, "start must be finite"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"steps": 0}, "steps is 0"),
        ({"f": lambda p: p.log().sum(), "start": torch.zeros(1)}, "not finite at the start"),
        ({"f": lambda p: p.detach().sum()}, "depends on theta"),
        ({"f": torch.square}, "one number"),
    ],
)
def test_bad_input(changes: dict[str, Any], message: str) -> None:
    arguments = {"f": lambda p: p.square().sum(), "start": torch.ones(2), "learning_rate": 0.1, **changes}
    with pytest.raises(InputError, match=message):
        gradient_descent(**arguments)
