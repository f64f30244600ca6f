"""Experiment: what each normalisation averages over, what the printed formula leaves out, what a photograph loses."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from matplotlib.colors import LightSource
from matplotlib.figure import Figure
from torch import Tensor, nn

from vivace.base.drawing import BLUE
from vivace.base.errors import InputError
from vivace.base.images import read_image
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.networks import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm, batch_norm, instance_norm

QUICK = {"size": 160}

AXES = {  # which of (N, C, H*W) have one mean and one variance together
    "batch": (True, False, True),
    "layer": (False, True, True),
    "instance": (False, False, True),
    "group": (False, "half", True),
}


@checked
def run(*, image: ImagePath = "chelsea", style: ImagePath = "stained_glass",
        size: Annotated[int, Ge(16), Le(2048)] = 400, batch: Annotated[int, Ge(3), Le(4096)] = 8,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Batch, layer, instance and group normalisation differ in nothing but the axes that they average over.

    vivace run normalization        2 s on two cores; the printed batch norm is off by 0.16 on a batch of 8

    image: a photograph that instance normalisation is applied to
    style: a picture whose means and deviations it is given instead
    size: the largest side that the pictures are reduced to
    batch: examples in the batch on which the printed formula is compared with the usual layer
    seed: of the random features
    """
    generator = torch.Generator().manual_seed(seed)
    report = Report(
        "Normalisation layers, by what they average over",
        "All four compute $\\hat x = \\frac{x - \\mu}{\\sqrt{\\sigma^2 + \\epsilon}}$ and then $\\gamma \\hat x + "
        "\\beta$. They differ in the values that share one $\\mu$ and one $\\sigma^2$. None of "
        "them touches the gradient: these are normalisations of activations.",
    )
    report.figure("axes", cubes(), "Examples $N$, channels $C$ and places $H W$; the blue values have one mean and one "
                  "variance together. In batch normalisation other examples take part; in the others they "
                  "don't.")  # fmt: skip
    _printed_formula(report, batch, generator)
    _constant_feature(report)
    _other_examples(report, generator)
    _batch_of_one(report, generator)
    _running_variance(report, generator)
    _loss_scale(report, generator)
    _photograph(report, read_image(image, max_side=size), read_image(style, max_side=size))
    tell(Step(1, 1, "done"))
    return report


