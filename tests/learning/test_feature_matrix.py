"""The feature matrix against scikit-learn's ColumnTransformer, and by hand; houses and CSV files that feed it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from vivace.base.errors import InputError
from vivace.base.tables import houses, read_columns
from vivace.experiments.learning import (
    feature_matrix,
    regression_metrics,
    regression_report,
    scaling,
    time_series_split,
)
from vivace.learning.feature_matrix import FeatureMatrix

COLUMNS = houses(400).columns
TRAIN = {name: values[:200] for name, values in COLUMNS.items()}
TEST = {name: values[200:] for name, values in COLUMNS.items()}
Build = Callable[[Any, Any], np.ndarray]


def ours(train: Any, test: Any) -> np.ndarray:
    return FeatureMatrix().fit(train).transform(test)


def fitted_on_all_rows(train: Any, test: Any) -> np.ndarray:
    return ours({name: np.concatenate([train[name], test[name]]) for name in train}, test)


def with_means(train: Any, test: Any) -> np.ndarray:
    X = ours(train, test)
    X[np.isnan(test["bedrooms"]), 2] = np.nanmean(train["bedrooms"])
    return X


def numbered_categories(train: Any, test: Any) -> np.ndarray:
    """One column of 0, 1, 2, 3 for the text: an order that isn't there."""
    X = ours(train, test)
    return np.column_stack([X[:, :-4], X[:, -4:] @ np.arange(4)])


def agrees_with_scikit_learn(build: Build) -> bool:
    # the middle training value is made to differ from that of all rows, so that a leak shows
    train = TRAIN | {
        "bedrooms": np.where(np.arange(200) < 150, 2.0 + np.arange(200) // 140, np.nan),
        "situation": TRAIN["situation"].copy(),
    }
    train["situation"][train["situation"] == "desert"] = "valley"  # so that the test rows have a value not seen
    numbers = [name for name in COLUMNS if name != "situation"]
    imputer = SimpleImputer(strategy="median", add_indicator=True).fit(np.column_stack([train[n] for n in numbers]))
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(train["situation"][:, None])
    X = imputer.transform(np.column_stack([TEST[n] for n in numbers]))
    theirs = np.hstack([X, encoder.transform(TEST["situation"][:, None])])
    found = build(train, TEST)
    return found.shape == theirs.shape and np.allclose(found, theirs, rtol=0, atol=0)


def test_agrees_with_scikit_learn() -> None:
    assert agrees_with_scikit_learn(ours)


@pytest.mark.parametrize("mutant", [fitted_on_all_rows, with_means, numbered_categories])
def test_rejects(mutant: Build) -> None:
    assert not agrees_with_scikit_learn(mutant)


def test_three_rows_by_hand() -> None:
    table = {
        "size": np.array([1.0, np.nan, 4.0]),
        "town": np.array(["b", "a", "b"]),
        "new": np.array([True, False, True]),
    }
    model = FeatureMatrix().fit(table)
    assert model.names_ == ["size", "new", "size?", "town=a", "town=b"]
    assert model.transform(table).tolist() == [[1, 1, 0, 0, 1], [2.5, 0, 1, 1, 0], [4, 1, 0, 0, 1]]
    assert FeatureMatrix(mark_holes=False).fit(table).names_ == ["size", "new", "town=a", "town=b"]


def test_houses_are_as_documented() -> None:
    table = houses(20_000, seed=3)
    columns = table.columns
    assert all(len(values) == 20_000 for values in columns.values())
    assert np.median(columns["area"]) == pytest.approx(1500, rel=0.05)
    assert np.nanmedian(columns["bedrooms"]) == 3 and np.median(columns["age"]) == pytest.approx(10, abs=1)
    assert np.isnan(columns["bedrooms"]).mean() == pytest.approx(0.03, abs=0.005)
    assert set(columns["situation"]) == {"bay", "coast", "valley", "desert"}
    assert 20 < table.y.min() and table.y.max() < 5000
    assert np.corrcoef(columns["area"], table.y)[0, 1] > 0.4 > 0 > np.corrcoef(columns["coast"], table.y)[0, 1]
    assert np.array_equal(houses(9, seed=1).y, houses(9, seed=1).y)
    assert not np.array_equal(houses(9, seed=1).y, houses(9, seed=2).y)


def test_a_csv_of_ones_own_keeps_text_and_holes(tmp_path: Path) -> None:
    rows = [f"{i},{'' if i == 4 else i % 3},{'red' if i % 2 else ''},{i * i}" for i in range(12)]
    (tmp_path / "mine.csv").write_text("\n".join(["size,rooms,colour,price", *rows]))
    table = read_columns(tmp_path / "mine.csv", None)
    assert table.target == "price" and table.y[3] == 9 and np.isnan(table.columns["rooms"][4])
    assert FeatureMatrix().fit(table.columns).names_ == ["size", "rooms", "rooms?", "colour=", "colour=red"]
    with pytest.raises(InputError, match="target 'colour' is not a column of numbers"):
        read_columns(tmp_path / "mine.csv", "colour")
    with pytest.raises(InputError, match="no column named 'prise'; try price"):
        read_columns(tmp_path / "mine.csv", "prise")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: FeatureMatrix().fit({}), "columns of one length"),
        (lambda: FeatureMatrix().fit({"a": np.ones(3), "b": np.ones(2)}), "columns of one length"),
        (lambda: FeatureMatrix().fit({"a": np.full(3, np.nan)}), "'a' has no number"),
        (lambda: FeatureMatrix().fit({"a": np.array([1.0, np.inf])}), "'a' holds an infinite"),
        (lambda: FeatureMatrix().transform(TEST), "fit the feature matrix"),
        (lambda: FeatureMatrix().fit(TRAIN).transform({"area": np.ones(3)}), "no column rooms"),
        (lambda: FeatureMatrix().fit(TRAIN).transform(TEST | {"area": TEST["situation"]}), "is text now"),
        (lambda: FeatureMatrix().fit(TRAIN).transform(TEST | {"situation": TEST["area"]}), "is numbers now"),
    ],
)
def test_bad_input_is_named(wrong: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrong()


def test_a_table_with_nothing_that_varies_is_still_drawn(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("\n".join(["a,b,c", *(f"5,x,{i}" for i in range(30))]))
    assert feature_matrix.run(data=tmp_path / "mine.csv", rows=500).artefacts


@pytest.mark.parametrize(
    ("run", "rows", "message"),
    [
        (scaling.run, [f"{i},{i * i}" for i in range(13)], "13 rows; at least 14"),
        (scaling.run, [f"5,{i}" for i in range(30)], "no column beside the target 'b' that varies"),
        (scaling.run, [f"{i}e40,{i}" for i in range(30)], "beyond 3e38"),
        (regression_report.run, [f"{i},{i * i}" for i in range(14)], "14 rows; a report needs at least 15"),
        (regression_report.run, [f"{i}e40,{i}" for i in range(30)], "beyond 3e38"),
        (regression_metrics.run, [f"{i},{i * i}" for i in range(19)], "19 rows of 1 features; 20 rows"),
        (time_series_split.run, [f"{i},{i * i}" for i in range(59)], "59 rows; a series of at least 60"),
    ],
)
def test_a_table_that_is_too_small_or_too_large_is_said(run: Any, rows: list[str], message: str, tmp_path: Path
                                                        ) -> None:  # fmt: skip
    (tmp_path / "mine.csv").write_text("\n".join(["a,b", *rows]))
    with pytest.raises(InputError, match=message):
        run(data=tmp_path / "mine.csv")
