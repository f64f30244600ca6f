"""k-nearest neighbours: a new row gets the class that most of the k rows nearest to it have.

Cover, Hart, "Nearest neighbor pattern classification" (1967), section II.
In: rows X (n, d) with a class each. Out: classes, and shares of the k votes, of other rows (m, d).
Departs from the paper: any k (there it is 1); the cosine as another distance; votes may be weighted by 1 / distance.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from vivace.base.errors import InputError
from vivace.base.nearest import smallest
from vivace.learning.matrix_multiplication import cosine_similarities, squared_distances

AT_A_TIME = 2**24  # distances held in memory at once


class KNN(ClassifierMixin, BaseEstimator):
    """k-nearest-neighbour classification with scikit-learn's manners; no training, the rows are the model.

    Of classes with as many votes the first wins. With weights "distance", a row at no distance decides alone.
    """

    def __init__(self, n_neighbors: Any = 5, *, metric: Any = "euclidean", weights: Any = "uniform") -> None:
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.weights = weights

    def fit(self, X: Any, y: Any) -> "KNN":
        """Remember array-likes X (n, d) and y (n,)."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        if not 1 <= self.n_neighbors == int(self.n_neighbors):
            raise InputError(f"n_neighbors is {self.n_neighbors}, but must be a whole number of at least 1")
        if self.metric not in ("euclidean", "cosine") or self.weights not in ("uniform", "distance"):
            raise InputError(f"no metric '{self.metric}' (euclidean, cosine) or weights '{self.weights}' (uniform, "
                             "distance)")  # fmt: skip
        self.classes_, self.labels_ = np.unique(y, return_inverse=True)
        self.rows_ = X
        return self

    def kneighbors(self, X: Any) -> tuple[Float[np.ndarray, "m k"], Int[np.ndarray, "m k"]]:
        """Distances and places of the k rows nearest to each of X, nearest first."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        k = int(self.n_neighbors)
        if k > len(self.rows_):
            raise ValueError(f"Expected n_neighbors <= n_samples_fit, but n_neighbors = {k}, "
                             f"n_samples_fit = {len(self.rows_)}, n_samples = {len(X)}")  # fmt: skip
        step = max(1, AT_A_TIME // len(self.rows_))
        parts = [self._nearest(X[i : i + step], k) for i in range(0, len(X), step)]
        distances, places = (np.concatenate(part) for part in zip(*parts, strict=True))
        return distances, places

    def predict_proba(self, X: Any) -> Float[np.ndarray, "m c"]:
        """The share of the votes for each class."""
        distances, places = self.kneighbors(X)
        votes = np.ones_like(distances)
        if self.weights == "distance":
            exact = distances == 0
            votes = np.where(exact.any(1, keepdims=True), exact, 1 / np.where(exact, 1, distances))
        shares = np.zeros((len(votes), len(self.classes_)))
        np.add.at(shares, (np.arange(len(votes))[:, None], self.labels_[places]), votes)
        return shares / shares.sum(1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The class with most votes."""
        shares = self.predict_proba(X)
        return self.classes_[shares.argmax(1)]

    def _nearest(self, X: Float[np.ndarray, "m d"], k: int
                 ) -> tuple[Float[np.ndarray, "m k"], Int[np.ndarray, "m k"]]:  # fmt: skip
        D = 1 - cosine_similarities(X, self.rows_) if self.metric == "cosine" else squared_distances(X, self.rows_)
        near, apart = smallest(D, k)
        return (apart if self.metric == "cosine" else np.sqrt(apart)), near
