"""Experiment: EfficientNet-Lite0 names pictures, of any size, and what a size costs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import matplotlib
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from vivace.base.images import SHIPPED, heat_colors, middle_square, overlay, read_image, resize
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import (
    EfficientNetLite,
    class_index,
    class_names,
    classify,
    convolutionalize,
    efficientnet_lite0,
    spatial_pyramid_pool,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUICK = {"largest": 320, "views": 1}

# photographs whose subject is one of the 1000 classes, with the names that are right
LABELLED: dict[str | Path, tuple[str, ...]] = {
    "chelsea": ("tabby", "tiger cat", "Egyptian cat"),
    "coffee": ("espresso",),
    "motorcycle": ("moped", "motor scooter"),
    "camera": ("tripod",),
    Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"): ("military uniform",),
}
SIZES = (64, 96, 128, 160, 192, 224, 320, 448, 640)
OTHER_SIZES = ((64, 64), (97, 97), (224, 224), (300, 300), (33, 320), (225, 301))
GREY = 127 / 255  # what the model's normalisation turns into zero


@checked
def run(*, image: ImagePath = "chelsea", size: Annotated[int, Ge(32), Le(1024)] = 224,
        top: Annotated[int, Ge(1), Le(20)] = 5, largest: Annotated[int, Ge(320), Le(640)] = 448,
        views: Annotated[int, Ge(1), Le(6)] = 6, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """EfficientNet-Lite0 says what a picture shows; every size goes in, but the answer depends on it.

    vivace run efficientnet_lite        25 s on two cores; a cat at 0.88, photographs right at 160 to 320 px, lost at 64

    image: the picture to classify
    size: the side in pixels of the square that is cut from the middle of a picture and classified
    top: how many classes are named
    largest: the largest size at which pictures of known content are classified, and the score map made
    views: variants of each picture of known content (whole, mirrored, four corners)
    seed: the random pictures and weights that show which sizes layers accept
    """
    model = efficientnet_lite0(weights="imagenet")
    report = Report(
        "EfficientNet-Lite0: a name for every picture, and what its size does",
        "A network of 4.65 million parameters, trained on ImageNet at 224 pixels, names the picture. Its convolutions "
        "and its global average $\\frac{1}{hw}\\sum_{i,j} F_{c,i,j}$ accept every size; a map flattened before a fully "
        "connected layer does not. Photographs of known content are then classified at sizes from 64 pixels on.",
    )
    picture = read_image(image, max_side=2048)
    with torch.inference_mode():
        tell(Step(0, 4, "naming pictures"))
        _names(report, model, picture, size, top)
        _accepted_sizes(report, model, torch.Generator().manual_seed(seed))
        tell(Step(1, 4, "score map"))
        _score_map(report, model, picture, largest)
        _without_padding(report, torch.Generator().manual_seed(seed))
        tell(Step(2, 4, "known pictures at many sizes"))
        _many_sizes(report, model, largest, views)
        tell(Step(3, 4, "batches"))
        _padded_batch(report, model, largest)
    tell(Step(4, 4, "done"))
    return report


def _names(report: Report, model: nn.Module, picture: Tensor, size: int, top: int) -> None:
    """The user's picture, then the shipped ones; and what making those squares of one size loses (4.9.c5)."""
    square = _square(picture, size)
    report.figure("answer", _answer(square[0], classify(model, square, top=top)[0]),
                  f"The {size} x {size} pixels that the network saw, and its likeliest classes.")  # fmt: skip
    rows, quality, aspect = [], [], []
    for name in SHIPPED:
        photo = read_image(name)
        there_and_back = resize(resize(photo, (224, 224)), (photo.shape[-2], photo.shape[-1]))
        quality.append(-10 * (photo - there_and_back).square().mean().log10().item())
        aspect.append(100 * (max(photo.shape[-2:]) / min(photo.shape[-2:]) - 1))
        answers = classify(model, _square(photo, size), top=top)[0]
        words = ", ".join(f"{answer} {chance:.2f}" for answer, chance in answers)
        rows.append((name, words, f"{quality[-1]:.1f} dB", f"{aspect[-1]:.0f} %"))
    columns = ("picture", f"top {top}", "PSNR, 224 x 224 and back", "distortion as a square")
    report.table("photographs", columns, rows, "The shipped photographs. Several show what ImageNet has no class for "
                 "(an astronaut, the moon, gravel): the network must choose all the same.")  # fmt: skip
    report.claim("4.9.c5", torch.tensor(quality).median(), high=40, unit="dB",
                 detail=f"median PSNR of {len(rows)} photographs made 224 x 224 and enlarged again; above 40 dB a loss "
                 f"is hardly seen. Worst aspect error: {max(aspect):.0f} %")  # fmt: skip


def _square(picture: Tensor, size: int) -> Tensor:
    """The middle square of a picture, size x size pixels, as a batch of one."""
    return middle_square(picture, size)[None]


