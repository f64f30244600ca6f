"""The losses of linear models, row by row, on real data: what the experiments on descent go down."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vivace.base.data import digits
from vivace.base.tables import Table
from vivace.experiments.least_squares import standard

ROWS = 2000  # of a table at most


@dataclass(frozen=True)
class LeastSquares:
    """Standardised features and target, and the weights that fit them best."""

    A: Float[Tensor, "n d"]
    b: Float[Tensor, " n"]
    best: Float[Tensor, " d"]

    @classmethod
    def of(cls, table: Table) -> "LeastSquares":
        """A table's first rows; every column has mean 0 and variance 1."""
        return cls.fitted(*(torch.from_numpy(standard(values[:ROWS])) for values in (table.X, table.y)))

    @classmethod
    def fitted(cls, A: Float[Tensor, "n d"], b: Float[Tensor, " n"]) -> "LeastSquares":
        return cls(A, b, torch.linalg.lstsq(A, b, driver="gelsd").solution)

    @property
    def start(self) -> Float[Tensor, " d"]:
        return torch.zeros_like(self.best)

    @property
    def curvature(self) -> float:
        """L, the largest eigenvalue of the mean squared error's Hessian."""
        return 2 / len(self.b) * torch.linalg.matrix_norm(self.A, 2).item() ** 2

    def loss(self, w: Float[Tensor, "*t d"]) -> Float[Tensor, "*t"]:
        """The mean squared error."""
        return (w @ self.A.T - self.b).square().mean(-1)

    def excess(self, w: Float[Tensor, "*t d"]) -> Float[Tensor, "*t"]:
        """The mean squared error above its minimum, without rounding's floor."""
        return ((w - self.best) @ self.A.T).square().mean(-1)

    def missing(self, w: Float[Tensor, " d"]) -> float:
        """The share of the way down from w = 0 that is still to go."""
        return (self.excess(w) / self.excess(self.start)).item()


def squared(w: Float[Tensor, "*k d"], x: Float[Tensor, "b d"], y: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Each row's squared error; of k weights that are descended at once, the sum."""
    errors = (w @ x.T - y).square()
    return errors if w.ndim == 1 else errors.sum(0)


def cross_entropy(W: Float[Tensor, "p k"], x: Float[Tensor, "b p"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Each picture's loss in softmax regression."""
    return F.cross_entropy(x @ W, labels, reduction="none")


def digit_rows() -> tuple[Float[Tensor, "n 65"], Int[Tensor, " n"]]:
    """The training digits' 64 pixels and a one for the intercept, and the labels."""
    images, labels, _ = digits("train")
    return torch.cat([images.flatten(1), torch.ones(len(labels), 1)], dim=1), labels
