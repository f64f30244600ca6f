"""What a model costs: parameters, multiplications with additions, and activations, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from vivace.base.errors import InputError
from vivace.base.hooks import evaluating


@dataclass(frozen=True)
class LayerCost:
    """One layer (a module without modules inside), for one picture."""

    name: str
    kind: str  # its class: "Conv2d", "Linear"
    shape: tuple[int, ...]  # of what it puts out, without the batch
    parameters: int
    multiply_adds: int
    activations: int  # numbers that it puts out


@dataclass(frozen=True)
class Cost:
    """A model's layers in the order in which they run."""

    layers: tuple[LayerCost, ...]

    def of(self, *kinds: str) -> "Cost":
        """Only the layers of these kinds: `cost(vgg16()).of("Linear").parameters`."""
        return Cost(tuple(layer for layer in self.layers if layer.kind in kinds))

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiplications, each with its addition, in convolutions and matrix products: half the "FLOPs"."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def activations(self) -> int:
        """Numbers that all layers put out: what training keeps in memory, up to what works in place."""
        return sum(layer.activations for layer in self.layers)


@torch.no_grad()
def cost(model: nn.Module, shape: Sequence[int] = (3, 224, 224)) -> Cost:
    """What the model costs for one picture of that shape, in evaluation mode; only shapes are computed, on "meta".

    A layer that runs several times counts its work each time and its parameters once; work and weights outside any
    layer (a product in a model's own `forward`) count under the name of the model.
    """
    runs: list[tuple[str, nn.Module, Tensor]] = []

    def note(name: str, module: nn.Module, output: object) -> None:
        if isinstance(output, Tensor):
            runs.append((name, module, output))

    leaves = [(name, module) for name, module in model.named_modules() if not any(module.children())]
    handles = [leaf.register_forward_hook(lambda m, _, out, name=name: note(name, m, out)) for name, leaf in leaves]
    try:
        with FlopCounterMode(display=False) as counter, evaluating(model):
            run_on_shapes(model, torch.empty(1, *shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return Cost(_layers(model, runs, counter))


def run_on_shapes(model: nn.Module, pictures: Tensor) -> Any:
    """What the model puts out for pictures on "meta": nothing but shapes is computed, and nothing of it is changed.

    InputError where the model takes no such pictures.
    """
    dtype = pictures.dtype
    tensors = {name: torch.empty_like(tensor, device="meta", dtype=dtype if tensor.is_floating_point() else None)
               for name, tensor in (*model.named_parameters(), *model.named_buffers())}  # fmt: skip
    try:
        return functional_call(model, tensors, (pictures,))
    except RuntimeError as error:
        shape, why = tuple(pictures.shape[1:]), str(error).splitlines()[0]
        raise InputError(f"{type(model).__name__} takes no picture {shape}: {why}") from None


def bytes_kept(model: nn.Module, picture: Tensor) -> int:
    """Bytes for each picture that autograd keeps of a forward pass in training, each memory once; weights don't count.

    The model is left in training mode. It sees the picture (1, C, H, W) twice, since batch norms need two values.
    """
    weights = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    found: dict[int, Tensor] = {}  # the tensors themselves, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(picture.expand(2, -1, -1, -1).clone())
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values()) // 2


def _layers(model: nn.Module, runs: Sequence[tuple[str, nn.Module, Tensor]], counter: FlopCounterMode
            ) -> tuple[LayerCost, ...]:  # fmt: skip
    top = type(model).__name__
    work = {name: sum(ops.values()) // 2 for name, ops in counter.get_flop_counts().items()}
    found: dict[str, LayerCost] = {}
    for name, module, output in runs:
        before = found[name].activations if name in found else 0
        parameters = sum(weight.numel() for weight in module.parameters())
        found[name] = LayerCost(name, type(module).__name__, tuple(output.shape[1:]), parameters,
                                work.get(f"{top}.{name}" if name else top, 0), before + output.numel())  # fmt: skip
    outside = LayerCost(
        top, top, (),
        sum(weight.numel() for weight in model.parameters()) - sum(layer.parameters for layer in found.values()),
        work.get("Global", 0) - sum(layer.multiply_adds for layer in found.values()), 0,
    )  # fmt: skip
    return (*found.values(), *([outside] if outside.parameters or outside.multiply_adds else []))
