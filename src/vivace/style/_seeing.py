"""What a network sees of a picture: the maps in which content and style are compared, by layer."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.hooks import activations, find_layer
from vivace.style._goal import Maps, See, inner

Layer = str | tuple[str, str]


@dataclass(frozen=True)
class Gaze:
    """Where to look in a network: layers by name, or (layer, the 1x1 convolution and norm that it feeds)."""

    content: tuple[Layer, ...]
    style: tuple[Layer, ...]
    enlarge: float = 1.0  # a network that halves its input at once sees strokes only in a larger picture
    margin: int = 8  # pixels mirrored around the picture, so that padding inside the network leaves no frame


# before the activations: after ReLU6, and in the blocks' narrow outputs, too much is lost
LITE0 = Gaze(
    content=(("blocks.4", "blocks.5.expand"),),
    style=("stem.norm", *((f"blocks.{i - 1}", f"blocks.{i}.expand") for i in (1, 2, 3, 4, 5, 6, 8))),
    enlarge=1.5,
)
VGG19 = Gaze(  # the paper's conv4_2, and conv1_1 to conv5_1, after their ReLU
    content=("features.22",),
    style=("features.1", "features.6", "features.11", "features.20", "features.29"),
)


def seeing(model: nn.Module, gaze: Gaze) -> See:
    """What `gatys` asks of a model: pictures in; content maps and style maps, the last of them the colours, out."""
    layers = [*gaze.content, *gaze.style]
    names = list(dict.fromkeys(layer if isinstance(layer, str) else layer[0] for layer in layers))
    folded = {layer: _folded(find_layer(model, layer[1])) for layer in layers if isinstance(layer, tuple)}

    def see(images: Float[Tensor, "b 3 h w"]) -> tuple[Maps, Maps]:
        x = F.pad(images, (gaze.margin,) * 4, mode="reflect")
        if gaze.enlarge != 1:
            x = F.interpolate(x, scale_factor=gaze.enlarge, mode="bilinear", align_corners=False)
        found = dict(zip(names, activations(model, x, names), strict=True))
        seen = {name: inner(maps, gaze.margin / min(x.shape[-2:]) * gaze.enlarge) for name, maps in found.items()}
        maps = [seen[at] if isinstance(at, str) else F.conv2d(seen[at[0]], *folded[at]) for at in layers]
        return maps[: len(gaze.content)], [*maps[len(gaze.content) :], images]

    return see


def _folded(unit: nn.Module) -> tuple[Float[Tensor, "r i 1 1"], Float[Tensor, " r"]]:
    """A 1x1 convolution and its norm as weight and bias with one output more than inputs, all distances kept.

    They put out W (x, 1). With W = QR, distances and Gram distances are those of R (x, 1), since Q's columns are
    orthonormal: an expansion from 24 to 144 channels costs the Gram of 25.
    """
    conv, norm = unit.get_submodule("conv"), unit.get_submodule("norm")
    weight = next(conv.parameters())
    probes = torch.eye(weight.shape[1] + 1).to(weight)[:, :-1]  # each input alone, then none
    with torch.no_grad():
        out = norm(conv(probes[..., None, None]))[..., 0, 0].double()
    W = torch.cat([out[:-1] - out[-1], out[-1:]]).T
    R = torch.linalg.qr(W).R.to(weight)
    return R[:, :-1, None, None], R[:, -1]
