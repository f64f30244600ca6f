"""AdaIN: any picture's style in one pass, by giving a network's maps of the content the style's means and deviations.

Huang, Belongie, "Arbitrary style transfer in real-time with adaptive instance normalization" (2017), eq. 8, 14 and 15.
In: content (3, H, W) and styles (3, h, w), RGB, [0, 1], of any sizes. Out: the picture (3, H, W) in [0, 1].
Departs from the paper: the encoder is an argument; AdaIN acts on several depths at once, the pixels among them, which
the decoder, shaped like a U, takes in one after the other, from deep to shallow; it adds strokes to recoloured pixels.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.images import check_image
from vivace.style.feature_statistics import feature_statistics

Maps = list[Float[Tensor, "b _ _ _"]]
Encode = Callable[
    [Float[Tensor, "b 3 h w"]], Maps
]  # pictures to maps: their opponent colours, then a network's, shallow to deep
Restyle = Callable[[Maps, Maps], Maps]  # the content's maps and a style's; out come maps for the decoder

MARGIN = 16  # pixels mirrored around the content, so that the encoder's padding leaves no frame
GREY = 1e-3  # variance of grey noise that colours are given: a picture of one colour has a covariance, too
COARSEST = 16  # both sides are made a multiple of it: every depth halves evenly


def adaptive_instance_norm(
    content: Float[Tensor, "b c h w"], style: Float[Tensor, "_ c sh sw"]
) -> Float[Tensor, "b c h w"]:
    """Eq. 8: sigma(y) (x - mu(x)) / sigma(x) + mu(y), each channel of each picture for itself."""
    (mean, deviation), (new_mean, new_deviation) = feature_statistics(content), feature_statistics(style)
    scale = new_deviation / deviation
    return torch.addcmul((new_mean - mean * scale)[..., None, None], content, scale[..., None, None])


def adain_maps(content: Maps, style: Maps) -> Maps:
    """AdaIN at every depth; of the colours, the first, not only the deviations are matched but the covariance."""
    colors = matched_colors(content[0], style[0])
    return [colors, *(adaptive_instance_norm(f, s) for f, s in zip(content[1:], style[1:], strict=True))]


def matched_colors(content: Float[Tensor, "b 3 h w"], style: Float[Tensor, "_ 3 sh sw"]) -> Float[Tensor, "b 3 h w"]:
    """The content's colours with the style's mean and covariance; what is lighter stays lighter."""
    (x, mean, L), (_, new_mean, new_L) = whitening(content), whitening(style)
    moved = new_L @ torch.linalg.solve_triangular(L, x - mean, upper=False) + new_mean
    return moved.view_as(content)


def whitening(
    colors: Float[Tensor, "b 3 h w"],
) -> tuple[Float[Tensor, "b 3 n"], Float[Tensor, "b 3 1"], Float[Tensor, "b 3 3"]]:
    """The colours, their mean, and the Cholesky factor of their covariance."""
    x = colors.flatten(2)
    mean = x.mean(2, keepdim=True)
    covariance = (x - mean) @ (x - mean).mT / x.shape[2]
    return x, mean, torch.linalg.cholesky(covariance + GREY * torch.eye(3).to(x))


def mixed(
    content: Maps, restyled: Sequence[Maps], weights: Float[Tensor, "k"] | Float[Tensor, "k mh mw"], *, alpha: float = 1
) -> Maps:
    """Eq. 14 and 15: several styles' maps in these proportions, which may differ from place to place; and the content.

    weights: a number for each style, or a map (a mask) for each; at every place they are made to sum to 1
    alpha: 0 is the content as it is, 1 the styles alone
    """
    w = weights.view(len(weights), 1, 1) if weights.ndim == 1 else weights
    w = w / w.sum(0).clamp_min(1e-8)
    out = []
    for depth, f in enumerate(content):
        here = F.interpolate(w[:, None], size=f.shape[-2:], mode="bilinear", align_corners=False)
        new = sum((share * maps[depth] for share, maps in zip(here, restyled, strict=True)), torch.zeros_like(f))
        out.append(torch.lerp(f, new, alpha))
    return out


class StyleDecoder(nn.Module):
    """Maps of several depths back into a picture: from the deepest up, joined by the others at theirs.

    The first map has the colours, in `opponents`, at the deepest's size; all that is finer has to be painted.
    Neighbours are repeated and borders mirrored: no checkerboard, no frame.
    """

    def __init__(self, channels: Sequence[int] = (0, 0, 144, 240), widths: Sequence[int] = (16, 40, 80, 160)) -> None:
        """One of each at full size, a half, a fourth ...: `channels` of the map, 0 for none; `widths` of the layers."""
        super().__init__()
        self.below = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in zip(widths[1:], widths[:-1], strict=True))
        given = zip(channels, widths, strict=True)
        self.beside = nn.ModuleList(nn.Conv2d(c, w, 1) if c else nn.Identity() for c, w in given)
        self.strokes = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1, padding_mode="reflect") for w in widths)
        self.paint = nn.Conv2d(widths[0], 3, 3, padding=1, padding_mode="reflect")
        for parameter in self.paint.parameters():
            nn.init.zeros_(parameter)  # at first it shows the colours alone

    def forward(self, maps: Maps) -> Float[Tensor, "b 3 h w"]:
        colors, *others = maps
        x = self.strokes[-1](self.beside[-1](others.pop()).relu()).relu()
        for below, beside, strokes in list(zip(self.below, self.beside, self.strokes, strict=False))[::-1]:
            x = F.interpolate(below(x), scale_factor=2, mode="nearest")  # first 1 x 1: a fourth of the cost
            if isinstance(beside, nn.Conv2d):
                x = x + beside(others.pop())
            x = strokes(x.relu()).relu()
        coarse = F.interpolate(colors, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return as_rgb(coarse + self.paint(x))


OPPONENTS = ((3**-0.5,) * 3, (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5))  # orthonormal


def opponents(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Light, red against blue, and both against green: channels that hang together less than red, green and blue.

    AdaIN of them is the colour transfer of Reinhard et al. (2001), but for their colour space.
    """
    return F.conv2d(images, torch.tensor(OPPONENTS).to(images)[..., None, None])


