"""Experiment: which of the heat maps depend on the network, and show what it uses."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor

from vivace.base.drawing import PALETTE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import EfficientNetLite, class_index, fold_batch_norms
from vivace.experiments.heat import (
    PHOTOS,
    SUBJECTS,
    TITLES,
    backbone,
    guided_backpropagation_map,
    laid_over,
    methods,
    photographs,
)
from vivace.experiments.standard_error import two_standard_errors
from vivace.explain import edge_map, insertion_deletion, randomization_check, with_hottest

QUICK = {"steps": 2, "shuffles": 1, "score_maps": 0}

FROM_THE_TOP = {  # the network's parts, in the order in which their weights are shuffled
    "classifier and head": ["classifier", "head"],
    "and blocks 11 to 15": [f"blocks.{i}" for i in range(11, 16)],
    "all": [*(f"blocks.{i}" for i in range(11)), "stem"],
}
UPPER = list(FROM_THE_TOP).index("and blocks 11 to 15")


@checked
def run(*, steps: Annotated[int, Ge(2), Le(49)] = 12, shuffles: Annotated[int, Ge(1), Le(10)] = 3,
        score_maps: Annotated[int, Ge(0), Le(1280)] = 32, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Shuffled weights, insertion and deletion: what Grad-CAM, its relatives and a plain edge map are worth.

    vivace run faithfulness        1 min on one processor; guided backpropagation keeps 0.93 of its ranks with two
                                   thirds of the weights shuffled, Grad-CAM none; edges are as faithful as Grad-CAM

    steps: in how many steps a picture is deleted and inserted, hottest cells first
    shuffles: how many times weights are shuffled
    score_maps: how many of the last layer's 1,280 maps Score-CAM tries, each a run of the network; 0 leaves it out
    seed: the shuffled weights and random maps
    """
    report = Report(
        "Which heat maps can be believed?",
        "Two tests. **Shuffled weights**: a map that stays when the network's weights are shuffled explains the "
        "picture, not the network. **Insertion and deletion**: the hottest parts alone should make the class's "
        "probability, and without them it should fall; an edge map and a random map are the measure.",
    )
    model = backbone()
    _shuffled(report, model, shuffles, seed, tell)
    _inserted(report, fold_batch_norms(model), steps, score_maps, seed, tell)
    tell(Step(1, 1, "done"))
    return report


def _shuffled(report: Report, model: EfficientNetLite, shuffles: int, seed: int, tell: Tell) -> None:
    """Weights shuffled from the classifier down to the stem."""
    photos, c = photographs(tuple(SUBJECTS)), [class_index(name) for name in SUBJECTS.values()]
    known = methods(1)
    explainers: dict[str, Callable[..., Tensor]] = {
        TITLES[m]: partial(known[m], layer="head") for m in ("grad_cam", "grad_cam++", "layer_cam")
    }
    explainers["guided backpropagation"] = guided_backpropagation_map
    alike: dict[str, Tensor] = {}
    drawn: dict[str, Tensor] = {}
    for step, (name, explain) in enumerate(explainers.items()):
        tell(Step(step, len(explainers), f"shuffled weights, {name}"))
        seen: list[Tensor] = []

        def noted(*args: object, explain: Callable[..., Tensor] = explain, seen: list[Tensor] = seen) -> Tensor:
            seen.append(explain(*args))
            return seen[-1]

        found = [
            randomization_check(noted, model, photos, c, parts=list(FROM_THE_TOP.values()),
                                generator=torch.Generator().manual_seed(seed + n)) for n in range(shuffles)
        ]  # fmt: skip
        alike[name] = torch.stack(found)  # (shuffles, stages, B)
        fine, some = name.startswith("guided"), (seen[0], seen[1 + UPPER], seen[-1])
        drawn[name] = torch.cat([laid_over(photos[0], heat[0], fine=fine) for heat in some], 1)
    grad, plus, layer, guided = (found.flatten(2).transpose(0, 1).flatten(1) for found in alike.values())
    about = f"{len(photos)} photographs, {shuffles} shuffles"
    report.claim("5.1.c7", grad[-1].mean(), high=0.5, spread=two_standard_errors(grad[-1]),
                 detail="rank correlation with the trained network's map when all weights are shuffled, "
                 f"{about}; {grad[0].mean():.2f} with classifier and head alone")  # fmt: skip
    more = (plus[-1] + layer[-1]) / 2 - grad[-1]
    report.claim("5.1.x8", more.mean(), high=0.1, spread=two_standard_errors(more),
                 detail="rank correlation that is left when all weights are shuffled, mean of Grad-CAM++ and "
                 f"Layer-CAM ({plus[-1].mean():.2f}, {layer[-1].mean():.2f}), less Grad-CAM's; {about}")  # fmt: skip
    report.claim("5.1.x9", guided[UPPER].mean(), high=0.5, spread=two_standard_errors(guided[UPPER]),
                 detail="guided backpropagation's rank correlation with the trained network's, pixel by pixel, when "
                 f"classifier, head and blocks 11 to 15 are shuffled, two thirds of all weights; Grad-CAM's is "
                 f"{grad[UPPER].mean():.2f}; {about}")  # fmt: skip
    report.images("shuffled", drawn, "'Egyptian cat', from above: by the trained network, with its upper part "
                  "shuffled, and with all weights shuffled. A map that stays is not about the network; Grad-CAM++'s "
                  "and Layer-CAM's turn nearly flat, in the old order.")  # fmt: skip
    figure, axes = drawing(height=3.6)
    for (name, likeness), color in zip(alike.items(), PALETTE, strict=False):
        axes.plot(["none", *FROM_THE_TOP], [1, *likeness.mean((0, 2)).tolist()], "o-", color=color, label=name)
    axes.set(xlabel="weights shuffled", ylabel="rank correlation with the trained map")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    report.figure("similarity", figure, "Mean of all photographs. A map of the picture's edges would stay at 1.")


