"""Reverse-mode automatic differentiation: note each step of a computation, then go back along the notes, step by step.

Baydin, Pearlmutter, Radul, Siskind, "Automatic differentiation in machine learning: a survey" (2018), section 3.2.
In: NumPy arrays of any shape, wrapped in `Variable`. Out: a `Variable`; `backward` gives each wrapped array its `grad`.
Departs from the paper: a step works on whole arrays, and carries the chain rule's factor as a function.
"""

from collections.abc import Callable
from itertools import count
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from vivace.base.errors import InputError

Array: TypeAlias = Float[np.ndarray, "..."]
Axes: TypeAlias = int | tuple[int, ...] | None
Operand: TypeAlias = "Variable | np.ndarray | np.number | float"  # an array or a number is a constant: no gradient
Back: TypeAlias = Callable[[Array], Array]  # from the slope of a result to that of one of its operands

_serial = count()


class Variable:
    """An array that remembers how it was computed: its operands, and for each the way back to its gradient.

    `x = Variable(array)`, compute with it as with an array, `loss.backward()`, read `x.grad`; a further `backward` adds
    to it. float32 and float64 stay as they are, whole numbers become float64. `name` is only for those who look. The
    array is not copied; change `value` after `backward` (as an optimiser does), never before.
    """

    __slots__ = ("__weakref__", "edges", "grad", "name", "serial", "value")
    __array_ufunc__ = None  # `array * variable` is ours to compute, not NumPy's

    def __init__(self, value: Any, name: str = "") -> None:
        self.value: Array = np.asarray(value)
        if self.value.dtype.kind not in "biuf":
            raise InputError(f"a Variable holds real numbers, not {self.value.dtype}")
        if self.value.dtype not in (np.float32, np.float64):
            self.value = self.value.astype(np.float64)
        self.name = name
        self.grad: Array | None = None
        self.edges: tuple[tuple[Variable, Back], ...] | None = ()  # None once used up by `backward`
        self.serial = next(_serial)  # an operand is older than its result: age is a topological order

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype

    def __repr__(self) -> str:
        return f"Variable({self.name + ': ' if self.name else ''}{self.value})"

    def ancestors(self) -> list["Variable"]:
        """Everything that this was computed from and itself, operands before their results."""
        seen, ahead = {self}, [self]
        while ahead:
            edges = ahead.pop().edges
            if edges is None:
                raise InputError("an earlier backward() has used up this graph; call that one with keep=True")
            new = {operand for operand, _ in edges} - seen
            seen |= new
            ahead += new
        return sorted(seen, key=lambda variable: variable.serial)

    def graph(self) -> tuple[list["Variable"], list[tuple[int, int]]]:
        """The computation as nodes, operands first, and edges (from, to), to be drawn."""
        nodes = self.ancestors()
        place = {node: i for i, node in enumerate(nodes)}
        return nodes, [(place[operand], i) for i, node in enumerate(nodes) for operand, _ in node.edges or ()]

    def backward(self, gradient: Array | None = None, *, keep: bool = False) -> None:
        """Add this number's gradient by each leaf (a Variable not computed from others) to the leaf's `grad`.

        An array needs `gradient`: that of the loss by it. The graph is let go while it is used; `keep` keeps it, and
        gives the variables in between their `grad` too.
        """
        if gradient is None and self.value.size != 1:
            raise InputError(f"backward() starts from one number, not from shape {self.shape}; give its gradient")
        seed = np.ones_like(self.value) if gradient is None else np.asarray(gradient, self.dtype)
        if seed.shape != self.shape:
            raise InputError(f"the gradient has shape {seed.shape}, the variable {self.shape}")
        order = self.ancestors()
        gradients = {self: seed}
        while order:
            node = order.pop()  # all its results have been here already, so its gradient is complete
            g = np.asarray(gradients.pop(node))
            assert node.edges is not None
            if keep or not node.edges:
                node.grad = g.copy() if node.grad is None else node.grad + g
            for operand, back in node.edges:
                part = _shrunk(back(g), operand.value)
                gradients[operand] = gradients[operand] + part if operand in gradients else part
            if node.edges and not keep:
                node.edges = None

    def __add__(self, other: Operand) -> "Variable":
        return result("+", self.value + raw(other), (self, lambda g: g), (other, lambda g: g))

    def __sub__(self, other: Operand) -> "Variable":
        return result("-", self.value - raw(other), (self, lambda g: g), (other, lambda g: -g))

    def __rsub__(self, other: Operand) -> "Variable":
        return result("-", raw(other) - self.value, (self, lambda g: -g))

    def __neg__(self) -> "Variable":
        return result("-", -self.value, (self, lambda g: -g))

    def __mul__(self, other: Operand) -> "Variable":
        a, b = self.value, raw(other)
        return result("*", a * b, (self, lambda g: g * b), (other, lambda g: g * a))

    def __truediv__(self, other: Operand) -> "Variable":
        a, b = self.value, raw(other)
        return result("/", a / b, (self, lambda g: g / b), (other, lambda g: -g * a / b**2))

    def __rtruediv__(self, other: Operand) -> "Variable":
        a, b = raw(other), self.value
        return result("/", a / b, (self, lambda g: -g * a / b**2))

    def __pow__(self, power: Operand) -> "Variable":
        if isinstance(power, Variable | np.ndarray):
            raise InputError("a power is one number; for others write (b * a.log()).exp()")
        a = self.value
        return result(f"^{power:g}", a**power, (self, lambda g: g * power * a ** (power - 1) if power else 0 * g))

    def __matmul__(self, other: Operand) -> "Variable":
        return _product(self, other)

    def __rmatmul__(self, other: Operand) -> "Variable":
        return _product(other, self)

    __radd__ = __add__
    __rmul__ = __mul__

    def exp(self) -> "Variable":
        y = np.exp(self.value)
        return result("exp", y, (self, lambda g: g * y))

    def log(self) -> "Variable":
        return result("log", np.log(self.value), (self, lambda g: g / self.value))

    def tanh(self) -> "Variable":
        y = np.tanh(self.value)
        return result("tanh", y, (self, lambda g: g * (1 - y * y)))

    def sigmoid(self) -> "Variable":
        y = np.exp(-np.logaddexp(0, -self.value))  # 1 / (1 + e^-x), but nothing overflows
        return result("sigmoid", y, (self, lambda g: g * y * (1 - y)))

    def relu(self) -> "Variable":
        y = np.maximum(self.value, 0)
        return result("relu", y, (self, lambda g: g * (y > 0)))

    def sum(self, axis: Axes = None, *, keepdims: bool = False) -> "Variable":
        back = lambda g: np.broadcast_to(_widened(g, axis, keepdims), self.shape)  # noqa: E731
        return result("sum", self.value.sum(axis, keepdims=keepdims), (self, back))

    def mean(self, axis: Axes = None, *, keepdims: bool = False) -> "Variable":
        y = self.value.mean(axis, keepdims=keepdims)
        share = y.size / self.value.size
        back = lambda g: np.broadcast_to(_widened(g, axis, keepdims) * share, self.shape)  # noqa: E731
        return result("mean", y, (self, back))

    def max(self, axis: Axes = None, *, keepdims: bool = False) -> "Variable":
        """The largest; where several are, they share the gradient."""
        best = self.value.max(axis, keepdims=True)
        ties = self.value == best
        back = lambda g: _widened(g, axis, keepdims) * ties / ties.sum(axis, keepdims=True)  # noqa: E731
        return result("max", best if keepdims else best.squeeze(axis), (self, back))

    def reshape(self, *shape: int) -> "Variable":
        return result("reshape", self.value.reshape(shape), (self, lambda g: g.reshape(self.shape)))

    def transpose(self, *axes: int) -> "Variable":
        """The axes in this order; in the opposite one where none is given."""
        order = axes or tuple(range(self.value.ndim))[::-1]
        return result("transpose", self.value.transpose(order), (self, lambda g: g.transpose(np.argsort(order))))

    def __getitem__(self, index: Any) -> "Variable":
        def back(g: Array) -> Array:
            whole = np.zeros_like(self.value)
            np.add.at(whole, index, g)  # adds up where an element was taken twice
            return whole

        return result("[]", self.value[index], (self, back))


