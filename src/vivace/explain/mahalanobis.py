"""Mahalanobis distance: how unlike known features one is, in units of how far they vary that way.

Mahalanobis, "On the generalized distance in statistics" (1936); for networks' features, by class: Lee, Lee, Lee, Shin,
"A simple unified framework for detecting out-of-distribution samples and adversarial attacks" (2018), eq. 1 and 2.
In: features (n, d) of known pictures, of classes or of one; features (m, d) to judge. Out: distances (m,), at least 0.
Departs from the paper: of one layer; the covariance is shrunk towards a multiple of the identity, by Ledoit and Wolf's
share (2004), since there are often fewer pictures than features; distances, not their negative squares.
"""

import numpy as np
from jaxtyping import Float, Int

from vivace.base.errors import InputError


class Mahalanobis:
    """Learns the classes' means and the covariance that they share; `score` is the distance to the nearest mean.

    shrinkage: the share of the identity's multiple in the covariance, in (0, 1]; 1 is Euclidean distance, scaled;
        None is Ledoit and Wolf's
    """

    def __init__(self, *, shrinkage: float | None = None) -> None:
        if shrinkage is not None and not 0 < shrinkage <= 1:
            raise InputError(f"shrinkage is {shrinkage}, but must be above 0 and at most 1")
        self.shrinkage = shrinkage

    def fit(self, X: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"] | None = None) -> "Mahalanobis":
        """Means and covariance of the known features; without labels all are of one class."""
        if len(X) < 2 or not np.isfinite(X).all():
            raise InputError(f"{len(X)} features; two at least are needed, without NaN or infinite numbers")
        found, y = np.unique(np.zeros(len(X)) if labels is None else labels, return_inverse=True)
        self.means_ = np.stack([X[y == c].mean(0) for c in range(len(found))])
        Z = X - self.means_[y]
        self.shrinkage_ = _ledoit_wolf(Z) if self.shrinkage is None else self.shrinkage
        mean_variance = np.square(Z).mean()
        if mean_variance == 0:
            raise InputError("the features of each class are all the same: there is no distance to measure by")
        # S = (1 - s) Z^T Z / n + s mu I = V diag(l) V^T + s mu I with few l above 0: no (d, d) matrix is needed
        _, singular, self._directions = np.linalg.svd(Z, full_matrices=False)
        self._rest = self.shrinkage_ * mean_variance
        self._along = (1 - self.shrinkage_) * singular**2 / len(Z) + self._rest
        if self._rest == 0:  # Ledoit and Wolf's share may be 0 where all pictures deviate alike
            raise InputError("these features leave no room for doubt; give a shrinkage above 0")
        return self

    def score(self, X: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " m"]:
        """sqrt((x - m)^T S^-1 (x - m)), for the nearest mean m."""
        return np.sqrt(np.min([self._squared(X - mean) for mean in self.means_], axis=0))

    def _squared(self, Z: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " m"]:
        along = Z @ self._directions.T
        across = np.maximum(np.square(Z).sum(1) - np.square(along).sum(1), 0)  # where known features don't vary at all
        return (np.square(along) / self._along).sum(1) + across / self._rest


def _ledoit_wolf(Z: Float[np.ndarray, "n d"]) -> float:
    """How far the single products z z^T are from their mean S, as a share of how far S is from mu I."""
    n, d = Z.shape
    G = Z @ Z.T if n < d else Z.T @ Z  # both have the same trace and the same sum of squares
    squared_S = np.square(G).sum() / n**2
    mu = np.trace(G) / (n * d)
    from_identity = squared_S - d * mu**2
    noise = (np.square(np.square(Z).sum(1)).sum() / n - squared_S) / n
    return float(np.clip(noise / from_identity, 0, 1)) if from_identity > 0 else 1.0
