"""Zero-shot learning: naming classes of which no picture was seen, by attributes that they share with those seen.

Direct attribute prediction: Lampert, Nickisch, Harmeling, "Learning to detect unseen object classes by between-class
attribute transfer" (2009), section 2.1, eq. 1 to 3. ESZSL: Romera-Paredes, Torr, "An embarrassingly simple approach to
zero-shot learning" (2015), eq. 4 and 5.
In: embeddings (n, d), classes (n,), attributes (k, a) of these classes, (z, a) of new ones. Out: scores (m, z).
Departs from the paper: DAP's attribute classifiers are logistic regressions (there: SVMs with a sigmoid) on z-scores;
attributes are taken as 1 above 0.5, and a probability at least 1e-6 from 0 and 1; ESZSL centres and scales features,
and centres attributes on the seen classes' mean.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vivace.base.errors import InputError

SURE = 1e-6


class DirectAttributePrediction:
    """One classifier an attribute; a new class is as likely as its attributes are, each over how common it was.

    `penalty`: on the square of the classifiers' weights, for each picture.
    """

    def __init__(self, *, penalty: float = 1e-2) -> None:
        self.penalty = penalty

    def fit(self, X: Float[Tensor, "n d"], labels: Int[Tensor, " _"], attributes: Float[Tensor, "k a"]
            ) -> "DirectAttributePrediction":  # fmt: skip
        """Learn the attributes from pictures of the seen classes; `attributes` has a row for each label."""
        _check(X, labels, attributes)
        self.scale_ = _Scale(X)
        wanted = (attributes > 0.5).to(X)
        self.prior_ = wanted[labels.unique()].mean(0).clamp(SURE, 1 - SURE)  # p(a): the share of the seen classes
        self.W_, self.b_ = _logistic(self.scale_(X), wanted[labels], self.penalty)
        return self

    def attribute_probabilities(self, X: Float[Tensor, "m d"]) -> Float[Tensor, "m a"]:
        """p(a | x)."""
        return torch.sigmoid(self.scale_(X) @ self.W_ + self.b_)

    def scores(self, X: Float[Tensor, "m d"], attributes: Float[Tensor, "z a"]) -> Float[Tensor, "m z"]:
        """log of eq. 3, the product over attributes of p(a_z | x) / p(a_z); the largest is the answer."""
        _same_width(attributes, len(self.prior_))
        p, has = self.attribute_probabilities(X).clamp(SURE, 1 - SURE), (attributes > 0.5).to(X)
        evidence, counter = (p / self.prior_).log(), ((1 - p) / (1 - self.prior_)).log()
        return evidence @ has.T + counter @ (1 - has).T


class ESZSL:
    """One matrix V between features and attributes, in closed form: score(x, z) = x V s_z.

    V = (X^T X + gamma I)^-1 X^T Y S (S^T S + lam I)^-1 with Y in {-1, 1} (n, k); both penalties are for each picture
    and each class.
    """

    def __init__(self, *, gamma: float = 0.1, lam: float = 0.1) -> None:
        self.gamma, self.lam = gamma, lam

    def fit(self, X: Float[Tensor, "n d"], labels: Int[Tensor, " _"], attributes: Float[Tensor, "k a"]) -> "ESZSL":
        """Learn V from pictures of the seen classes; `attributes` has a row for each label, seen or not."""
        _check(X, labels, attributes)
        self.scale_, (n, d) = _Scale(X), X.shape
        seen, place = labels.unique(return_inverse=True)
        self.mean_ = attributes[seen].mean(0)
        S, Z = attributes[seen] - self.mean_, self.scale_(X)
        Y = 2 * F.one_hot(place, len(seen)).to(X) - 1
        left = Z.T @ Z + self.gamma * n * torch.eye(d).to(X)
        right = S.T @ S + self.lam * len(seen) * torch.eye(S.shape[1]).to(X)
        self.V_ = torch.linalg.solve(right, torch.linalg.solve(left, Z.T @ Y @ S).T).T  # (d, a)
        return self

    def scores(self, X: Float[Tensor, "m d"], attributes: Float[Tensor, "z a"]) -> Float[Tensor, "m z"]:
        """How well each picture goes with each description; the largest is the answer."""
        _same_width(attributes, self.V_.shape[1])
        return self.scale_(X) @ self.V_ @ (attributes - self.mean_).T


class _Scale:
    """Features to mean 0 and variance 1, as they were in training."""

    def __init__(self, X: Float[Tensor, "n d"]) -> None:
        self.mean, self.std = X.mean(0), X.std(0, correction=0).clamp_min(1e-6)

    def __call__(self, X: Float[Tensor, "m d"]) -> Float[Tensor, "m d"]:
        return (X - self.mean) / self.std


@torch.enable_grad()
def _logistic(X: Float[Tensor, "n d"], Y: Float[Tensor, "n a"], penalty: float
              ) -> tuple[Float[Tensor, "d a"], Float[Tensor, " a"]]:  # fmt: skip
    """All attributes' logistic regressions at once: they share no weight, so the sum of their losses is one problem."""
    W = torch.zeros(X.shape[1], Y.shape[1]).to(X).requires_grad_()
    b = torch.zeros(Y.shape[1]).to(X).requires_grad_()
    optimizer = torch.optim.LBFGS([W, b], max_iter=200, tolerance_change=1e-9, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        fit = F.binary_cross_entropy_with_logits(X @ W + b, Y, reduction="none").mean(0).sum()
        value = fit + penalty / 2 * W.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return W.detach(), b.detach()


def _check(X: Tensor, labels: Tensor, attributes: Tensor) -> None:
    if len(X) != len(labels) or not len(X):
        raise InputError(f"{len(X)} embeddings and {len(labels)} labels: one label for each, at least one")
    if int(labels.min()) < 0 or int(labels.max()) >= len(attributes):
        raise InputError(f"labels run to {int(labels.max())}, but only {len(attributes)} classes have attributes")
    if len(labels.unique()) < 2:
        raise InputError("attributes are learnt by comparing classes: two or more must be seen")


def _same_width(attributes: Tensor, width: int) -> None:
    if attributes.shape[1] != width:
        raise InputError(f"{attributes.shape[1]} attributes, but {width} were learnt: they must be the same ones")
