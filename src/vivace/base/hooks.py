"""Look inside any torch model: layers by name, activations on the way; no hook outlives its use."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from vivace.base.errors import InputError, unknown

Layer = str | nn.Module  # by dotted name ("blocks.3.0") or the module itself

POOLINGS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d)
PASSED_OVER = (*POOLINGS, nn.Dropout, nn.Softmax)  # the last two also put out attention's weights, which look like maps

# tokens before those of the patches: none; a class token; one for distillation too; four registers; these and a class
EXTRA_TOKENS = (0, 1, 2, 4, 5)


class _Enough(Exception):
    """Raised by the last hook: what comes after the deepest wanted layer need not be computed."""


def find_layer(model: nn.Module, layer: Layer) -> nn.Module:
    """The model's layer of that dotted name ("blocks.3.0"), or the module itself if it is the model's."""
    if isinstance(layer, str):
        try:
            found = model.get_submodule(layer) if layer else None
        except AttributeError:
            found = None
        if found is None:
            raise unknown("layer", layer, [name for name, _ in model.named_modules() if name])
        return found
    if not any(layer is module for module in model.modules()):
        raise InputError(f"the layer {type(layer).__name__} given is not part of the model {type(model).__name__}")
    return layer


@contextmanager
def hooked(modules: Iterable[nn.Module], hook: Callable[[nn.Module, Any], Any]) -> Iterator[None]:
    """Let `hook(module, output)` see, and replace if it returns one, what the modules put out in this thread."""
    thread = threading.get_ident()

    def mine(module: nn.Module, _: object, output: object) -> object:
        return hook(module, output) if threading.get_ident() == thread else None

    handles = [module.register_forward_hook(mine) for module in set(modules)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model as it predicts: dropout off, batch statistics and weights fixed; afterwards all of it is as it was."""
    training = [module for module in model.modules() if module.training]
    learning = [weight for weight in model.parameters() if weight.requires_grad and not weight.is_inference()]
    for module in training:
        module.training = False
    for weight in learning:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for weight in learning:
            weight.requires_grad_(True)


def activations(model: nn.Module, images: Tensor, layers: Sequence[Layer]) -> list[Tensor]:
    """What the layers put out when the model sees the images, in the order of `layers`, part of the graph.

    The forward pass stops once all of them have answered. InputError for a layer that is unknown or never reached.
    """
    modules = [find_layer(model, layer) for layer in layers]
    found: dict[nn.Module, Tensor] = {}
    enough = _Enough()  # ours: a model may look into a part of itself in the same way

    def keep(module: nn.Module, output: object) -> Tensor:
        if not isinstance(output, Tensor):
            raise InputError(f"the layer {_names([module])} puts out {_shape(output)}, not a tensor")
        found[module] = output
        if len(found) == len(set(modules)):
            raise enough
        return output.clone()  # what works in place from here on doesn't reach ours

    try:
        with hooked(modules, keep):
            model(images)
    except _Enough as stop:
        if stop is not enough:
            raise
    missed = [layer for layer, module in zip(layers, modules, strict=True) if module not in found]
    if missed:
        raise InputError(f"the model never ran its layer {_names(missed)}")
    return [found[module] for module in modules]


@contextmanager
def graph_from(model: nn.Module, images: Tensor, layer: Layer | None = None,
               score: Callable[[Any], object] | None = None) -> Iterator[tuple[Tensor, Any]]:  # fmt: skip
    """A layer's output A, and the model's output, to be differentiated with respect to A.

        with graph_from(model, images, "layer4") as (A, logits):
            (gradient,) = torch.autograd.grad(logits[:, 3].sum(), A)

    A is as the layer gives it: a map (B, K, h, w), or what `spatial_maps.as_map` makes one of, such as tokens. The
    graph begins at the layer, so nothing before it is kept for a backward pass; `layer=None` takes the last layer
    with a spatial map, poolings left out, and has to keep all. Of tokens it takes the last by whose patches the `score`
    of the output has a gradient: after that layer the class token alone is read. A layer that runs several times
    answers with its last run. The model predicts as in evaluation, whether it is being trained or not, and a `no_grad`
    or `inference_mode` around the call changes nothing. InputError where there is no such layer or it has no map.
    """
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
        yield _from_last_map(model, images, score) if layer is None else _from_layer(model, images, layer)


def _from_layer(model: nn.Module, images: Tensor, layer: Layer) -> tuple[Tensor, Any]:
    found: list[Tensor] = []

    def cut(_: nn.Module, output: object) -> object:
        A = first_tensor(output)
        if A is None or find_map(A, images) is None:
            raise InputError(f"the layer {_names([layer])} puts out {_shape(output)}, not a spatial map (B, K, h, w)")
        torch.set_grad_enabled(True)  # the model may freeze a part of itself by a `no_grad` of its own
        found[:] = [A.detach().clone().requires_grad_()]
        return with_first(output, found[0].clone())  # what works in place from here on doesn't reach ours

    with hooked([find_layer(model, layer)], cut):
        output = _call(model, images.detach().clone())
    if not found:
        raise InputError(f"the model never ran its layer {_names([layer])}")
    return found[0], output


