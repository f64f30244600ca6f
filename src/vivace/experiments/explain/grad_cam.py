"""Experiment: Grad-CAM on a picture and a network of yours, with the checks that say how far to trust it."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.images import overlay, read_image, resize
from vivace.base.parameters import FilePath, ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import class_names, load_model
from vivace.experiments.heat import TITLES, Method, backbone, laid_over, methods, on_own_half, scenes
from vivace.experiments.standard_error import two_standard_errors
from vivace.explain import cam, faithfulness, grad_cam
from vivace.explain.cam import class_indices

QUICK = {"steps": 4, "score_maps": 8}

FACES = {"chelsea": (105, 65, 365, 285), "astronaut": (178, 62, 272, 185)}  # box_xyxy by hand, brows to chin


@checked
def run(*, image: ImagePath = "chelsea", weights: FilePath = None, target: str | None = None, layer: str | None = None,
        method: Method = "grad_cam", size: Annotated[int, Ge(64), Le(1024)] = 224,
        steps: Annotated[int, Ge(2), Le(49)] = 12, score_maps: Annotated[int, Ge(1), Le(2048)] = 32,
        trust: bool = True, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Grad-CAM shows where a network sees a class, and whether this very map can be believed.

    vivace run grad_cam        15 s on one processor (8 s with --no-trust); 94 % of the heat on the class asked for

    image: the picture to explain
    weights: a network of yours, a file that `vivace run finetune` left; where not given, EfficientNet-Lite0
    target: the class, by name ("tabby") or index (281); where not given, the predicted one
    layer: the layer whose maps are weighted, by its dotted name ("blocks.10"); where not given, the last with a map
    method: how they are weighted; "guided" goes back to the pixels
    size: pixels of the picture's shorter side as the network sees it; it was trained at 224
    steps: in how many steps the picture is deleted and inserted, hottest cells first, to check the map
    score_maps: how many of the layer's maps Score-CAM tries; each costs a run of the network
    trust: also measure on other photographs whether such maps follow the class, with EfficientNet-Lite0
    seed: the shuffled weights and random maps of the checks
    """
    model = backbone()
    report = Report(
        "Grad-CAM: where a network sees a class",
        "The gradient of a class's score $y^c$, averaged over the positions of the last feature maps $A^k$, says what "
        "each map is worth, $\\alpha_k^c = \\frac{1}{Z} \\sum_{i,j} \\partial y^c / \\partial A^k_{ij}$; the heat is "
        "$\\mathrm{ReLU}(\\sum_k \\alpha_k^c A^k)$, laid over the picture, red high and blue low. Other methods weigh "
        "the same maps in other ways.",
    )
    tell(Step(0, 3, "the picture"))
    explained, classes = load_model(weights) if weights is not None else (model, class_names())
    shown = Picture(explained, classes, read_image(image, max_side=2048), target, layer, size)
    _explain(report, shown, method, score_maps)
    _check(report, shown, method, score_maps, steps, seed)
    if trust:
        tell(Step(1, 3, "two classes in one picture"))
        _two_classes(report, model)
        tell(Step(2, 3, "faces"))
        _faces(report, model)
    tell(Step(3, 3, "done"))
    return report


class Picture:
    """What is explained: the picture as the network sees it and as it is shown, and the class."""

    def __init__(self, model: nn.Module, classes: Sequence[str], picture: Tensor, target: str | None,
                 layer: str | None, size: int) -> None:  # fmt: skip
        height, width = picture.shape[-2:]
        if min(height, width) < 8:
            raise InputError(f"the picture has {height} x {width} pixels; at least 8 x 8 are needed")
        self.model, self.classes, self.layer = model, classes, layer
        self.x, self.shown = _of_side(picture, size)[None], _of_side(picture, 320)
        wanted = int(target) if target is not None and target.lstrip("-").isdigit() else target
        with torch.inference_mode():
            logits = model(self.x)
        self.chances, self.c = logits.softmax(1)[0], int(class_indices(wanted, logits, classes))


def _explain(report: Report, given: Picture, method: Method, score_maps: int) -> None:
    """The class asked for by the chosen method, the other methods beside it, and the likeliest other classes."""
    model, x, c, shown, layer = given.model, given.x, given.c, given.shown, given.layer
    name = given.classes[c]
    explainers = dict(methods(score_maps))
    own = explainers.pop(method)(model, x, c, layer=layer)[0]
    pictures = {
        "picture": shown,
        f"{TITLES[method]}: {name}, {given.chances[c]:.2f}": laid_over(shown, own, fine=method == "guided"),
    }
    if layer is None:
        with suppress(InputError):  # no global average pooling
            pictures["CAM"] = laid_over(shown, cam(model, x, c)[0])
    where = f"layer '{layer}'" if layer else "the last layer with a map"
    report.images("heat", pictures, f"Evidence for '{name}' at {where}, relative to its maximum." + (
        " CAM, without what speaks against the class, is Grad-CAM's map." if "CAM" in pictures else ""))  # fmt: skip
    beside = {}
    for m, explain in explainers.items():
        with suppress(InputError):  # guided backpropagation needs ReLUs
            beside[TITLES[m]] = laid_over(shown, explain(model, x, c, layer=layer)[0], fine=m == "guided")
    report.images("methods", beside, "The same class by other methods. Where they disagree, believe none alone.")
    others = [o for o in given.chances.topk(min(5, len(given.classes))).indices.tolist() if o != c][:4]
    if not others:
        return
    maps = grad_cam(model, x.expand(len(others), -1, -1, -1), others, layer=layer)
    top = max(float(grad_cam(model, x, c, layer=layer).max()), float(maps.max()), 1e-12)
    rivals = {
        f"{given.classes[o]}, {given.chances[o]:.2f}": overlay(shown, m / top)
        for o, m in zip(others, maps, strict=True)
    }
    report.images("others", rivals, "Grad-CAM of the likeliest other classes, with their probabilities, relative to "
                  "the largest of all maps.")  # fmt: skip


