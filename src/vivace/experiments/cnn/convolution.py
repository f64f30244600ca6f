"""Experiment: what a convolution is, four ways to compute it, and what moves when the picture moves."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from scipy import signal
from torch import Tensor, nn

from vivace.base.drawing import drawing
from vivace.base.images import crop_center, read_image, resize
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.report import Report, Tell, ignore
from vivace.cnn import (
    conv2d_fft,
    conv2d_im2col,
    conv2d_loops,
    conv2d_toeplitz,
    flipped,
    kernel,
    toeplitz_matrix,
)
from vivace.experiments.parts import in_turn
from vivace.experiments.timing import quickest
from vivace.experiments.worked_example import PICTURE, number_tables

QUICK = {"settings": 40, "largest": 31}

WAYS: dict[str, Callable[..., Tensor]] = {
    "loops": conv2d_loops, "im2col": conv2d_im2col, "FFT": conv2d_fft, "Toeplitz matrix": conv2d_toeplitz,
}  # fmt: skip
NINE = torch.arange(1.0, 10, dtype=torch.float64).view(1, 1, 3, 3)  # a kernel without any symmetry


@checked
def run(*, image: ImagePath = "astronaut", size: Annotated[int, Ge(64), Le(1024)] = 256,
        settings: Annotated[int, Ge(10), Le(1000)] = 300, largest: Annotated[int, Ge(15), Le(101)] = 61, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """What a convolution is: four ways to the same map, one of them a matrix product; it moves with the picture.

    vivace run convolution        10 s on two cores; four ways equal torch to 1e-15; FFT 10 times faster at 31 x 31

    image: the photograph whose feature maps are shown and moved
    size: the side of the square that is taken from its middle, in pixels
    settings: random choices of sizes, stride, padding, dilation and groups in which the ways are compared with torch
    largest: side of the largest kernel that is timed
    seed: of the random settings and numbers
    """
    photo = crop_center(resize(read_image(image), size), size)
    grey = photo.mean(0)[None, None].double()
    report = Report(
        "Convolution: slide, multiply, sum, store",
        "A kernel $w$ slides over the picture $x$ and leaves one number at each place: $y_{ij} = \\sum_{c,m,n} w_{cmn}"
        "\\, x_{c,\\, i+m,\\, j+n}$. The table of these numbers is a feature map. The same map comes out of a matrix "
        "product (im2col), of a product of spectra (FFT), and of one sparse matrix for the whole picture (Toeplitz).",
    )
    parts = (
        ("four ways", partial(_ways, report, settings, seed)),
        ("feature maps", partial(_maps, report, photo)),
        ("one matrix", partial(_matrix, report, grey)),
        ("neighbours", partial(_locality, report, grey, seed)),
        ("moving the picture", partial(_moved, report, grey)),
        ("constant pictures, flipped kernels", partial(_kernels, report)),
        ("cost", partial(_costs, report, grey.float(), largest, seed)),
    )
    in_turn(parts, tell)
    return report


def _ways(report: Report, settings: int, seed: int) -> None:
    """Each way against torch: the definition on one channel (c1), and all that the question leaves out (x1)."""
    random = np.random.default_rng(seed)
    plain, every = [0.0], dict.fromkeys(WAYS, 0.0)
    for turn in range(settings):
        g = torch.Generator().manual_seed(seed + turn)
        x, w, b, more = random_setting(random, g)
        truth = F.conv2d(x, w, b, **more)
        for name, way in WAYS.items():
            every[name] = max(every[name], _change(way(x, w, b, **more), truth))
        one, k = x[:1, :1], torch.randn(1, 1, 3, 3, dtype=x.dtype, generator=g)
        if min(one.shape[2:]) >= 3:
            plain.append(_change(conv2d_loops(one, k), F.conv2d(one, k)))
    report.claim("4.1.c1", max(plain), high=1e-9, detail=f"largest relative difference of the sliding window from "
                 f"torch's conv2d, one channel, {len(plain) - 1} random pictures and kernels")  # fmt: skip
    report.claim("4.1.x1", max(every.values()), high=1e-9, detail=f"the same with bias, channels, stride, padding, "
                 f"dilation and groups, {settings} random settings: " + _listed(every))  # fmt: skip
    edge = kernel("edge").double()
    tables = {"picture": PICTURE.numpy(), "kernel": edge.numpy(),
              "map": conv2d_loops(PICTURE[None, None], edge[None, None])[0, 0].numpy()}  # fmt: skip
    frames = {"picture": (0, 1, 3, 3), "map": (0, 1, 1, 1)}
    report.figure("window", number_tables(tables, frames, ("∗", "=")), "Slide, multiply, sum, store: nine pixels and "
                  "nine weights make one number of the map; 6 x 6 pixels have 4 x 4 such places.")  # fmt: skip


def random_setting(random: np.random.Generator, generator: torch.Generator
                   ) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:  # fmt: skip
    """Pictures, weights, biases and the rest, in sizes that fit."""
    groups = int(random.integers(1, 4))
    inputs, outputs = (groups * int(n) for n in random.integers(1, 4, 2))
    side, dilation, padding, stride = random.integers((1, 1, 0, 1), (4, 3, 3, 4), (2, 4)).T
    size = np.maximum(1, dilation * (side - 1) + 1 - 2 * padding) + random.integers(0, 6, 2)
    shapes = ((2, inputs, *size.tolist()), (outputs, inputs // groups, *side.tolist()), (outputs,))
    x, w, b = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes)
    pairs = {"stride": stride, "padding": padding, "dilation": dilation}
    return x, w, b, {name: tuple(pair.tolist()) for name, pair in pairs.items()} | {"groups": groups}


def _change(ours: Tensor, truth: Tensor) -> float:
    """The difference relative to the truth, by norm."""
    return ((ours - truth).norm() / truth.norm().clamp(min=1e-12)).item()


def _listed(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.0e}" for name, value in values.items())


def shown(values: Float[Tensor, "h w"]) -> Float[Tensor, "1 h w"]:
    """A map as a picture: 0 is grey, and one in a hundred of its values is white or black."""
    return (0.5 + values / (2 * values.abs().quantile(0.99).clamp(min=1e-6))).clamp(0, 1)[None].float()


def _maps(report: Report, photo: Float[Tensor, "3 h w"]) -> None:
    weight = torch.stack([kernel(name) for name in ("edge", "sobel x", "sobel y")])[:, None].expand(-1, 3, -1, -1) / 3
    layer = conv2d_im2col(photo[None], weight, torch.zeros(3), padding=1)[0, :, 1:-1, 1:-1]
    names = ("edge kernel", "left to right", "top to bottom")
    report.images("feature_maps", {"photograph": photo} | dict(zip(names, map(shown, layer), strict=True)),
                  "One layer with three kernels of 3 x 3 x 3 weights gives three feature maps. Grey is 0: nothing of "
                  "that kind is here.")  # fmt: skip


def _matrix(report: Report, grey: Float[Tensor, "1 1 h w"]) -> None:
    """The convolution as a matrix (c2), which is sparse and shared (c3, x2)."""
    edge = kernel("edge").double()[None, None]
    T = toeplitz_matrix(NINE, (6, 6))
    side = min(64, grey.shape[-1])
    small = crop_center(grey, side)
    product = (toeplitz_matrix(edge, (side, side)) @ small.flatten()).view(1, 1, side - 2, side - 2)
    columns = F.unfold(small, 3)[0]
    apart = max(_change(product, F.conv2d(small, edge)),
                _change((edge.view(1, 9) @ columns).view_as(product), product))  # fmt: skip
    report.claim("4.1.c2", apart, low=1e-3, detail=f"relative difference between torch's conv2d and two matrix "
                 f"products: one of {(side - 2) ** 2:,} x {side**2:,} times a {side} x {side} photograph, and "
                 f"the kernel times its 9 x {columns.shape[1]:,} windows")  # fmt: skip
    jacobian = torch.autograd.functional.jacobian(lambda x: F.conv2d(x, NINE), PICTURE[None, None]).view(16, 36)
    kernels = {tuple(row[row != 0].tolist()) for row in jacobian}
    dense, conv = nn.Linear(36, 16, bias=False), nn.Conv2d(1, 1, 3, bias=False)
    report.claim("4.1.c3", len(kernels), high=1, unit="kernel", detail="different ones at the 16 places of the 4 x 4 "
                 f"map, read off torch's derivative; {conv.weight.numel()} free numbers, a dense layer from 36 pixels "
                 f"to 16 has {dense.weight.numel()}")  # fmt: skip
    values = T.values()
    report.claim("4.1.x2", len(values.unique()), low=9, high=9, unit="numbers", detail="different ones in the matrix; "
                 f"{len(values)} of its {T.numel()} entries are not zero")  # fmt: skip
    figure, axes = drawing(1, 2, width=9.5, height=3.6, width_ratios=(1.35, 1))
    larger = toeplitz_matrix(NINE, (12, 12), padding=1)
    for ax, (title, matrix) in zip(axes, {"6 x 6 to 4 x 4": T, "12 x 12, padded by 1": larger}.items(), strict=True):
        numbers = np.where(matrix.to_dense() == 0, np.nan, matrix.to_dense())
        drawn = ax.imshow(numbers, cmap="viridis", vmin=1, vmax=9, interpolation="nearest")
        ax.set(title=title, xlabel="pixel of the picture", ylabel="place of the map")
        ax.yaxis.get_major_locator().set_params(integer=True)
        ax.grid(False)
    figure.colorbar(drawn, ax=axes, label="weight", shrink=0.8)
    report.figure("toeplitz", figure, "The kernel 1 to 9 as one matrix for the whole picture. White is zero (not a "
                  "neighbour), and the same nine numbers return along the diagonals (shared).")  # fmt: skip


def _locality(report: Report, grey: Float[Tensor, "1 1 h w"], seed: int) -> None:
    """How many pixels move one output: its derivative's entries that are not zero (c4)."""
    x = grey.clone().requires_grad_()
    maps = F.conv2d(x, NINE)
    counts, outside = [], 0
    for y, z in torch.randint(maps.shape[-1], (20, 2), generator=torch.Generator().manual_seed(seed)).tolist():
        (gradient,) = torch.autograd.grad(maps[0, 0, y, z], x, retain_graph=True)
        counts.append(int(gradient.count_nonzero()))
        outside += counts[-1] - int(gradient[..., y : y + 3, z : z + 3].count_nonzero())
    report.claim("4.1.c4", max(counts), high=9, unit="pixels", detail=f"of {x.numel():,} affect one output, the "
                 f"most of 20 places; {outside} of them outside its 3 x 3 window")  # fmt: skip


