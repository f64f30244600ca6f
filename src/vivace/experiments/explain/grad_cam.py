"""Experiment: Grad-CAM on a picture of yours, and how far its heat can be trusted."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from itertools import combinations
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from skimage.filters import sobel
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LinearLR
from torch.utils.data import TensorDataset

from vivace.base.data import Labelled, digits
from vivace.base.errors import InputError
from vivace.base.fit import fit
from vivace.base.hooks import find_layer
from vivace.base.images import grid, middle_square, overlay, read_image, resize
from vivace.base.parameters import FilePath, ImagePath, Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import class_index, class_names, efficientnet_lite0, load_model
from vivace.experiments.classifier import accuracy
from vivace.explain import cam, grad_cam
from vivace.explain.cam import class_indices

QUICK = {"steps": 4, "networks": 1}

PHOTOS = ("astronaut", "camera", "chelsea", "china", "coffee", "flower", "motorcycle", "rocket")
SUBJECTS = {"chelsea": "Egyptian cat", "coffee": "espresso", "motorcycle": "moped", "camera": "tripod"}
FACES = {"chelsea": (105, 65, 365, 285), "astronaut": (178, 62, 272, 185)}  # box_xyxy by hand, brows to chin
FROM_THE_TOP = {  # the network's parts, in the order in which their weights are shuffled
    "classifier": ["classifier"],
    "head": ["head"],
    "blocks 11 to 15": [f"blocks.{i}" for i in range(11, 16)],
    "blocks 5 to 10": [f"blocks.{i}" for i in range(5, 11)],
    "blocks 0 to 4": [f"blocks.{i}" for i in range(5)],
    "stem: all": ["stem"],
}
NETWORKS = {  # how marks are put on the training pictures, and what follows the last maps
    "biased": ("on every 3", "average pooling"),
    "control": ("at random", "average pooling"),
    "flattened": ("on every 3", "fully connected"),
}
MARKED = 3  # the digit that carries the planted mark
MARK = slice(1, 5)  # its rows and columns
AROUND_MARK = slice(0, 10)  # from where a cell of the last map sees a part of it: 5 pixels more


@checked
def run(*, image: ImagePath = "chelsea", weights: FilePath = None, target: str | None = None, layer: str | None = None,
        size: Annotated[int, Ge(64), Le(1024)] = 224, trust: bool = True, steps: Annotated[int, Ge(2), Le(49)] = 12,
        networks: Annotated[int, Ge(1), Le(10)] = 3, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Grad-CAM shows where a network sees a class; five checks show how far to trust it.

    vivace run grad_cam        50 s on two cores (1 s with --no-trust); 82 % of the heat on a planted mark, and
                               deletion curves that are no better than those of an edge map

    image: the picture to explain
    weights: a network of yours, a file that `vivace run finetune` left; where not given, EfficientNet-Lite0
    target: the class, by name ("tabby") or index (281); where not given, the predicted one
    layer: the layer whose maps are weighted, by its dotted name ("blocks.10"); where not given, the last with a map
    size: pixels of the picture's shorter side as the network sees it; it was trained at 224
    trust: also measure how far such maps can be trusted, with EfficientNet-Lite0, which takes most of the time
    steps: in how many steps a picture is deleted and inserted, hottest cells first
    networks: how many networks are trained with a planted mark, and how many times weights are shuffled
    seed: the shuffled weights, random maps and trained networks
    """
    model = efficientnet_lite0(weights="imagenet").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    report = Report(
        "Grad-CAM: where a network sees a class",
        "The gradient of a class's score $y^c$, averaged over the positions of the last feature maps $A^k$, says what "
        "each map is worth, $\\alpha_k^c = \\frac{1}{Z} \\sum_{i,j} \\partial y^c / \\partial A^k_{ij}$; the heat is "
        "$\\mathrm{ReLU}(\\sum_k \\alpha_k^c A^k)$, laid over the picture, red high and blue low.",
    )
    tell(Step(0, 6, "the picture"))
    explained, classes = load_model(weights) if weights is not None else (model, class_names())
    _explain(report, explained, classes, read_image(image, max_side=2048), target, layer, size)
    if trust:
        photos = torch.stack([resize(read_image(name), (224, 224)) for name in PHOTOS])
        tell(Step(1, 6, "two classes in one picture"))
        _two_classes(report, model)
        tell(Step(2, 6, "faces"))
        _faces(report, model)
        tell(Step(3, 6, "shuffled weights"))
        _shuffled_weights(report, model, photos, networks, seed)
        tell(Step(4, 6, "deleting and inserting what is hot"))
        _deletion(report, model, photos, steps, seed)
        tell(Step(5, 6, "networks trained with a planted mark"))
        _planted_mark(report, networks, seed)
    tell(Step(6, 6, "done"))
    return report