def _answer(square: Tensor, answers: list[tuple[str, float]]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.6))
    left.imshow(square.permute(1, 2, 0).numpy())
    left.axis("off")
    names, chances = zip(*reversed(answers), strict=True)
    bars = right.barh(names, chances, color="#3b82f6")
    right.bar_label(bars, [f"{chance:.2f}" for chance in chances], padding=4)
    right.set(xlim=(0, 1.08), xlabel="probability")
    right.spines[["top", "right"]].set_visible(False)
    return figure


def _accepted_sizes(report: Report, model: EfficientNetLite, generator: torch.Generator) -> None:
    """What a convolution, a flattened map, a global average and a spatial pyramid make of other sizes (c1 to c4)."""

    def noise(height: int, width: int) -> Tensor:
        return torch.rand(1, 3, height, width, generator=generator)

    tried = [(1, 1), (2, 7), *OTHER_SIZES]
    halved = [model.stem(noise(h, w)).shape[-2:] == (-(-h // 2), -(-w // 2)) for h, w in tried]
    report.claim("4.9.c1", sum(halved) / len(tried), low=1,
                 detail=f"share of {len(tried)} sizes, 1 x 1 to 300 x 300, that the first layer halves")  # fmt: skip
    flat = nn.Sequential(model.stem, nn.Flatten(), nn.Linear(32 * 16 * 16, 10))  # made for 32 x 32 pixels
    others = [(40, 40), *OTHER_SIZES]
    report.claim("4.9.c2", sum(_refuses(flat, noise(h, w)) for h, w in others) / len(others), low=1,
                 detail=f"share of {len(others)} other sizes at which convolution, flatten, FC made for 32 x 32 "
                 "ends in a shape error; at 40 x 40: 1 x 12800 against 8192 x 10")  # fmt: skip
    same_count = [(16, 64), (64, 16), (8, 128)]
    report.claim("4.9.x1", sum(_refuses(flat, noise(h, w)) for h, w in same_count) / len(same_count), low=1,
                 detail="share of 16 x 64, 64 x 16 and 8 x 128, as many as 32 x 32, that it refuses")  # fmt: skip
    named = [model(noise(h, w)).shape == (1, 1000) for h, w in OTHER_SIZES]
    report.claim("4.9.c3", sum(named) / len(named), low=1,
                 detail=f"share of {len(named)} sizes, 33 x 320 to 300 x 300, that give 1000 logits")  # fmt: skip
    lengths = [spatial_pyramid_pool(model.features(noise(h, w))[:, :256]).shape[1] for h, w in OTHER_SIZES]
    report.claim("4.9.c4", max(abs(length - 21 * 256) for length in lengths), high=0,
                 detail="largest distance from 21 * 256 = 5376 at those sizes; levels 1, 2, 4 of 256 maps")  # fmt: skip


def _refuses(network: nn.Module, picture: Tensor) -> bool:
    try:
        network(picture)
    except RuntimeError:
        return True
    return False


def _score_map(report: Report, model: EfficientNetLite, picture: Tensor, side: int) -> None:
    """One pass over a large picture against a window of 224 x 224 at every 32nd pixel (4.9.c6)."""
    longest = 3 * min(picture.shape[-2:])
    large = resize(picture[:, :longest, :longest], side)
    height, width = (length // 32 * 32 for length in large.shape[-2:])
    large = resize(large, (height, width))
    scores = convolutionalize(model)(large[None])[0]  # (1000, height/32, width/32)
    at_once = F.avg_pool2d(scores, 7, stride=1)  # (1000, rows, columns): the average over each window's 7 x 7 cells
    windows = _windows(large, 224, 32)  # (rows, columns, 3, 224, 224)
    one_by_one = torch.stack([model(row.contiguous()) for row in windows]).permute(2, 0, 1)
    count = windows.shape[0] * windows.shape[1]
    report.claim("4.9.c6", (at_once.argmax(0) == one_by_one.argmax(0)).float().mean(), low=0.75,
                 detail=f"share of {count} windows of 224 x 224 for which one pass over {height} x {width} names the "
                 "same class first")  # fmt: skip
    best = int(scores.mean((1, 2)).argmax())
    local = scores[best].clamp(min=0)
    pictures = {
        f"score of '{class_names()[best]}' at each place": overlay(
            large, local / local.max().clamp(min=1e-9), opacity=0.55
        ),
        "each window's score from one pass": _cells_on(large, at_once[best]),
        f"from {count} windows, one by one": _cells_on(large, one_by_one[best]),
    }
    report.images("score_map", pictures, "The classifier applied at each cell of the last feature map; then each "
                  "window's logit, drawn at its centre, blue lowest and red highest of each map. The last two differ "
                  "because a window ends in zeros where the whole picture goes on.")  # fmt: skip


def _windows(picture: Tensor, side: int, step: int) -> Tensor:
    """Every window of a picture: (rows, columns, 3, side, side), a view."""
    return picture.unfold(1, side, step).unfold(2, side, step).permute(1, 2, 0, 3, 4)


def _cells_on(picture: Tensor, values: Tensor) -> Tensor:
    """A value for each window of 224 pixels, as a square of 32 at the window's centre."""
    scaled = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-9)
    cells = heat_colors(scaled.repeat_interleave(32, 0).repeat_interleave(32, 1))
    drawn = 1 - 0.4 * (1 - picture)
    drawn[:, 96:-96, 96:-96] = 0.4 * picture[:, 96:-96, 96:-96] + 0.6 * cells
    return drawn


def _without_padding(report: Report, generator: torch.Generator) -> None:
    """Where no layer pads, the score map is the sliding window: 4 pixels a step, 14 cells a window."""
    shapes = (16, 3, 5, 5), (32, 16, 3, 3), (10, 32, 1, 1)
    first, second, head = (torch.randn(*shape, generator=generator) for shape in shapes)

    def scores(pictures: Tensor) -> Tensor:
        maps = F.conv2d(F.conv2d(pictures, first, stride=2).relu(), second, stride=2).relu()
        return F.conv2d(F.avg_pool2d(maps, 14, stride=1), head)

    picture = torch.rand(3, 121, 121, generator=generator)
    one_by_one = scores(_windows(picture, 61, 4).flatten(0, 1)).view(16, 16, 10).permute(2, 0, 1)
    difference = (scores(picture[None])[0] - one_by_one).abs().max() / one_by_one.abs().max()
    report.claim("4.9.x2", difference, high=1e-5,
                 detail="random network without padding, one pass over 121 x 121 against 256 windows of 61 x 61: "
                 "largest difference over largest score")  # fmt: skip


def _many_sizes(report: Report, model: nn.Module, largest: int, views: int) -> None:
    """Pictures of known content, the shorter side from 64 pixels on: is the first name right, and how sure (4.9.c7)."""
    sizes = [size for size in SIZES if size <= largest]
    right, sure = torch.zeros(2, len(sizes))
    for name, labels in LABELLED.items():
        wanted = torch.tensor([class_index(label) for label in labels])
        for view in _views(read_image(name))[:views]:
            for index, size in enumerate(sizes):
                chances = model(resize(view, size)[None]).softmax(1)[0]
                right[index] += torch.isin(chances.argmax(), wanted)
                sure[index] += chances[wanted].sum()
    count = len(LABELLED) * views
    accuracy, sureness = right / count, sure / count
    lines = {"first name is right": (sizes, accuracy), "probability of the right names": (sizes, sureness)}
    report.curve("sizes", lines, x="shorter side in pixels", y="mean over the pictures",
                 caption=f"{count} views of 5 photographs of known content; trained at 224 pixels.")  # fmt: skip
    trained = sizes.index(224)
    near = [index for index, size in enumerate(sizes) if 160 <= size <= 320]
    report.claim("4.9.c7", 100 * (accuracy[trained] - accuracy.min()), high=5, unit="points",
                 detail=f"accuracy at 224 minus the worst, 64 to {sizes[-1]} pixels; {count} views")  # fmt: skip
    report.claim("4.9.x3", 100 * (accuracy[trained] - accuracy[near]).abs().max(), high=10, unit="points",
                 detail="largest change of the accuracy at 160 to 320 pixels against 224")  # fmt: skip
    report.claim("4.9.x4", sureness[near].max() - sureness[near].min(), high=0.1,
                 detail="range of the right names' mean probability from 160 to 320 pixels")  # fmt: skip


def _views(picture: Tensor) -> list[Tensor]:
    """The picture, mirrored, and its four corners of seven eighths."""
    height, width = (round(side * 7 / 8) for side in picture.shape[-2:])
    top, bottom, left, right = slice(height), slice(-height, None), slice(width), slice(-width, None)
    corners = [picture[:, rows, columns] for rows in (top, bottom) for columns in (left, right)]
    return [picture, picture.flip(-1), *corners]


def _padded_batch(report: Report, model: EfficientNetLite, side: int) -> None:
    """A batch needs one size: what a grey border costs, and what leaving it out of the average gives back."""
    rows, lost, left = [], [], []
    for name, labels in LABELLED.items():
        wanted = [class_index(label) for label in labels]
        picture = resize(read_image(name), 192)
        height, width = picture.shape[-2:]
        maps = model.features(F.pad(picture, (0, side - width, 0, side - height), value=GREY)[None])
        own = maps[..., : -(-height // 32), : -(-width // 32)]  # the cells that see the picture
        logits = torch.cat([model(picture[None]), *(model.classifier(part.mean((2, 3))) for part in (maps, own))])
        alone, padded, masked = logits.softmax(1)[:, wanted].sum(1).tolist()
        rows.append((Path(name).stem, f"{height} x {width}", *(round(chance, 3) for chance in (alone, padded, masked))))
        lost.append(alone - padded)
        left.append(abs(alone - masked))
    columns = ("picture", "size", "alone", f"padded to {side} x {side}", "padded, average over its own cells")
    report.table(
        "batch", columns, rows, "Probability of the right names. The global average counts a border as picture."
    )
    report.claim("4.9.x5", sum(lost) / len(lost), high=0.05,
                 detail=f"mean loss of the right names' probability, padded with grey to {side} x {side}")  # fmt: skip
    report.claim("4.9.x6", sum(left) / sum(lost), high=0.5,
                 detail="the part of the loss by padding that remains if only own cells are averaged")  # fmt: skip
