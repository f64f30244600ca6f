"""Look inside any torch model: layers by name, activations on the way; no hook outlives its use."""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from vivace.base.errors import InputError, unknown


class _Enough(Exception):
    """Raised by the last hook: what comes after the deepest wanted layer need not be computed."""


def find_layer(model: nn.Module, layer: str | nn.Module) -> nn.Module:
    """The model's layer of that dotted name ("blocks.3.0"), or the module itself if it is the model's."""
    modules = dict(model.named_modules())
    if isinstance(layer, str):
        if layer not in modules or not layer:
            raise unknown("layer", layer, [name for name in modules if name])
        return modules[layer]
    if not any(layer is module for module in modules.values()):
        raise InputError(f"the layer {type(layer).__name__} given is not part of the model {type(model).__name__}")
    return layer


def activations(model: nn.Module, images: Tensor, layers: Sequence[str | nn.Module]) -> list[Tensor]:
    """What the layers put out when the model sees the images, in the order of `layers`, part of the graph.

    The forward pass stops once all of them have answered. InputError for a layer that is unknown or never reached.
    """
    modules = [find_layer(model, layer) for layer in layers]
    found: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, _: object, output: Tensor) -> None:
        found[module] = output
        if len(found) == len(set(modules)):
            raise _Enough

    handles = [module.register_forward_hook(keep) for module in set(modules)]
    try:
        model(images)
    except _Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    missed = [layer for layer, module in zip(layers, modules, strict=True) if module not in found]
    if missed:
        raise InputError(f"the model never ran its layer {_names(missed)}")
    return [found[module] for module in modules]


def _names(layers: Iterable[str | nn.Module]) -> str:
    return ", ".join(layer if isinstance(layer, str) else type(layer).__name__ for layer in layers)
