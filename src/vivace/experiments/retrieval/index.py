"""Experiment: exact and approximate search among the embeddings of places in photographs, or of your pictures."""

from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from torch import Tensor

from vivace.base.embedding_file import Embeddings, read_embeddings
from vivace.base.errors import InputError
from vivace.base.hooks import activations
from vivace.base.images import crop_center, read_image, resize
from vivace.base.parameters import FilePath, RunFolder, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore, part_of
from vivace.cnn import efficientnet_lite0
from vivace.experiments.embedded_pictures import query_square, sheet
from vivace.experiments.labelled_pictures import PHOTOGRAPHS
from vivace.experiments.parts import in_turn
from vivace.experiments.timing import exponent_of, quickest
from vivace.explain import embedding
from vivace.generative import PCA
from vivace.retrieval import ExactIndex, Found, InvertedFileIndex

QUICK = {"sides": 1, "rounds": 2}

SIDE = 384  # pixels of a photograph's square, the smallest size
STRIDE = 32  # pixels from one place to the next
AROUND = 96  # pixels shown around a place
QUERIES = 100
K = 10
DIMENSIONS = (1280, 512, 128, 32)
TIMES = 2  # by which a fortieth of the numbers must be quicker, at least, to be called faster
SHOWN = 6
ASKED = (
    ("grass", 5, 5),
    ("coins", 4, 6),
    ("coffee", 6, 6),
    ("chelsea", 5, 5),
)  # photograph, row and column of the place


class Place(NamedTuple):
    """A square of a photograph that a vector is of."""

    photograph: int
    picture: Float[Tensor, "3 h w"]


