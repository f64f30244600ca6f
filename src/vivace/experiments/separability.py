"""Whether a plane separates two classes, settled by a linear programme: an answer that no training can doubt."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import linprog


def separating_plane(X: Float[np.ndarray, "n d"], t: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " d+1"] | None:
    """Weights and, last, intercept with w x + b >= 1 where t, <= -1 elsewhere, their sizes' sum least; or None."""
    sign = np.where(t, 1.0, -1.0)
    rows = sign[:, None] * np.column_stack([X, np.ones(len(X))])
    found = linprog(np.ones(2 * rows.shape[1]), A_ub=np.hstack([-rows, rows]), b_ub=-np.ones(len(X)))  # w = u - v
    return found.x[: rows.shape[1]] - found.x[rows.shape[1] :] if found.status == 0 else None