def result(name: str, value: Any, *edges: tuple[Operand, Back]) -> Variable:
    """What an operation, also a new one of yours, returns: its value and the way back to each operand."""
    made = Variable(value, name)
    made.edges = tuple((operand, back) for operand, back in edges if isinstance(operand, Variable))
    return made


def raw(operand: Operand) -> Any:
    """The plain array or number."""
    return operand.value if isinstance(operand, Variable) else operand


def _product(left: Operand, right: Operand) -> Variable:
    """The matrix product of the last two axes, the others broadcast; a vector is a row on the left, a column right."""
    a, b = np.asarray(raw(left)), np.asarray(raw(right))
    A = a[None] if a.ndim == 1 else a
    B = b[:, None] if b.ndim == 1 else b

    def whole(g: Array) -> Array:  # with the axes that a vector's product lacks
        g = g[..., None] if b.ndim == 1 else g
        return g[..., None, :] if a.ndim == 1 else g

    def back_left(g: Array) -> Array:
        dA = whole(g) @ B.swapaxes(-1, -2)
        return dA[..., 0, :] if a.ndim == 1 else dA

    def back_right(g: Array) -> Array:
        dB = A.swapaxes(-1, -2) @ whole(g)
        return dB[..., 0] if b.ndim == 1 else dB

    return result("@", a @ b, (left, back_left), (right, back_right))


def _shrunk(g: Any, operand: Array) -> Array:
    """Broadcasting undone: the gradient summed over the axes along which the operand was repeated."""
    if g.shape != operand.shape:
        g = g.sum(tuple(range(g.ndim - operand.ndim)))
        g = g.sum(tuple(i for i, n in enumerate(operand.shape) if n != g.shape[i]), keepdims=True)
    return np.asarray(g, operand.dtype)


def _widened(g: Array, axis: Axes, keepdims: bool) -> Array:
    """A reduction's gradient with the axes of length one that the reduction took away."""
    return g if axis is None or keepdims else np.expand_dims(g, axis)
