"""Experiment: hand-made kernels: a worked example, size arithmetic, real photographs and their borders."""

import math
from functools import partial
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vivace.base.cost import cost
from vivace.base.drawing import drawing
from vivace.base.images import crop_center, read_image, resize
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.report import Report, Tell, ignore
from vivace.cnn import (
    KERNELS,
    apply_kernel,
    box_blur,
    conv2d_loops,
    conv2d_output_size,
    conv2d_parameters,
    gaussian,
    kernel,
    vgg16,
)
from vivace.experiments.parts import in_turn
from vivace.experiments.worked_example import EDGES, PICTURE, number_tables

QUICK = {"size": 256, "settings": 200}

BLURS = torch.tensor([[12, 10, 8, 9], [11, 11, 9, 8], [10, 9, 9, 8], [8, 8, 10, 8]], dtype=torch.float64) / 9
SHARP = torch.tensor([[-2, -5, 8, 1], [6, 0, 1, -5], [1, 6, 1, 2], [-5, 3, -6, 7]], dtype=torch.float64)
OWN = {"vertical edge": "sobel x", "horizontal edge": "sobel y", "diagonal edge": "sobel diagonal", "spot": "edge",
       "corner": "corner"}  # fmt: skip
Beyond = Literal["zero", "reflect", "replicate", "circular"]
BORDERS: tuple[Beyond, ...] = ("zero", "reflect", "replicate", "circular")


