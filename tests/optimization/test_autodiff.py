"""The engine against torch.autograd: operations, random graphs and shapes; mutants fail the same check."""

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from vivace.base.errors import InputError
from vivace.optimization import Variable
from vivace.optimization.autodiff import result

QUICK = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def draws(*shapes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.normal(size=shape) for shape in shapes]


def agrees(ours: Callable, theirs: Callable, arrays: Sequence[np.ndarray], seed: int = 1) -> bool:
    """Value and every gradient are torch's to 1e-10, for a random gradient at the result."""
    mine = [Variable(array) for array in arrays]
    peers = [torch.tensor(array, requires_grad=True) for array in arrays]
    y, z = ours(*mine), theirs(*peers)
    if y.shape != tuple(z.shape) or not np.allclose(y.value, z.detach().numpy(), rtol=1e-10, atol=1e-10):
        return False
    seed_gradient = np.random.default_rng(seed).normal(size=y.shape)
    y.backward(seed_gradient)
    z.backward(torch.tensor(seed_gradient))
    return all(
        a.grad is not None and a.grad.shape == a.shape and np.allclose(a.grad, b.grad.numpy(), rtol=1e-10, atol=1e-10)
        for a, b in zip(mine, peers, strict=True)
    )


SAME = {  # written the same for both
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / (b * b + 1),
    "constants": lambda a, b: 1 - a * 2 + 3 / (b * b + 1) - (-b) / 4 + (a - 5) * 0.5,
    "powers": lambda a, b: a**3 + b**2 + (b * b + 1) ** -0.5 + a**0 + a**1,
    "exp log": lambda a, b: a.exp() + (b * b + 1).log(),
    "tanh sigmoid relu": lambda a, b: a.tanh() * b.sigmoid() + (a + b).relu(),
    "the same twice": lambda a, b: a * a + b * a * b - a,
    "sum and mean": lambda a, b: a.sum() + b.mean() - (a * b).sum(),
}
ONE = {  # (ours, torch's) of one array (2, 3, 4)
    "sum along": (lambda a: a.sum(1), lambda a: a.sum(1)),
    "sum along two": (lambda a: a.sum((0, 2), keepdims=True), lambda a: a.sum((0, 2), keepdim=True)),
    "mean along": (lambda a: a.mean((0, -1)), lambda a: a.mean((0, -1))),
    "mean kept": (lambda a: a.mean(keepdims=True), lambda a: a.mean((0, 1, 2), keepdim=True)),
    "max": (lambda a: a.max(), lambda a: a.max()),
    "max along": (lambda a: a.max(1), lambda a: a.amax(1)),
    "max kept": (lambda a: a.max((1, 2), keepdims=True), lambda a: a.amax((1, 2), keepdim=True)),
    "reshape": (lambda a: a.reshape(4, -1), lambda a: a.reshape(4, -1)),
    "transpose": (lambda a: a.transpose(), lambda a: a.permute(2, 1, 0)),
    "transpose axes": (lambda a: a.transpose(1, 2, 0), lambda a: a.permute(1, 2, 0)),
    "slice": (lambda a: a[:, 1:, ::2], lambda a: a[:, 1:, ::2]),
    "element": (lambda a: a[1, 2, 3], lambda a: a[1, 2, 3]),
    "rows taken twice": (lambda a: a[[0, 1, 0]], lambda a: a[[0, 1, 0]]),
    "mask": (
        lambda a: a[np.arange(24).reshape(2, 3, 4) % 3 == 0],
        lambda a: a[torch.arange(24).view(2, 3, 4) % 3 == 0],
    ),
}


@pytest.mark.parametrize("operation", SAME.values(), ids=SAME)
def test_an_operation_is_torchs(operation: Callable) -> None:
    assert agrees(operation, operation, draws((3, 4), (3, 4)))
    assert agrees(operation, operation, draws((3, 4), (2, 1, 4))) and agrees(operation, operation, draws((), (3, 1)))


@pytest.mark.parametrize(("ours", "theirs"), ONE.values(), ids=ONE)
def test_an_operation_on_one_array_is_torchs(ours: Callable, theirs: Callable) -> None:
    assert agrees(ours, theirs, draws((2, 3, 4)))


