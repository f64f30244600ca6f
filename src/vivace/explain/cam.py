"""Class activation map: where the evidence for a class lies, read off the weights of the classifier itself.

Zhou, Khosla, Lapedriza, Oliva, Torralba, "Learning deep features for discriminative localization" (2016), eq. 2.
In: pictures (B, C, H, W) as the model takes them. Out: maps (B, h, w) of the last layer's size, any sign.
Departs from the paper: the pooling is the mean over positions, as networks have it, not the sum; so the mean of a map,
plus the classifier's bias (the paper leaves it out), is the class's logit.
"""

import operator
import warnings
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from vivace.base.errors import InputError, unknown
from vivace.base.hooks import Layer, as_map, graph_from

# which class a map is for: its index or name, one for each picture, or None for what the model predicts
Target = int | str | Sequence[int | str] | Int[Tensor, "..."] | Int[np.ndarray, "..."] | None


def cam(
    model: nn.Module,
    images: Num[Tensor, "b c h w"],
    target: Target = None,
    *,
    layer: Layer | None = None,
    classes: Sequence[str] | None = None,
    normalize: bool = False,
    enlarge: bool = False,
) -> Float[Tensor, "b mh mw"]:
    """The class activation maps of a model that ends with global average pooling and one linear classifier.

    `target`: the class; `classes`: their names in the order of the logits, if it is a name. `layer`: what is pooled,
    where the last layer with a spatial map is not it. `normalize`: negative evidence cut off, the rest in [0, 1].
    `enlarge`: to the pictures' size, bilinearly. InputError if the model has no such head (`grad_cam` needs none).
    """
    check_batch(images)
    with graph_from(model, images, layer) as (A, logits):
        A, logits = as_map(A.detach(), images), logits.detach() if isinstance(logits, Tensor) else logits
    c = class_indices(target, logits, classes)
    F_k, w = _pooled_and_weights(model, A, logits)
    M_c = torch.einsum("bk,bkij->bij", w[c], F_k)  # eq. 2
    return heat_map(M_c, images, normalize=normalize, enlarge=enlarge)


def _pooled_and_weights(model: nn.Module, A: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """The maps F (B, K, h, w) and the weights (classes, K) with mean(F) @ weights.T + bias = logits, if they exist.

    Found by trying, not by the names of layers: any linear layer of that shape, and the maps with or without a ReLU,
    which may be a function that no hook sees.
    """
    A, y = _wide(A), _wide(logits)
    close = torch.finfo(logits.dtype).eps ** 0.5 * y.abs().max()
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.flatten(1).shape == (y.shape[1], A.shape[1]):
            w = _wide(module.weight.detach()).flatten(1)
            b = 0 if module.bias is None else module.bias.detach()
            for F_k in (A, F.relu(A)):
                if (F_k.mean((2, 3)) @ w.T + b - y).abs().max() <= close:
                    return F_k, w
    raise InputError(
        f"CAM needs global average pooling directly before one linear classifier; {type(model).__name__} does not end "
        f"so after its {A.shape[1]} maps of {A.shape[2]} x {A.shape[3]} (grad_cam takes any head)"
    )


def check_batch(images: Tensor) -> None:
    """InputError unless these are pictures that a model can see: (B, C, H, W) of as many channels as it takes."""
    if images.ndim != 4 or 0 in images.shape:
        raise InputError(f"pictures come as a batch (B, C, H, W); this tensor is {tuple(images.shape)}")
    if not images.is_floating_point():
        raise InputError(f"pictures are float in [0, 1]; this tensor is {images.dtype} (divide bytes by 255)")
    if not bool(torch.isfinite(images).all()):
        raise InputError("these pictures have NaN or infinite pixels")


def class_indices(target: Target, logits: object, classes: Sequence[str] | None = None) -> Int[Tensor, "b"]:
    """The class of each picture as an index; InputError for a name or an index that doesn't exist."""
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = str(tuple(logits.shape)) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise InputError(f"the model puts out {found}, not the scores of classes (B, classes)")
    if target is None:
        return logits.argmax(1)
    chosen = target.tolist() if hasattr(target, "tolist") else target  # of torch or numpy
    chosen = list(chosen) if isinstance(chosen, Sequence) and not isinstance(chosen, str) else [chosen] * len(logits)
    if len(chosen) != len(logits):
        raise InputError(f"{len(chosen)} target classes for {len(logits)} pictures; one for all, or one for each")
    return torch.tensor([_index(c, logits.shape[1], classes) for c in chosen], device=logits.device)


def _index(c: object, count: int, classes: Sequence[str] | None) -> int:
    if isinstance(c, str):
        if classes is None:
            raise InputError(f"the class '{c}' is a name: give classes=, the names in the order of the scores")
        names = [name.lower() for name in classes]
        if c.lower() not in names:
            raise unknown("class", c, classes)
        return names.index(c.lower())
    try:
        index = operator.index(c)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(f"a class is an index or a name, not {c!r}") from None
    if not 0 <= index < count:
        raise InputError(f"there is no class {index}: the model has {count}, 0 to {count - 1}")
    return index


def heat_map(
    heat: Float[Tensor, "b mh mw"], images: Tensor, *, normalize: bool, enlarge: bool
) -> Float[Tensor, "b _ _"]:
    """The maps as asked for: of the pictures' size, in [0, 1]."""
    if enlarge:
        heat = F.interpolate(heat[:, None], size=images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return unit_heat(heat) if normalize else heat


def unit_heat(heat: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Each map in [0, 1]: negative values cut off, divided by its maximum; warns of maps that are zero and stay so."""
    heat = heat.clamp_min(0)
    top = heat.amax((1, 2), keepdim=True)
    empty = (top.flatten() == 0).nonzero().flatten().tolist()
    if empty:
        warnings.warn(f"nothing speaks for the class in picture {empty}: the map is zero everywhere", stacklevel=2)
    return heat / torch.where(top > 0, top, 1)


def _wide(x: Tensor) -> Tensor:
    """At least float32: sums over a thousand maps in half precision lose digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
