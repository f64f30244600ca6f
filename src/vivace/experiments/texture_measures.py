"""What a made texture has of its exemplar: patches, regularity, sizes of structures, frequencies; and how it tiles."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

PATCH = 7
COPIED = 0.05  # of the exemplar's deviation: nearer than that a patch is a copy


def luma(image: Float[Tensor, "3 h w"]) -> Float[Tensor, "h w"]:
    return torch.einsum("c,chw->hw", torch.tensor([0.299, 0.587, 0.114]).to(image), image)


def patch_distances(made: Float[Tensor, "3 h w"], exemplar: Float[Tensor, "3 eh ew"]) -> Float[Tensor, "ph pw"]:
    """How far each patch is from the nearest of the exemplar's: root mean square, over the exemplar's deviation."""
    height = made.shape[1] - PATCH + 1
    patches, known = (F.unfold(luma(image)[None, None], PATCH)[0].T for image in (made, exemplar))
    nearest = torch.cat([torch.cdist(some, known).amin(1) for some in patches.split(512)])
    return (nearest / PATCH / luma(exemplar).std().clamp_min(1e-6)).view(height, -1)


def copied(distances: Float[Tensor, "ph pw"]) -> float:
    """The share of patches that are in the exemplar just so."""
    return float((distances < COPIED).float().mean())


def autocorrelation(image: Float[Tensor, "3 h w"]) -> Float[Tensor, "lh lw"]:
    """Correlation of the picture with itself moved (down, right), up to 2/3 of its sides, over what overlaps."""
    x = luma(image)
    x = x - x.mean()
    h, w = x.shape
    size = (2 * h, 2 * w)
    spectrum = torch.fft.rfft2(x.double(), s=size)
    m, n = 2 * h // 3, 2 * w // 3
    sums = torch.fft.irfft2(spectrum.abs().square(), s=size)[:m, :n]
    overlap = torch.arange(h, h - m, -1)[:, None] * torch.arange(w, w - n, -1)
    return (sums / overlap / x.double().square().mean().clamp_min(1e-12)).float()


def structure_size(image: Float[Tensor, "3 h w"]) -> float:
    """Pixels by which a picture is moved until its correlation with itself is 1 / e, mean of down and right."""
    r = autocorrelation(image)
    return sum(_crossing(line) for line in (r[:, 0], r[0])) / 2


def _crossing(line: Float[Tensor, " n"]) -> float:
    level = 1 / torch.e
    below = torch.nonzero(line < level)[:, 0]
    if not len(below):
        return float(len(line))
    at = int(below[0])
    return at - float((level - line[at]) / (line[at - 1] - line[at]))


def mean_frequency(image: Float[Tensor, "3 h w"]) -> float:
    """The mean frequency of the picture's power, in cycles a pixel: small for large structures."""
    f, power = _power(image)
    return float((f * power).sum() / power.sum().clamp_min(1e-12))


def _power(image: Float[Tensor, "3 h w"]) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """The frequency of each wave in the picture, and its power; a window takes the borders off."""
    x = luma(image)
    window = torch.hann_window(x.shape[0])[:, None] * torch.hann_window(x.shape[1])
    f = torch.hypot(torch.fft.fftfreq(x.shape[0])[:, None], torch.fft.fftfreq(x.shape[1])[None])
    return f, torch.fft.fft2((x - x.mean()) * window).abs().square()


def seam(image: Float[Tensor, "3 h w"], exemplar: Float[Tensor, "3 eh ew"]) -> float:
    """How far patches across the borders, where copies of the picture meet, are from the exemplar's, over those inside.

    1 for no seam.
    """

    def across(quarter: int) -> float:
        """Across the two lines at so many quarters of the sides."""
        away = []
        for dim in (1, 2):
            line = image.roll(PATCH - 1 - quarter * image.shape[dim] // 4, dim).narrow(dim, 0, 2 * PATCH - 2)
            away.append(float(patch_distances(line, exemplar).mean()))
        return sum(away)

    return 3 * across(0) / max(sum(across(quarter) for quarter in (1, 2, 3)), 1e-6)


def spectrum(image: Float[Tensor, "3 h w"], rings: int = 24) -> tuple[list[float], list[float]]:
    """Frequencies in cycles a pixel, and the mean power in a ring around each."""
    f, power = _power(image)
    edges = torch.logspace(-1.8, -0.31, rings + 1)
    inside = [(f >= low) & (f < high) for low, high in pairwise(edges)]
    found = [(float(f[ring].mean()), float(power[ring].mean())) for ring in inside if ring.any()]
    return [at for at, _ in found], [value for _, value in found]
