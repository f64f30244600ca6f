"""Style attention: each place of the content looks for places of the style that are like it, and takes theirs.

Park, Lee, "Arbitrary style transfer with style-attentional networks" (2019), eq. 1 to 3; means and deviations by place:
Liu et al., "AdaAttN: revisit attention mechanism in arbitrary neural style transfer" (2021), eq. 5 to 7.
In: maps (B, C, h, w) of the content and (B, C, sh, sw) of the style. Out: maps like the content's.
Departs from the paper: the product is over sqrt(C), as in Vaswani et al. (2017), unless `scaled=False`; one attention
where the paper adds two; the network gives the content local statistics before it adds the block's output. Weights
are worked out for some positions at a time: 1,024 x sh*sw numbers are the most, 17 MB at 512 pixels.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.style.adain import GREY, Maps, StyleDecoder, whitening
from vivace.style.feature_statistics import EPS, feature_statistics

CHUNK = 1024  # content positions at a time


def attention_weights(
    queries: Float[Tensor, "b n c"], keys: Float[Tensor, "_ m _"], *, scaled: bool = True
) -> Float[Tensor, "b n m"]:
    """softmax(Q K^T / sqrt(C)): for each query how much of each key it takes. Not scaled: as Park and Lee print it."""
    if queries.shape[0] != keys.shape[0] or queries.shape[2] != keys.shape[2]:
        raise InputError(f"queries are (B, N, C) and keys (B, M, C); got {tuple(queries.shape)}, {tuple(keys.shape)}")
    return (queries @ keys.mT / (math.sqrt(queries.shape[2]) if scaled else 1)).softmax(-1)


def attend(
    queries: Float[Tensor, "b n c"], keys: Float[Tensor, "_ m _"], values: Float[Tensor, "_ _ d"], *,
    scaled: bool = True,
) -> Float[Tensor, "b n d"]:  # fmt: skip
    """Each query's mean of the values, weighted by its attention."""
    if keys.shape[1] != values.shape[1] or len(values) != len(queries):
        raise InputError(f"each key has a value; got keys {tuple(keys.shape)} and values {tuple(values.shape)}")
    scale = queries.shape[2] ** -0.5 if scaled else 1.0
    Q, K, V = (rows[:, None] for rows in (queries, keys, values))  # one head
    parts = [F.scaled_dot_product_attention(some, K, V, scale=scale) for some in Q.split(CHUNK, 2)]
    return torch.cat(parts, 2)[:, 0]


