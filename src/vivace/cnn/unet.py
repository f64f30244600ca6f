"""U-Net: a class for every pixel, from maps that shrink to see far and grow back to be sharp.

Ronneberger, Fischer, Brox, "U-Net: convolutional networks for biomedical image segmentation" (2015), figures 1 and 2,
section 3.
In: pictures (B, C, H, W), [0, 1]. Out: logits (B, classes, H, W); without padding, as in the paper, 184 pixels fewer
each way at depth 4, for sizes that leave even maps before each pooling (572 gives 388).
Departs from the paper: three colours go in where it has grey; no dropout. `padded=True` keeps the picture's size, any;
`norm=True` normalises over the batch, from which it trains faster.
"""

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.progress import Tell, ignore
from vivace.cnn._imagenet import Weights, built


class UNet(nn.Module):
    """`down.0` to `down.depth`: two convolutions each; `up` and `merge`: the way back; `head`: 1 x 1, to the classes.

    width: channels at the top, doubled at each of `depth` poolings: 64, 4 are the paper's, 31 million parameters
    padded: 3 x 3 convolutions keep the size, and what doesn't divide by 2^depth is made to, and cut off in the end
    skips: the way back sees the maps of the way down; without, only what came through the bottom
    """

    def __init__(self, classes: int = 2, inputs: int = 3, *, width: int = 64, depth: int = 4, padded: bool = False,
                 norm: bool = False, skips: bool = True) -> None:  # fmt: skip
        super().__init__()
        if min(classes, inputs, width) < 1 or depth < 0:
            raise InputError(f"no U-Net of {classes} classes, {inputs} inputs, width {width}, depth {depth}")
        self.depth, self.padded, self.skips = depth, padded, skips
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            _two(before, after, padded, norm) for before, after in zip([inputs, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[:-1])
        self.merge = nn.ModuleList(_two((1 + skips) * w, w, padded, norm) for w in widths[:-1])
        self.head = nn.Conv2d(width, classes, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # the paper's N(0, 2 / N)

    @property
    def margin(self) -> int:
        """Pixels that each side loses: 92 in the paper's form, none with padding."""
        return 0 if self.padded else 2**self.depth * 6 - 4

    def fitting(self, side: int) -> int:
        """The side nearest to this one that the form without padding takes: all poolings meet even maps."""
        least, multiple = 2 * self.margin + 4, 2**self.depth
        return least + multiple * max(0, round((side - least) / multiple))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k oh ow"]:
        height, width = images.shape[-2:]
        x, multiple = images, 2**self.depth
        if self.padded:
            x = F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        elif any(side != self.fitting(side) for side in (height, width)):
            raise InputError(
                f"a U-Net of depth {self.depth} without padding takes sides of {self.fitting(0)} and every "
                f"{multiple} pixels on, such as {self.fitting(height)} x {self.fitting(width)}; this picture is "
                f"{height} x {width} (or ask for padded=True)"
            )
        maps = []
        for level, convolutions in enumerate(self.down):
            x = convolutions(F.max_pool2d(x, 2) if level else x)
            maps.append(x)
        for level in reversed(range(self.depth)):
            x = self.up[level](x)
            if self.skips:
                x = torch.cat([_cut(maps[level], x), x], dim=1)
            x = self.merge[level](x)
        return self.head(x)[..., :height, :width]


def unet(*, classes: int = 2, weights: Weights = None, inputs: int = 3, padded: bool = False, norm: bool = False,
         tell: Tell = ignore) -> UNet:  # fmt: skip
    """U-Net as large as the paper's, untrained (no weights of it are published as tensors)."""
    build = partial(UNet, inputs=inputs, padded=padded, norm=norm)
    return built(build, "unet", classes=classes, weights=weights, tell=tell)


def tiled(model: UNet, images: Float[Tensor, "b c h w"], *, tile: int = 388) -> Float[Tensor, "b k h w"]:
    """The logits of pictures of any size, tile by tile, with mirrored borders: figure 2's overlap-tile strategy.

    Each tile goes in with the margin that it loses, so that without padding in the model the tiles fit seamlessly; as
    much memory as one tile needs. InputError for a model with padding, whose tiles would show, for a tile that it can't
    give, and where a picture is not larger than the margin that is mirrored.
    """
    if model.padded:
        raise InputError("a U-Net with padding takes any size as it is; its tiles would not fit together")
    height, width = images.shape[-2:]
    margin = model.margin
    fits = model.fitting(tile + 2 * margin) - 2 * margin
    if tile != fits:
        raise InputError(
            f"a U-Net of depth {model.depth} gives tiles of {model.fitting(0) - 2 * margin} and every "
            f"{2**model.depth} pixels on; tile={tile} is not one of them, tile={fits} is"
        )
    bottom, right = (margin + -side % tile for side in (height, width))
    if max(bottom, right) >= min(height, width):
        raise InputError(
            f"a picture of {height} x {width} has no {max(bottom, right)} pixels to mirror at its border; "
            f"take a smaller tile than {tile}, or a larger picture"
        )
    wide = F.pad(images, (margin, right, margin, bottom), mode="reflect")
    rows = []
    for top in range(0, height, tile):
        row = [model(wide[..., top : top + tile + 2 * margin, left : left + tile + 2 * margin])
               for left in range(0, width, tile)]  # fmt: skip
        rows.append(torch.cat(row, dim=-1))
    return torch.cat(rows, dim=-2)[..., :height, :width]


def _two(inputs: int, outputs: int, padded: bool, norm: bool) -> nn.Sequential:
    """Convolution 3 x 3, ReLU, and once more."""
    layers: list[nn.Module] = []
    for before in (inputs, outputs):
        layers.append(nn.Conv2d(before, outputs, 3, padding=int(padded), bias=not norm))
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()] if norm else [nn.ReLU()]
    return nn.Sequential(*layers)


def _cut(maps: Tensor, like: Tensor) -> Tensor:
    """The middle of the maps, as large as the others."""
    (h, w), (oh, ow) = maps.shape[-2:], like.shape[-2:]
    top, left = (h - oh) // 2, (w - ow) // 2
    return maps[..., top : top + oh, left : left + ow]