def test_ties_share_the_gradient_as_in_torch() -> None:
    tied = np.array([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    assert agrees(lambda a: a.max(1), lambda a: a.amax(1), [tied]) and agrees(
        lambda a: a.max(), lambda a: a.amax(), [tied]
    )


PRODUCTS = [((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((7, 1, 3, 4), (2, 4, 5)), ((3, 4), (6, 4, 2)), ((4,), (4,)),
            ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,))]  # fmt: skip


@pytest.mark.parametrize("shapes", PRODUCTS, ids=str)
def test_matrix_products_are_torchs(shapes: tuple[tuple[int, ...], ...]) -> None:
    assert agrees(lambda a, b: a @ b, lambda a, b: a @ b, draws(*shapes))
    x, w = draws(*shapes)
    assert agrees(lambda b: x @ b, lambda b: torch.tensor(x) @ b, [w])  # an array on the left is a constant


@QUICK
@given(
    mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3), st.sampled_from(list(SAME)), st.integers(0, 99)
)
def test_broadcasting_is_torchs(shapes, name: str, seed: int) -> None:
    assert agrees(SAME[name], SAME[name], draws(*shapes.input_shapes, seed=seed))


STEPS = [
    lambda a, b: a + b,
    lambda a, b: a - 0.5 * b,
    lambda a, b: a * b,
    lambda a, b: a / (b * b + 2),
    lambda a, b: a @ b * 0.3,
    lambda a, b: a.tanh() + b.mean(0),
    lambda a, b: (a * b).sigmoid(),
    lambda a, b: (a + 0.1).relu() - b.sum(),
    lambda a, b: (-(a * a)).exp() * b,
    lambda a, b: (a * a + 1).log() + b[1:2],
]


def random_graph(*leaves, plan: Sequence[tuple[int, int, int]]):
    """Each step takes any two earlier results, so that some are used often and some never."""
    made = list(leaves)
    for step, i, j in plan:
        value = STEPS[step](made[i % len(made)], made[j % len(made)])
        made.append(value / (value * value + 1))  # so that nothing runs away; tanh would saturate
    return sum(made[1:], made[0]).sum()


PLANS = st.lists(
    st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=25
)


@QUICK
@given(PLANS, st.integers(0, 99))
def test_random_graphs_are_torchs(plan, seed: int) -> None:
    def run(*leaves):
        return random_graph(*leaves, plan=plan)

    assert agrees(run, run, draws((3, 3), (3, 3), (3, 3), seed=seed))


class NotSummed(Variable):
    """Mutant: the last of a variable's gradients, not their sum."""

    __slots__ = ()

    def backward(self, gradient=None, *, keep=False) -> None:
        gradients = {self: gradient}
        for node in reversed(self.ancestors()):
            node.grad = gradients[node]
            for operand, back in node.edges:
                gradients[operand] = np.broadcast_to(back(node.grad), operand.shape)


def mutant_of(operation: Callable) -> Callable:
    def run(*leaves):
        last = operation(*leaves)
        last.__class__ = NotSummed
        return last

    return run


MUTANTS = {
    "shared nodes overwrite": (mutant_of(SAME["the same twice"]), SAME["the same twice"]),
    "product rule forgets a factor": (
        lambda a, b: result("*", a.value * b.value, (a, lambda g: g), (b, lambda g: g * a.value)),
        SAME["*"],
    ),
    "Jacobian not transposed": (
        lambda a, b: result("@", a.value @ b.value, (a, lambda g: g @ b.value), (b, lambda g: a.value @ g)),
        lambda a, b: a @ b,
    ),
    "sigmoid's slope of the input": (
        lambda a, b: result("sigmoid", a.sigmoid().value, (a, lambda g: g * a.value * (1 - a.value))) + 0 * b,
        lambda a, b: a.sigmoid() + 0 * b,
    ),
    "relu lets all through": (
        lambda a, b: result("relu", np.maximum(a.value, 0), (a, lambda g: g)) + 0 * b,
        lambda a, b: a.relu() + 0 * b,
    ),
}


@pytest.mark.parametrize(("mutant", "truth"), MUTANTS.values(), ids=MUTANTS)
def test_rejects_the_mutant(mutant: Callable, truth: Callable) -> None:
    assert agrees(truth, truth, draws((3, 3), (3, 3))) and not agrees(mutant, truth, draws((3, 3), (3, 3)))


def test_a_mutant_that_keeps_the_last_of_repeated_rows() -> None:
    def last_wins(a):
        def back(g):
            whole = np.zeros(a.shape)
            whole[[0, 1, 0]] = g
            return whole

        return result("[]", a.value[[0, 1, 0]], (a, back))

    assert not agrees(last_wins, ONE["rows taken twice"][1], draws((2, 3, 4)))


def test_by_hand() -> None:
    x, w = Variable(3.0, "x"), Variable(2.0, "w")
    y = w * x + x * x  # 15, dy/dx = w + 2x = 8, dy/dw = x = 3
    y.backward()
    assert y.value == 15 and x.grad == 8 and w.grad == 3
    (w * 5.0).backward()
    assert w.grad == 8  # a second one adds
    assert "w: 2.0" in repr(w)


def test_deep_graphs_need_no_deep_stack() -> None:
    x = Variable(np.ones(2))
    y = x
    for _ in range(5_000):
        y = y * 1.00001
    y.sum().backward()
    np.testing.assert_allclose(x.grad, 1.00001**5_000)
    for _ in range(5_000):
        y = y + x
    del y  # nor does letting go of one that was never used


def test_gradients_belong_to_the_leaf() -> None:
    a, b = Variable(np.ones(3)), Variable(np.ones(3))
    (a + b).backward(np.ones(3))
    a.grad *= 7
    assert (b.grad == 1).all()


def test_what_is_used_up_is_let_go() -> None:
    x = Variable(np.ones(1000))
    inner = x.exp()
    gone = weakref.ref(inner)
    y = (inner * inner).sum()
    del inner
    assert gone() is not None
    y.backward()
    assert gone() is None  # at once, without the garbage collector
    with pytest.raises(InputError, match="keep=True"):
        y.backward()


def test_training_does_not_pile_up_memory() -> None:
    w = Variable(np.ones((100, 100)))
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(50):
            (w * w).tanh().sum().backward()
            w.grad = None
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert left < 80_000 < peak < 10 * 80_000  # bytes of one array


def test_keep_shows_the_gradients_in_between() -> None:
    x = Variable(2.0, "x")
    h = x * x
    y = h * 3.0
    y.backward(keep=True)
    assert (x.grad, h.grad, y.grad) == (12, 3, 1)
    y.backward()
    assert x.grad == 24


def test_the_graph_can_be_drawn() -> None:
    x, w = Variable(2.0, "x"), Variable(3.0, "w")
    y = (w * x).tanh() + x
    nodes, edges = y.graph()
    assert [node.name for node in nodes] == ["x", "w", "*", "tanh", "+"]
    assert sorted(edges) == [(0, 2), (0, 4), (1, 2), (2, 3), (3, 4)]


def test_constants_and_types() -> None:
    w = Variable(np.ones((2, 2), np.float32))
    y = (np.ones((2, 2), np.float32) @ w * 2 + 1).mean()
    assert y.dtype == np.float32 and [node.name for node in y.graph()[0] if not node.edges] == [""]
    y.backward()
    assert w.grad.dtype == np.float32
    (w * np.ones((2, 2))).sum().backward()  # a float64 constant
    assert w.grad.dtype == np.float32
    assert Variable([1, 2]).dtype == np.float64
    with np.errstate(over="raise"):
        assert Variable([-1e4, 0, 1e4]).sigmoid().value.tolist() == [0, 0.5, 1]


def test_bad_input() -> None:
    with pytest.raises(InputError, match="real numbers"):
        Variable("text")
    with pytest.raises(InputError, match="power is one number"):
        Variable(2.0) ** Variable(3.0)
    with pytest.raises(InputError, match=r"one number, not from shape \(2,\)"):
        Variable([1.0, 2.0]).backward()
    with pytest.raises(InputError, match=r"gradient has shape \(3,\)"):
        Variable([1.0, 2.0]).backward(np.ones(3))
