"""Insertion and deletion: a faithful map's hottest parts alone make the score, and without them it falls.

Petsiuk, Das, Saenko, "RISE: randomized input sampling for explanation of black-box models" (2018), section 4.1.
In: pictures (B, C, H, W), a map (B, h, w) of any size each. Out: the curves and the areas under them, in [0, 1].
Departs from the paper: what is missing is blurred in deletion too, where the paper makes it grey; and cells of the map
are put in or taken away, in as many steps as asked for.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.hooks import evaluating
from vivace.explain.cam import Target, check_batch, class_indices


class InsertionDeletion(NamedTuple):
    """The class's probability as parts are put in or taken away, hottest first, and the areas under these curves."""

    insertion: Float[Tensor, "b"]  # high is good
    deletion: Float[Tensor, "b"]  # low is good
    fractions: Float[Tensor, "s"]  # of the cells, 0 to 1
    inserted: Float[Tensor, "s b"]
    deleted: Float[Tensor, "s b"]

    @property
    def score(self) -> Float[Tensor, "b"]:
        """Both in one number: insertion less deletion; about 0 for a random map."""
        return self.insertion - self.deletion


def insertion_deletion(
    model: nn.Module,
    images: Num[Tensor, "b c h w"],
    heat: Num[Tensor, "_ mh mw"],
    target: Target = None,
    *,
    classes: Sequence[str] | None = None,
    steps: int = 12,
    batch_size: int = 2,
) -> InsertionDeletion:
    """How much of the probability of `target` the hottest cells of the maps carry.

    `steps`: in how many the cells are put in; at most as many as there are. `batch_size`: so many pictures at a time.
    """
    check_batch(images)
    if len(heat) != len(images):
        raise InputError(f"{len(heat)} maps for {len(images)} pictures")
    cells = heat[0].numel()
    if not 2 <= steps <= cells:
        raise InputError(f"{steps} steps for maps of {cells} cells; 2 to {cells}")
    counts = (torch.linspace(0, cells, steps + 1)).round().int().tolist()
    with torch.inference_mode(), evaluating(model):
        blurred = F.interpolate(F.adaptive_avg_pool2d(images, 8), size=images.shape[2:], mode="bilinear")
        seen = [_with_cells(images, blurred, heat, count) for count in counts]
        # without its hottest n cells a picture is what its coldest others are
        left = [_with_cells(images, blurred, -heat, cells - count) for count in counts[1:-1]]
        logits = torch.cat([model(few) for few in torch.cat([*seen, *left]).split(batch_size)])
        whole = logits[steps * len(images) : (steps + 1) * len(images)]
        c = class_indices(target, whole, classes).repeat(len(seen) + len(left))
        y = logits.float().softmax(1)[range(len(c)), c].view(-1, len(images))
    inserted = y[: steps + 1]
    deleted = torch.cat([inserted[-1:], y[steps + 1 :], inserted[:1]])
    fractions = torch.tensor(counts, device=y.device) / cells
    insertion, deletion = (torch.trapezoid(curve.T, fractions) for curve in (inserted, deleted))
    return InsertionDeletion(insertion, deletion, fractions, inserted, deleted)


def with_hottest(images: Tensor, heat: Float[Tensor, "b mh mw"], count: int) -> Tensor:
    """The pictures in their `count` hottest cells, blurred elsewhere: what insertion shows the model."""
    blurred = F.interpolate(F.adaptive_avg_pool2d(images, 8), size=images.shape[2:], mode="bilinear")
    return _with_cells(images, blurred, heat, count)


def _with_cells(images: Tensor, blurred: Tensor, heat: Tensor, count: int) -> Tensor:
    rank = heat.flatten(1).argsort(1, descending=True).argsort(1).view(heat.shape)
    kept = F.interpolate((rank < count).to(images)[:, None], size=images.shape[2:])
    return torch.lerp(blurred, images, kept)