@checked
def run(*, embeddings: FilePath = None, image: Annotated[str | Path | None, "picture"] = None,
        sides: Annotated[int, Ge(1), Le(3)] = 2, rounds: Annotated[int, Ge(1), Le(20)] = 5, seed: Seed = 0,
        folder: RunFolder = None, tell: Tell = ignore) -> Report:  # fmt: skip
    """The nearest of many vectors: all compared, or only those in the cells around the query.

    vivace run index        10 s on one core; a tenth of the comparisons finds all of the ten true neighbours
    vivace run index --embeddings runs/embeddings/embeddings.safetensors --image me.jpg

    embeddings: a file of `vivace run embeddings` to search in, instead of places in shipped photographs
    image: with it, a picture to look for (its embedding must be made as the file's: EfficientNet-Lite0's last layer)
    sides: at how many sizes the photographs are looked at; each has more places than the one before
    rounds: how often each search is timed; the least time counts
    seed: which vectors are queries, and the cells' first centres
    """
    tell(Step(0, 10, "embedding places"))
    report = Report("", "An index keeps vectors under numbers: add, search, delete, save, load. The exact one compares "
                    "a query with all of them, $O(n d)$; the inverted file (faiss) with those in the cells whose "
                    "centres are nearest to it.")  # fmt: skip
    known = None if embeddings is None else read_embeddings(embeddings)
    yours = None if image is None else _looked_for(image, known, embeddings)
    vectors, places = _places(sides) if known is None else (known.vectors, [])
    if len(vectors) < 10 * K:
        raise InputError(f"{embeddings} has {len(vectors)} embeddings; {10 * K} are needed to compare searches")
    report.title = f"Searching {len(vectors):,} vectors of {vectors.shape[1]} numbers"
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))
    asking, searched = order[: min(QUERIES, len(order) // 5)], order[min(QUERIES, len(order) // 5) :].sort().values
    queries, among = vectors[asking], vectors[searched]
    parts = [("dimensions", partial(_dimensions, report, among, queries, rounds)),
             ("approximate", partial(_approximate, report, among, searched, queries, rounds, seed))]  # fmt: skip
    if known is None:
        parts.append(("places alike", partial(_sheet, report, vectors, places)))
    else:
        parts.append(("pictures alike", partial(_named, report, known, yours)))
    in_turn(parts, part_of(tell, 7, 10))
    if folder is not None:
        index = ExactIndex(vectors.shape[1])
        index.add(vectors, torch.arange(len(vectors)))
        index.save(folder / "index.safetensors")
        report.file("index", folder / "index.safetensors", "The exact index, for `vivace.retrieval.load_index`.")
    return report


@torch.no_grad()
def _places(sides: int) -> tuple[Float[Tensor, "n d"], list[Place]]:
    """What the last layer's maps hold at each place of ten photographs, at one to three sizes."""
    model, vectors, places = efficientnet_lite0(weights="imagenet"), [], []
    for number, name in enumerate(PHOTOGRAPHS):
        photograph = read_image(name)
        for size in [SIDE * n // 2 for n in (2, 3, 4)][:sides]:
            square = crop_center(resize(photograph, size), size)
            (maps,) = activations(model.eval(), square[None], ["head"])
            vectors.append(maps[0].flatten(1).T)  # (places, d)
            padded = F.pad(square[None], [AROUND // 2] * 4, mode="reflect")[0]
            for i in range(maps.shape[2]):
                for j in range(maps.shape[3]):
                    top, left = (STRIDE * p + STRIDE // 2 for p in (i, j))
                    places.append(Place(number, padded[:, top : top + AROUND, left : left + AROUND]))
    return torch.cat(vectors), places


def _dimensions(report: Report, among: Float[Tensor, "n d"], queries: Float[Tensor, "m d"], rounds: int) -> None:
    """Time of an exact search by how many of PCA's numbers the vectors have (5.6.c7)."""
    most = min(among.shape)
    pca = PCA(min(most, max(DIMENSIONS))).fit(among.double().numpy())
    codes = [torch.from_numpy(pca.transform(X.double().numpy())).float() for X in (among, queries)]
    widths = [r for r in DIMENSIONS if r <= codes[0].shape[1]]
    indexes = [_filled(ExactIndex(r), codes[0][:, :r]) for r in widths]
    times = quickest([partial(index.search, codes[1][:, : index.d].contiguous(), K) for index in indexes],
                     rounds=rounds)  # fmt: skip
    milliseconds = [1e3 * time / len(queries) for time in times]
    report.claim("5.6.c7", times[0] / times[-1], low=TIMES,
                 detail=f"processor time of an exact search with {widths[0]} numbers over that with {widths[-1]}; "
                 f"{len(among):,} vectors, {len(queries)} queries at once; time grows as d to the power "
                 f"{exponent_of(widths, times):.2f}")  # fmt: skip
    report.curve("dimensions", {"measured": (widths, milliseconds)}, x="numbers in a vector", y="ms a query",
                 caption="Time of an exact search. What doesn't shrink with the numbers is to select the ten smallest "
                 "distances.")  # fmt: skip


def _filled(index: ExactIndex, vectors: Float[Tensor, "n d"]) -> ExactIndex:
    index.add(vectors, torch.arange(len(vectors)))
    return index


def _approximate(report: Report, among: Float[Tensor, "n d"], ids: Int[Tensor, " n"], queries: Float[Tensor, "m d"],
                 rounds: int, seed: int) -> None:  # fmt: skip
    """The inverted file: how many of the true neighbours it finds, by how many vectors it compares (5.6.x5)."""
    exact, nearly = ExactIndex(among.shape[1]), InvertedFileIndex(among.shape[1], seed=seed)
    for index in (exact, nearly):
        index.add(among, ids)
    truth = exact.search(queries, K).ids
    cells = len(nearly.centers)
    probes = sorted({1, 2, 4, max(2, cells // 10), cells // 5, cells // 2, cells})
    rows, shares, recalls = [], [], []
    for nearly.probes in probes:
        recalls.append(_recall(nearly.search(queries, K), truth))
        shares.append(_compared(nearly, queries))
        rows.append((nearly.probes, f"{100 * shares[-1]:.0f}", f"{100 * recalls[-1]:.1f}"))
    nearly.probes = max(2, cells // 10)
    default = probes.index(nearly.probes)
    times = quickest([partial(index.search, queries, K) for index in (exact, nearly)], rounds=rounds)
    report.claim("5.6.x5", recalls[default], low=0.8,
                 detail=f"share of the true {K} nearest that the inverted file finds with {nearly.probes} of {cells} "
                 f"cells, comparing {100 * shares[default]:.0f} % of {len(among):,} vectors and all centres; time "
                 f"{times[1] / times[0]:.2f} of the exact search's")  # fmt: skip
    report.table("probes", ("cells looked into", "compared, %", f"of the true {K} found, %"), rows,
                 f"An inverted file of {cells} cells around k-means' centres: more cells, surer and slower. "
                 "Compared: vectors in these cells and the centres, over all vectors.")  # fmt: skip
    report.curve("recall", {"inverted file": ([100 * share for share in shares], [100 * r for r in recalls])},
                 x="vectors compared, %", y=f"true {K} nearest found, %",
                 caption="What is paid and what is found; at the right end every cell is looked into.")  # fmt: skip


def _compared(index: InvertedFileIndex, queries: Float[Tensor, "m d"]) -> float:
    """Vectors and centres that a query is compared with, over all vectors: counted, mean over queries."""
    _, cells = _nearest_cells(index, queries)
    sizes = torch.bincount(_nearest_cells(index, index.vectors, 1)[1].flatten(), minlength=len(index.centers))
    return float((sizes[cells].sum(1).double().mean() + len(index.centers)) / len(index))


def _nearest_cells(index: InvertedFileIndex, vectors: Float[Tensor, "m d"], probes: int | None = None
                   ) -> tuple[Float[Tensor, "m p"], Int[Tensor, "m p"]]:  # fmt: skip
    return tuple((F.normalize(vectors) @ index.centers.T).topk(probes or index.probes or 1))  # type: ignore[return-value]


def _recall(found: Found, truth: Int[Tensor, "m k"]) -> float:
    return (found.ids[:, :, None] == truth[:, None]).any(2).double().mean().item()


def _sheet(report: Report, vectors: Float[Tensor, "n d"], places: list[Place]) -> None:
    """Some places, and those in other photographs that are most alike."""
    index = ExactIndex(vectors.shape[1])
    index.add(vectors, torch.arange(len(vectors)))
    per_row = SIDE // STRIDE
    rows = []
    for name, i, j in ASKED:
        number = PHOTOGRAPHS.index(name)
        asking = next(p for p, place in enumerate(places) if place.photograph == number) + i * per_row + j
        found = index.search(vectors[asking][None], len(places))
        row = [(f"asks: {name}", places[asking].picture)]
        best: dict[int, tuple[int, float]] = {}
        for p, distance in zip(found.ids[0].tolist(), found.distances[0].tolist(), strict=True):
            if places[p].photograph != number:
                best.setdefault(places[p].photograph, (p, distance))
        for p, distance in list(best.values())[:SHOWN]:
            row.append((f"{PHOTOGRAPHS[places[p].photograph]}, {1 - distance:.2f}", places[p].picture))
        rows.append(row)
    report.figure("alike", sheet(rows), "In each row a place of a photograph (framed), then the nearest place of each "
                  "other one, with the cosine.")  # fmt: skip


def _looked_for(image: str | Path, known: Embeddings | None, source: str | Path | None) -> Float[Tensor, "3 s s"]:
    """The picture as the network is to see it; read before the work, so that what is wrong is said at once."""
    if known is None:
        read_image(image)
        raise InputError("a picture is looked for in a file of embeddings: give --embeddings, too")
    made = known.about.get("network"), known.about.get("layer")
    if made != ("efficientnet_lite0", ""):
        raise InputError(f"{source} was made with {' '.join(map(str, made))}; a picture can only be looked for "
                         "in a file of efficientnet_lite0's last layer")  # fmt: skip
    return query_square(image, int(known.about["side"]))


def _named(report: Report, known: Embeddings, yours: Float[Tensor, "3 s s"] | None) -> None:
    """The names of the pictures nearest to one of yours, or to the first in the file."""
    index = ExactIndex(known.vectors.shape[1])
    index.add(known.vectors, torch.arange(len(known.names)))
    query = known.vectors[:1]
    if yours is not None:
        query = embedding(efficientnet_lite0(weights="imagenet"), yours[None])
        report.images("asked", {"looked for": yours}, "The picture that is looked for, as the network sees it.")
    found = index.search(query, 2 * K)
    rows = [(known.names[i], known.classes[int(known.labels[i])], f"{1 - distance:.3f}")
            for i, distance in zip(found.ids[0].tolist(), found.distances[0].tolist(), strict=True)
            if i >= 0]  # fmt: skip
    report.table("nearest", ("picture", "class", "cosine"), rows, "The pictures most alike, the nearest first.")
