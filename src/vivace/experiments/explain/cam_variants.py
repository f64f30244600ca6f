"""Experiment: Grad-CAM's relatives on a picture of yours, and what each of them adds."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor

from vivace.base.images import middle_square, read_image, resize
from vivace.base.parameters import ImagePath, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import EfficientNetLite, class_index, class_names, fold_batch_norms
from vivace.experiments.heat import (
    SUBJECTS,
    backbone,
    laid_over,
    on_own_half,
    scenes,
    size_of,
)
from vivace.experiments.standard_error import two_standard_errors
from vivace.explain import (
    grad_cam,
    grad_cam_plus_plus,
    guided_backpropagation,
    guided_grad_cam,
    layer_cam,
    score_cam,
)

QUICK = {"score_maps": 4}

SIZES = ((160, 64), (144, 80), (128, 96))  # the same subject twice, large and small, sides in pixels


@checked
def run(*, image: ImagePath = "chelsea", other: ImagePath = "coffee",
        score_maps: Annotated[int, Ge(1), Le(1280)] = 32, tell: Tell = ignore) -> Report:  # fmt: skip
    """Grad-CAM++, Layer-CAM, Score-CAM and guided Grad-CAM beside Grad-CAM, on two classes and at two layers.

    vivace run cam_variants        25 s on one processor; 94 % of Grad-CAM on the half of the class asked for, 69 % of
                                   Grad-CAM++ and Layer-CAM, 63 % of guided backpropagation

    image: a picture, the left half of what is explained
    other: a second one, the right half: each half has its own class
    score_maps: how many of a layer's maps Score-CAM tries; each costs a run of the network
    """
    report = Report(
        "Grad-CAM and its relatives",
        "All weigh a layer's maps $A^k$ and add them up. Grad-CAM's weight is the mean gradient; Grad-CAM++'s counts "
        "positive gradients only, each less the more of a map there is; Layer-CAM's is each position's own positive "
        "gradient; Score-CAM's is the score of the picture in the light of that map. Guided backpropagation goes back "
        "to the pixels, through positive gradients only.",
    )
    model = fold_batch_norms(backbone())
    tell(Step(0, 3, "your picture"))
    _pictures(report, model, [read_image(source, max_side=1024) for source in (image, other)], score_maps)
    tell(Step(1, 3, "two classes in one picture"))
    _two_classes(report, model)
    tell(Step(2, 3, "one class twice in a picture"))
    _twice(report, model)
    tell(Step(3, 3, "done"))
    return report


def _pictures(report: Report, model: EfficientNetLite, halves: list[Tensor], score_maps: int) -> None:
    """Every method on two pictures side by side, for the class of each half; and at a layer of finer maps."""
    squares = [middle_square(half, 224) for half in halves]
    scene = torch.cat(squares, 2)
    with torch.inference_mode():
        classes = model(torch.stack(squares)).argmax(1).tolist()
    names = [class_names()[c] for c in classes]
    explainers: dict[str, Callable[..., Tensor]] = {
        "Grad-CAM": grad_cam,
        "Grad-CAM++": grad_cam_plus_plus,
        "Layer-CAM": layer_cam,
        "Score-CAM": partial(score_cam, most=score_maps, batch_size=2),
        "guided Grad-CAM": lambda *args: size_of(guided_grad_cam(*args)),
        "guided backpropagation": lambda *args: size_of(guided_backpropagation(*args)),
    }
    tiles = {"picture": torch.cat([scene, scene], 1)}
    for title, explain in explainers.items():
        heats = [explain(model, scene[None], c)[0] for c in classes]
        tiles[title] = torch.cat([laid_over(scene, heat, fine=title.startswith("guided")) for heat in heats], 1)
    report.images("two_classes", tiles, f"Each method, asked for '{names[0]}' (above) and for '{names[1]}' (below). "
                  "What stays in the wrong half does not come from the class.")  # fmt: skip
    finer = {}
    for layer, where in (("blocks.10", "14 x 14"), ("blocks.4", "28 x 28")):
        for title in ("Grad-CAM", "Layer-CAM"):
            heat = explainers[title](model, squares[0][None], classes[0], layer=layer)
            finer[f"{title}, {where}"] = laid_over(squares[0], heat[0])
    report.images("finer", finer, "Earlier layers have finer maps, and noisier heat. Layer-CAM was made for them; in "
                  "this network, whose maps there have a sign, it is no clearer than Grad-CAM.")  # fmt: skip


def _two_classes(report: Report, model: EfficientNetLite) -> None:
    """Two subjects side by side: does a map of the pixels know which of them is asked for?"""
    pictures, classes, pairs = scenes()
    own = {
        name: on_own_half(*(explain(model, pictures, c) for c in classes))
        for name, explain in (("Grad-CAM", grad_cam), ("Grad-CAM++", grad_cam_plus_plus), ("Layer-CAM", layer_cam))
    }
    pixels = [size_of(guided_backpropagation(model, pictures, c)) for c in classes]
    guided = own["guided backpropagation"] = on_own_half(*pixels)
    own["guided Grad-CAM"] = on_own_half(
        *(p * grad_cam(model, pictures, c, enlarge=True) for p, c in zip(pixels, classes, strict=True))
    )
    report.claim("5.1.x11", guided.mean(), low=0.75, spread=two_standard_errors(guided),
                 detail=f"mean share of guided backpropagation on the half of the class asked for, {len(pairs)} "
                 f"pairs of photographs, both classes; 0.5 if the class didn't matter; times Grad-CAM it is "
                 f"{own['guided Grad-CAM'].mean():.2f}")  # fmt: skip
    rows = [(name, f"{found.mean():.2f}") for name, found in own.items()]
    columns = ("method", "heat on the half of the class asked for")
    report.table("own_half", columns, rows, "Two photographs side by side: 0.5 would know nothing of the class.")


def _twice(report: Report, model: EfficientNetLite) -> None:
    """The same subject large and small on grey: is the small one seen as well as the large?"""
    pictures, places, classes = [], [], []
    for name, title in SUBJECTS.items():
        square = middle_square(read_image(name), 224)
        for large, small in SIZES:
            picture = torch.full((3, 224, 224), 0.5)
            boxes = [(0, 0, large), (224 - small, 224 - small, small)]
            for top, left, side in boxes:
                picture[:, top : top + side, left : left + side] = resize(square, (side, side))
            pictures.append(picture)
            places.append(boxes)
            classes.append(class_index(title))
    evenness, tiles = {}, {"picture": pictures[0]}
    for name, explain in (("Grad-CAM", grad_cam), ("Grad-CAM++", grad_cam_plus_plus)):
        heat = explain(model, torch.stack(pictures), classes)
        tiles[name] = laid_over(pictures[0], heat[0])
        heat = F.interpolate(heat[:, None], size=224, mode="bilinear")[:, 0]
        peaks = torch.tensor([
            [float(h[top : top + side, left : left + side].max()) for top, left, side in boxes]
            for h, boxes in zip(heat, places, strict=True)
        ])  # fmt: skip
        evenness[name] = peaks.amin(1) / peaks.amax(1).clamp_min(1e-12)
    grad, plus = evenness["Grad-CAM"], evenness["Grad-CAM++"]
    report.claim("5.1.x12", (plus - grad).mean(), low=0.05, spread=two_standard_errors(plus - grad),
                 detail=f"heat on the weaker of two instances over that on the stronger, Grad-CAM++'s "
                 f"({plus.mean():.2f}) less Grad-CAM's ({grad.mean():.2f}), {len(grad)} pictures of "
                 f"{len(SUBJECTS)} subjects, each large and small at once")  # fmt: skip
    report.images("twice", tiles, "One subject twice in a picture. How hot the cooler of the two is, relative to the "
                  f"hotter, mean of all: {grad.mean():.2f} by Grad-CAM, {plus.mean():.2f} by Grad-CAM++.")  # fmt: skip
