"""Invariance: how little a layer's features move when a picture is shifted, turned or recoloured.

Goodfellow, Le, Saxe, Lee, Ng, "Measuring invariances in deep networks" (2009), section 3: what a change does must be
small *and* what tells pictures apart must stay large.
In: features of N pictures (N, ...) and of the same pictures changed, in the same order. Out: a number, at most 1.
Departs from the paper: distances between whole vectors of features in place of one unit's firing rates: 1 where the
change moves nothing, 0 where the changed picture is as far from itself as another picture is.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError


def invariance(features: Float[Tensor, "n ..."], changed: Float[Tensor, "n ..."]) -> float:
    """1 - mean distance of a picture from itself, changed, over the mean distance of two pictures."""
    if features.shape != changed.shape:
        raise InputError(f"features of the pictures {tuple(features.shape)} and of the same, changed, "
                         f"{tuple(changed.shape)} differ in shape")  # fmt: skip
    if len(features) < 2:
        raise InputError("two pictures at least are needed: how far apart they are is the measure")
    a, b = features.double().flatten(1), changed.double().flatten(1)
    between = torch.pdist(a).mean()
    if not between > 0:
        raise InputError("the features are the same for all pictures: nothing to compare with")
    return float(1 - (a - b).norm(dim=1).mean() / between)