def normalized(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Each channel with mean 0 and deviation 1: what is left when a picture's style, as AdaIN has it, is taken out."""
    mean, deviation = feature_statistics(features)
    return (features - mean[..., None, None]) / deviation[..., None, None]


class StyleAttention(nn.Module):
    """SANet's block: F_c + W_o attention(W_q norm(F_c), W_k norm(F_s), W_v F_s), all W being 1 x 1 convolutions."""

    def __init__(self, channels: int, inner: int | None = None, *, scaled: bool = True) -> None:
        super().__init__()
        self.scaled = scaled
        self.query = nn.Conv2d(channels, inner or channels, 1)
        self.key = nn.Conv2d(channels, inner or channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        with torch.no_grad():  # to begin with, what is alike is attended to
            self.query.weight.copy_(nn.init.orthogonal_(self.key.weight))

    def forward(self, content: Float[Tensor, "b c h w"], style: Float[Tensor, "b c sh sw"]
                ) -> Float[Tensor, "b c h w"]:  # fmt: skip
        taken = self.take(content, style, tokens(self.value(style)))
        return content + self.out(taken)

    def take(self, content: Float[Tensor, "b c h w"], style: Float[Tensor, "b c sh sw"],
             values: Float[Tensor, "b m d"]) -> Float[Tensor, "b d h w"]:  # fmt: skip
        """What each place of the content takes of the values of the style's places."""
        Q, K = self.queries_keys(content, style)
        return attend(Q, K, values, scaled=self.scaled).mT.unflatten(2, content.shape[-2:])

    def queries_keys(self, content: Float[Tensor, "b c h w"], style: Float[Tensor, "b c sh sw"]
                     ) -> tuple[Float[Tensor, "b n k"], Float[Tensor, "b m k"]]:  # fmt: skip
        return tokens(self.query(normalized(content))), tokens(self.key(normalized(style)))

    def look(self, content: Float[Tensor, "b c h w"], style: Float[Tensor, "b c sh sw"],
             at: Sequence[tuple[int, int]]) -> Float[Tensor, "b n sh sw"]:  # fmt: skip
        """Where in the style the content's places (row, column) look: a map that sums to 1 for each."""
        height, width = content.shape[-2:]
        if not all(0 <= row < height and 0 <= column < width for row, column in at):
            raise InputError(f"places (row, column) are within {height} x {width}; got {list(at)}")
        Q, K = self.queries_keys(content, style)
        asked = Q[:, [row * width + column for row, column in at]]
        return attention_weights(asked, K, scaled=self.scaled).unflatten(2, style.shape[-2:])


class StyleAttentionNet(nn.Module):
    """Style attention at the deepest depth, added to AdaIN by place: its weights say of where AdaIN takes statistics.

    Where every place attends to everything alike, these are AdaIN's own.
    """

    def __init__(self, channels: Sequence[int] = (0, 0, 144, 240), inner: int = 96, *,
                 widths: Sequence[int] = (16, 40, 80, 160)) -> None:  # fmt: skip
        super().__init__()
        self.attention = StyleAttention(channels[-1], inner)
        self.decoder = StyleDecoder(channels, widths)
        for parameter in self.attention.out.parameters():
            nn.init.zeros_(parameter)  # begins as AdaIN by place, with AdaIN's decoder

    def forward(self, content: Maps, style: Maps) -> Float[Tensor, "b 3 h w"]:
        picture: Tensor = self.decoder(self.restyled(content, style))
        return picture

    def restyled(self, content: Maps, style: Maps) -> Maps:
        """The content's maps with the style's, for the decoder; for `stylize`'s `restyle`."""
        rows, columns = style[-1].shape[-2:]
        values = [tokens(self.attention.value(style[-1]))]
        for s in style:  # means of what lies under each of the deepest map's cells, and of its products
            values += [tokens(F.adaptive_avg_pool2d(m, (rows, columns))) for m in (s, _products(s))]
        taken = self.attention.take(content[-1], style[-1], torch.cat(values, 2))
        deep, *moments = taken.split([v.shape[2] for v in values], 1)
        out = [_colored(content[0], moments[0], moments[1])]
        for f, mean, square in zip(content[1:], moments[2::2], moments[3::2], strict=True):
            deviation = ((square - mean.square()).clamp_min(0) + EPS).sqrt()
            M, S = (m if f.shape == m.shape else _enlarged(m, f) for m in (mean, deviation))
            out.append(S * normalized(f) + M)
        return [*out[:-1], out[-1] + self.attention.out(deep)]


def _products(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
    """Squares; of three colours all nine products."""
    if maps.shape[1] != 3:
        return maps.square()
    return (maps[:, :, None] * maps[:, None]).flatten(1, 2)


def _colored(colors: Float[Tensor, "b 3 h w"], mean: Float[Tensor, "b 3 h w"], products: Float[Tensor, "b 9 h w"]
             ) -> Float[Tensor, "b 3 h w"]:  # fmt: skip
    """Each place's colour with the mean and the covariance of the colours that it attends to."""
    x, own_mean, L = whitening(colors)
    M = mean.flatten(2).mT  # (b, n, 3)
    covariance = products.flatten(2).mT.unflatten(2, (3, 3)) - M[..., None] * M[..., None, :]
    new_L = torch.linalg.cholesky(covariance + GREY * torch.eye(3).to(x))
    white = torch.linalg.solve_triangular(L, x - own_mean, upper=False).mT
    return ((new_L @ white[..., None])[..., 0] + M).mT.reshape(colors.shape)


def _enlarged(maps: Float[Tensor, "b c h w"], like: Float[Tensor, "_ _ _ _"]) -> Float[Tensor, "b c oh ow"]:
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)


def tokens(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n c"]:
    """B x C x H x W as B x HW x C: one row for each place."""
    return maps.flatten(2).mT.contiguous()
