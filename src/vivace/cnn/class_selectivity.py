"""Class-selectivity index: how much more a unit answers to its favourite class than to all the others.

Morcos, Barrett, Rabinowitz, Botvinick, "On the importance of single directions for generalization" (2018), eq. 1.
In: activations (N, K) or maps (N, K, h, w) of K units for N pictures, none negative; labels (N,) from 0.
Out: an index of each unit in [0, 1]: 0 where all classes give the same mean, 1 where one class alone drives it.
Departs from the paper: a unit that never answers has the index 0, and maps are averaged over places, as there.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vivace.base.errors import InputError


def class_selectivity(activations: Float[Tensor, "n k ..."], labels: Int[Tensor, " n"]) -> Float[Tensor, " k"]:
    """(largest class mean - mean of the other classes' means) / (their sum), for each unit."""
    means = _class_means(activations, labels)
    best = means.max(0).values
    others = (means.sum(0) - best) / (len(means) - 1)
    return (best - others) / (best + others).clamp(min=torch.finfo(means.dtype).tiny)


def _class_means(activations: Float[Tensor, "n k ..."], labels: Int[Tensor, " n"]) -> Float[Tensor, "c k"]:
    """The mean of each unit over the pictures of each class."""
    if activations.min() < 0:
        raise InputError("the index is for activations that are not negative: take them after the ReLU")
    counts = torch.bincount(labels)
    if len(counts) < 2 or counts.min() < 1:
        raise InputError(f"labels need two classes, 0, 1, ..., with a picture each; got counts {counts.tolist()}")
    units = activations.flatten(2).mean(2) if activations.ndim > 2 else activations
    sums = units.new_zeros(len(counts), units.shape[1]).index_add_(0, labels, units)
    return sums / counts[:, None]