def _check(report: Report, given: Picture, method: Method, score_maps: int, steps: int, seed: int) -> None:
    """Does this map depend on the network, and is what it highlights what the network uses?"""
    explain = methods(score_maps)[method]

    def at_the_layer(model: nn.Module, images: Tensor, target: object) -> Tensor:
        return explain(model, images, target, layer=given.layer)

    found = faithfulness(at_the_layer, given.model, given.x, given.c, steps=steps,
                         generator=torch.Generator().manual_seed(seed))  # fmt: skip
    rows = [
        ("stays when all weights are shuffled (rank correlation)", f"{float(found.similarity):.2f}", "", "", "0"),
        *((words, *(f"{float(getattr(m, part)):.2f}" for m in (found.map, found.edges, found.random)), aim)
          for words, part, aim in (("insertion", "insertion", "high"), ("deletion", "deletion", "low"),
                                   ("insertion less deletion", "score", "high"))),
    ]  # fmt: skip
    verdict = "**Warning**: " + "; ".join(found.warnings) + "." if found.warnings else (
        "Nothing speaks against this map: it changes with the weights, and what it highlights matters more to the "
        "network than edges or random cells.")  # fmt: skip
    report.summary += f"\n\n{verdict}"
    report.table("checks", ("check of this map", TITLES[method], "edge map", "random map", "should be"), rows, verdict)


def _two_classes(report: Report, model: nn.Module) -> None:
    """Two subjects side by side: each class's heat should lie on its own half."""
    pictures, classes, pairs = scenes()
    of_left, of_right = (grad_cam(model, pictures, c, layer="head") for c in classes)
    own = on_own_half(of_left, of_right)
    report.claim("5.1.x2", own.mean(), low=0.75, spread=two_standard_errors(own),
                 detail=f"mean share of a class's heat on its own half, {len(pairs)} pairs of photographs side by "
                 "side, both classes; 0.5 if the class didn't matter; spread: two standard errors")  # fmt: skip
    names = [class_names()[c[0]] for c in classes]
    laid = {name: laid_over(pictures[0], heat[0]) for name, heat in zip(names, (of_left, of_right), strict=True)}
    report.images("two_classes", {"picture": pictures[0], **laid},
                  "One picture, one network, two classes: the heat moves to the class that is asked for.")  # fmt: skip


def _faces(report: Report, model: nn.Module) -> None:
    """Heat a pixel in a face against heat a pixel elsewhere: an animal, and a person, for whom there is no class."""
    drawn, ratios = {}, {}
    for name, (x0, y0, x1, y1) in FACES.items():
        picture = read_image(name)
        face = torch.zeros_like(picture[:1])
        face[:, y0:y1, x0:x1] = 1
        both = torch.cat([picture, face])  # the picture and where its face is, cut and mirrored together
        side, extra = min(both.shape[1:]), max(both.shape[1:]) - min(both.shape[1:])
        views = [both, *(both[..., left : left + side] for left in (0, extra // 2, extra))] if extra else [both]
        batch = torch.stack([resize(v, (224, 224)) for view in views for v in (view, view.flip(2))])
        c = int(model(batch[:1, :3]).argmax())
        heat, inside = grad_cam(model, batch[:, :3], c, enlarge=True), batch[:, 3] > 0.5
        within = (heat * inside).sum((1, 2)) / inside.sum((1, 2))
        ratios[name] = within / ((heat * ~inside).sum((1, 2)) / (~inside).sum((1, 2)))
        edge = F.max_pool2d(face, 5, 1, 2) - face
        drawn[f"{name}: {class_names()[c]}"] = laid_over(picture, heat[0]) * (1 - edge) + edge
    cat, person = ratios["chelsea"], ratios["astronaut"]
    report.claim("5.1.c8", cat.mean(), low=1, spread=2 * float(cat.std()),
                 detail=f"heat a pixel inside the face's box over heat a pixel outside, 'chelsea' in {len(cat)} views "
                 "(cut, mirrored); the box, brows to chin, is drawn by hand: x 105 to 365, y 65 to 285; spread: two "
                 "standard deviations of the views")  # fmt: skip
    report.claim("5.1.x3", person.mean(), low=1,
                 detail="the same for the astronaut's face; the network knows no class 'person'")  # fmt: skip
    report.images("faces", drawn, "White: the face's box, drawn by hand. The cat's heat is on its face; the person's "
                  "is on the suit, because that is what speaks for the class.")  # fmt: skip


def _of_side(picture: Tensor, side: int) -> Tensor:
    """The picture with this shorter side; what is longer than three times as wide is squeezed to that."""
    height, width = (min(side * n // min(picture.shape[1:]), 3 * side) for n in picture.shape[1:])
    return resize(picture, (height, width))
