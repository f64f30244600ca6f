"""Matrix multiplication: every row of one table meets every column of another in an inner product.

Cayley, "A memoir on the theory of matrices" (1858), which defines it; in blocks that fit into a cache: Lam, Rothberg,
Wolf, "The cache performance and optimizations of blocked algorithms" (1991).
In: matrices (n, d), (d, m), any finite numbers. Out: their product (n, m), or what is written with products alone.
Departs from the paper: the innermost block is NumPy's own product, whose kernel does what a loop can't.
"""

import numpy as np
from jaxtyping import Float


def triple_loop(A: Float[np.ndarray, "n d"], B: Float[np.ndarray, "d m"]) -> Float[np.ndarray, "n m"]:
    """The definition, one multiplication at a time: n d m of them."""
    rows, columns = A.tolist(), B.T.tolist()  # plain numbers, which Python's loops are fastest with
    C = np.empty((len(rows), len(columns)))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            total = 0.0
            for a, b in zip(row, column, strict=True):
                total += a * b
            C[i, j] = total
    return C


def blocked(A: Float[np.ndarray, "n d"], B: Float[np.ndarray, "d m"], *, block: int = 64) -> Float[np.ndarray, "n m"]:
    """The same as sums of products of blocks: a block is read from memory once for `block` uses of it."""
    (n, d), m = A.shape, B.shape[1]
    C = np.zeros((n, m), dtype=np.result_type(A, B))
    for i in range(0, n, block):
        for j in range(0, m, block):
            for k in range(0, d, block):
                C[i : i + block, j : j + block] += A[i : i + block, k : k + block] @ B[k : k + block, j : j + block]
    return C


def linear_layer(X: Float[np.ndarray, "n d"], W: Float[np.ndarray, "m d"], b: Float[np.ndarray, " m"]
                 ) -> Float[np.ndarray, "n m"]:  # fmt: skip
    """m weighted sums of each of n rows, as `torch.nn.Linear` has it; W square and invertible: other coordinates."""
    return X @ W.T + b


def squared_distances(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """|x - y|^2 of all pairs, as |x|^2 - 2 x.y + |y|^2; measured from Y's mean, so that less cancels."""
    origin = Y.mean(0)
    X, Y = X - origin, Y - origin
    D = X @ (-2 * Y.T)
    D += np.einsum("nd,nd->n", X, X)[:, None]
    D += np.einsum("md,md->m", Y, Y)
    return np.maximum(D, 0, out=D)


def cosine_similarities(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """The cosine of the angle of all pairs: inner products of rows of length 1. A row of zeros has 0 with all."""
    X, Y = (Z / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), np.finfo(Z.dtype).tiny) for Z in (X, Y))
    return X @ Y.T


def gram(X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d d"]:
    """X^T X: the inner product of each pair of features. Neither a covariance nor a correlation."""
    return X.T @ X


def covariance(X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d d"]:
    """The Gram matrix of centred features, over n - 1."""
    return gram(X - X.mean(0)) / (len(X) - 1)


def correlation(X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d d"]:
    """The Gram matrix of z-scores, over n; a constant feature is correlated with none."""
    std = X.std(0)
    return gram((X - X.mean(0)) / np.where(std > 0, std, 1)) / len(X)
