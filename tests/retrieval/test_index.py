"""Indexes against scikit-learn and each other; what every index must do; and wrong ones that the same check rejects."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from vivace.base.errors import InputError
from vivace.retrieval import ExactIndex, Found, Index, InvertedFileIndex, load_index

D = 8


def vectors(n: int = 300, seed: int = 0) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed)) + 1


def every_cell(d: int, *, metric: Any = "cosine") -> InvertedFileIndex:
    """An inverted file that looks into all of its cells is exact."""
    return InvertedFileIndex(d, metric=metric, cells=12, probes=12)


EXACT = [ExactIndex, every_cell]


def check(make: Any) -> None:
    """Numbers and distances of scikit-learn's brute force, for both metrics, under numbers that are not places."""
    X, queries = vectors(), vectors(40, seed=1)
    ids = 1000 - 3 * torch.arange(len(X))
    for metric in ("cosine", "euclidean"):
        index: Index = make(D, metric=metric)
        index.add(X[:200], ids[:200])
        index.add(X[200:], ids[200:])
        assert len(index) == 300
        found = index.search(queries, 7)
        peer = NearestNeighbors(n_neighbors=7, metric=metric, algorithm="brute").fit(X.numpy())
        distances, places = peer.kneighbors(queries.numpy())
        assert np.array_equal(found.ids, ids[places])
        assert np.allclose(found.distances, distances, atol=2e-6)


@pytest.mark.parametrize("make", EXACT)
def test_finds_what_scikit_learn_finds(make: Any) -> None:
    check(make)


class Places(ExactIndex):
    def search(self, queries: Tensor, k: int = 10) -> Found:
        found = super().search(queries, k)
        return Found((1000 - found.ids) // 3, found.distances)


class InnerProducts(ExactIndex):
    """Long vectors win: not cosines."""

    def add(self, vectors: Tensor, ids: Tensor) -> None:
        self.vectors, self.ids = torch.cat([self.vectors, vectors]), torch.cat([self.ids, ids])


class Farthest(ExactIndex):
    def search(self, queries: Tensor, k: int = 10) -> Found:
        return super().search(-queries, k)


class SquaredDistances(ExactIndex):
    def search(self, queries: Tensor, k: int = 10) -> Found:
        ids, distances = super().search(queries, k)
        return Found(ids, distances.square() if self.metric == "euclidean" else distances)


class OneProbe(InvertedFileIndex):
    def __init__(self, d: int, *, metric: Any = "cosine") -> None:
        super().__init__(d, metric=metric, cells=12, probes=1)


@pytest.mark.parametrize("mutant", [Places, InnerProducts, Farthest, SquaredDistances, OneProbe])
def test_rejects(mutant: Any) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


@pytest.mark.parametrize("make", EXACT)
def test_what_is_deleted_is_not_found_and_its_number_is_free(make: Any) -> None:
    X = vectors()
    index = make(D)
    index.add(X, torch.arange(300))
    assert index.search(X[7:8], 1).ids.tolist() == [[7]]
    assert index.delete(torch.tensor([7, 8, 5000])) == 2 and len(index) == 298
    assert 7 not in index.search(X[7:8], 298).ids
    index.add(X[7:8], torch.tensor([7]))
    assert index.search(X[7:8], 1).ids.tolist() == [[7]]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("kind", [ExactIndex, InvertedFileIndex])
def test_saved_and_loaded_it_finds_the_same(tmp_path: Path, kind: Any, metric: Any) -> None:
    index, queries = kind(D, metric=metric), vectors(30, seed=2)
    index.add(vectors(), torch.arange(300))
    index.delete(torch.arange(0, 300, 7))
    index.save(tmp_path / "i.safetensors")
    again = load_index(tmp_path / "i.safetensors")
    assert type(again) is kind and again.metric == metric and len(again) == len(index)
    before, after = index.search(queries, 5), again.search(queries, 5)
    assert torch.equal(before.ids, after.ids) and torch.allclose(before.distances, after.distances, atol=1e-6)
    again.add(vectors(10, seed=3), torch.arange(1000, 1010))
    assert len(again) == len(index) + 10


def test_more_probes_find_more() -> None:
    X, queries = vectors(2000), vectors(100, seed=4)
    exact, nearly = ExactIndex(D), InvertedFileIndex(D, cells=40)
    for index in (exact, nearly):
        index.add(X, torch.arange(2000))
    truth = exact.search(queries).ids
    recalls = []
    for nearly.probes in (1, 4, 12, 40):
        found = nearly.search(queries).ids
        recalls.append((found[:, :, None] == truth[:, None]).any(2).double().mean().item())
    assert recalls == sorted(recalls) and recalls[0] < 0.9 and recalls[-1] == 1


@pytest.mark.parametrize("make", [*EXACT, InvertedFileIndex])
def test_fewer_than_k(make: Any) -> None:
    index = make(D, metric="euclidean")
    assert index.search(vectors(2), 3).ids.tolist() == [[-1] * 3] * 2
    index.add(vectors(20), torch.arange(20))
    found = index.search(vectors(2), 25)
    assert found.ids.shape == (2, 25) and (found.ids[:, 20:] == -1).all() and found.distances[:, -1].isinf().all()
    assert index.delete(torch.arange(20)) == 20 and not len(index)
    assert index.search(vectors(1), 2).distances.isinf().all()


@pytest.mark.parametrize("make", EXACT)
def test_bad_input(make: Any, tmp_path: Path) -> None:
    index = make(D)
    index.add(vectors(20), torch.arange(20))
    for bad, ids, words in (
        (vectors(1)[:, :4], [30], "vectors of 4 numbers in an index of 8"),
        (vectors(2), [30], "2 vectors and 1 numbers"),
        (vectors(1), [3], "must be new"),
        (vectors(2), [40, 40], "must be new"),
        (vectors(1), [-2], "at least 0"),
        (vectors(1) * torch.nan, [30], "NaN"),
    ):
        with pytest.raises(InputError, match=words):
            index.add(bad, torch.tensor(ids))
    with pytest.raises(InputError, match="k is 0"):
        index.search(vectors(1), 0)
    assert len(index) == 20


def test_too_few_vectors_to_begin_with_and_nothing_to_save(tmp_path: Path) -> None:
    index = InvertedFileIndex(D, cells=50)
    with pytest.raises(InputError, match="50 cells need as many vectors"):
        index.add(vectors(10), torch.arange(10))
    with pytest.raises(InputError, match="nothing to save"):
        index.save(tmp_path / "i.safetensors")


@pytest.mark.parametrize(("content", "words"), [(None, "no file"), (b"x" * 50, "not a safetensors file")])
def test_what_is_no_index(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "i.safetensors"
    if content:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        load_index(path)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    index = ExactIndex(D)
    index.add(vectors(5), torch.arange(5))
    index.save(tmp_path / "i.safetensors")
    with pytest.raises(InputError, match="of the kind 'exact', not 'inverted file'"):
        InvertedFileIndex.load(tmp_path / "i.safetensors")
    save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="no index that `save` wrote"):
        load_index(tmp_path / "w.safetensors")