def as_rgb(colors: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Back from `opponents`."""
    return F.conv2d(colors, torch.tensor(OPPONENTS).to(colors).T[..., None, None])


def stylize(
    encode: Encode,
    decoder: nn.Module,
    content: Float[Tensor, "3 h w"],
    styles: Float[Tensor, "3 sh sw"] | Sequence[Float[Tensor, "3 _ _"]],
    *,
    weights: Sequence[float] | Float[Tensor, "k mh mw"] | None = None,
    alpha: float = 1.0,
    restyle: Restyle = adain_maps,
) -> Float[Tensor, "3 h w"]:
    """The content in one or several pictures' style, in one pass through encoder and decoder.

    weights: how much each style counts, as numbers or as masks (K, h, w) over the content; equal where not given
    alpha: how much of the style is taken, 0 to 1
    restyle: what gives the content's maps the style: AdaIN, or another, such as `style_attention`'s
    """
    given = [styles] if isinstance(styles, Tensor) else list(styles)
    for image in (content, *given):
        check_image(image)
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is from 0 (the content) to 1 (the style); got {alpha}")
    w = torch.as_tensor([1.0] * len(given) if weights is None else weights).to(content)
    if len(w) != len(given) or not given or w.ndim not in (1, 3):
        raise InputError(f"{len(given)} styles need as many weights, or masks (K, h, w); got {tuple(w.shape)}")
    if bool((w < 0).any()) or float(w.sum()) <= 0:
        raise InputError("weights are at least 0 and not all 0")
    height, width = content.shape[-2:]
    framed = mirrored(content[None])
    if w.ndim == 3:
        w = mirrored(F.interpolate(w[None], size=(height, width), mode="nearest"))[0]
    maps = encode(framed)
    new = mixed(maps, [restyle(maps, encode(style[None])) for style in given], w, alpha=alpha)
    painted: Tensor = decoder(new)
    return painted[0, :, MARGIN : MARGIN + height, MARGIN : MARGIN + width].clamp(0, 1)


def mirrored(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c fh fw"]:
    """The pictures with a margin, mirrored where they are large enough, and sides that halve evenly."""
    height, width = images.shape[-2:]
    below, right = (MARGIN + -side % COARSEST for side in (height, width))
    mode = "reflect" if min(height, width) > max(below, right) else "replicate"
    return F.pad(images, (MARGIN, right, MARGIN, below), mode=mode)
