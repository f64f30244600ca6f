"""Embeddings by EfficientNet-Lite0 against a plain loop; searches against faiss and scikit-learn."""

from collections.abc import Iterator

import faiss
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from harness import Row, compare
from vivace.cnn import efficientnet_lite0, for_inference
from vivace.explain import embeddings
from vivace.retrieval import ExactIndex, InvertedFileIndex


def rows() -> Iterator[Row]:
    model = efficientnet_lite0(weights="imagenet")
    images = torch.rand(100, 3, 96, 96, generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def plain() -> Tensor:
        return torch.cat([model.features(batch).mean((2, 3)) for batch in images.split(50)])

    what, peer = "embeddings of 100 pictures at 96 px", "plain torch loop"
    yield compare(what, lambda: embeddings(model, images), plain, peer_name=peer, repeats=7, agree=apart)
    folded = for_inference(model, (3, 96, 96))
    yield compare(f"{what}, folded", lambda: embeddings(folded, images), plain, peer_name=peer, repeats=7, agree=apart)
    yield from searches()


def searches() -> Iterator[Row]:
    faiss.omp_set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(100, 128, generator=generator)
    X = centers[torch.randint(100, (20_000,), generator=generator)] + torch.randn(20_000, 128, generator=generator)
    X = torch.nn.functional.normalize(X)
    queries = X[:200]
    exact, nearly, flat = ExactIndex(128), InvertedFileIndex(128), faiss.IndexFlatIP(128)
    for index in (exact, nearly):
        index.add(X, torch.arange(len(X)))
    flat.add(X.numpy())
    peer = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(X.numpy())

    def by_faiss() -> Tensor:
        return torch.from_numpy(flat.search(queries.numpy(), 10)[1])

    def by_sklearn() -> Tensor:
        return torch.from_numpy(peer.kneighbors(queries.numpy(), return_distance=False))

    what = "200 searches in 20,000 vectors of 128"
    for name, ours, theirs, called in (
        ("exact", exact, by_faiss, "faiss flat"),
        ("exact", exact, by_sklearn, "scikit-learn"),
        ("inverted file", nearly, by_faiss, "faiss flat"),
    ):
        yield compare(f"{what}, {name}", lambda ours=ours: ours.search(queries, 10).ids, theirs, peer_name=called,
                      repeats=11, agree=shared)  # fmt: skip


def apart(ours: Tensor, theirs: Tensor) -> str:
    return f"max difference {float((ours - theirs).abs().max()):.0e}"


def shared(ours: Tensor, theirs: Tensor) -> str:
    return f"{(ours[:, :, None] == theirs[:, None]).any(2).float().mean():.1%} of the neighbours"