def _explain(report: Report, model: nn.Module, classes: Sequence[str], picture: Tensor, target: str | None,
             layer: str | None, size: int) -> None:  # fmt: skip
    """The picture as the network explains it: the class asked for, CAM beside it, and the five likeliest classes."""
    height, width = picture.shape[-2:]
    if min(height, width) < 8:
        raise InputError(f"the picture has {height} x {width} pixels; at least 8 x 8 are needed")
    x, shown = _of_side(picture, size)[None], _of_side(picture, 320)
    wanted = int(target) if target is not None and target.lstrip("-").isdigit() else target
    with torch.inference_mode():
        logits = model(x)
    c = int(class_indices(wanted, logits, classes))
    chances, name = logits.softmax(1)[0], classes[c]
    heat = grad_cam(model, x, c, layer=layer)
    pictures = {"picture": shown, f"Grad-CAM: {name}, {chances[c]:.2f}": _laid_over(shown, heat[0])}
    where = f"layer '{layer}'" if layer else "the last layer with a map"
    words = f"Evidence for '{name}' at {where}, relative to its maximum."
    if layer is None:
        pictures[f"CAM: {name}"] = _laid_over(shown, cam(model, x, c)[0])
        words += " CAM, without what speaks against the class, is the same map."
    if not heat.any():
        words += " Nothing speaks for the class: the map is zero everywhere."
    report.images("heat", pictures, words)
    others = [other for other in chances.topk(min(5, len(classes))).indices.tolist() if other != c][:4]
    if not others:
        return
    maps = grad_cam(model, x.expand(len(others), -1, -1, -1), others, layer=layer)
    top = max(float(heat.max()), float(maps.max()), 1e-12)
    rivals = {f"{classes[o]}, {chances[o]:.2f}": overlay(shown, m / top) for o, m in zip(others, maps, strict=True)}
    report.images("others", rivals, "The likeliest other classes, with their probabilities, relative to the "
                  "largest of all maps.")  # fmt: skip


