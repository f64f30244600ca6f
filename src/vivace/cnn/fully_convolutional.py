"""Fully convolutional network: a classifier made to answer at every place, and brought back to the picture's size.

Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation" (2015), sections 3.1, 4.2, 4.3.
In: pictures (B, 3, H, W), RGB, [0, 1]. Out: a score map (B, classes, h, w), or logits (B, classes, H, W) at full size.
Departs from the paper: pictures are padded to a multiple of the largest stride and the logits cut, in place of a border
of 100 zeros; skips work on any backbone.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.cost import run_on_shapes
from vivace.base.errors import InputError
from vivace.base.hooks import activations, evaluating, find_layer, hooked


def convolutionalize(model: nn.Module, *, size: int = 224) -> "ScoreMap":
    """A classifier with fully connected layers, or an average, at its end as one that gives a score map for any size.

        convolutionalize(vgg16(weights="imagenet"))(picture)     # 384 x 512 pixels: (1, 1000, 6, 10)

    The first layer after the flattened 7 x 7 map becomes a 7 x 7 convolution, one after a global average 1 x 1, all
    others 1 x 1, with the same weights (shared, not copied). `size` is the side of the pictures that it was made for.
    For them the score map's mean equals the classifier's logits; InputError where it can't be made to.
    """
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise InputError(f"{type(model).__name__} has no fully connected layer to turn into a convolution")
    like = next(model.parameters())
    probe = torch.linspace(0, 1, 3 * size * size, device=like.device, dtype=like.dtype).view(1, 3, size, size).sin()
    maps: list[tuple[str, Tensor]] = []
    head: list[nn.Module] = []
    names = {module: name for name, module in model.named_modules()}
    after = (nn.Linear, nn.ReLU, nn.Dropout, nn.Tanh)

    def note(module: nn.Module, output: Tensor) -> None:
        if head or module is linear[0]:
            head.extend([module] if isinstance(module, after) else [])
        elif output.ndim == 4 and not isinstance(module, nn.AdaptiveAvgPool2d | nn.Dropout):
            maps[:] = [(names[module], output)]

    with torch.no_grad(), evaluating(model), hooked([m for m in model.modules() if m is not model], note):
        logits = model(probe)
    name, last = maps[0]
    kernels = {last.shape[1]: (1, 1), last[0].numel(): last.shape[-2:]}  # after an average, or flattened
    if linear[0].in_features not in kernels:
        shape = tuple(last.shape[1:])
        raise InputError(
            f"{type(model).__name__} was not made for {size} x {size} pictures: its layer {name} gives {shape}, but "
            f"{linear[0].in_features} numbers go on"
        )
    score_map = ScoreMap(model, name, _convolutions(head, kernels[linear[0].in_features]))
    with torch.no_grad(), evaluating(score_map):
        mean = score_map(probe).mean((2, 3))
    if mean.shape != logits.shape or not torch.allclose(mean, logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max())):
        raise InputError(
            f"between its layer {name} and its fully connected layers {type(model).__name__} does more than to flatten "
            "or average"
        )
    return score_map.train(model.training)


class ScoreMap(nn.Module):
    """A model up to one of its layers, and convolutions on that."""

    def __init__(self, model: nn.Module, layer: str, head: nn.Module) -> None:
        super().__init__()
        find_layer(model, layer)
        self.model, self.layer, self.head = model, layer, head

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k oh ow"]:
        return self.head(activations(self.model, images, [self.layer])[0])


class FullyConvolutional(nn.Module):
    """FCN on any backbone: scores at each of the layers, the coarsest enlarged, added to the next finer one, and so on.

        FullyConvolutional(vgg16(), ["features.30"], classes=21)                                    # FCN-32s
        FullyConvolutional(vgg16(), ["features.16", "features.23", "features.30"], classes=21)      # FCN-8s

    layers: names of layers, from fine to coarse, each at half the size of the one before
    head: what stands between the coarsest layer and its scores: in the paper fc6 and fc7 (`fc_head(vgg.classifier)`)
    """

    def __init__(
        self, backbone: nn.Module, layers: Sequence[str], *, classes: int, head: nn.Module | None = None
    ) -> None:
        super().__init__()
        if classes < 1:
            raise InputError(f"a class for every pixel needs at least one class; got {classes}")
        if not layers:
            raise InputError("a fully convolutional network needs the name of one layer at least, to take scores from")
        self.backbone, self.layers = backbone, tuple(layers)
        self.head = nn.Identity() if head is None else head
        whole = _Maps(backbone, self.layers, self.head)
        with torch.no_grad(), evaluating(whole):
            maps = run_on_shapes(whole, torch.empty(1, 3, 256, 256, device="meta"))
        self.strides = [256 // m.shape[-1] for m in maps]
        if any(2 * fine != coarse for fine, coarse in zip(self.strides, self.strides[1:], strict=False)):
            raise InputError(f"each layer must have half the size of the one before; these have strides {self.strides}")
        scores = [nn.Conv2d(m.shape[1], classes, 1) for m in maps]
        self.enlarge = nn.ModuleList(bilinear(classes, factor) for factor in (self.strides[0], *[2] * (len(maps) - 1)))
        self.enlarge[0].requires_grad_(False)  # section 4.3: the last stays bilinear, the others learn
        for layer in scores:  # section 4.2: a new skip begins by changing nothing
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        self.scores = nn.ModuleList(scores)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        height, width = images.shape[-2:]
        stride = self.strides[-1]
        padded = F.pad(images, (0, -width % stride, 0, -height % stride), mode="replicate")
        return self.decode(activations(self.backbone, padded, self.layers))[..., :height, :width]

    def decode(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b k h w"]:
        """The logits from the layers' maps: all that is trained where the backbone stays as it is."""
        total: Tensor = self.scores[-1](self.head(maps[-1]))
        for level in reversed(range(len(maps) - 1)):
            total = self.enlarge[level + 1](total) + self.scores[level](maps[level])
        return self.enlarge[0](total)


