"""Weight statistics: what a network's weights are like, layer by layer, and how far training has moved them.

Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010), section 4, looks at
layers so; the spectral norm: Miyato et al., "Spectral normalization for generative adversarial networks" (2018), 2.1.
In: any model with convolutions or linear layers. Out: a `LayerStatistics` for each of them; shares in [0, 1], excess
kurtosis 0 for a Gaussian, -1.2 for a uniform and 3 for a Laplace distribution.
Departs from the paper: a weight is near zero, and a filter dead, relative to its own layer, so that no layer's scale
matters; the spectral norm is that of the kernel as a matrix (filters in rows), iterated until it stands still.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError


class LayerStatistics(NamedTuple):
    """One layer's weights."""

    name: str
    shape: tuple[int, ...]
    mean: float
    std: float
    kurtosis: float  # excess
    near_zero: float  # share of weights smaller than `near` times the layer's root mean square; Gaussian: 0.08 for 0.1
    dead: float  # share of filters whose norm is below `dead` times the layer's largest
    norm: float
    spectral_norm: float


def weight_statistics(model: nn.Module, *, near: float = 0.1, dead: float = 0.01) -> list[LayerStatistics]:
    """The statistics of every convolution and linear layer, in the model's order."""
    if near <= 0 or not 0 <= dead < 1:
        raise InputError(f"near is above 0 and dead 0 or more and below 1; got {near} and {dead}")
    found = []
    for name, weight in weights_of(model).items():
        w = weight.double().flatten(1)
        filters = w.norm(dim=1)
        found.append(LayerStatistics(
            name, tuple(weight.shape), w.mean().item(), w.std(correction=0).item(), excess_kurtosis(w),
            (w.abs() < near * w.square().mean().sqrt()).double().mean().item(),
            (filters <= dead * filters.max()).double().mean().item(), w.norm().item(), spectral_norm(weight),
        ))  # fmt: skip
    return found


def weights_of(model: nn.Module) -> dict[str, Float[Tensor, "..."]]:
    """The weights of convolutions and linear layers by the layer's name. InputError where there are none, or NaN."""
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, kinds):
            weight = module.weight.detach()
            turned = isinstance(module, nn.modules.conv._ConvTransposeNd)  # its filters stand in columns
            found[name] = weight.transpose(0, 1) if turned else weight
    if not found:
        raise InputError(f"{type(model).__name__} has no convolution or linear layer")
    broken = [name for name, weight in found.items() if not bool(torch.isfinite(weight).all())]
    if broken:
        raise InputError(f"the layer '{broken[0]}' has NaN or infinite weights")
    return found


def excess_kurtosis(values: Float[Tensor, "..."]) -> float:
    """How heavy the tails are: the fourth moment around the mean over the squared variance, less 3; 0 if all agree."""
    apart = values.double() - values.double().mean()
    variance = apart.square().mean()
    return (apart.pow(4).mean() / variance.square() - 3).item() if variance > 0 else 0.0


def spectral_norm(weight: Float[Tensor, "o ..."], *, tolerance: float = 1e-7, steps: int = 2000) -> float:
    """The largest singular value of the filters as rows of a matrix, by power iteration."""
    W = weight.detach().float().flatten(1)
    G = W @ W.mT if W.shape[0] < W.shape[1] else W.mT @ W  # the smaller of the two has the same eigenvalues
    v = G.square().sum(1).sqrt()  # no direction that a symmetry could make orthogonal to the largest
    v = v + 0.1 * v.mean() * torch.linspace(-1, 1, len(v), device=v.device)
    if not G.any():
        return 0.0
    value = 0.0
    for _ in range(steps):
        v = v / v.norm()
        u = G @ v
        before, value = value, float(v @ u)
        if abs(value - before) <= tolerance * value:
            break
        v = u
    return value**0.5


def relative_change(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """|after - before| / |before| of each tensor of weights by name; those that began at zero are left out.

    InputError where the two aren't checkpoints of one network.
    """
    if {name: value.shape for name, value in before.items()} != {name: value.shape for name, value in after.items()}:
        raise InputError("the two sets of weights differ in names or shapes: they are not of one network")
    norms = {name: value.double().norm().item() for name, value in before.items()}
    return {name: (after[name].double() - before[name].double()).norm().item() / norm
            for name, norm in norms.items() if norm > 0}  # fmt: skip


def connection_pattern(layer: nn.Module) -> Float[Tensor, "o i"]:
    """Which input channel each filter listens to, and how loudly: norms of kernel slices, 0 where none is connected."""
    if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
        raise InputError(f"a convolution or linear layer has connections between channels; not {type(layer).__name__}")
    weight = layer.weight.detach()
    norms = weight.abs() if weight.ndim == 2 else weight.flatten(2).norm(dim=2)  # (o, i / groups)
    groups = getattr(layer, "groups", 1)
    if groups == 1:
        return norms
    return torch.block_diag(*norms.chunk(groups))