def _inserted(report: Report, model: EfficientNetLite, steps: int, score_maps: int, seed: int, tell: Tell) -> None:
    """The predicted class's probability as cells are put in, or blurred away, hottest first."""
    photos = photographs()
    with torch.inference_mode():
        c = model(photos).argmax(1)
    maps = {
        **{TITLES[name]: F.adaptive_avg_pool2d(explain(model, photos, c, layer="head"), 7)
           for name, explain in methods(score_maps).items() if score_maps or name != "score_cam"},
        "edges": F.adaptive_avg_pool2d(edge_map(photos), 7),
        "random": torch.rand(len(photos), 7, 7, generator=torch.Generator().manual_seed(seed)),
    }  # fmt: skip
    found = {}
    for step, (name, heat) in enumerate(maps.items()):
        tell(Step(step, len(maps), f"insertion and deletion, {name}"))
        found[name] = insertion_deletion(model, photos, heat, c, steps=steps)
    ours, edges = found["Grad-CAM"].score, found["edges"].score
    variants = torch.stack([found[TITLES[name]].score for name in ("grad_cam++", "layer_cam")]).mean(0)
    about = f"mean of {len(photos)} photographs in {steps} steps; spread: two standard errors"
    for claim, rival, margin in (
        ("5.1.c5", "that of edges", ours - edges),
        ("5.1.x1", "0, a random map's mean (its reverse is as likely, and has the opposite area)", ours),
    ):
        report.claim(claim, margin.mean(), low=0, spread=two_standard_errors(margin),
                     detail=f"area under insertion less deletion, Grad-CAM's less {rival}; {about}")  # fmt: skip
    report.claim("5.1.x10", (variants - ours).mean(), low=0.02, spread=two_standard_errors(variants - ours),
                 detail=f"the same area, mean of Grad-CAM++ and Layer-CAM less Grad-CAM's; {about}")  # fmt: skip
    x, y = "share of the picture's 49 cells", "probability of the predicted class"
    shown = ("Grad-CAM", "guided Grad-CAM", "edges", "random")
    for curve, words in (("inserted", "put into a blurred picture, hottest first: high"),
                         ("deleted", "blurred, hottest first: low")):  # fmt: skip
        lines = {name: (found[name].fractions, getattr(found[name], curve).mean(1)) for name in shown}
        report.curve(curve, lines, x=x, y=y, caption=f"Cells {words} is good. Mean of {len(photos)} photographs.")
    rows = [
        (name, *(f"{values.mean():.2f}" for values in (f.insertion, f.deletion, f.score))) for name, f in found.items()
    ]
    report.table("areas", ("map", "insertion", "deletion", "insertion less deletion"), rows,
                 "Areas under the curves. An edge map knows neither network nor class.")  # fmt: skip
    some = [PHOTOS.index(name) for name in ("chelsea", "coffee", "motorcycle")]
    tiles = {
        "picture": photos,
        **{name: with_hottest(photos, maps[name], 12) for name in ("Grad-CAM", "edges", "random")},
    }
    report.images("hottest_quarter", {f"{PHOTOS[i]}: {name}": tiles[name][i] for i in some for name in tiles},
                  "The first 12 of 49 cells by each map, the rest blurred. An edge map finds objects too, though it "
                  "knows neither the network nor the class.")  # fmt: skip
