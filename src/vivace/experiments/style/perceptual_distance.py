"""Experiment: distances between a picture and its distortions, against how strong the distortions look."""

from collections.abc import Callable
from io import BytesIO
from statistics import fmean, stdev
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from torch import Tensor, nn

from vivace.base.hooks import activations
from vivace.base.images import middle_square, read_image, to_uint8
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import alexnet, efficientnet_lite0, vgg16
from vivace.style import LPIPS_LAYERS, backbone_distance, content_loss, lpips, lpips_weights, ms_ssim, ssim

QUICK = {"size": 176, "others": 2}

Distance = Callable[[Tensor, Tensor], Tensor]
OTHERS = ("chelsea", "coffee", "china")  # measured beside the user's own
STAGES = (
    "stem",
    "blocks.2.expand",
    "blocks.4.expand",
    "blocks.8.expand",
    "blocks.13.expand",
)  # one a size, after ReLU6

# kind: (strengths, how far each looks from the picture, 0 not at all to 4 very). The authors' own judgement, for
# someone who sees one picture after the other, written down before anything was measured; not people's votes
LADDER: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "blur": ((0.7, 1.2, 2.0, 4.0), (1, 2, 3, 4)),  # sigma in pixels
    "noise": ((0.03, 0.07, 0.15, 0.3), (1, 2, 3, 4)),  # sigma
    "JPEG": ((60, 25, 10, 4), (1, 2, 3, 4)),  # quality
    "colour": ((0.04, 0.08, 0.16, 0.32), (0, 1, 2, 3)),  # more red, less blue
    "shift": ((1, 2, 4, 8), (0, 0, 0, 0)),  # pixels
}


