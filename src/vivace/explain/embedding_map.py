"""Embedding map: features of many numbers laid out in the plane, so that what is alike lies together.

t-SNE: van der Maaten, Hinton, "Visualizing data using t-SNE" (2008), section 3; UMAP: McInnes, Healy, Melville, "UMAP:
uniform manifold approximation and projection for dimension reduction" (2018), section 3. The start: Kobak, Linderman,
"Initialization is critical for preserving global data structure in both t-SNE and UMAP" (2021).
In: features (n, d), any finite numbers; a start (n, 2) or none. Out: the map (n, 2), in no unit.
Departs from the paper: t-SNE is scikit-learn's (trees in place of all pairs), UMAP umap-learn's, an extra of Vivace;
the start is an argument, where the papers leave it to chance or to the graph's spectrum.
"""

import warnings
from contextlib import suppress
from importlib.util import find_spec
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from vivace.base.errors import InputError, unknown

Method = Literal["t-sne", "umap"]


def umap_at_hand() -> bool:
    """Whether umap-learn is installed."""
    return find_spec("umap") is not None


def embedding_map(
    features: Float[np.ndarray, "n d"],
    method: Method | str = "t-sne",
    start: Float[np.ndarray, "m 2"] | None = None,
    *,
    neighbors: int | None = None,
    generator: torch.Generator | None = None,
) -> Float[np.ndarray, "n 2"]:
    """The map by t-SNE or UMAP. Neither has a place for features that come later, nor meaning in its distances' size.

    start: where the points begin, such as their first two principal components; at random where not given. Only its
        shape counts: t-SNE shrinks it to a standard deviation of 1e-4, UMAP stretches it to 10.
    neighbors: how many a point keeps near: t-SNE's perplexity (30 where not given), UMAP's n_neighbors (15);
        fewer where there are few points
    """
    n = len(features)
    if method not in get_args(Method):
        raise unknown("map", method, get_args(Method))
    if n < 5 or not np.isfinite(features).all():
        raise InputError(f"{n} features; a map needs five at least, without NaN or infinite numbers")
    if neighbors is not None and not 2 <= neighbors < n:
        raise InputError(f"neighbors is {neighbors}, but must be from 2 to less than the number of points, {n}")
    if start is not None and (start.shape != (n, 2) or not start.std(0).all()):
        raise InputError(f"a start is ({n}, 2) with points apart in both directions; this one is {start.shape}")
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    make = _t_sne if method == "t-sne" else _umap
    return make(features, start, neighbors, seed).astype(np.float64)


def _t_sne(X: Float[np.ndarray, "n d"], start: Float[np.ndarray, "n 2"] | None, neighbors: int | None, seed: int
           ) -> Float[np.ndarray, "n 2"]:  # fmt: skip
    from sklearn.manifold import TSNE

    perplexity = neighbors or min(30, (len(X) - 1) / 3)
    begin = "random" if start is None else (1e-4 * (start - start.mean(0)) / start[:, 0].std()).astype(np.float32)
    return TSNE(init=begin, perplexity=perplexity, random_state=seed, n_jobs=1).fit_transform(X)


def _umap(X: Float[np.ndarray, "n d"], start: Float[np.ndarray, "n 2"] | None, neighbors: int | None, seed: int
          ) -> Float[np.ndarray, "n 2"]:  # fmt: skip
    if not umap_at_hand():
        raise InputError("UMAP needs the package umap-learn, which is not installed: pip install 'vivace[umap]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # of a part of it that needs TensorFlow
        import umap

    _keep_compiled(umap)
    begin = "random" if start is None else (10 * (start - start.mean(0)) / np.abs(start).max()).astype(np.float32)
    model = umap.UMAP(n_neighbors=neighbors or min(15, len(X) - 1), init=begin, random_state=seed, n_jobs=1)
    with threadpool_limits(1):  # it leaves OpenMP at more threads, and torch and scikit-learn with it; so put them back
        return model.fit_transform(X)


def _keep_compiled(umap: object) -> None:
    """umap-learn compiles its loops in each process, for 15 s or more; kept on disk they are there the next time."""
    rooms = ((umap, "umap_", ("fast_knn_indices", "smooth_knn_dist", "compute_membership_strengths")),
             (umap, "layouts", ("_nb_optimize_layout_euclidean_single_epoch",)))  # fmt: skip
    for package, module, names in rooms:
        for name in names:
            loop = getattr(getattr(package, module, None), name, None)
            if loop is not None and not loop.signatures:
                with suppress(RuntimeError, AttributeError):  # nowhere to write, or another version of either package
                    loop.enable_caching()