def cubes() -> Figure:
    """The four layers as blocks of little cubes, those that are averaged together in colour."""
    figure = Figure(figsize=(10, 3), layout="constrained")
    n, c, hw = 4, 6, 4
    for place, (name, (over_n, over_c, _)) in enumerate(AXES.items(), start=1):
        axes: Any = figure.add_subplot(1, 4, place, projection="3d")
        inside = np.zeros((n, hw, c), dtype=bool)  # x: examples, y: places, z: channels; the corner in front is shown
        channels = slice(None) if over_c is True else slice(c // 2, None) if over_c == "half" else slice(c - 1, None)
        inside[slice(None) if over_n else slice(n - 1, None), :, channels] = True
        colors = np.where(inside, BLUE, "#d7dbe2")
        axes.voxels(
            np.ones_like(inside),
            facecolors=colors,
            edgecolor="#6b7280",
            linewidth=0.4,
            lightsource=LightSource(azdeg=150, altdeg=45),
        )
        axes.set_title(f"{name} norm", fontsize=12)
        axes.set(xlabel="N", ylabel="H W", zlabel="C", xticks=[], yticks=[], zticks=[], box_aspect=(n, hw, c))
        axes.view_init(elev=22, azim=35)
        axes.xaxis.labelpad = axes.yaxis.labelpad = axes.zaxis.labelpad = -12
        for pane in (axes.xaxis, axes.yaxis, axes.zaxis):
            pane.pane.set_visible(False)
            pane.line.set_visible(False)
    return figure


def printed(x: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    """Batch normalisation as often printed: minus the mean, over the (unbiased) standard deviation."""
    return (x - x.mean(0)) / x.std(0)


def _printed_formula(report: Report, batch: int, generator: torch.Generator) -> None:
    """The printed formula and the whole one, against torch's layer (2.9.c2, 2.9.x4)."""
    x = 2 + 3 * torch.randn(batch, 16, generator=generator)
    truth = nn.BatchNorm1d(16)(x).detach()
    whole = batch_norm(x, torch.ones(16), torch.zeros(16))
    candidates: Mapping[str, Tensor] = {
        "as printed: / std, unbiased": printed(x),
        "/ std, biased": (x - x.mean(0)) / x.std(0, correction=0),
        "/ sqrt(variance, biased, + eps)": whole,
    }
    apart = {label: (y - truth).abs().max().item() for label, y in candidates.items()}
    report.table("formulas", ("formula", "largest difference from torch's layer"),
                 [(label, f"{value:.2g}") for label, value in apart.items()],
                 f"A batch of {batch}: the factor between the deviations is $\\sqrt{{{batch}/{batch - 1}}} = "
                 f"{(batch / (batch - 1)) ** 0.5:.3f}$.")  # fmt: skip
    how = f"largest difference from torch's BatchNorm1d on a batch of {batch}, 16 features"
    report.claim("2.9.c2", apart["as printed: / std, unbiased"], high=1e-5, detail=how)
    report.claim("2.9.x4", apart["/ sqrt(variance, biased, + eps)"], high=1e-5, detail=f"{how}, with the biased "
                 "variance and eps inside the root")  # fmt: skip


def _constant_feature(report: Report) -> None:
    """A feature that is the same for all (2.9.c3, 2.9.x5)."""
    x = torch.full((8, 1), 3.0)
    broken = (~printed(x).isfinite()).sum()
    report.claim("2.9.c3", broken, high=0, unit="values", detail="of 8 of a constant feature that the printed formula "
                 "makes NaN: 0 / 0")  # fmt: skip
    safe = BatchNorm(1)(x).detach().abs().max()
    report.claim("2.9.x5", safe, low=0, high=1e-3, detail="largest output for the same feature with eps in the root")


def _other_examples(report: Report, generator: torch.Generator) -> None:
    """What an output owes to the others in the batch, and to a common shift (2.9.c4, 2.9.x6, 2.9.x13)."""
    x = torch.randn(8, 16, 6, 6, generator=generator)
    other = x.clone()
    other[1:] = 5 * torch.randn(7, 16, 6, 6, generator=generator)
    layers: dict[str, nn.Module] = {
        "batch": BatchNorm(16),
        "batch, in evaluation": BatchNorm(16).eval(),
        "layer": LayerNorm((16, 6, 6)),
        "instance": InstanceNorm(16),
        "group": GroupNorm(4, 16),
        "RMS": RMSNorm((16, 6, 6)),
    }
    moved, shifted = {}, {}
    with torch.no_grad():
        for name, layer in layers.items():
            moved[name] = (layer(x)[0] - layer(other)[0]).abs().max().item()
            shifted[name] = (layer(x) - layer(x + 3)).abs().max().item()
    report.table("others", ("normalisation", "other examples exchanged", "3 added to all values"),
                 [(name, f"{moved[name]:.2g}", f"{shifted[name]:.2g}") for name in layers],
                 "By how much an example's output changes when the other seven of the batch are exchanged, and "
                 "when all values are shifted.")  # fmt: skip
    report.claim("2.9.c4", moved["layer"] / moved["batch"], high=1e-6, detail="change of an output when the "
                 f"batch's other examples are exchanged: layer norm {moved['layer']:.2g}, over batch norm, "
                 f"{moved['batch']:.2g}")  # fmt: skip
    report.claim("2.9.x6", moved["batch, in evaluation"], high=1e-6, detail="the same for batch norm in evaluation, by "
                 "its running averages")  # fmt: skip
    report.claim("2.9.x13", shifted["RMS"], high=1e-3, detail="change of an output of RMS norm when 3 is added to all "
                 f"values; layer norm {shifted['layer']:.2g}")  # fmt: skip


def _batch_of_one(report: Report, generator: torch.Generator) -> None:
    """One example in training: as features, and as maps (2.9.c5, 2.9.x7)."""

    def works(layer: nn.Module, shape: tuple[int, ...]) -> bool:
        try:
            return bool(layer(torch.randn(shape, generator=generator)).isfinite().all())
        except (InputError, ValueError):
            return False

    features = works(nn.BatchNorm1d(16), (1, 16)) + works(BatchNorm(16), (1, 16))
    maps = works(nn.BatchNorm2d(16), (1, 16, 6, 6)) and works(BatchNorm(16), (1, 16, 6, 6))
    report.claim("2.9.c5", features, low=2, unit="layers", detail="of 2 (torch's and ours) that take one example of "
                 "16 features in training")  # fmt: skip
    report.claim(
        "2.9.x7", maps, low=1, detail="1 where one example of 16 maps of 6 x 6 works: there are 36 values a channel"
    )


def _running_variance(report: Report, generator: torch.Generator) -> None:
    """Which variance is kept for prediction (2.9.x8)."""
    x = 5 * torch.randn(8, 16, generator=generator)
    layer = BatchNorm(16)
    layer(x)
    expected = {
        name: 0.9 + 0.1 * x.var(0, correction=correction) for name, correction in (("unbiased", 1), ("biased", 0))
    }
    apart = {name: (layer.running_var - value).abs().max().item() for name, value in expected.items()}
    report.claim("2.9.x8", apart["unbiased"], high=1e-5, detail="largest difference of the running variance after one "
                 "batch of 8 from 0.9 + 0.1 * unbiased variance; from the biased one "
                 f"{apart['biased']:.2g}")  # fmt: skip


def _loss_scale(report: Report, generator: torch.Generator) -> None:
    """Whether normalising activations bounds the gradient: a loss times 1000 (2.9.x9)."""
    x, labels = torch.randn(32, 16, generator=generator), torch.randint(10, (32,), generator=generator)
    growth = {}
    for name, layer in (("batch", BatchNorm(32)), ("layer", LayerNorm(32))):
        net = nn.Sequential(nn.Linear(16, 32), layer, nn.ReLU(), nn.Linear(32, 10))
        norms = []
        for factor in (1, 1000):
            gradients = torch.autograd.grad(factor * nn.functional.cross_entropy(net(x), labels), [*net.parameters()])
            norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm().item())
        growth[name] = norms[1] / norms[0]
    report.claim("2.9.x9", max(growth.values()), high=10, detail="growth of the gradient's norm when the loss is "
                 "multiplied by 1000: batch norm "
                 f"{growth['batch']:.4g}, layer norm {growth['layer']:.4g}; clipped, it would stay")  # fmt: skip


def _photograph(report: Report, photo: Float[Tensor, "3 h w"], style: Float[Tensor, "3 _ _"]) -> None:
    """Contrast and tint are all that instance normalisation takes away from a picture (2.9.x10)."""
    tint = torch.tensor([0.35, 0.45, 0.6]).view(3, 1, 1)
    dark = tint * photo + torch.tensor([0.0, 0.08, 0.25]).view(3, 1, 1)
    normal, from_dark = (instance_norm(each[None])[0] for each in (photo, dark))
    deviation, mean = (each.view(3, 1, 1) for each in torch.std_mean(style.flatten(1), 1, correction=0))
    dressed = normal * deviation + mean
    report.images("photograph", {"photograph": photo, "darker and bluer": dark, "normalised": shown(normal),
                                 "normalised from the darker": shown(from_dark)},
                  "Instance normalisation of the colours: two photographs that differ in contrast and tint come out as "
                  "one (shown at a mean of 0.5 and a deviation of 0.2).")  # fmt: skip
    report.images("style", {"photograph": photo, "picture": style, "its means and deviations": dressed.clamp(0, 1)},
                  "With another picture's deviations for $\\gamma$ and means for $\\beta$ the photograph takes over "
                  "its colours: style transfer by instance normalisation does this in a network's "
                  "features.")  # fmt: skip
    apart = (normal - from_dark).abs().max()
    report.claim("2.9.x10", apart, high=0.05, detail="largest difference, in standard deviations, between the "
                 "normalised photograph and the normalised darker one; before it was "
                 f"{(photo - dark).abs().max() / photo.std():.2f}")  # fmt: skip


def shown(x: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
    """Mean 0 and variance 1, to be looked at."""
    return (0.5 + 0.2 * x).clamp(0, 1)
