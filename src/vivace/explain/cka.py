"""CKA: how alike two layers see the same pictures, whatever their sizes are and however their axes are turned.

Kornblith, Norouzi, Lee, Hinton, "Similarity of neural network representations revisited" (2019), section 3, eq. 3 and
the linear kernel: HSIC(X X^T, Y Y^T), normalised (centred kernel alignment; Cortes, Mohri, Rostamizadeh 2012).
In: features X (n, d), Y (n, e) of the same n pictures. Out: a number in [0, 1]; 1 is the same up to turning and scale.
Departs from the paper: nowhere; the products are taken whichever way is smaller.
"""

import numpy as np
from jaxtyping import Float

from vivace.base.errors import InputError


def cka(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "m e"]) -> float:
    """|Y^T X|^2 / (|X^T X| |Y^T Y|) of centred features, in Frobenius' norm. InputError where a layer is constant."""
    if len(X) != len(Y):
        raise InputError(f"features of {len(X)} and of {len(Y)} pictures; they must be of the same ones")
    X, Y = X - X.mean(0), Y - Y.mean(0)
    if not (X.any() and Y.any()):
        raise InputError("a layer answers to every picture in the same way: there is nothing to compare")
    n, d, e = *X.shape, Y.shape[1]
    if n < min(d, e):  # Gram matrices (n, n) of pictures in place of (d, e) of features
        K, L = X @ X.T, Y @ Y.T
        return float((K * L).sum() / (np.linalg.norm(K) * np.linalg.norm(L)))
    return float(np.square(Y.T @ X).sum() / (np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y)))