def _moved(report: Report, grey: Float[Tensor, "1 1 h w"]) -> None:
    """Does the map stay when the picture moves (c5), or does it move along (x3 to x6)?"""
    w = kernel("sobel x").double()[None, None]
    by = grey.shape[-1] // 8
    turned = grey.roll(by, 3)  # what leaves on the right comes back on the left, so that nothing is lost

    def wrapped(x: Tensor, stride: int = 1) -> Tensor:
        return F.conv2d(F.pad(x, [1] * 4, "circular"), w, stride=stride)

    here, there = wrapped(grey), wrapped(turned)
    report.claim("4.1.c5", _change(there, here), high=0.01, detail=f"relative change of the map when the photograph is "
                 f"moved {by} pixels to the right")  # fmt: skip
    report.claim("4.1.x3", _change(there, here.roll(by, 3)), high=1e-9, detail="difference between the moved picture's "
                 "map and the map moved: convolution and shift can change places")  # fmt: skip
    inside = [F.conv2d(x, w, padding=1) for x in (grey, turned)]
    report.claim("4.1.x4", _change(inside[1], inside[0].roll(by, 3)), high=0.01, detail="the same where zeros are "
                 "padded: places at the border see zeros instead of their neighbours")  # fmt: skip
    halves = wrapped(grey, 2), wrapped(grey.roll(1, 3), 2)
    nearest = min(_change(halves[1], halves[0].roll(shift, 3)) for shift in (0, 1))
    report.claim("4.1.x5", nearest, high=0.01, detail="the same for stride 2 and a picture moved by 1 pixel: the "
                 "nearest of the map as it is and moved by 1")  # fmt: skip
    pooled = [F.relu(m).mean((2, 3)) for m in (here, there)]
    report.claim("4.1.x6", _change(pooled[1], pooled[0]), high=1e-9, detail="relative change of the mean over all "
                 "places of ReLU of the map (global average pooling)")  # fmt: skip
    pictures = {"picture": grey[0], "its map": shown(here[0, 0]), f"moved {by} pixels": turned[0],
                "its map moves along": shown(there[0, 0])}  # fmt: skip
    report.images("moved", pictures, "Equivariance, not invariance: the moved picture's map is the moved map. What "
                  "leaves on the right comes back on the left here.")  # fmt: skip


