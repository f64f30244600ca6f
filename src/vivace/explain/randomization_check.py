"""Model randomisation check: a map that stays when all weights are shuffled is not about the network.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, "Sanity checks for saliency maps" (2018), section 3.
In: any method that explains, a model, pictures (B, C, H, W). Out: Spearman's rank correlations (stages, B) in [-1, 1].
Departs from the paper: weights are shuffled within their tensors, not drawn anew, so each keeps its distribution.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor, nn

from vivace.base.hooks import evaluating, find_layer
from vivace.explain.cam import Target, check_batch, class_indices

Explain = Callable[[nn.Module, Tensor, Target], Tensor]  # maps (B, h, w) of a model's pictures and classes


def randomization_check(
    explain: Explain,
    model: nn.Module,
    images: Num[Tensor, "b c h w"],
    target: Target = None,
    *,
    classes: Sequence[str] | None = None,
    parts: Sequence[Sequence[str]] | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "s b"]:
    """How alike the maps stay as the model's weights are shuffled: 1 the same, 0 as unlike as chance, or constant.

    `parts`: names of layers, stage by stage, which are shuffled one after the other ("cascading", from the top down in
    the paper); without it all weights are shuffled at once, in one stage. The model itself stays as it was. The class
    is the same at all stages: where none is given, the one that the model predicts before.
    """
    check_batch(images)
    with torch.inference_mode(), evaluating(model):
        c = class_indices(target, model(images), classes).tolist()
    before, broken = explain(model, images, c), deepcopy(model)
    stages = []
    for names in parts if parts is not None else [None]:
        for part in [broken] if names is None else [find_layer(broken, name) for name in names]:
            shuffle_weights(part, generator=generator)
        stages.append(rank_correlation(before, explain(broken, images, c)))
    return torch.stack(stages)


def shuffle_weights(module: nn.Module, *, generator: torch.Generator | None = None) -> None:
    """Each weight tensor keeps its values and loses their order."""
    with torch.no_grad():
        for weight in module.parameters():
            order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
            weight.data = weight.data.flatten()[order].view_as(weight)


def rank_correlation(a: Num[Tensor, "b mh mw"], b: Num[Tensor, "b mh mw"]) -> Float[Tensor, "b"]:
    """Spearman's, of each pair of maps; 0 where one is constant."""
    a, b = (ranks - ranks.mean(1, keepdim=True) for ranks in (_ranks(a.flatten(1)), _ranks(b.flatten(1))))
    return F.cosine_similarity(a, b)


def _ranks(rows: Tensor) -> Tensor:
    """The place of each value in its row; equal values share the mean of theirs."""
    rows = rows.contiguous()
    in_order = rows.sort(1).values
    return (torch.searchsorted(in_order, rows) + torch.searchsorted(in_order, rows, right=True)).float() / 2
