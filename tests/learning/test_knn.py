"""k-nearest neighbours against scikit-learn, numbers by hand, and wrong versions that the same check rejects."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from vivace.base.errors import InputError
from vivace.learning import KNN


@parametrize_with_checks([KNN(), KNN(3, metric="cosine", weights="distance")])
def test_has_scikit_learns_manners(estimator: Any, check: Any) -> None:
    check(estimator)


def test_by_hand() -> None:
    model = KNN(3).fit([[0.0], [1.0], [4.0], [9.0]], ["a", "a", "b", "b"])
    distances, places = model.kneighbors([[5.0]])
    assert distances.tolist() == [[1, 4, 4]] and places.tolist() == [[2, 1, 3]]
    assert model.predict([[5.0], [0.4]]).tolist() == ["b", "a"]
    assert np.allclose(model.predict_proba([[5.0]]), [[1 / 3, 2 / 3]])
    weighted = KNN(3, weights="distance").fit(model.rows_, ["a", "a", "b", "b"])
    assert np.allclose(weighted.predict_proba([[5.0], [4.0]]), [[1 / 6, 5 / 6], [0, 1]])


SETTINGS = [(k, metric, weights) for k in (1, 4, 15) for metric in ("euclidean", "cosine")
            for weights in ("uniform", "distance")]  # fmt: skip


def agrees(make: type[KNN]) -> bool:
    """The same probabilities as scikit-learn's, in every setting, on two tables; ties at the k-th neighbour aside."""
    for X, y in (load_digits(return_X_y=True), load_iris(return_X_y=True)):
        rng = np.random.default_rng(0)
        X = X + 0.05 * rng.random(X.shape)
        order = rng.permutation(len(X))
        seen, new = order[::2], order[1::2]
        for k, metric, weights in SETTINGS:
            ours = make(k, metric=metric, weights=weights).fit(X[seen], y[seen])
            peer = KNeighborsClassifier(k, metric=metric, weights=weights, algorithm="brute").fit(X[seen], y[seen])
            if not np.allclose(ours.predict_proba(X[new]), peer.predict_proba(X[new]), atol=1e-6):
                return False
    return True


def test_agrees_with_scikit_learn() -> None:
    assert agrees(KNN)


class Farthest(KNN):
    def _nearest(self, X: Any, k: int) -> Any:
        return super()._nearest(-X, k)


class Unweighted(KNN):
    def predict_proba(self, X: Any) -> Any:
        self.weights = "uniform"
        return super().predict_proba(X)


class Squared(KNN):
    def kneighbors(self, X: Any) -> Any:
        distances, places = super().kneighbors(X)
        return np.square(distances), places


@pytest.mark.parametrize("mutant", [Farthest, Unweighted, Squared])
def test_rejects(mutant: type[KNN]) -> None:
    assert not agrees(mutant)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"n_neighbors": 0}, "n_neighbors is 0"), ({"n_neighbors": 1.5}, "1.5"), ({"metric": "l3"}, "no metric 'l3'")],
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        KNN(**settings).fit([[0.0], [1.0]], [0, 1])


def test_more_neighbours_than_rows() -> None:
    with pytest.raises(ValueError, match="n_neighbors = 5"):
        KNN(5).fit([[0.0], [1.0]], [0, 1]).predict([[0.0]])
