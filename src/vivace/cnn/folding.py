"""Folding batch normalisation: at inference it is one more scale and shift, which the layer before can do itself.

Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam, Kalenichenko, "Quantization and training of neural networks for efficient
integer-arithmetic-only inference" (2018), section 3.2, eq. 14.
In: a model in evaluation mode. Out: a copy with fewer layers to compute; the same answers up to rounding.
Departs from the paper: nothing is quantised; which layers follow each other is found by running the model on shapes.
"""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeGuard, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vivace.base.cost import run_on_shapes
from vivace.base.errors import InputError

M = TypeVar("M", bound=nn.Module)

FOLDABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def for_inference(model: M, shape: Sequence[int] = (3, 224, 224)) -> M:
    """A copy that answers as `model` does in evaluation mode, sooner; it has no gradients and can't be copied or saved.

    Batch norms are folded, ReLUs work in place where nothing else reads what they overwrite (so that a hook on the
    layer before sees it overwritten), maps lie channels-last in memory, and on a CPU each convolution's weights are
    laid out once as they are needed. `shape` is that of a picture the model takes; other sizes may come later.
    """
    faster = fold_batch_norms(copy.deepcopy(model).eval(), shape)
    runs, reads = _observed(faster, shape, (nn.ReLU, nn.ReLU6))
    shared = {relu for relu, taken, _ in runs if reads[taken] > 1}
    for relu, _, _ in runs:
        relu.inplace = relu not in shared
    for name, layer in list(faster.named_modules()):
        if _packable(layer):
            faster.set_submodule(name, PackedConv2d(layer))
    return faster.to(memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]


class PackedConv2d(nn.Module):
    """A convolution whose weights lie as oneDNN computes with them; `nn.Conv2d` lays them out anew at every call.

    The two operators are those that `torch.compile` calls on a CPU; the maps they put out are channels-last.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.geometry = conv.padding, conv.stride, conv.dilation, conv.groups
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight.detach(), *self.geometry)
        self.bias = conv.bias

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d oh ow"]:
        return torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *self.geometry, "none", [], "")


def _packable(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    return (type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and isinstance(layer.padding, tuple)
            and layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32
            and torch.backends.mkldnn.is_available())  # fmt: skip


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
    runs, reads = _observed(folded, shape, (*FOLDABLE, _BatchNorm))
    times = Counter(module for module, _, _ in runs)
    made = {put: module for module, _, put in runs if isinstance(module, FOLDABLE)}
    for norm, taken, _ in runs:
        layer = made.get(taken)
        if (isinstance(norm, _BatchNorm) and norm.running_mean is not None and layer is not None
                and times[layer] == times[norm] == reads[taken] == 1):  # fmt: skip
            _fold(layer, norm)
            folded.set_submodule(names[norm], nn.Identity())
    return folded


@torch.no_grad()
def _fold(layer: nn.Module, norm: _BatchNorm) -> None:
    """gamma (W x + b - mu) / sigma + beta = (gamma / sigma) W x + (b - mu) gamma / sigma + beta."""
    W, mu = layer.get_parameter("weight").double(), norm.get_buffer("running_mean").double()
    gamma = torch.ones_like(mu) if norm.weight is None else norm.weight.double()
    beta = torch.zeros_like(mu) if norm.bias is None else norm.bias.double()
    b = torch.zeros_like(mu) if layer.bias is None else layer.get_parameter("bias").double()
    scale = gamma / (norm.get_buffer("running_var").double() + norm.eps).sqrt()
    like = layer.get_parameter("weight")
    for name, tensor in (("weight", W * scale.view(-1, *[1] * (W.ndim - 1))), ("bias", (b - mu) * scale + beta)):
        setattr(layer, name, nn.Parameter(tensor.to(like), requires_grad=like.requires_grad))


@torch.no_grad()
def _observed(model: nn.Module, shape: Sequence[int], kinds: tuple[type[nn.Module], ...]
              ) -> tuple[list[tuple[Any, int, int]], Counter[int]]:  # fmt: skip
    """What runs of these layers took and put out, each a memory by its address, and how often each memory is read.

    Shapes alone are computed, on "meta"; a view has the memory of what it is a view of.
    """
    picture = torch.empty(1, *shape, device="meta")
    runs: list[tuple[Any, int, int]] = []
    handles = [
        module.register_forward_hook(lambda module, given, put: runs.append((module, _memory(given[0]), _memory(put))))
        for module in model.modules()
        if isinstance(module, kinds)
    ]
    try:
        with _Reads() as seen:
            output = run_on_shapes(model, picture)
    finally:
        for handle in handles:
            handle.remove()
    seen.read([picture, output])  # both are the caller's too
    return runs, seen.reads


class _Reads(TorchDispatchMode):
    """Counts the operations that read each memory, and keeps them all, so that no address comes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[int] = Counter()
        self.kept: list[Any] = []

    def read(self, values: Any) -> None:
        self.reads.update({_memory(leaf) for leaf in tree_leaves(values) if isinstance(leaf, Tensor)})

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.read((args, kwargs))
        self.kept.append(operation(*args, **(kwargs or {})))
        return self.kept[-1]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
