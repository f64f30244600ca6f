"""Experiment: a photograph as a function of its coordinates, with NeRF's code, with a random one, and with none."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from torch import Tensor
from torch.optim import Adam

from vivace.base.drawing import GREY, PALETTE, drawing
from vivace.base.images import read_image, resize
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.networks import MLP, fourier_features, gaussian_features, random_frequencies

QUICK = {"side": 80, "steps": 150}

OCTAVES = (2, 4, 6, 10)
BEST, MOST = 4, 10  # octaves for a picture like this; those of NeRF's places in space
FREQUENCIES = 64  # of the Gaussian code
FINE = 1 / 8  # cycles a pixel from which detail counts as fine
BUDGETS = (0.1, 0.3, 1.0)  # shares of the steps after which the fit is looked at

Code = Callable[[Tensor], Tensor]
Share = Annotated[float, Ge(0), Le(1)]


@checked
def run(*, image: ImagePath = "astronaut", crop: Annotated[float, Ge(0.05), Le(1)] = 0.5, left: Share = 0.38,
        top: Share = 0.0, side: Annotated[int, Ge(32), Le(512)] = 192, width: Annotated[int, Ge(16), Le(1024)] = 128,
        sigma: Annotated[float, Ge(0.1), Le(100)] = 3.0, steps: Annotated[int, Ge(50), Le(100_000)] = 1000,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """An MLP that takes (x, y) and says the colour: blurred on plain coordinates, sharp on encoded ones.

    vivace run fourier_features        1 min on two cores; 21 dB plain, 26 encoded, on pixels it was not shown

    image: the photograph
    crop: the side of the square that is cut out, as a share of the shorter side
    left: where the square lies: 0 at the left edge, 1 at the right one
    top: 0 at the upper edge, 1 at the lower one
    side: pixels to which the square is brought; the nets see every second one in each direction
    width: units in each of the three hidden layers
    sigma: of the Gaussian code's frequencies, in cycles over half the picture
    steps: of Adam for each net
    seed: of the initial weights, the frequencies and the order of the pixels
    """
    picture = cut(read_image(image), crop, left, top, side)
    generator = torch.Generator().manual_seed(seed)
    B = random_frequencies(FREQUENCIES, 2, sigma=sigma, generator=generator)
    codes: dict[str, Code] = {"plain": lambda x: x}
    codes |= {f"{L} octaves": partial(fourier_features, octaves=L) for L in OCTAVES}
    codes[f"Gaussian, sigma {sigma:g}"] = partial(gaussian_features, B=B)
    report = Report(
        "Encoded coordinates let a network paint detail",
        f"A net with three hidden layers of {width} units learns a photograph as a function from place to colour. "
        "Plain coordinates change so little from pixel to pixel that it learns the coarse shapes only. NeRF's code "
        "gives each coordinate $v$ as $\\sin(2^k \\pi v), \\cos(2^k \\pi v)$, $k = 0 \\dots L - 1$. The nets see one "
        "pixel in four (every second row and column); PSNR counts on the other three, so that noise between "
        "the pixels seen is found out.",
    )
    fits = {}
    for i, (name, code) in enumerate(codes.items()):
        tell(Step(i, len(codes), f"painting: {name}"))
        fits[name] = fit(picture, code, width=width, steps=steps, seed=seed)
    tell(Step(len(codes), len(codes), "done"))
    _show(report, picture, fits, steps)
    _claims(report, picture, fits)
    return report


def cut(image: Float[Tensor, "3 h w"], crop: float, left: float, top: float, side: int) -> Float[Tensor, "3 s s"]:
    height, width = image.shape[1:]
    size = max(1, round(crop * min(height, width)))
    y, x = round(top * (height - size)), round(left * (width - size))
    return resize(image[:, y : y + size, x : x + size], (side, side))


@dataclass
class Fit:
    """What a net painted in the end, and its PSNR on unseen and on seen pixels along the way."""

    painted: Float[Tensor, "3 s s"]
    steps: list[int] = field(default_factory=list)
    unseen: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)


def every_second(side: int) -> Bool[Tensor, "s s"]:
    """The pixels that are shown."""
    shown = torch.zeros(side, side, dtype=torch.bool)
    shown[::2, ::2] = True
    return shown


def fit(picture: Float[Tensor, "3 s s"], code: Code, *, width: int, steps: int, seed: int) -> Fit:
    side = picture.shape[-1]
    places = (torch.arange(side) + 0.5) / side * 2 - 1
    features = code(torch.cartesian_prod(places, places))  # (side^2, features)
    colors, shown = picture.flatten(1).T, every_second(side)
    x, y = features[shown.flatten()], colors[shown.flatten()]
    generator = torch.Generator().manual_seed(seed)
    model = MLP([features.shape[1], width, width, width, 3], generator=generator)
    optimizer = Adam(model.parameters(), lr=3e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    looks = {max(1, round(steps * i / 20)) for i in range(21)}
    found = Fit(picture)
    for step in range(1, steps + 1):
        some = torch.randint(len(x), (min(1024, len(x)),), generator=generator)
        loss = F.mse_loss(torch.sigmoid(model(x[some])), y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step in looks:
            with torch.no_grad():
                found.painted = torch.sigmoid(model(features)).T.view(3, side, side)
            error = (found.painted - picture).square().mean(0)
            found.steps.append(step)
            found.unseen.append(psnr(error[~shown]))
            found.seen.append(psnr(error[shown]))
    return found


def psnr(error: Float[Tensor, " n"]) -> float:
    return -10 * math.log10(max(error.mean().item(), 1e-12))


def fine_error(painted: Float[Tensor, "3 s s"], picture: Float[Tensor, "3 s s"]) -> float:
    """The share of the picture's fine detail that is missing or wrong: energy above `FINE` cycles a pixel."""
    cycles = torch.fft.fftfreq(picture.shape[-1])
    fine = (cycles[:, None].square() + cycles.square()).sqrt() >= FINE
    energy = [torch.fft.fft2(image)[:, fine].abs().square().sum() for image in (painted - picture, picture)]
    return (energy[0] / energy[1]).item()


