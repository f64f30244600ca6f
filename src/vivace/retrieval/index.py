"""Index: vectors by number, and which of them are nearest to a new one, exactly or nearly.

Exact search is a product and a selection. The approximate one is the inverted file of Jégou, Douze, Schmid, "Product
quantization for nearest neighbor search" (2011), section IV, in faiss (Douze et al., "The Faiss library", 2024): cells
around k-means' centres, of which a query looks into those nearest to it alone.
In: vectors (n, d), finite, and a whole number for each. Out: for queries (m, d) the numbers and distances (m, k).
Departs from the paper: vectors are kept whole, not quantised; cosines are inner products of vectors of length 1.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vivace.base.errors import InputError, unknown
from vivace.base.tensor_file import read_tensors, write_tensors

Metric = Literal["cosine", "euclidean"]
AT_A_TIME = 2**24  # distances held in memory at once


class Found(NamedTuple):
    """The nearest vectors of each query, nearest first; where there are fewer than k, number -1 at distance inf."""

    ids: Int[Tensor, "m k"]
    distances: Float[Tensor, "m k"]  # 1 - cosine, or Euclid's


class Index(Protocol):
    """What every index can do, whatever is behind it."""

    metric: Metric

    def __len__(self) -> int: ...

    def add(self, vectors: Float[Tensor, "n d"], ids: Int[Tensor, " _"]) -> None:
        """Take in vectors under numbers of yours, which must be new."""

    def search(self, queries: Float[Tensor, "m d"], k: int = 10) -> Found:
        """The k vectors nearest to each query."""

    def delete(self, ids: Int[Tensor, " n"]) -> int:
        """Forget the vectors of these numbers; how many there were."""

    def save(self, path: str | Path) -> None:
        """Write all of it as one safetensors file, whole or not at all."""

    @classmethod
    def load(cls, path: str | Path) -> "Index":
        """Read what `save` wrote."""


class ExactIndex:
    """Every vector is compared: no training, nothing missed, time in proportion to n d."""

    def __init__(self, d: int, *, metric: Metric = "cosine") -> None:
        self.d, self.metric = d, metric
        self.vectors, self.ids = torch.empty(0, d), torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, vectors: Float[Tensor, "n d"], ids: Int[Tensor, " _"]) -> None:
        vectors = _prepared(vectors, self.d, self.metric)
        _check_new(ids, len(vectors), self.ids)
        self.vectors, self.ids = torch.cat([self.vectors, vectors]), torch.cat([self.ids, ids.cpu()])

    def search(self, queries: Float[Tensor, "m d"], k: int = 10) -> Found:
        queries = _prepared(queries, self.d, self.metric)
        _check_k(k)
        parts = [self._nearest(some, min(k, len(self))) for some in queries.split(max(1, AT_A_TIME // (len(self) + 1)))]
        return _filled(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]), k)

    def _nearest(self, queries: Float[Tensor, "m d"], k: int) -> tuple[Int[Tensor, "m k"], Float[Tensor, "m k"]]:
        if self.metric == "cosine":
            cosines, places = (queries @ self.vectors.T).topk(k)
            return self.ids[places], 1 - cosines
        distances = torch.cdist(queries, self.vectors)
        near, places = distances.topk(k, largest=False)
        return self.ids[places], near

    def delete(self, ids: Int[Tensor, " n"]) -> int:
        kept = ~torch.isin(self.ids, ids.cpu())
        gone = len(self) - int(kept.sum())
        self.vectors, self.ids = self.vectors[kept], self.ids[kept]
        return gone

    def save(self, path: str | Path) -> None:
        about = {"kind": "exact", "metric": self.metric}
        write_tensors(path, {"vectors": self.vectors, "ids": self.ids}, about)

    @classmethod
    def load(cls, path: str | Path) -> "ExactIndex":
        tensors, about = _read(path, "exact")
        index = cls(tensors["vectors"].shape[1], metric=_metric(about))
        index.vectors, index.ids = tensors["vectors"], tensors["ids"]
        return index


class InvertedFileIndex:
    """Vectors in `cells` around centres; a query is compared with those in the `probes` cells nearest to it.

    The centres come from the first vectors that are added, by k-means; at least as many vectors as cells. By default
    there are about sqrt(n) cells, of which a tenth, and two at least, are looked into. More probes: slower, surer;
    `probes` may be changed at any time.
    """

    def __init__(self, d: int, *, metric: Metric = "cosine", cells: int | None = None, probes: int | None = None,
                 seed: int = 0) -> None:  # fmt: skip
        self.d, self.metric, self.cells, self.probes, self.seed = d, metric, cells, probes, seed
        self._faiss: Any = None

    def __len__(self) -> int:
        return 0 if self._faiss is None else int(self._faiss.ntotal)

    @property
    def centers(self) -> Float[Tensor, "c d"]:
        """The cells' centres."""
        return torch.from_numpy(self._faiss.quantizer.reconstruct_n(0, self._faiss.nlist))

    def add(self, vectors: Float[Tensor, "n d"], ids: Int[Tensor, " _"]) -> None:
        vectors = _prepared(vectors, self.d, self.metric)
        _check_new(ids, len(vectors), self.ids)
        if self._faiss is None:
            cells = self.cells or max(1, round(len(vectors) ** 0.5))
            if len(vectors) < cells:
                raise InputError(f"{cells} cells need as many vectors to begin with; {len(vectors)} were given")
            self._faiss = self._empty(cells, None)
            self._faiss.train(vectors.numpy())
        self._faiss.add_with_ids(vectors.numpy(), ids.cpu().numpy())

    def search(self, queries: Float[Tensor, "m d"], k: int = 10) -> Found:
        queries = _prepared(queries, self.d, self.metric)
        _check_k(k)
        if not len(self):
            return _filled(torch.empty(len(queries), 0, dtype=torch.int64), torch.empty(len(queries), 0), k)
        self._faiss.nprobe = self.probes or max(2, self._faiss.nlist // 10)
        scores, ids = (torch.from_numpy(part) for part in self._faiss.search(queries.numpy(), k))
        near = 1 - scores if self.metric == "cosine" else scores.clamp_min(0).sqrt()
        return Found(ids, near.masked_fill(ids < 0, torch.inf))

    def delete(self, ids: Int[Tensor, " n"]) -> int:
        return 0 if self._faiss is None else int(self._faiss.remove_ids(ids.cpu().numpy()))

    @property
    def ids(self) -> Int[Tensor, " n"]:
        """The numbers of all vectors, cell by cell."""
        return self._contents()[1]

    @property
    def vectors(self) -> Float[Tensor, "n d"]:
        """The vectors themselves, in the same order."""
        return self._contents()[0]

    def save(self, path: str | Path) -> None:
        if self._faiss is None:
            raise InputError("there is nothing to save: no vector was added")
        vectors, ids = self._contents()
        about = {"kind": "inverted file", "metric": self.metric, "probes": json.dumps(self.probes)}
        write_tensors(path, {"vectors": vectors, "ids": ids, "centers": self.centers}, about)

    @classmethod
    def load(cls, path: str | Path) -> "InvertedFileIndex":
        tensors, about = _read(path, "inverted file")
        cells, d = tensors["centers"].shape
        index = cls(d, metric=_metric(about), cells=cells, probes=json.loads(about.get("probes", "null")))
        index._faiss = index._empty(cells, tensors["centers"])
        index._faiss.add_with_ids(tensors["vectors"].numpy(), tensors["ids"].numpy())
        return index

    def _empty(self, cells: int, centers: Float[Tensor, "c d"] | None) -> Any:
        """faiss's inverted file with nothing in it, with these centres or still to be trained."""
        import faiss

        inner = self.metric == "cosine"
        quantizer = faiss.IndexFlatIP(self.d) if inner else faiss.IndexFlatL2(self.d)
        if centers is not None:
            quantizer.add(centers.numpy())
        kind = faiss.METRIC_INNER_PRODUCT if inner else faiss.METRIC_L2
        index = faiss.IndexIVFFlat(quantizer, self.d, cells, kind)  # with all its centres there it counts as trained
        index.cp.seed, index.cp.min_points_per_centroid, index.cp.spherical = self.seed, 1, inner
        return index

    def _contents(self) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"]]:
        """Copies of all vectors and their numbers, cell by cell."""
        import faiss

        vectors, ids = [torch.empty(0, self.d)], [torch.empty(0, dtype=torch.int64)]
        for cell in range(self._faiss.nlist if self._faiss is not None else 0):
            lists = self._faiss.invlists
            n = lists.list_size(cell)
            if n:
                bytes_ = faiss.rev_swig_ptr(lists.get_codes(cell), n * self.d * 4)
                vectors.append(torch.from_numpy(bytes_.copy().view(np.float32).reshape(n, self.d)))
                ids.append(torch.from_numpy(faiss.rev_swig_ptr(lists.get_ids(cell), n).copy()))
        return torch.cat(vectors), torch.cat(ids)


def load_index(path: str | Path) -> ExactIndex | InvertedFileIndex:
    """The index that `save` wrote, of either kind."""
    kind = _read(path, None)[1].get("kind")
    return ExactIndex.load(path) if kind == "exact" else InvertedFileIndex.load(path)


def _prepared(vectors: Float[Tensor, "n d"], d: int, metric: Metric) -> Float[Tensor, "n d"]:
    """float32 on the CPU, of length 1 for cosines; InputError for another width, NaN, or no direction."""
    if metric not in get_args(Metric):
        raise unknown("metric", metric, get_args(Metric))
    if vectors.shape[1] != d:
        raise InputError(f"vectors of {vectors.shape[1]} numbers in an index of {d}")
    vectors = vectors.detach().float().cpu().contiguous()
    if not bool(torch.isfinite(vectors).all()):
        raise InputError("a vector has NaN or infinite numbers")
    return F.normalize(vectors) if metric == "cosine" else vectors


def _check_new(ids: Int[Tensor, " n"], count: int, known: Int[Tensor, " m"]) -> None:
    if len(ids) != count:
        raise InputError(f"{count} vectors and {len(ids)} numbers: one for each")
    if len(ids) and int(ids.min()) < 0:
        raise InputError(f"a vector's number is at least 0; got {int(ids.min())}")
    if len(ids.unique()) < len(ids) or bool(torch.isin(ids.cpu(), known).any()):
        raise InputError("a vector's number must be new: delete the old vector first")


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError(f"k is {k}, but at least one neighbour must be asked for")


def _filled(ids: Int[Tensor, "m n"], distances: Float[Tensor, "m n"], k: int) -> Found:
    """With -1 and infinity where there are fewer than k."""
    lacking = k - ids.shape[1]
    return Found(F.pad(ids, [0, lacking], value=-1), F.pad(distances, [0, lacking], value=torch.inf))


def _read(path: str | Path, kind: str | None) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, about = read_tensors(path)
    if about.get("kind", "") not in ("exact", "inverted file") or not {"vectors", "ids"} <= set(tensors):
        raise InputError(f"{path} holds no index that `save` wrote")
    if kind is not None and about["kind"] != kind:
        raise InputError(f"{path} holds an index of the kind '{about['kind']}', not '{kind}'")
    return tensors, about


def _metric(about: dict[str, str]) -> Metric:
    return "euclidean" if about.get("metric") == "euclidean" else "cosine"
