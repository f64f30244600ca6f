"""Feed-forward style transfer: a network that learned one style stylises any picture in a single pass.

Johnson, Alahi, Fei-Fei, "Perceptual losses for real-time style transfer and super-resolution" (2016), section 3.
In: pictures (B, 3, H, W), RGB, [0, 1], sides of at least 16. Out: the same shape, in [0, 1].
Departs from the paper: enlarging is nearest neighbour and a convolution (transposed ones leave checkerboards), each
convolution's padding is a reflection (not 40 pixels at the front), normalisation is by instance (the paper's: "batch"),
a blurred grey picture is added at the end (so that minutes of training do; the paper: skip=0), errors are relative to
their target's size, and the content is shown in the style's colours, as in `gatys`.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError, unknown
from vivace.base.images import total_variation
from vivace.style._goal import See

Normalization = Literal["instance", "batch", "none"]

MIN_SIDE = 16  # a quarter of it is what the residual blocks see
CUT = 4  # the picture is halved twice
GAIN = 0.1  # 81 * width numbers make a pixel: without it, Adam's steps are too long for the last layer


class FeedForward(nn.Module):
    """The image transformation network: 9x9, twice down, residual blocks, twice up, 9x9. The paper's width is 32.

    width: channels at full size; twice and four times as many lie below
    blocks: residual blocks at a quarter of the size
    skip: how much of the picture, grey and blurred, is added before the last sigmoid; at 4 it would come out as it is
    """

    def __init__(self, *, width: int = 16, blocks: int = 5, normalization: Normalization = "instance",
                 skip: float = 4.0) -> None:  # fmt: skip
        super().__init__()
        if width < 1 or blocks < 0:
            raise InputError(f"a width of 1 or more and 0 or more blocks are needed, not {width} and {blocks}")
        self.width, self.blocks, self.normalization, self.skip = width, blocks, normalization, skip
        w = width
        self.layers = nn.Sequential(
            unit(3, w, 9, normalization),
            unit(w, 2 * w, 3, normalization, stride=2),
            unit(2 * w, 4 * w, 3, normalization, stride=2),
            *(ResidualBlock(4 * w, normalization) for _ in range(blocks)),
            nn.Upsample(scale_factor=2),
            unit(4 * w, 2 * w, 3, normalization),
            nn.Upsample(scale_factor=2),
            unit(2 * w, w, 3, normalization),
            convolution(w, 3, 9),
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        h, w = images.shape[-2:]
        if min(h, w) < MIN_SIDE:
            raise InputError(f"a picture of at least {MIN_SIDE} x {MIN_SIDE} is needed; this one is {h} x {w}")
        x = F.pad(images, (0, -w % CUT, 0, -h % CUT), mode="replicate")
        grey = F.avg_pool2d(x.mean(1, keepdim=True), CUT)
        grey = F.interpolate(grey, scale_factor=CUT, mode="bilinear", align_corners=False)
        x = GAIN * self.layers(2 * x - 1) + self.skip * (grey - 0.5)
        return torch.sigmoid(x)[..., :h, :w]


class ResidualBlock(nn.Module):
    """x + F(x), with no ReLU after the sum."""

    def __init__(self, channels: int, normalization: Normalization) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *unit(channels, channels, 3, normalization),
            *list(unit(channels, channels, 3, normalization))[:-1],
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.body(x)


def unit(inputs: int, outputs: int, kernel: int, normalization: Normalization, *, stride: int = 1) -> nn.Sequential:
    """Convolution, normalisation, ReLU."""
    match normalization:
        case "instance":
            norm: nn.Module = nn.InstanceNorm2d(outputs, affine=True)
        case "batch":
            norm = nn.BatchNorm2d(outputs)
        case "none":
            norm = nn.Identity()
        case _:
            raise unknown("normalisation", normalization, get_args(Normalization))
    return nn.Sequential(convolution(inputs, outputs, kernel, stride=stride), norm, nn.ReLU())


def convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, padding_mode="reflect")


@torch.no_grad()
def one_pass(net: nn.Module, images: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
    """One pass for a picture (3, H, W) or for a batch of them."""
    batch = images if images.ndim == 4 else images[None]
    made: Tensor = net(batch)
    return made if images.ndim == 4 else made[0]


class PerceptualLoss:
    """What the network learns from: how far a picture is from its content's features and from the style's Grams.

    It is Gatys' loss (`gatys.Goal`), as a function of the network's answer.

    see: what the frozen loss network sees: pictures to (content maps, style maps), such as `seeing(model, LITE0)`
    targets: for each style map a function that gives the sum of its error over the pictures: `gatys.StyleTarget`
    show: what a picture's content is compared with: itself, or in the style's colours (`color_transfer`)
    """

    def __init__(
        self,
        see: See,
        targets: Sequence[Callable[[Float[Tensor, "b _ _ _"]], Tensor]],
        *,
        show: Callable[[Float[Tensor, "3 h w"]], Float[Tensor, "3 h w"]] | None = None,
        content_weight: float = 1.0,
        style_weight: float = 1.0,
        smoothness: float = 0.1,
    ) -> None:
        self.see, self.targets, self.show = see, targets, show
        self.weights = content_weight, style_weight, smoothness

    def __call__(
        self, made: Float[Tensor, "b 3 h w"], images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
        """The loss of what was made of the images and, of it, the content's error and the style's; means over them."""
        with torch.no_grad():
            shown = images if self.show is None else torch.stack([self.show(image) for image in images])
            P = self.see(shown)[0]
        content_maps, style_maps = self.see(made)
        content = torch.stack([relative(f, p) for f, p in zip(content_maps, P, strict=True)]).mean()
        errors = [target(f) for target, f in zip(self.targets, style_maps, strict=True)]
        style = torch.stack(errors).mean() / len(images)
        alpha, beta, gamma = self.weights
        return alpha * content + beta * style + gamma * total_variation(made), content, style


def relative(features: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Squared difference over the target's square, for each picture; their mean."""
    return ((features - target).square().sum((1, 2, 3)) / target.square().sum((1, 2, 3))).mean()