def _show(report: Report, picture: Float[Tensor, "3 s s"], fits: Mapping[str, Fit], steps: int) -> None:
    report.figure("photographs", draw_photographs(picture, fits), f"{picture.shape[-1]} x {picture.shape[-1]} pixels, "
                  f"{steps} steps each; PSNR on the three pixels of four that were not shown.")  # fmt: skip
    plain, coded = (fits[name].painted for name in ("plain", f"{BEST} octaves"))
    report.images("side-by-side", {"photograph": picture, f"plain: {fits['plain'].unseen[-1]:.1f} dB": plain,
                                   f"{BEST} octaves: {fits[f'{BEST} octaves'].unseen[-1]:.1f} dB": coded},
                  "The same net, the same steps, the same pixels shown; only the code differs.")  # fmt: skip
    figure, ax = drawing(width=7.6)
    for (name, found), color in zip(fits.items(), PALETTE, strict=False):
        ax.plot(found.steps, found.unseen, color=color, label=name)
    ax.set(xlabel="step", ylabel="PSNR on unseen pixels, dB")
    figure.legend(loc="outside right center", frameon=False)
    report.figure("psnr", figure, "What each budget of steps buys.")
    rows = []
    for name, found in fits.items():
        at = [min(range(len(found.steps)), key=lambda i: abs(found.steps[i] - share * steps)) for share in BUDGETS]
        rows.append((name, *(f"{found.unseen[i]:.1f}" for i in at), f"{found.seen[-1]:.1f}",
                     f"{100 * (1 - fine_error(found.painted, picture)):.0f}"))  # fmt: skip
    report.table("budgets", ("coordinates", *(f"dB after {round(share * steps)} steps" for share in BUDGETS),
                             "dB on shown pixels", "fine detail recovered, %"), rows,
                 f"Fine detail: {FINE:g} cycles a pixel and more. Below zero: more wrong than a blank would "
                 "be.")  # fmt: skip


def draw_photographs(picture: Float[Tensor, "3 s s"], fits: Mapping[str, Fit]) -> Figure:
    """The photograph, every fit, and below each its logarithmic spectrum."""
    images = {"photograph": picture} | {name: found.painted for name, found in fits.items()}
    figure, axes = drawing(2, len(images), width=1.9 * len(images), height=4.4)
    for (top, bottom), (name, image) in zip(axes.T, images.items(), strict=True):
        top.imshow(image.movedim(0, -1).clamp(0, 1).numpy())
        number = f"\n{fits[name].unseen[-1]:.1f} dB" if name in fits else "\n"
        top.set_title(name + number, fontsize=10)
        spectrum = torch.fft.fftshift(torch.fft.fft2(image.mean(0)).abs().add(1e-3).log())
        bottom.imshow(spectrum.numpy(), cmap="magma", vmin=-1, vmax=math.log(picture.shape[-1] ** 2 / 4))
    for ax in axes.flat:
        ax.set_axis_off()
    axes[1, 0].set_title("spectrum, fine detail outside", fontsize=8, color=GREY)
    return figure


def _claims(report: Report, picture: Float[Tensor, "3 s s"], fits: Mapping[str, Fit]) -> None:
    plain, best, most = (fits[name] for name in ("plain", f"{BEST} octaves", f"{MOST} octaves"))
    missing = [f"{100 * fine_error(found.painted, picture):.0f} %" for found in (best, plain)]
    report.claim("3.6.c8", best.unseen[-1] - plain.unseen[-1], low=2, unit="dB", detail="PSNR gained on unseen pixels "
                 f"by {BEST} octaves, {best.unseen[-1]:.1f} against {plain.unseen[-1]:.1f}; of the fine detail "
                 f"{missing[0]} missing or wrong, against {missing[1]}")  # fmt: skip
    report.claim("3.6.x6", most.unseen[-1] - best.unseen[-1], low=0, unit="dB", detail=f"PSNR gained on unseen pixels "
                 f"by {MOST} octaves over {BEST}; on those shown {most.seen[-1] - best.seen[-1]:+.1f} dB")  # fmt: skip
    place, view = fourier_features(torch.zeros(1, 3), 10), fourier_features(torch.zeros(1, 3), 4)
    report.claim("3.6.x7", place.shape[1] + view.shape[1], low=84, high=84, unit="numbers", detail=f"for a place in 10 "
                 f"octaves and a direction in 4: {place.shape[1]} and {view.shape[1]}")  # fmt: skip