@checked
def run(*, image: ImagePath = "astronaut", size: Annotated[int, Ge(176), Le(512)] = 224,
        others: Annotated[int, Ge(1), Le(3)] = 3,
        network: Literal["efficientnet-lite0", "vgg16", "alexnet"] = "efficientnet-lite0", seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """Which distance between pictures follows what one sees: squared errors, SSIM, MS-SSIM or a network's features.

    vivace run perceptual_distance        15 s on two cores; the network forgives a shift, squares and SSIM do not

    image: a picture of yours
    size: the side in pixels of the square that is taken
    others: shipped pictures measured beside it
    network: vgg16 and alexnet are LPIPS, and need their published weights; ours has equal weights, and is not LPIPS
    seed: of the noise
    """
    name, perceptual = _perceptual(network)
    losses: dict[str, Distance] = {
        "PSNR": content_loss,  # the squared error has the opposite order
        "SSIM": lambda x, y: 1 - ssim(x, y),
        "MS-SSIM": lambda x, y: 1 - ms_ssim(x, y),
        name: perceptual,
    }
    pictures = [middle_square(read_image(source), size) for source in (image, *OTHERS[:others])]
    generator = torch.Generator().manual_seed(seed)
    looks = [look for _, seen in LADDER.values() for look in seen]
    values: list[dict[str, list[float]]] = []
    shown: dict[str, Tensor] = {}
    for done, picture in enumerate(pictures):
        tell(Step(done, len(pictures), "distances"))
        versions = {(kind, s): _distorted(picture, kind, s, generator) for kind, (ss, _) in LADDER.items() for s in ss}
        batch = torch.stack(list(versions.values()))
        with torch.no_grad():
            same = picture[None].expand_as(batch)
            values.append({loss: [float(d) for d in f(same, batch)] for loss, f in losses.items()})
        if not done:
            for i, ((kind, s), version) in enumerate(versions.items()):
                shown[f"{kind} {s:g}: SSIM {1 - values[0]['SSIM'][i]:.2f}, net {values[0][name][i]:.2f}"] = version
    report = Report(
        "Which distance follows what one sees",
        f"Five kinds of distortion at four strengths. The network's distance here: {name}. How strong a distortion "
        "looks, from 0 to 4, is the authors' judgement, not people's votes: enough to see what each distance is blind "
        "to, not to rank them for good.",
    )
    report.images("distortions", shown, "Weak to strong, left to right. SSIM is 1, the network's distance 0 for the "
                  "picture itself.", columns=4)  # fmt: skip
    _within(report, values, name)
    _across(report, values, looks, name)
    return report


def _within(report: Report, values: list[dict[str, list[float]]], name: str) -> None:
    """The stronger of one kind, the farther."""
    kinds = list(LADDER)
    order = {
        loss: [fmean(float(spearmanr(range(4), of[loss][4 * k : 4 * k + 4]).statistic) for of in values)
               for k in range(len(kinds))]
        for loss in values[0]
    }  # fmt: skip
    report.table("within_kinds", ("rank correlation with the strength", *kinds),
                 [(loss, *(f"{r:.2f}" for r in row)) for loss, row in order.items()],
                 f"Mean of {len(values)} pictures. Within one kind every distance knows more from less.")  # fmt: skip
    report.claim("6.3.x3", measured=min(order[name]), low=0.9,
                 detail=f"smallest mean rank correlation of {name} with the strength, of {len(kinds)} kinds; "
                        f"SSIM's: {min(order['SSIM']):.2f}")  # fmt: skip
    lines = {}
    for k, kind in enumerate(kinds):
        lines[kind] = (
            [fmean(of["SSIM"][4 * k + i] for of in values) for i in range(4)],
            [fmean(of[name][4 * k + i] for of in values) for i in range(4)],
        )
    report.curve("two_distances", lines, x="1 - SSIM", y="network's distance",
                 caption="Along each line the distortion grows; mean of the pictures. Where one kind lies "
                         "above another, SSIM finds both equally bad and the network does not.")  # fmt: skip


def _across(report: Report, values: list[dict[str, list[float]]], looks: list[float], name: str) -> None:
    """All kinds together: here distances differ."""
    fits = {loss: [float(spearmanr(looks, of[loss]).statistic) for of in values] for loss in values[0]}
    unmoved = len(looks) - len(LADDER["shift"][0])  # the shifts are the last
    rest = {
        loss: fmean(float(spearmanr(looks[:unmoved], of[loss][:unmoved]).statistic) for of in values) for loss in fits
    }
    columns = ("distance", "rank correlation with the looks", "lowest picture", "highest", "without the shifts")
    report.table("across_kinds", columns,
                 [(loss, *(f"{r:.2f}" for r in (fmean(fit), min(fit), max(fit), rest[loss])))
                  for loss, fit in fits.items()],
                 f"All {len(looks)} distortions of a picture in one order, {len(values)} pictures.")  # fmt: skip
    gains = [one - max(two) for one, *two in zip(fits[name], fits["PSNR"], fits["SSIM"], strict=True)]
    report.claim("6.3.x4", measured=fmean(gains), low=0, spread=2 * stdev(gains) / len(gains) ** 0.5,
                 detail=f"rank correlation with the looks, all kinds: {name} {fmean(fits[name]):.2f}, SSIM "
                        f"{fmean(fits['SSIM']):.2f}, MS-SSIM {fmean(fits['MS-SSIM']):.2f}, PSNR "
                        f"{fmean(fits['PSNR']):.2f}; less the better of SSIM and PSNR. "
                        f"Without the shifts: {rest[name]:.2f}, {rest['SSIM']:.2f}, {rest['MS-SSIM']:.2f}, "
                        f"{rest['PSNR']:.2f}")  # fmt: skip
    shift, blur = list(LADDER).index("shift") * 4 + 1, list(LADDER).index("blur") * 4 + 1
    ratios = {loss: fmean(of[loss][shift] / of[loss][blur] for of in values) for loss in ("SSIM", name)}
    report.claim("6.3.x5", measured=ratios["SSIM"], high=0.5,
                 detail="1 - SSIM of a shift by 2 pixels over that of a blur of 1.2 pixels; "
                        f"{name}: {ratios[name]:.2f}")  # fmt: skip


def _perceptual(network: str) -> tuple[str, Distance]:
    """The network's distance with its name: LPIPS only with the weights that were learned from people's votes."""
    if network == "efficientnet-lite0":
        model: nn.Module = efficientnet_lite0(weights="imagenet")
        return "unit features, equal weights (not LPIPS)", lambda x, y: backbone_distance(*_maps(model, x, y, STAGES))
    w, layers = lpips_weights(network), LPIPS_LAYERS[network]
    trained: nn.Module = vgg16(weights="imagenet") if network == "vgg16" else alexnet(weights="imagenet")
    return f"LPIPS ({network})", lambda x, y: lpips(*_maps(trained, x, y, layers), w)


def _maps(model: nn.Module, x: Tensor, y: Tensor, layers: tuple[str, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """Both sides' maps; `x` is one picture over and over, and is looked at once."""
    seen = activations(model, y, layers)
    return [f.expand(len(y), -1, -1, -1) for f in activations(model, x[:1], layers)], seen


def _distorted(picture: Tensor, kind: str, strength: float, generator: torch.Generator) -> Tensor:
    match kind:
        case "blur":
            return torch.from_numpy(gaussian_filter(picture.numpy(), strength, axes=(1, 2)))
        case "noise":
            return (picture + strength * torch.randn(picture.shape, generator=generator)).clamp(0, 1)
        case "JPEG":
            file = BytesIO()
            Image.fromarray(to_uint8(picture)).save(file, "JPEG", quality=int(strength))
            return torch.from_numpy(np.asarray(Image.open(file)).astype(np.float32) / 255).permute(2, 0, 1)
        case "colour":
            return (picture * torch.tensor([1 + strength, 1, 1 - strength]).view(3, 1, 1)).clamp(0, 1)
    moved: Tensor = nn.functional.pad(picture[None], (int(strength), 0, 0, 0), mode="reflect")[0]
    return moved[..., : picture.shape[-1]]