def slimmed(net: FeedForward, share: float) -> FeedForward:
    """A smaller copy: inside each residual block the share of channels that matters least is gone.

    What a channel matters is its normalisation's scale, times the size of the weights that read it.
    """
    if not 0 <= share < 1:
        raise InputError(f"the share of channels to remove is 0 or more and less than 1; got {share}")
    if net.normalization == "none":
        raise InputError("channels are chosen by their normalisation's scales; this network has none")
    copy = deepcopy(net)
    for block in copy.layers:
        if isinstance(block, ResidualBlock):
            first, norm, second = block.body[0], block.body[1], block.body[3]
            assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)
            assert isinstance(norm, nn.InstanceNorm2d | nn.BatchNorm2d)
            count = len(norm.weight) - round(share * len(norm.weight))
            matter = norm.weight.detach().abs() * second.weight.detach().square().sum((0, 2, 3)).sqrt()
            kept = matter.topk(max(1, count)).indices.sort().values
            _keep(first, kept, "weight", "bias")
            _keep(
                norm, kept, "weight", "bias", *(["running_mean", "running_var"] if net.normalization == "batch" else [])
            )
            second.weight = nn.Parameter(second.weight.detach()[:, kept].clone())
            first.out_channels = norm.num_features = second.in_channels = len(kept)
    return copy


def _keep(layer: nn.Module, kept: Tensor, *names: str) -> None:
    """Only these rows of the layer's tensors."""
    for name in names:
        tensor = getattr(layer, name)
        rows = tensor.detach()[kept].clone()
        setattr(layer, name, nn.Parameter(rows) if isinstance(tensor, nn.Parameter) else rows)
