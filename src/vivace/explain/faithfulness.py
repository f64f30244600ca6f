"""Faithfulness: can this map be believed? The randomisation check and insertion and deletion at once, with warnings.

Adebayo et al., "Sanity checks for saliency maps" (2018), section 3; Petsiuk et al., "RISE" (2018), section 4.1.
In: any method that explains, a model, pictures (B, C, H, W). Out: numbers for each picture, and warnings in words.
Departs from the paper: both measures are set beside a random map's and a plain edge map's, which know no network.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor, nn

from vivace.base.hooks import evaluating
from vivace.explain.cam import Target, check_batch, class_indices
from vivace.explain.insertion_deletion import InsertionDeletion, insertion_deletion
from vivace.explain.randomization_check import Explain, randomization_check

SAME = 0.5  # a rank correlation above this after all weights were shuffled: the map is hardly about the network
CELLS = 14  # finer maps are judged on a grid of so many rows and columns, or deletion would take away single pixels


class Faithfulness(NamedTuple):
    """How far maps depend on the network and show what it uses."""

    similarity: Float[Tensor, "b"]  # of the map to that of the network with shuffled weights
    map: InsertionDeletion
    edges: InsertionDeletion
    random: InsertionDeletion
    warnings: tuple[str, ...]


def faithfulness(
    explain: Explain,
    model: nn.Module,
    images: Num[Tensor, "b c h w"],
    target: Target = None,
    *,
    classes: Sequence[str] | None = None,
    steps: int = 12,
    generator: torch.Generator | None = None,
) -> Faithfulness:
    """Check the maps that `explain(model, images, target)` gives.

    faithfulness(grad_cam, model, images, "tabby", classes=class_names()).warnings
    """
    check_batch(images)
    with torch.inference_mode(), evaluating(model):
        c = class_indices(target, model(images), classes).tolist()
    heat = explain(model, images, c)
    similarity = randomization_check(explain, model, images, c, generator=generator)[0]
    coarse = coarse_map(heat)
    size = (coarse.shape[1], coarse.shape[2])
    rivals = {
        "an edge map": F.adaptive_avg_pool2d(edge_map(images), size),
        "a random map": torch.rand(coarse.shape, generator=generator).to(coarse),
    }
    steps = min(steps, coarse[0].numel())
    ours, edges, random = (insertion_deletion(model, images, m, c, steps=steps) for m in (coarse, *rivals.values()))
    warnings = [*_about_the_map(heat, similarity)]
    for name, rival in zip(rivals, (edges, random), strict=True):
        worse = (ours.score <= rival.score).nonzero().flatten().tolist()
        if worse:
            warnings.append(f"inserting and deleting by the map tells no more than by {name}{_which(worse, heat)}")
    return Faithfulness(similarity, ours, edges, random, tuple(warnings))


def edge_map(images: Num[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """Sobel's gradient of the pictures' lightness: where edges are, whatever a network says."""
    grey = F.pad(images.float().mean(1, keepdim=True), [1] * 4, mode="replicate")
    across = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]], device=images.device)
    return F.conv2d(grey, torch.stack([across, across.T])[:, None]).norm(dim=1)


def coarse_map(heat: Num[Tensor, "b mh mw"]) -> Float[Tensor, "b gh gw"]:
    """The map on at most 14 x 14 cells, each with its mean."""
    return F.adaptive_avg_pool2d(heat.float(), (min(CELLS, heat.shape[1]), min(CELLS, heat.shape[2])))


def _about_the_map(heat: Tensor, similarity: Tensor) -> list[str]:
    spread, top = (heat.amax((1, 2)) - heat.amin((1, 2))), heat.abs().amax((1, 2))
    empty = (top == 0).nonzero().flatten().tolist()
    flat = ((spread <= 1e-4 * top) & (top > 0)).nonzero().flatten().tolist()
    same = (similarity > SAME).nonzero().flatten().tolist()
    found = []
    if empty:
        found.append(f"the map is zero everywhere: nothing at this layer speaks for the class{_which(empty, heat)}")
    if flat:
        found.append(f"the map is the same everywhere: this layer says nothing about places{_which(flat, heat)}")
    if same:
        found.append(
            f"the map hardly depends on the network: with all weights shuffled it stays the same "
            f"(rank correlation {float(similarity[same].mean()):.2f}){_which(same, heat)}"
        )
    return found


def _which(pictures: list[int], heat: Tensor) -> str:
    """Which of several pictures; nothing where there is one."""
    return "" if len(heat) == 1 else f", picture {', '.join(map(str, pictures))}"