class _Maps(nn.Module):
    """The layers' maps, the last as the head makes it."""

    def __init__(self, backbone: nn.Module, layers: Sequence[str], head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.layers, self.head = backbone, layers, head

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        *finer, coarsest = activations(self.backbone, images, self.layers)
        return [*finer, self.head(coarsest)]


def bilinear(channels: int, factor: int) -> nn.ConvTranspose2d:
    """A transposed convolution that begins as bilinear enlargement by an even factor, each channel by itself."""
    kernel = 2 * factor
    at = 1 - (torch.arange(kernel) + 0.5 - factor).abs() / factor  # a triangle: 1 at the middle, 0 beyond the ends
    layer = nn.ConvTranspose2d(channels, channels, kernel, stride=factor, padding=factor // 2, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[range(channels), range(channels)] = at[:, None] * at
    return layer


def fc_head(head: nn.Sequential, side: int = 7) -> nn.Sequential:
    """A classifier's fully connected layers but the last, as convolutions that keep the map's size."""
    layers = [layer for layer in head if isinstance(layer, nn.Linear | nn.ReLU | nn.Dropout)]
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear))
    convolutions = _convolutions(layers[:last], (side, side))
    first = convolutions[0]
    assert isinstance(first, nn.Conv2d)
    first.padding = (side // 2, side // 2)
    return convolutions


def _convolutions(head: Sequence[nn.Module], kernel: Sequence[int]) -> nn.Sequential:
    """The layers with each linear one as a convolution: the first of that kernel, the others 1 x 1."""
    layers: list[nn.Module] = []
    h, w = kernel
    for layer in head:
        if isinstance(layer, nn.Linear):
            with torch.device("meta"):
                convolution = nn.Conv2d(layer.in_features // (h * w), layer.out_features, (h, w))
            convolution.weight = nn.Parameter(layer.weight.unflatten(1, (-1, h, w)))
            convolution.bias = layer.bias
            layer, h, w = convolution, 1, 1
        layers.append(layer)
    return nn.Sequential(*layers)
