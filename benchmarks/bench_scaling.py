"""Scaling, splits and metrics: ours against scikit-learn's."""

from collections.abc import Iterator

import numpy as np
from sklearn import metrics as sklearn_metrics
from sklearn import preprocessing
from threadpoolctl import threadpool_limits

from harness import Row, compare
from vivace.learning import metrics
from vivace.learning.scaling import MinMaxScaler, StandardScaler


def rows() -> Iterator[Row]:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(100_000, 64)) * np.geomspace(0.01, 1e4, 64) + generator.normal(size=64)
    y, predicted = generator.normal(size=(2, 1_000_000))
    labels, said = generator.integers(0, 10, (2, 1_000_000))
    with threadpool_limits(1):
        for name, ours, theirs in (
            ("standardisation", StandardScaler, preprocessing.StandardScaler),
            ("min-max scaling", MinMaxScaler, preprocessing.MinMaxScaler),
        ):
            yield compare(
                f"{name}, fit and transform, 100,000 rows of 64 features",
                lambda ours=ours: ours().fit_transform(X), lambda theirs=theirs: theirs().fit_transform(X),
                peer_name="scikit-learn", agree=apart,
            )  # fmt: skip
        for name, given in (("r2_score", (y, predicted)), ("confusion_matrix", (labels, said))):
            yield compare(
                f"`{name}` of 1,000,000 rows",
                lambda name=name, given=given: getattr(metrics, name)(*given),
                lambda name=name, given=given: getattr(sklearn_metrics, name)(*given),
                peer_name="scikit-learn", agree=apart,
            )  # fmt: skip


def apart(ours: np.ndarray, theirs: np.ndarray) -> str:
    return f"max difference {np.abs(ours - theirs).max():.0e}"
