"""Feature statistics: a layer's style as each channel's mean and standard deviation, all that AdaIN sets.

Huang, Belongie, "Arbitrary style transfer in real-time with adaptive instance normalization" (2017), eq. 5, 6 and 13.
In: features (B, C, H, W), any range. Out: mean and deviation (B, C); distances (B,).
Departs from the paper: deviations have the authors' 1e-5 under the root; layers may have weights.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError

EPS = 1e-5  # under the root, which has no slope at 0


def feature_statistics(features: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
    """Each channel's mean and standard deviation over the positions."""
    mean = features.mean((2, 3), keepdim=True)
    length = torch.linalg.vector_norm(features - mean, dim=(2, 3))  # `var` takes four times as long on the CPU
    return mean[..., 0, 0], (length.square() / features.shape[2:].numel() + EPS).sqrt()


def statistics_distance(
    features: Sequence[Float[Tensor, "b _ _ _"]],
    others: Sequence[Float[Tensor, "b _ _ _"]],
    weights: Sequence[float] | None = None,
) -> Float[Tensor, " b"]:
    """Eq. 13: lengths of the differences of means and of deviations, summed over layers, each with weight 1."""
    w = weights or [1.0] * len(features)
    if not len(features) == len(others) == len(w) or not features:
        raise InputError(f"{len(features)} and {len(others)} layers of features, but {len(w)} weights")
    distance = features[0].new_zeros(len(features[0]))
    for w_l, F, P in zip(w, features, others, strict=True):
        if F.shape[1] != P.shape[1]:
            raise InputError(f"{F.shape[1]} and {P.shape[1]} channels in the same layer: features of two networks?")
        both = zip(feature_statistics(F), feature_statistics(P), strict=True)
        distance = distance + w_l * sum((a - b).norm(dim=1) for a, b in both)
    return distance
