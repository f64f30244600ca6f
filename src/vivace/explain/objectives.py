"""Objectives: what a picture is to excite in a network, as plain objects that add and scale.

Olah, Mordvintsev, Schubert, "Feature visualization" (2017), section "Optimization objectives".
In: a model and pictures (B, C, H, W) as it takes them. Out: one number a picture (B,), to be made large.
Departs from the paper: a channel is averaged over its positions, not summed, so that sizes compare.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.hooks import Layer, activations

# one channel for all pictures, or one for each: several objectives in one batch
Index = int | Sequence[int]
Read = Callable[[Tensor], Tensor]  # what a layer puts out, to one number a picture


@dataclass(frozen=True)
class Objective:
    """A weighted sum of what is read off layers: `channel("blocks.10", 42) + 0.5 * logit(281)`.

    terms: (weight, layer, read); the layer None is the model itself, whose output is read
    """

    terms: tuple[tuple[float, Layer | None, Read], ...]

    def __call__(self, model: nn.Module, images: Float[Tensor, "b _ _ _"]) -> Float[Tensor, " b"]:
        layers = [model if layer is None else layer for _, layer, _ in self.terms]
        found = activations(model, images, layers)
        values = [weight * read(A) for (weight, _, read), A in zip(self.terms, found, strict=True)]
        return torch.stack(values).sum(0)

    def __add__(self, other: "Objective") -> "Objective":
        return Objective(self.terms + other.terms)

    def __sub__(self, other: "Objective") -> "Objective":
        return self + -other

    def __mul__(self, factor: float) -> "Objective":
        return Objective(tuple((factor * weight, layer, read) for weight, layer, read in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> "Objective":
        return -1.0 * self


def channel(layer: Layer, index: Index) -> Objective:
    """A channel's mean over all positions: of a map (B, K, h, w), of tokens (B, T, K) or of a vector (B, K)."""
    return Objective(((1.0, layer, lambda A: _picked(_positions(A).mean(2), index)),))


def neuron(layer: Layer, index: Index, at: tuple[int, int] | None = None) -> Objective:
    """One unit of a map (B, K, h, w): a channel at one position (row, column), the middle where not given."""

    def read(A: Tensor) -> Tensor:
        if A.ndim != 4:
            raise InputError(f"a neuron has a place in a map (B, K, h, w); this layer puts out {tuple(A.shape)}")
        height, width = A.shape[2:]
        row, column = at or (height // 2, width // 2)
        if not (0 <= row < height and 0 <= column < width):
            raise InputError(f"there is no position {(row, column)} in a map of {height} x {width}")
        return _picked(A[:, :, row, column], index)

    return Objective(((1.0, layer, read),))


def logit(index: Index) -> Objective:
    """A class's score before the softmax, from a model whose output is (B, classes)."""

    def read(output: Tensor) -> Tensor:
        if output.ndim != 2:
            raise InputError(f"the model puts out {tuple(output.shape)}, not the scores of classes (B, classes)")
        return _picked(output, index)

    return Objective(((1.0, None, read),))


def rivals(index: Index, count: int = 5) -> Objective:
    """The mean score of the strongest other classes: `logit(5) - 0.5 * rivals(5)` paints what is 5's own."""

    def read(output: Tensor) -> Tensor:
        mine = F.one_hot(_indices(output, index), output.shape[1]).bool()
        return output.masked_fill(mine, -torch.inf).topk(min(count, output.shape[1] - 1)).values.mean(1)

    return Objective(((1.0, None, read),))


def direction(layer: Layer, vector: Float[Tensor, " k"], *, cosine: float = 0.0) -> Objective:
    """How far a layer's features go in one direction: the mean over positions of their product with its unit vector.

    cosine: each product counts the more, the better the direction is met: times max(cosine, 0.1) to this power
    """
    if not float(vector.norm()) > 0:
        raise InputError("a direction is a vector that is not zero")

    def read(A: Tensor) -> Tensor:
        features = _positions(A)  # (B, K, N)
        if features.shape[1] != len(vector):
            raise InputError(f"a direction of {len(vector)} numbers in a layer of {features.shape[1]} channels")
        along = torch.einsum("k,bkn->bn", F.normalize(vector.to(A), dim=0), features)
        met = (along / features.norm(dim=1).clamp_min(1e-12)).clamp_min(0.1)
        return (along * met**cosine).mean(1)

    return Objective(((1.0, layer, read),))


def energy(layer: Layer) -> Objective:
    """The mean square of all that a layer puts out: DeepDream's objective, whatever is there already, more of it."""
    return Objective(((1.0, layer, lambda A: A.flatten(1).square().mean(1)),))


def _positions(A: Tensor) -> Float[Tensor, "b k n"]:
    """Channels second, all positions last."""
    if A.ndim not in (2, 3, 4):
        raise InputError(f"this layer puts out {tuple(A.shape)}, not (B, K, h, w), (B, tokens, K) or (B, K)")
    return A.transpose(1, 2) if A.ndim == 3 else A.reshape(*A.shape[:2], -1)


def _picked(values: Float[Tensor, "b k"], index: Index) -> Float[Tensor, " b"]:
    """Channel `index` of each picture."""
    return values.gather(1, _indices(values, index)[:, None])[:, 0]


def _indices(values: Float[Tensor, "b k"], index: Index) -> Int[Tensor, " b"]:
    """Each picture's channel; a list of n is for batches that hold n pictures once or several times over."""
    many = [index] if isinstance(index, int) else list(index)
    count, channels = values.shape
    wrong = [i for i in many if not 0 <= i < channels]
    if wrong:
        raise InputError(f"there is no channel {wrong[0]}: this layer has {channels}, 0 to {channels - 1}")
    if not many or count % len(many):
        raise InputError(f"{len(many)} channels for {count} pictures; one for all, or one for each")
    return torch.tensor(many, device=values.device).repeat(count // len(many))
