"""Pruning: most weights of a trained network can be zero, and whole channels can go.

Han, Pool, Tran, Dally, "Learning both weights and connections for efficient neural networks" (2015), section 3;
channels: Liu et al., "Learning efficient convolutional networks through network slimming" (2017), eq. 1.
In: any model with convolutions and linear layers; slimming takes an `nn.Sequential`. Out: the model with zeros, or a
smaller one.
Departs from the paper: the same share of weights is taken from all layers together or from each, in place of thresholds
tuned by layer; zeros are counted as stored with a bit each, not as distances in Huffman's code.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vivace.base.errors import InputError, unknown

Scope = Literal["global", "layer"]


def prune_magnitude(model: nn.Module, share: float, *, scope: Scope = "global") -> None:
    """Fix the smallest weights of all convolutions and linear layers at zero, in place; biases stay.

    The network can then be trained on: zeros stay zeros. Once more with a larger share prunes it further.

    share: how many of all weights are zero afterwards, 0 to 1
    scope: the smallest of the whole network, or of each layer by itself
    """
    if not 0 <= share <= 1:
        raise InputError(f"the share of weights to prune is 0 to 1; got {share}")
    if scope not in get_args(Scope):
        raise unknown("scope", scope, get_args(Scope))
    layers = _layers(model)
    with torch.no_grad():
        weights = [layer.weight.detach() for layer in layers]
        if scope == "global":
            kept = _largest(torch.cat([weight.flatten() for weight in weights]), share)
            masks = kept.split([weight.numel() for weight in weights])
        else:
            masks = tuple(_largest(weight.flatten(), share) for weight in weights)
    for layer, weight, mask in zip(layers, weights, masks, strict=True):
        _unmask(layer)
        parametrize.register_parametrization(layer, "weight", Masked(mask.view_as(weight)))


class Masked(nn.Module):
    """What a pruned layer makes of its weight: zero wherever the mask is false, whatever the optimiser does."""

    mask: Tensor

    def __init__(self, mask: Bool[Tensor, "..."]) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return weight * self.mask


def make_permanent(model: nn.Module) -> None:
    """Drop the masks: the weights are ordinary ones again, the zeros among them, under their old names."""
    for layer in _layers(model):
        _unmask(layer)


def sparse_bytes(model: nn.Module) -> int:
    """What the parameters take: 4 bytes for each that isn't zero, and one bit for each weight to say which those are.

    A layer for which that saves nothing is stored whole.
    """
    total = sum(4 * parameter.numel() for parameter in model.parameters())
    for layer in _layers(model):
        weight = layer.weight
        total -= max(0, 4 * (weight.numel() - int(weight.count_nonzero())) - -(-weight.numel() // 8))
    return total


def scale_penalty(model: nn.Module) -> Float[Tensor, ""]:
    """The sum of all |scales| of batch normalisation: added to the loss, it drives useless channels to zero."""
    scales = [m.weight.abs().sum() for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    if not scales:
        raise InputError(f"{type(model).__name__} has no batch normalisation, whose scales could be penalised")
    return torch.stack(scales).sum()


def slimmed(net: nn.Sequential, share: float) -> nn.Sequential:
    """A smaller copy without the channels whose batch-norm scales are smallest in the whole net; one a layer stays.

    The net is one row of layers, each batch normalisation after its convolution; pooling, activations, dropout and
    flattening may stand between.
    """
    if not 0 <= share < 1:
        raise InputError(f"the share of channels to remove is 0 or more and less than 1; got {share}")
    scales = [layer.weight.detach().abs() for layer in net if isinstance(layer, nn.BatchNorm2d)]
    if not scales:
        raise InputError("no batch normalisation, by whose scales channels could be chosen")
    kept = list(_largest(torch.cat(scales), share).split([len(scale) for scale in scales]))
    for mask, scale in zip(kept, scales, strict=True):
        mask[scale.argmax()] = True
    layers: list[nn.Module] = []
    inputs: Int[Tensor, " k"] | None = None  # the channels that are left of what comes in; None: all
    for place, layer in enumerate(net):
        follows = place + 1 < len(net) and isinstance(net[place + 1], nn.BatchNorm2d)
        if isinstance(layer, nn.Conv2d):
            outputs = kept.pop(0).nonzero()[:, 0] if follows else None
            layers.append(_cut_convolution(layer, inputs, outputs))
            inputs = outputs
        elif isinstance(layer, nn.BatchNorm2d):
            layers.append(_cut(layer, inputs, num_features=len(layer.weight) if inputs is None else len(inputs)))
        elif isinstance(layer, nn.Linear):
            layers.append(_cut_linear(layer, inputs, channels=_channels_before(net, place)))
            inputs = None  # nothing of its outputs is cut
        else:
            layers.append(deepcopy(layer))
    return nn.Sequential(*layers)


def _layers(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    found = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    if not found:
        raise InputError(f"{type(model).__name__} has no convolution or linear layer to prune")
    if len({id(_parameter(layer)) for layer in found}) < len(found):
        raise InputError(f"{type(model).__name__} has layers that share their weights; they can't be pruned apart")
    return found


def _parameter(layer: nn.Module) -> nn.Parameter:
    """What the optimiser sees, which is not yet masked."""
    masked = parametrize.is_parametrized(layer, "weight")
    return layer.get_parameter("parametrizations.weight.original" if masked else "weight")


def _unmask(layer: nn.Module) -> None:
    if parametrize.is_parametrized(layer, "weight"):
        parametrize.remove_parametrizations(layer, "weight")


def _largest(values: Float[Tensor, " n"], share: float) -> Bool[Tensor, " n"]:
    """True for all but the `share` of them that is smallest, without their signs."""
    kept = torch.ones_like(values, dtype=torch.bool)
    kept[values.abs().topk(round(share * len(values)), largest=False).indices] = False
    return kept


def _cut(layer: nn.Module, outputs: Int[Tensor, " k"] | None, **sizes: int) -> Any:
    """A copy with only these outputs: rows of the weight, bias and running statistics."""
    copy = deepcopy(layer)
    for name, size in sizes.items():
        setattr(copy, name, size)
    if outputs is not None:
        for group in (copy._parameters, copy._buffers):
            for name, tensor in group.items():
                if tensor is not None and tensor.ndim:
                    data = tensor.detach()[outputs].clone()
                    group[name] = nn.Parameter(data) if isinstance(tensor, nn.Parameter) else data  # type: ignore[assignment]
    return copy


def _cut_convolution(layer: nn.Conv2d, inputs: Int[Tensor, " k"] | None, outputs: Int[Tensor, " m"] | None
                     ) -> nn.Conv2d:  # fmt: skip
    if layer.groups != 1:
        raise InputError(f"slimming takes convolutions of one group; this one has {layer.groups}")
    ins, outs = layer.in_channels if inputs is None else len(inputs), layer.out_channels
    copy: nn.Conv2d = _cut(layer, outputs, in_channels=ins, out_channels=outs if outputs is None else len(outputs))
    if inputs is not None:
        copy.weight = nn.Parameter(copy.weight.detach()[:, inputs].clone())
    return copy


def _cut_linear(layer: nn.Linear, inputs: Int[Tensor, " k"] | None, *, channels: int) -> nn.Linear:
    copy = deepcopy(layer)
    if inputs is not None:
        by_channel = layer.weight.detach().unflatten(1, (channels, -1))  # each channel was flattened to its places
        copy.weight = nn.Parameter(by_channel[:, inputs].flatten(1).clone())
        copy.in_features = copy.weight.shape[1]
    return copy


def _channels_before(net: Sequence[nn.Module] | nn.Sequential, place: int) -> int:
    """How many channels the last convolution before that place puts out."""
    layers = [layer for layer in list(net)[:place] if isinstance(layer, nn.Conv2d)]
    return layers[-1].out_channels if layers else 0