@checked
def run(*, image: ImagePath = "astronaut", size: Annotated[int, Ge(64), Le(2048)] = 512, border: Beyond = "reflect",
        settings: Annotated[int, Ge(20), Le(5000)] = 500, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """What hand-made kernels do to a photograph, and the arithmetic of a layer's size and parameters.

    vivace run kernels        5 s on two cores; the whole 4 x 4 answer, and size and parameters equal torch's

    image: the photograph that the kernels are applied to
    size: its shorter side, in pixels
    border: what lies beyond the photograph's border
    settings: random sizes, paddings, strides and dilations in which the size formula is compared with torch
    seed: of these settings, and of the synthetic pictures
    """
    photo = resize(read_image(image), size)
    report = Report(
        "Kernels: nine numbers and what they find",
        "A kernel of numbers that sum to 0 answers changes (edges); one that sums to 1 keeps the brightness (blur, "
        "sharpen). $N$ pixels, a kernel of $F$, padding $P$, stride $S$ and dilation $D$ give "
        "$\\lfloor (N + 2P - D(F - 1) - 1) / S \\rfloor + 1$ places. These kernels are made by hand to show what a "
        "kernel can do; those of a network are learned (`vivace run learned_kernels`).",
    )
    parts = (
        ("worked example", partial(_example, report)),
        ("sizes and parameters", partial(_sizes, report, photo, settings, seed)),
        ("a photograph", partial(_photo, report, photo, border)),
        ("features", partial(_features, report, seed)),
        ("borders", partial(_borders, report, photo)),
    )
    in_turn(parts, tell)
    return report


def _example(report: Report) -> None:
    """The 6 x 6 picture under the three printed kernels (c1, c2, x1)."""
    picture = PICTURE[None, None]
    edges, blurs, sharp = (conv2d_loops(picture, kernel(name).double()[None, None])[0, 0]
                           for name in ("edge", "box blur", "sharpen"))  # fmt: skip
    first = PICTURE[:3, :3] * kernel("edge").double()
    sums = ", ".join(f"{value:+g}" for value in first.sum(1).tolist())
    report.claim("4.10.c1", edges[0, 0], low=-3, high=-3, detail=f"the first place: rows of products sum to {sums}")
    report.claim("4.10.c2", (edges - EDGES).count_nonzero(), high=0, unit="of 16",
                 detail=f"places that differ from the printed answer; ours: {edges.int().tolist()}")  # fmt: skip
    wrong = ((blurs - BLURS).abs() > 1e-6).sum() + (sharp - SHARP).count_nonzero()
    report.claim("4.10.x1", wrong, high=0, unit="of 32", detail="places that differ from the printed answers of blur "
                 "and sharpen")  # fmt: skip
    products = {"first window": PICTURE[:3, :3].numpy(), "kernel": kernel("edge").numpy(), "products": first.numpy()}
    report.figure("first", number_tables(products, {}, ("·", "=")), f"The first place by hand: rows of products "
                  f"sum to {sums}, together {edges[0, 0]:g}.")  # fmt: skip
    answers = {"picture": PICTURE, "edge": edges, "blur, times 9": (9 * blurs).round(), "sharpen": sharp}
    tables = {title: table.numpy() for title, table in answers.items()}
    report.figure("answers", number_tables(tables, {}, ("", "", "")), "All sixteen places under three kernels. The "
                  "picture is the only one that has these three answers.")  # fmt: skip


def _sizes(report: Report, photo: Float[Tensor, "3 h w"], settings: int, seed: int) -> None:
    """Sizes against torch's own (c3, c5, x2, x3) and parameters (c4)."""
    side = F.conv2d(PICTURE[None, None], torch.ones(1, 1, 3, 3).double()).shape[-1]
    report.claim("4.10.c3", side, low=4, high=4, unit="pixels", detail="side of torch's map of 6 x 6 pixels, kernel "
                 "3 x 3: N - F + 1")  # fmt: skip
    with torch.device("meta"):
        first = vgg16().features[0]
    learned = sum(p.numel() for p in first.parameters())
    report.claim("4.10.c4", learned, low=1792, high=1792, unit="parameters", detail="in VGG-16's first layer, 3 to 64 "
                 f"channels of 3 x 3; 27 x 64 weights + 64 biases = {conv2d_parameters(3, 64, 3):,}")  # fmt: skip
    layer = torch.nn.Conv2d(3, 64, 3, padding=1)
    square = crop_center(resize(photo, 224), 224)
    shape = tuple(layer(square[None]).shape[1:])
    report.claim("4.10.c5", math.prod(shape), low=224 * 224 * 64, high=224 * 224 * 64, unit="numbers", detail="in "
                 f"the 64 maps of a photograph of 224 x 224 x 3, padding 1: {shape[1]} x {shape[2]} x {shape[0]}; "
                 f"without padding 222 x 222; {cost(layer).multiply_adds:,} multiply-adds")  # fmt: skip
    random = np.random.default_rng(seed)
    right = {"N - F + 1": 0, "general": 0}
    for _ in range(settings):
        f, padding, stride, dilation = (int(n) for n in random.integers((1, 0, 1, 1), (8, 4, 5, 4)))
        n = max(1, dilation * (f - 1) + 1 - 2 * padding) + int(random.integers(0, 60))
        picture, weight = torch.zeros(1, 1, n, n), torch.zeros(1, 1, f, f)
        truth = F.conv2d(picture, weight, stride=stride, padding=padding, dilation=dilation).shape[-1]
        right["N - F + 1"] += truth == n - f + 1
        size = conv2d_output_size(n, f, stride=stride, padding=padding, dilation=dilation)
        right["general"] += size == (truth, truth)
    for id_, name in (("4.10.x2", "N - F + 1"), ("4.10.x3", "general")):
        report.claim(id_, right[name] / settings, low=1, detail=f"share of {settings} random settings of torch's "
                     "conv2d (padding 0 to 3, stride 1 to 4, dilation 1 to 3) whose size it gives")  # fmt: skip
    rows = []
    for f, p, s, d in (
        (3, 0, 1, 1),
        (3, 1, 1, 1),
        (3, 1, 2, 1),
        (5, 2, 1, 1),
        (7, 3, 2, 1),
        (3, 2, 1, 2),
        (11, 2, 4, 1),
    ):
        (side, _), count = conv2d_output_size(224, f, stride=s, padding=p, dilation=d), conv2d_parameters(3, 64, f)
        rows.append((f, p, s, d, f"{side} x {side} x 64", f"{count:,}", f"{side**2 * 64 * 3 * f * f / 1e6:,.0f}"))
    titles = ("kernel", "padding", "stride", "dilation", "maps", "parameters", "million multiply-adds")
    report.table("layers", titles, rows, "A first layer on 224 x 224 x 3 with 64 kernels. Parameters don't depend on "
                 "the picture's size; the work does.")  # fmt: skip


def _shown(values: Float[Tensor, "_ h w"], name: str) -> Float[Tensor, "_ h w"]:
    """Where the kernel sums to 1 the picture, else 0 as grey, one in a hundred values black or white."""
    if abs(kernel(name).sum().item()) > 0.5:
        return values.clamp(0, 1)
    grey = values.mean(0, keepdim=True)
    flat = grey.flatten()[:: max(1, grey.numel() // 100_000)]
    return (0.5 + grey / (2 * flat.abs().quantile(0.99).clamp(min=1e-6))).clamp(0, 1)


def _photo(report: Report, photo: Float[Tensor, "3 h w"], border: Beyond) -> None:
    """The kernels on the photograph, their sums (c6), and edges as what a blur takes away (c7)."""
    names = ("edge", "laplacian", "sobel x", "sobel y", "box blur", "gaussian", "sharpen", "emboss")
    found = {name: _shown(apply_kernel(photo, kernel(name), border), name) for name in names}
    wide = {"box blur, 9 x 9": box_blur(9), "gaussian, sigma 4": gaussian(4)}
    larger = {name: apply_kernel(photo, k, border).clamp(0, 1) for name, k in wide.items()}
    report.images("photograph", {"photograph": photo} | found | larger,
                  "Kernels that sum to 0 leave grey where nothing changes; those that sum to 1 keep the "
                  "brightness.")  # fmt: skip
    sums = {name: kernel(name).double().sum().item() for name in ("box blur", "edge", "sharpen")}
    off = max(abs(found - stated) for found, stated in zip(sums.values(), (1, 0, 1), strict=True))
    report.claim("4.10.c6", off, high=1e-6, detail="largest distance of the sums from 1, 0, 1: " + ", ".join(
        f"{name} {total:.7g}" for name, total in sums.items()))  # fmt: skip
    exact = photo.double()
    taken = 9 * (exact - apply_kernel(exact, box_blur(3), border))
    apart = (apply_kernel(exact, kernel("edge"), border) - taken).abs().max()
    report.claim("4.10.c7", apart, high=1e-5, detail="largest difference on the photograph between the edge kernel's "
                 f"map and 9 (x - box blur); the map's largest value is {taken.abs().max():.2f}")  # fmt: skip
    report.table("kernels", ("kernel", "sum", "numbers"), [
        (name, f"{kernel(name).sum().item():.3g}", "; ".join(" ".join(f"{v:.3g}" for v in row) for row in rows))
        for name, rows in KERNELS.items()], "Rows are separated by semicolons.")  # fmt: skip


def drawn(feature: str, random: np.random.Generator) -> Float[Tensor, "1 24 24"]:
    """One feature of random contrast, either sign, at a random place, with a little noise."""
    y, x = np.mgrid[:24, :24]
    row, column = random.integers(8, 16, 2)
    inside = {"vertical edge": x >= column, "horizontal edge": y >= row, "diagonal edge": x - y >= column - row,
              "spot": (x == column) & (y == row), "corner": (x >= column) & (y <= row)}[feature]  # fmt: skip
    contrast = random.uniform(0.3, 0.8) * random.choice((-1, 1))
    picture = 0.5 + contrast * (inside - 0.5) + random.normal(scale=0.02, size=inside.shape)
    return torch.from_numpy(picture).float()[None]


def _features(report: Report, seed: int) -> None:
    """Which kernel, at equal length, answers which synthetic feature most strongly (c8)."""
    random = np.random.default_rng(seed)
    bank = {name: kernel(name) / kernel(name).norm() for name in OWN.values()}
    each, right = 40, 0
    answers = torch.zeros(len(OWN), len(bank))
    for row, (feature, own) in enumerate(OWN.items()):
        for _ in range(each):
            picture = drawn(feature, random)
            strength = torch.stack([apply_kernel(picture, k, "valid").abs().max() for k in bank.values()])
            right += list(bank)[int(strength.argmax())] == own
            answers[row] += strength / strength.max() / each
    report.claim("4.10.c8", right / (each * len(OWN)), low=0.95, detail=f"share of {each * len(OWN)} synthetic "
                 "pictures (edges of three directions, spots, corners) in which the kernel made for it answers most "
                 "strongly")  # fmt: skip
    examples = {feature: drawn(feature, random) for feature in OWN}
    report.images("features", {name: picture.clamp(0, 1) for name, picture in examples.items()}, "One of each.")
    figure, ax = drawing(width=6.2, height=4.2)
    shade = ax.imshow(answers.numpy(), cmap="viridis", vmin=0, vmax=1)
    for (y, x), value in np.ndenumerate(answers.numpy()):
        ax.text(x, y, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.7 else "black")
    ax.set_xticks(range(len(bank)), bank, rotation=20)
    ax.set_yticks(range(len(OWN)), OWN)
    ax.set(xlabel="kernel (all of length 1)", ylabel="picture of")
    ax.grid(False)
    figure.colorbar(shade, label="answer, relative to the strongest")
    report.figure("selective", figure, "Each kernel answers its own feature most, and the others somewhat: it is "
                  "selective, not exclusive.")  # fmt: skip


def _borders(report: Report, photo: Float[Tensor, "3 h w"]) -> None:
    """What each border handling costs, as the truth is known from a larger picture (x4), and false edges (x5)."""
    margin, blur = 12, gaussian(3)
    inner = photo[:, margin:-margin, margin:-margin]
    truth = apply_kernel(photo, blur, "valid")[:, : inner.shape[1], : inner.shape[2]]
    assert truth.shape == inner.shape, "the kernel's reach is the margin"
    ring = torch.ones(inner.shape[1:], dtype=torch.bool)
    ring[3:-3, 3:-3] = False
    blurred = {border: apply_kernel(inner, blur, border) for border in BORDERS}
    errors = {border: (found - truth)[:, ring].square().mean().sqrt().item() for border, found in blurred.items()}
    corner = (slice(None), slice(0, 64), slice(0, 64))
    shown = {border: found[corner].clamp(0, 1) for border, found in blurred.items()}
    report.images("borders", {"true": truth[corner]} | shown,
                  "The upper left corner under a Gaussian of sigma 3, with the picture continued in four ways, and as "
                  "it is with the true pixels beyond.")  # fmt: skip
    listed = ", ".join(f"{border} {error:.3f}" for border, error in errors.items())
    report.claim("4.10.x4", errors["zero"] / min(errors["reflect"], errors["replicate"]), high=1.5, unit="times",
                 detail=f"error at the outer three pixels over that of the better of reflect and replicate; root mean "
                 f"squares: {listed}")  # fmt: skip
    flat = torch.full((1, 16, 16), 0.5)
    most = {border: apply_kernel(flat, kernel("edge"), border).abs().max().item() for border in BORDERS}
    report.claim("4.10.x5", most["zero"], high=1e-6, detail="largest answer of the edge kernel on a constant picture "
                 f"of 0.5 with zeros beyond the border; the other three: {sorted(most.values())[-2]:g}")  # fmt: skip