def _two_classes(report: Report, model: nn.Module) -> None:
    """Two subjects side by side: each class's heat should lie on its own half."""
    squares = {name: middle_square(read_image(name), 224) for name in SUBJECTS}
    pairs = list(combinations(SUBJECTS, 2))
    scenes = torch.stack([torch.cat([squares[a], squares[b]], dim=2) for a, b in pairs])
    of_left, of_right = (
        grad_cam(model, scenes, [class_index(SUBJECTS[pair[side]]) for pair in pairs], layer="head") for side in (0, 1)
    )
    middle = of_left.shape[2] // 2
    own = torch.cat([_share(of_left, of_left[..., :middle]), _share(of_right, of_right[..., middle:])])
    report.claim("5.1.x2", own.mean(), low=0.75, spread=_error(own),
                 detail=f"mean share of a class's heat on its own half, {len(pairs)} pairs of photographs side by "
                 "side, both classes; 0.5 if the class didn't matter; spread: two standard errors")  # fmt: skip
    names = [SUBJECTS[name] for name in pairs[0]]
    laid = {name: _laid_over(scenes[0], heat[0]) for name, heat in zip(names, (of_left, of_right), strict=True)}
    report.images("two_classes", {"picture": scenes[0], **laid},
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
        drawn[f"{name}: {class_names()[c]}"] = _laid_over(picture, heat[0]) * (1 - edge) + edge
    cat, person = ratios["chelsea"], ratios["astronaut"]
    report.claim("5.1.c8", cat.mean(), low=1, spread=2 * float(cat.std()),
                 detail=f"heat a pixel inside the face's box over heat a pixel outside, 'chelsea' in {len(cat)} views "
                 "(cut, mirrored); the box, brows to chin, is drawn by hand: x 105 to 365, y 65 to 285; spread: two "
                 "standard deviations of the views")  # fmt: skip
    report.claim("5.1.x3", person.mean(), low=1,
                 detail="the same for the astronaut's face; the network knows no class 'person'")  # fmt: skip
    report.images("faces", drawn, "White: the face's box, drawn by hand. The cat's heat is on its face; the person's "
                  "is on the suit, because that is what speaks for the class.")  # fmt: skip


def _shuffled_weights(report: Report, model: nn.Module, photos: Tensor, networks: int, seed: int) -> None:
    """Weights shuffled from the classifier down (Adebayo et al., "Sanity checks for saliency maps", 2018)."""
    photos = photos[[PHOTOS.index(name) for name in SUBJECTS]]
    c = [class_index(name) for name in SUBJECTS.values()]
    layers = {"last layer": "head", "early layer (blocks.1)": "blocks.1"}
    before = {where: grad_cam(model, photos, c, layer=layer) for where, layer in layers.items()}
    rows = {"picture": photos[0], "trained": _laid_over(photos[0], before["last layer"][0])}
    alike = {where: torch.ones(networks, 1 + len(FROM_THE_TOP), len(photos)) for where in layers}
    for n in range(networks):
        generator, broken = torch.Generator().manual_seed(seed + n), deepcopy(model)
        for stage, (part, names) in enumerate(FROM_THE_TOP.items(), start=1):
            for name in names:
                _shuffle(find_layer(broken, name), generator)
            for where, layer in layers.items():
                after = grad_cam(broken, photos, c, layer=layer)
                alike[where][n, stage] = _correlation(before[where], after)
                if n == 0 and where == "last layer":
                    rows[part] = _laid_over(photos[0], after[0])
    top, *_, everything = alike["last layer"][:, 1:].flatten(2).unbind(1)
    report.claim("5.1.c7", everything.mean(), high=0.5, spread=_error(everything),
                 detail=f"correlation with the trained network's map when all weights are shuffled, {len(photos)} "
                 f"photographs, {networks} shuffles; {top.mean():.2f} with the classifier's alone")  # fmt: skip
    stages = range(1 + len(FROM_THE_TOP))
    report.images("shuffled_weights", rows, "The map of 'Egyptian cat' as weights are shuffled, from the classifier "
                  "down to the stem. A map that stayed would not be about the network.")  # fmt: skip
    report.curve("similarity", {where: (stages, alike[where].mean((0, 2))) for where in layers},
                 x="parts shuffled, from the top", y="correlation with the trained network's map",
                 caption="Mean of all photographs. A map of the picture's edges would stay at 1.")  # fmt: skip


def _deletion(report: Report, model: nn.Module, photos: Tensor, steps: int, seed: int) -> None:
    """The predicted class's probability as cells of a picture are put in, or blurred away, hottest first."""
    with torch.inference_mode():
        c = model(photos).argmax(1)
    edges = torch.stack([torch.from_numpy(sobel(photo.mean(0).numpy())) for photo in photos])
    maps = {
        "Grad-CAM": grad_cam(model, photos, c),
        "edges": F.adaptive_avg_pool2d(edges, 7),
        "random": torch.rand(len(photos), 7, 7, generator=torch.Generator().manual_seed(seed)),
    }
    fractions = torch.linspace(0, 1, steps + 1)
    _, *counts, _ = (49 * fractions).round().int().tolist()
    none, whole = _insertion(model, photos, c, maps["edges"], (0, 49))
    inserted, deleted, faithful = {}, {}, {}
    for name, heat in maps.items():
        hot_first, cold_first = (
            torch.cat([none[None], _insertion(model, photos, c, h, counts), whole[None]]) for h in (heat, -heat)
        )  # (steps + 1, B)
        # to keep the coldest is to delete the hottest
        deleted_hot, deleted_cold = cold_first.flip(0), hot_first.flip(0)
        if name == "random":  # a random order is as likely as its reverse
            hot_first, deleted_hot = (hot_first + cold_first) / 2, (deleted_hot + deleted_cold) / 2
        inserted[name], deleted[name] = (fractions, hot_first.mean(1)), (fractions, deleted_hot.mean(1))
        faithful[name] = torch.trapezoid(hot_first - deleted_hot, fractions, dim=0)
    for claim, rival in (("5.1.c5", "edges"), ("5.1.x1", "random")):
        margin = faithful["Grad-CAM"] - faithful[rival]
        report.claim(claim, margin.mean(), low=0, spread=_error(margin),
                     detail=f"area under insertion less area under deletion, Grad-CAM's less that of {rival}, mean of "
                     f"{len(photos)} photographs in {steps} steps; spread: two standard errors")  # fmt: skip
    x, y = "share of the picture's 49 cells", "probability of the predicted class"
    for name, lines, words in (("insertion", inserted, "put into a blurred picture, hottest first: high"),
                               ("deletion", deleted, "blurred, hottest first: low")):  # fmt: skip
        report.curve(name, lines, x=x, y=y, caption=f"Cells {words} is good. Mean of {len(photos)} photographs.")
    kept = {name: _with_cells(photos, heat, 12) for name, heat in maps.items()}
    some = [PHOTOS.index(name) for name in ("chelsea", "coffee", "motorcycle")]
    tiles = {"picture": photos, **kept}
    report.images("hottest_quarter", {f"{PHOTOS[i]}: {name}": tiles[name][i] for i in some for name in tiles},
                  "The first 12 of 49 cells by each map, the rest blurred. An edge map finds objects too, though it "
                  "knows neither the network nor the class.")  # fmt: skip


def _planted_mark(report: Report, networks: int, seed: int) -> None:
    """Every 3, and only a 3, has a mark in its corner; networks learn the mark. Does the heat give it away?"""
    train, test = (_enlarged(digits(split)) for split in ("train", "test"))
    threes = test.taken((test.labels == MARKED).nonzero().flatten())
    marked = _marked(threes, torch.ones(len(threes.labels)) > 0)
    shares: dict[str, list[Tensor]] = {kind: [] for kind in NETWORKS}
    rows, drawn = [], {}
    for n in range(networks):
        for kind, (marks, head) in NETWORKS.items():
            generator = torch.Generator().manual_seed(seed + n)
            seen, unseen = (
                _marked(part, part.labels == MARKED if marks == "on every 3" else _coins(part, generator))
                for part in (train, test)
            )
            with seeded(seed + n):
                net = _small_network(head)
            fit(net, TensorDataset(seen.images, seen.labels), _loss, epochs=4, batch_size=32,
                optimizer=partial(Adam, lr=0.01, fused=True), schedule=_falling, seed=seed + n)  # fmt: skip
            heat = grad_cam(net.eval(), marked.images, MARKED, layer="maps", enlarge=True)
            shares[kind].append(_share(heat, heat[:, AROUND_MARK, AROUND_MARK]))
            scores = (f"{100 * accuracy(net, part):.0f} %" for part in (unseen, threes))
            rows.append((marks, head, n + 1, *scores, f"{shares[kind][-1].mean():.2f}"))
            if n == 0:
                some = zip(resize(marked.images[:9].expand(-1, 3, -1, -1), 96), heat, strict=False)
                drawn[f"mark {marks}, {head}"] = grid([_laid_over(x, h) for x, h in some])
    average, control, flattened = (torch.cat(shares[kind]) for kind in NETWORKS)
    report.claim("5.1.c6", average.mean(), low=0.5, spread=_error(average),
                 detail=f"mean share of the heat for '3' on the mark and 5 pixels around it (17 % of the picture), "
                 f"{len(average)} maps; {control.mean():.2f} where the mark was put at random in training")  # fmt: skip
    report.claim("5.1.x4", (flattened - average).mean(), low=0, spread=_error(flattened - average),
                 detail=f"that share behind a fully connected layer ({flattened.mean():.2f}) less that behind global "
                 f"average pooling ({average.mean():.2f})")  # fmt: skip
    report.images("planted_mark", drawn, "Heat for '3' on digits with the mark (a small cross, top left). Where "
                  "nothing is lit the map is zero: the averaged gradients found no evidence at all.")  # fmt: skip
    columns = ("mark in training", "head", "network", "right, as trained", "right, 3 without mark", "heat on the mark")
    report.table("planted_mark_networks", columns, rows, "By its accuracy a network with the planted bias looks "
                 "perfect. Asked for a 3 without a mark it fails, and the heat says why.")  # fmt: skip


def _enlarged(given: Labelled) -> Labelled:
    """8 x 8 digits as 16 x 16 in the middle of 24 x 24 pixels."""
    return given._replace(images=F.pad(F.interpolate(given.images, scale_factor=2, mode="bilinear"), [4] * 4))


def _marked(given: Labelled, which: Tensor) -> Labelled:
    """The same pictures, `which` of them with a cross of 4 x 4 pixels in the corner."""
    images = given.images.clone()
    images[which, 0, MARK, MARK] = torch.maximum(torch.eye(4), torch.eye(4).flip(0))
    return given._replace(images=images)


def _coins(given: Labelled, generator: torch.Generator) -> Tensor:
    return torch.rand(len(given.labels), generator=generator) < 0.5


def _small_network(head: str) -> nn.Sequential:
    def unit(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs, momentum=0.3), nn.ReLU()]

    maps = nn.Sequential(*unit(1, 16, 2), *unit(16, 24), *unit(24, 24))  # 12 x 12, each cell sees 11 x 11 pixels
    side = 1 if head == "average pooling" else 12
    layers = {"maps": maps, "pool": nn.AdaptiveAvgPool2d(side), "flatten": nn.Flatten()}
    return nn.Sequential(OrderedDict(**layers, classifier=nn.Linear(24 * side**2, 10)))


