"""Embeddings: a picture as the few hundred or thousand numbers that a trained network makes of it before it decides.

Donahue, Jia, Vinyals, Hoffman, Zhang, Tzeng, Darrell, "DeCAF: a deep convolutional activation feature for generic
visual recognition" (2014), section 3; maps averaged: Babenko, Lempitsky, "Aggregating deep convolutional features for
image retrieval" (2015), section 3.
In: any model, pictures (N, C, H, W) as it takes them. Out: embeddings (N, d), float32.
Departs from the paper: any layer of any network, where DeCAF takes layers 5 to 7 of AlexNet; no whitening.
"""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from vivace.base.errors import InputError
from vivace.base.hooks import Layer, activations, evaluating
from vivace.base.progress import Step, Tell, ignore

Pool = Literal["mean", "max", "flatten"]


class _Enough(Exception):
    """Raised in front of the head: what it would say is not wanted."""


def embeddings(
    model: nn.Module,
    images: Float[Tensor, "n c h w"],
    layer: Layer | None = None,
    *,
    pool: Pool = "mean",
    unit: bool = False,
    batch_size: int = 50,
    precision: torch.dtype | None = None,
    tell: Tell = ignore,
) -> Float[Tensor, "n d"]:
    """What a layer makes of each picture, the model predicting as in use; nothing after the layer is computed.

    `layer`: its dotted name or the module; None is what the last linear layer is given: VGG's fc7, a ResNet's pooled
    maps. `pool`: what becomes of a map (K, h, w): its mean or largest value over places, or all of its numbers.
    `unit`: scaled to length 1, so that inner products are cosines. `precision`: the autocast type to compute in
    (torch.bfloat16: sooner where the hardware has it). InputError for a layer that is unknown or never reached.
    """
    if not len(images):
        raise InputError("no pictures to embed: the batch is empty")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}, but at least one picture must be looked at")
    found = []
    for done, batch in enumerate(images.split(batch_size)):
        tell(Step(done * batch_size, len(images), "looking at pictures"))
        found.append(embedding(model, batch, layer, pool=pool, unit=unit, precision=precision))
    return torch.cat(found)


def embedded(
    model: nn.Module,
    batches: Iterable[Float[Tensor, "_ c h w"]],
    layer: Layer | None = None,
    *,
    pool: Pool = "mean",
    unit: bool = False,
    precision: torch.dtype | None = None,
) -> Iterator[Float[Tensor, "_ d"]]:
    """The same, batch by batch: for more pictures than memory holds, or to write down before the next are looked at."""
    for batch in batches:
        yield embedding(model, batch, layer, pool=pool, unit=unit, precision=precision)


@torch.no_grad()
def embedding(
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    layer: Layer | None = None,
    *,
    pool: Pool = "mean",
    unit: bool = False,
    precision: torch.dtype | None = None,
) -> Float[Tensor, "b d"]:
    """The embeddings of one batch."""
    faster = torch.autocast(images.device.type, precision) if precision else nullcontext()
    with evaluating(model), faster:
        output = _before_the_head(model, images) if layer is None else activations(model, images, [layer])[0]
    if not isinstance(output, Tensor) or output.ndim < 2 or len(output) != len(images):
        raise InputError("the layer does not put out one tensor with a row for each picture")
    e = pooled(output.float(), pool)
    if not bool(torch.isfinite(e).all()):
        raise InputError("the embedding is NaN or infinite: the picture, the weights or the precision are at fault")
    return normalize(e) if unit else e


def pooled(output: Float[Tensor, "b ..."], pool: Pool) -> Float[Tensor, "b d"]:
    """Maps (B, K, h, w) or tokens (B, T, d) as rows, one number for each channel unless flattened."""
    if output.ndim == 2 or pool == "flatten":
        return output.flatten(1)
    places = output.flatten(2) if output.ndim > 3 else output.transpose(1, 2)  # (B, channels, places)
    return places.mean(2) if pool == "mean" else places.amax(2)


def last_linear(model: nn.Module) -> tuple[str, nn.Linear]:
    """The model's last linear layer and its dotted name: a classifier's head, whose inputs are the embedding."""
    linear = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise InputError(f"{type(model).__name__} has no linear layer; name a layer to embed with")
    return linear[-1]


def _before_the_head(model: nn.Module, images: Float[Tensor, "b c h w"]) -> Tensor:
    """What the last linear layer is given."""
    found: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0])
        raise _Enough

    name, head = last_linear(model)
    handle = head.register_forward_pre_hook(keep)
    try:
        with suppress(_Enough):
            model(images)
    finally:
        handle.remove()
    if not found:
        raise InputError(f"the model never ran its last linear layer {name}; name a layer to embed with")
    return found[0]
