"""LPIPS: how far apart two pictures are in a network's features, each of unit length, weighted by what people see.

Zhang, Isola, Efros, Shechtman, Wang, "The unreasonable effectiveness of deep features as a perceptual metric" (2018),
eq. 1.
In: one network's maps (B, C_l, H_l, W_l) of two batches of pictures, layer by layer. Out: (B,), 0 for equal pictures.
Departs from the paper: nowhere. `backbone_distance` is not LPIPS: it has no weights learned from people's votes.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError, unknown
from vivace.base.progress import Tell, ignore
from vivace.base.weights import load_weights

# the last ReLU of each stage: where the published weights belong
LPIPS_LAYERS: dict[str, tuple[str, ...]] = {
    "vgg16": ("features.3", "features.8", "features.15", "features.22", "features.29"),
    "alexnet": ("features.1", "features.4", "features.7", "features.9", "features.11"),
}

Maps = Sequence[Float[Tensor, "b _ _ _"]]


def lpips(features: Maps, others: Maps, weights: Sequence[Float[Tensor, " _"]]) -> Float[Tensor, " b"]:
    """The distance of eq. 1: `weights` has one number a channel, layer by layer, at least 0 (`lpips_weights`)."""
    if not len(features) == len(others) == len(weights) or not features:
        raise InputError(f"{len(features)} and {len(others)} layers of features, but {len(weights)} of weights")
    distance = features[0].new_zeros(len(features[0]))
    for F, P, w in zip(features, others, weights, strict=True):
        if F.shape != P.shape or len(w) != F.shape[1]:
            raise InputError(f"features {tuple(F.shape)} and {tuple(P.shape)} with {len(w)} weights in the same layer")
        apart = (unit_normalized(F) - unit_normalized(P)).square()
        distance = distance + torch.einsum("bchw,c->bhw", apart, w.to(apart)).mean((1, 2))
    return distance


def backbone_distance(features: Maps, others: Maps) -> Float[Tensor, " b"]:
    """NOT LPIPS: every channel counts the same, and so does every layer. At each position 2 - 2 cos, at most 4."""
    return lpips(features, others, [torch.full((F.shape[1],), 1 / len(features)) for F in features])


def unit_normalized(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Each position's feature vector at length 1; where nothing fires it stays 0."""
    # not vector_norm: where all channels are 0, the root needs to have a slope
    length = features.square().sum(1, keepdim=True).clamp_min(1e-20).sqrt()
    return features / length


def lpips_weights(network: str = "vgg16", *, tell: Tell = ignore) -> list[Float[Tensor, " _"]]:
    """The published weights (version 0.1), learned from people's votes on 150,000 pairs: for `LPIPS_LAYERS[network]`.

    Maps are to come from that network with its ImageNet weights. WeightsMissing where they can't be had.
    """
    if network not in LPIPS_LAYERS:
        raise unknown("network with LPIPS weights", network, LPIPS_LAYERS)
    tensors = load_weights(f"lpips-{network}", tell=tell)
    return [tensors[f"lin{layer}.model.1.weight"].flatten() for layer in range(len(LPIPS_LAYERS[network]))]