def _loss(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
    images, labels = batch
    return F.cross_entropy(model(images), labels)


def _falling(optimizer: Optimizer, steps: int) -> LinearLR:
    return LinearLR(optimizer, 1, 0.01, steps)


def _insertion(model: nn.Module, photos: Tensor, c: Tensor, heat: Tensor,
               counts: Sequence[int]) -> Float[Tensor, "s b"]:  # fmt: skip
    """The probability of class c with so many cells put into the blurred photographs, those of the largest heat."""
    with torch.inference_mode():
        seen = torch.cat([_with_cells(photos, heat, count) for count in counts])
        chances = torch.cat([model(few).softmax(1) for few in seen.split(2)])  # more at once leave the cache
    return chances[range(len(seen)), c.repeat(len(counts))].view(len(counts), -1)


def _with_cells(photos: Tensor, heat: Tensor, count: int) -> Tensor:
    """The photographs in their `count` hottest cells, blurred elsewhere."""
    rank = heat.flatten(1).argsort(1, descending=True).argsort(1).view(heat.shape)
    kept = F.interpolate((rank < count).to(photos)[:, None], size=photos.shape[2:])
    blurred = F.interpolate(F.adaptive_avg_pool2d(photos, 8), size=photos.shape[2:], mode="bilinear")
    return torch.lerp(blurred, photos, kept)


def _shuffle(module: nn.Module, generator: torch.Generator) -> None:
    """Each weight tensor keeps its values and loses their order."""
    for weight in module.parameters():
        order = torch.randperm(weight.numel(), generator=generator)
        weight.data = weight.data.flatten()[order].view_as(weight)


def _correlation(a: Float[Tensor, "b h w"], b: Float[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Pearson's, of each pair of maps; 0 where one is constant."""
    a, b = (m.flatten(1) - m.flatten(1).mean(1, keepdim=True) for m in (a, b))
    return F.cosine_similarity(a, b)


def _share(heat: Float[Tensor, "b h w"], part: Float[Tensor, "b ph pw"]) -> Float[Tensor, " b"]:
    """How much of each map's heat lies in a part of it."""
    return part.sum((1, 2)) / heat.sum((1, 2)).clamp_min(1e-12)


def _error(values: Tensor) -> float:
    """Two standard errors of the mean."""
    return 2 * float(values.std()) / math.sqrt(len(values))


def _of_side(picture: Tensor, side: int) -> Tensor:
    """The picture with this shorter side; what is longer than three times as wide is squeezed to that."""
    height, width = (min(side * n // min(picture.shape[1:]), 3 * side) for n in picture.shape[1:])
    return resize(picture, (height, width))


def _laid_over(picture: Float[Tensor, "3 h w"], heat: Float[Tensor, "mh mw"]) -> Tensor:
    """The positive part of a map, relative to its maximum, over the picture."""
    return overlay(picture, heat.clamp_min(0) / heat.max().clamp_min(1e-12))