def _kernels(report: Report) -> None:
    """Constant regions (c6), and the flip that mathematics means by convolution (c7, x7)."""
    edge = kernel("edge").double()[None, None]
    levels = torch.linspace(0, 1, 11, dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    report.claim("4.1.c6", conv2d_loops(levels, edge).abs().max(), high=1e-9, detail="largest answer of the edge "
                 f"kernel on 11 constant pictures from black to white; its numbers sum to {edge.sum():g}")  # fmt: skip
    picture = PICTURE[None, None]
    apart = {}
    for name, w in (("1 to 9", NINE), ("edge", edge)):
        truth = torch.from_numpy(signal.convolve2d(PICTURE.numpy(), w[0, 0].numpy(), mode="valid"))
        apart[name] = (conv2d_loops(picture, w)[0, 0] - truth).abs().max()
        assert torch.allclose(conv2d_loops(picture, flipped(w))[0, 0], truth)
    report.claim("4.1.c7", apart["1 to 9"], high=1e-9, detail="largest difference from SciPy's convolution, kernel "
                 "1 to 9 on the 6 x 6 picture; with the kernel turned by 180 degrees it is 0")  # fmt: skip
    report.claim("4.1.x7", apart["edge"], high=1e-9, detail="the same for the edge kernel, which is its own flip")


def _costs(report: Report, grey: Float[Tensor, "1 1 h w"], largest: int, seed: int) -> None:
    """Processor time by kernel (x8), and of a layer of a network (x9)."""
    sides = [n for n in (3, 5, 7, 11, 15, 21, 31, 41, 61, 81, 101) if n <= min(largest, grey.shape[-1] // 2)]
    ways: dict[str, Callable[..., Tensor]] = {"torch": F.conv2d, "im2col": conv2d_im2col, "FFT": conv2d_fft}
    g = torch.Generator().manual_seed(seed)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for side in sides:
        w = torch.randn(1, 1, side, side, generator=g)
        tasks = [partial(way, grey, w, padding=side // 2) for way in ways.values()]
        for name, seconds in zip(ways, quickest(tasks, rounds=3), strict=True):
            times[name].append(1e3 * seconds)
    report.curve("cost", {name: (sides, found) for name, found in times.items()}, x="side of the kernel, pixels",
                 y="milliseconds", log_y=True, caption=f"One picture of {grey.shape[-1]} x {grey.shape[-1]}, one "
                 "thread. The sum grows with the kernel's area, the FFT hardly.")  # fmt: skip
    at = sides.index(15)
    ratio = [direct / spectral for direct, spectral in zip(times["torch"], times["FFT"], strict=True)]
    report.claim("4.1.x8", ratio[-1], low=2, unit="times",
                 detail=f"processor time of torch's conv2d over FFT, a kernel of {sides[-1]} x {sides[-1]}; 15 x 15: "
                 f"{ratio[at]:.1f}, 3 x 3: "
                 f"{ratio[0]:.2f}")  # fmt: skip
    x, w = torch.randn(4, 32, 56, 56, generator=g), torch.randn(32, 32, 3, 3, generator=g)
    spent = dict(zip(ways, quickest([partial(way, x, w, padding=1) for way in ways.values()]), strict=True))
    report.claim("4.1.x9", spent["torch"] / spent["FFT"], low=1, unit="times", detail="the same for a layer: "
                 "3 x 3, 32 channels in and out, 4 maps of 56 x 56")  # fmt: skip
    small, k = crop_center(grey, 48), torch.randn(1, 1, 3, 3, generator=g)
    every: dict[str, Callable[..., Tensor]] = {"torch": F.conv2d, **WAYS}
    slow = dict(zip(every, quickest([partial(way, small, k) for way in every.values()], rounds=1), strict=True))
    kept = {"im2col": 9 * 46**2, "Toeplitz matrix": 9 * 46**2, "FFT": 3 * 48 * 50}
    rows = [(name, f"{1e3 * seconds:.3f}", f"{kept.get(name, 0):,}") for name, seconds in slow.items()]
    report.table("ways", ("way", "milliseconds", "numbers besides picture and map"), rows,
                 "A 3 x 3 kernel on 48 x 48 pixels; the FFT keeps three spectra. The Toeplitz matrix keeps each "
                 "number's place too, and is made anew each time.")  # fmt: skip
