"""Filter impact: change one filter's weights, and see what becomes of the maps behind it and of the answer.

Zeiler, Fergus, "Visualizing and understanding convolutional networks" (2014), section 4.2, takes away parts so;
single filters: Morcos, Barrett, Rabinowitz, Botvinick, "On the importance of single directions for generalization"
(2018), section 3.1.
In: any model of pictures (B, C, H, W), one of its convolutions, the filter's place. Out: a context in which the
filter's weights are multiplied by a factor; the change of each class's score.
Departs from the paper: weights are changed, not activations, so what follows (a batch norm) still adds its constant.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.hooks import Layer, evaluating, find_layer, hooked


@contextmanager
def filter_scaled(model: nn.Module, layer: Layer, filter: int, *, factor: float = 0.0) -> Iterator[None]:
    """While it lasts, the filter's weights (not its bias) count `factor` times: 0 takes it away, 1 changes nothing.

        with filter_scaled(model, "stem.conv", 3):
            maps = activations(model, images, ["blocks.4"])

    The weights themselves are never written to, so other threads see the model as it is.
    """
    module = _with_filters(model, layer)
    count = len(module.weight)
    if not 0 <= filter < count:
        raise InputError(f"there is no filter {filter}: the layer has {count}, 0 to {count - 1}")
    channel = -3 if isinstance(module, nn.Conv2d) else -1

    def scale(_: nn.Module, output: Tensor) -> Tensor:
        changed = output.clone()
        bias = 0.0 if module.bias is None else module.bias[filter]
        changed.select(channel, filter).sub_(bias).mul_(factor).add_(bias)
        return changed

    with hooked([module], scale):
        yield


@torch.no_grad()
def filter_impact(model: nn.Module, images: Float[Tensor, "b c h w"], layer: Layer, *, factor: float = 0.0
                  ) -> Float[Tensor, "k b classes"]:  # fmt: skip
    """What each filter's change does to each picture's logits: theirs with it, less theirs without."""
    module = _with_filters(model, layer)
    with evaluating(model):
        before = model(images)
        changed = []
        for k in range(len(module.weight)):
            with filter_scaled(model, module, k, factor=factor):
                changed.append(model(images) - before)
    return torch.stack(changed)


def _with_filters(model: nn.Module, layer: Layer) -> nn.Conv2d | nn.Linear:
    module = find_layer(model, layer)
    if not isinstance(module, nn.Conv2d | nn.Linear):
        raise InputError(f"the layer is a {type(module).__name__}; filters are in convolutions and linear layers")
    return module
