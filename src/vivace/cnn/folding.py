"""Folding batch normalisation: at inference it is one more scale and shift, which the layer before can do itself.

Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam, Kalenichenko, "Quantization and training of neural networks for efficient
integer-arithmetic-only inference" (2018), section 3.2, eq. 14.
In: a model in evaluation mode. Out: a copy with fewer layers to compute; the same answers up to rounding.
Departs from the paper: nothing is quantised; which layers follow each other is found by running the model on shapes.
"""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vivace.base.errors import InputError

M = TypeVar("M", bound=nn.Module)

FOLDABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def for_inference(model: M, shape: Sequence[int] = (3, 224, 224)) -> M:
    """A copy that answers as `model` does in evaluation mode, sooner: batch norms folded, weights channels-last."""
    return fold_batch_norms(copy.deepcopy(model).eval(), shape).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def fold_batch_norms(model: M, shape: Sequence[int] = (3, 224, 224)) -> M:
    """A copy whose convolutions (and linear layers) do what the batch normalisations after them did.

    A normalisation folds where it is all that ever reads the layer's output; it becomes `nn.Identity`, so that names
    stay. One that sees a sum, a concatenation or a ReLU's output, as in DenseNet, stays what it is.

    shape: of a picture that the model takes, without the batch; only shapes are computed
    """
    if any(module.training for module in model.modules()):
        raise InputError("the model is being trained, and its batch norms' statistics with it: call model.eval() first")
    folded = copy.deepcopy(model)
    names = {module: name for name, module in folded.named_modules()}
    for layer, norm in _pairs(folded, shape):
        _fold(layer, norm)
        folded.set_submodule(names[norm], nn.Identity())
    return folded


@torch.no_grad()
def _fold(layer: nn.Module, norm: _BatchNorm) -> None:
    """gamma (W x + b - mu) / sigma + beta = (gamma / sigma) W x + (b - mu) gamma / sigma + beta."""
    W, mu = layer.weight.double(), norm.running_mean.double()  # type: ignore[operator, union-attr]
    gamma = torch.ones_like(mu) if norm.weight is None else norm.weight.double()
    beta = torch.zeros_like(mu) if norm.bias is None else norm.bias.double()
    b = torch.zeros_like(mu) if layer.bias is None else layer.bias.double()  # type: ignore[operator]
    scale = gamma / (norm.running_var.double() + norm.eps).sqrt()  # type: ignore[union-attr]
    folded = W * scale.view(-1, *[1] * (W.ndim - 1)), (b - mu) * scale + beta
    learned, like = layer.weight.requires_grad, layer.weight
    layer.weight, layer.bias = (nn.Parameter(tensor.to(like), requires_grad=learned) for tensor in folded)  # type: ignore[arg-type]


def _pairs(model: nn.Module, shape: Sequence[int]) -> list[tuple[nn.Module, _BatchNorm]]:
    """Layers and the batch normalisation that alone reads what they put out, each run once."""
    made: dict[int, nn.Module] = {}  # the id of a tensor that a foldable layer put out
    runs: Counter[nn.Module] = Counter()
    found: list[tuple[nn.Module, _BatchNorm, int]] = []

    def note(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        runs[module] += 1
        if isinstance(module, FOLDABLE):
            made[id(output)] = module
        elif id(given[0]) in made and module.running_mean is not None:
            found.append((made[id(given[0])], module, id(given[0])))  # type: ignore[arg-type]

    reads = _reads(model, shape, note)
    return [(layer, norm) for layer, norm, between in found if runs[layer] == runs[norm] == reads[between] == 1]


@torch.no_grad()
def _reads(model: nn.Module, shape: Sequence[int], note: Callable[..., None]) -> Counter[int]:
    """Run the model on "meta", tell `note` of each layer, and count how often each tensor, by its id, is read."""
    tensors = {name: torch.empty_like(tensor, device="meta")
               for name, tensor in (*model.named_parameters(), *model.named_buffers())}  # fmt: skip
    watched = [module for module in model.modules() if isinstance(module, (*FOLDABLE, _BatchNorm))]
    handles = [module.register_forward_hook(note) for module in watched]
    try:
        with _Reads() as mode:
            output = functional_call(model, tensors, (torch.empty(1, *shape, device="meta"),))
    except RuntimeError as error:
        why = str(error).splitlines()[0]
        raise InputError(f"{type(model).__name__} takes no picture {tuple(shape)}: {why}") from None
    finally:
        for handle in handles:
            handle.remove()
    mode.reads.update(id(leaf) for leaf in tree_leaves(output))
    return mode.reads


class _Reads(TorchDispatchMode):
    """Counts the operations that read each tensor, and keeps all tensors, so that no id comes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[int] = Counter()
        self.kept: list[Any] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.reads.update(id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        self.kept.append(operation(*args, **(kwargs or {})))
        return self.kept[-1]