def _from_last_map(model: nn.Module, images: Tensor, score: Callable[[Any], object] | None) -> tuple[Tensor, Any]:
    found: list[tuple[nn.Module, Tensor]] = []  # the last map, and the tokens since then
    passed: list[object] = []
    grids: set[tuple[int, ...]] = set()

    def note(module: nn.Module, output: object) -> None:
        if isinstance(module, PASSED_OVER):
            passed[:] = [output]
        A = first_tensor(output)
        if A is None or any(output is p for p in passed):  # nor a Sequential that ends with a pooling
            return
        m = find_map(A, images)
        if m is not None and A.ndim == 4 and not any(t.shape[1] in A.shape[2:] for _, t in found if t.ndim == 3):
            grids.add(tuple(m.shape[2:]))
            found[:] = [(module, A)]
        elif m is not None and A.ndim == 3 and not isinstance(module, nn.Linear) and _cut_from(grids, *m.shape[2:]):
            found.append((module, A))

    with hooked([module for module in model.modules() if module is not model], note):
        output = _call(model, images.detach().clone().requires_grad_().clone())  # twice: it may work in place at once
    if not found:
        raise InputError("none of the model's layers puts out a spatial map (B, K, h, w)")
    y = score(output) if score is not None and len(found) > 1 else None
    while isinstance(y, Tensor) and y.requires_grad and len(found) > 1 and not _moves(y, found[-1][1], images):
        found.pop()
    module, A = found[-1]
    return (A, output) if A.requires_grad else _from_layer(model, images, module)


def _cut_from(grids: set[tuple[int, ...]], h: int, w: int) -> bool:
    """Whether tokens of that grid come from a map, halved some times or never: a sentence's words, say, do not."""
    return not grids or any((h << halved, w << halved) in grids for halved in range(6))


def _moves(y: Tensor, tokens: Tensor, images: Tensor) -> bool:
    """Whether the patches' tokens matter to the score."""
    if not tokens.requires_grad:
        return True
    (gradient,) = torch.autograd.grad(y.sum(), tokens, retain_graph=True, allow_unused=True)
    of_patches = None if gradient is None else find_map(gradient, images)
    return of_patches is not None and bool(of_patches.any())


def _call(model: nn.Module, images: Tensor) -> Any:
    """The model's output, also where its weights were made in inference mode and so can't be part of a graph."""
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps: a hook would make it compile once more
    if not any(weight.is_inference() for weight in islice(model.parameters(), 1)):  # all are made together
        return model(images)
    tensors = chain(model.named_parameters(), model.named_buffers())
    return functional_call(model, {name: tensor.clone() for name, tensor in tensors}, (images,))


def _shape(output: object) -> str:
    return str(tuple(output.shape)) if isinstance(output, Tensor) else f"a {type(output).__name__}"


def _names(layers: Iterable[Layer]) -> str:
    return ", ".join(layer if isinstance(layer, str) else type(layer).__name__ for layer in layers)


def as_map(A: Tensor, images: Tensor) -> Float[Tensor, "b k mh mw"]:
    """A layer's output as a map (B, K, h, w); InputError if it isn't one."""
    found = find_map(A, images)
    if found is None:
        raise InputError(f"an output {tuple(A.shape)} is not a spatial map (B, K, h, w)")
    return found


def find_map(A: Tensor, images: Tensor) -> Tensor | None:
    """A layer's output as a map (B, K, h, w) of several positions, if it is one; a view, nothing is copied.

    (B, K, h, w) stays; (B, h, w, K), told by the pictures' proportions, is turned round; so are tokens (B, N, K) or
    (N, B, K), if their number less that of tokens which are no patches (`EXTRA_TOKENS`, at the beginning) makes up a
    grid of the pictures' proportions.
    """
    if A.ndim not in (3, 4):
        return None
    height, width = images.shape[2:]
    if A.ndim == 3 and len(A) != len(images) and A.shape[1] == len(images):
        A = A.transpose(0, 1)
    if len(A) != len(images):
        return None  # windows, or patches as a batch
    if A.ndim == 3:
        for extra in EXTRA_TOKENS:
            grid = _grid(A.shape[1] - extra, height, width)
            if grid is not None:
                return A[:, extra:].transpose(1, 2).unflatten(2, grid)
        return None
    _, first, second, last = A.shape
    if last > first and abs(first * width - second * height) < abs(second * width - last * height):
        A = A.permute(0, 3, 1, 2)
    return A if A.shape[2:].numel() > 1 else None


def first_tensor(output: object) -> Tensor | None:
    """The tensor that a layer puts out, or the first of several: attention gives its weights too."""
    first = output[0] if isinstance(output, tuple | list) and output else output
    return first if isinstance(first, Tensor) else None


def with_first(output: Any, tensor: Tensor) -> Any:
    """The same output with this tensor in the first one's place."""
    if hasattr(output, "_make"):  # a named tuple
        return output._make([tensor, *output[1:]])
    return type(output)([tensor, *output[1:]]) if isinstance(output, tuple | list) else tensor


def _grid(count: int, height: int, width: int) -> tuple[int, int] | None:
    """Rows and columns of so many square patches that the picture is cut into, what is left over at its ends lost."""
    if count < 2:
        return None
    h = max(1, round((count * height / width) ** 0.5))
    w = count // h
    smallest, largest = max(height // (h + 1), width // (w + 1)) + 1, min(height // h, width // w)
    return (h, w) if h * w == count and smallest <= largest else None
