"""Experiment: paint what excites a network, and what each regulariser buys."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.hooks import activations
from vivace.base.images import grid, middle_square, overlay, read_image, resize
from vivace.base.parameters import FilePath, ImagePath, Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore, part_of
from vivace.cnn import class_index, class_names, efficientnet_lite0, fold_batch_norms, load_model, resnet20
from vivace.experiments.standard_error import two_standard_errors
from vivace.explain import ImageTransformations, Maximized, activation_maximization, grad_cam
from vivace.explain.activation_maximization import DECAY
from vivace.explain.cam import class_indices
from vivace.explain.image_parameterization import ImageParameters, frequencies, high_frequencies
from vivace.explain.objectives import Objective, channel, logit, neuron, rivals

QUICK = {"classes": "strawberry", "size": 64, "steps": 4, "compare": "some", "few": 12, "side": 64, "subjects": 3,
         "units": 2}  # fmt: skip

# ImageNet's name, and the class of CIFAR-10 that another network should see in it
SUBJECTS = {"flamingo": "bird", "sports car": "automobile", "container ship": "ship", "tailed frog": "frog",
            "airliner": "airplane", "tabby": "cat"}  # fmt: skip
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PHOTOS = ("astronaut", "chelsea", "china", "coffee", "flower", "motorcycle", "rocket")
LAYERS = ("stem", "blocks.1", "blocks.3", "blocks.5", "blocks.8", "blocks.11", "blocks.15", "head.norm")

only = partial(ImageTransformations, pad=0, jitter=0, rotation=0, zoom=(1, 1), shift=0)
VARIANTS: dict[str, dict[str, Any]] = {  # what is added to plain ascent of pixels without any limit
    "none": {},
    "L2": {"l2": 100},
    "Gaussian blur": {"blur": 1},
    "frequency penalty": {"frequency": 3000},
    "total variation": {"smoothness": 1000},
    "clipping": {"limit": "clip"},
    "jitter": {"views": only(jitter=12)},
    "rotation": {"views": only(rotation=15)},
    "scale": {"views": only(zoom=(0.7, 1.3))},
    "decorrelated colours": {"decorrelate": True},
    "Fourier basis": {"basis": "fourier"},
    "all": {"all": True},
}
SOME = ("none", "Gaussian blur", "jitter", "Fourier basis", "all")  # what the claims need
Compare = Literal["each", "some", "nothing"]
FACTORS = (1, 10, 100, 1000)  # of the steps, where nothing limits a picture


@checked
def run(*, classes: str = "strawberry, flamingo, jellyfish", layer: str | None = None,
        channels: str = "0, 1, 2", image: ImagePath = "coffee", weights: FilePath = None,
        size: Annotated[int, Ge(32), Le(1024)] = 224, steps: Annotated[int, Ge(4), Le(5000)] = 130,
        compare: Compare = "each", few: Annotated[int, Ge(8), Le(1000)] = 40,
        side: Annotated[int, Ge(32), Le(224)] = 96, subjects: Annotated[int, Ge(2), Le(6)] = 6,
        units: Annotated[int, Ge(2), Le(16)] = 4, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """Gradient ascent paints the picture that excites a class or a channel most; regularisers make it one to look at.

    vivace run activation_maximization        2.5 min on one processor (1 with --compare nothing); 82 % of plain
                                              ascent is fine noise, 9 % of its logit survives a shift; 43 %
                                              and 89 % with all

    classes: what to paint, by ImageNet's names or indices, with commas between
    layer: paint this layer's channels in place of classes, by its dotted name ("blocks.10")
    channels: which channels of the layer, with commas between
    image: a photograph; what its class looks like to the network is painted too, beside Grad-CAM
    weights: a network of yours, a file that `vivace run finetune` left; where not given, EfficientNet-Lite0
    size: pixels of the painted pictures' sides
    steps: of the ascent
    compare: also measure what regularisers buy, each or some of them, and paint a gallery from shallow to deep
    few: steps of each ascent in that comparison
    side: pixels of its pictures' sides
    subjects: how many classes it paints
    units: how many channels of each layer the gallery shows
    seed: the random start and views
    """
    report = Report(
        "Gradient ascent: what a network would like to see",
        "From random noise, $I \\leftarrow I + \\eta\\, \\partial\\big(f(I) - \\lambda R(I)\\big) / \\partial I$: the "
        "weights stay, the picture learns. $f$ is a class's logit or a channel's mean, $R$ keeps the picture a "
        "picture. (The pictures painted first: the logit less half of its five strongest rivals' mean.)",
    )
    model: nn.Module = fold_batch_norms(efficientnet_lite0(weights="imagenet"))
    model = model.to(memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]
    variants = {"each": VARIANTS, "some": {name: VARIANTS[name] for name in SOME}, "nothing": {}}[compare]
    total = steps + (len(variants) + len(LAYERS)) * few * bool(variants)
    own, names = (model, class_names()) if weights is None else load_model(weights)
    _painted(report, own.eval(), names, classes, layer, channels, read_image(image, max_side=1024), size, steps, seed,
             part_of(tell, 0, total))  # fmt: skip
    if variants:
        _regularizers(report, model, variants, list(SUBJECTS)[:subjects], side, few, seed, part_of(tell, steps, total))
        _gallery(report, model, units, side, few, seed, part_of(tell, total - len(LAYERS) * few, total))
        _bounds(report, model, seed)
        _squares(report, model, seed)
    tell(Step(total, total, "done"))
    return report


def _painted(report: Report, model: nn.Module, names: Sequence[str], classes: str, layer: str | None, channels: str,
             photo: Tensor, size: int, steps: int, seed: int, tell: Tell) -> None:  # fmt: skip
    """What the user asked for, and beside a photograph's Grad-CAM what its class looks like."""
    x = resize(photo, (224, 224))[None]
    with torch.no_grad():
        logits = model(x)
    if layer is None:
        wanted = [int(word) if word.isdigit() else word for word in _words(classes)]
        seen = int(logits.argmax())
        index = [*class_indices(wanted, logits.expand(len(wanted), -1), names).tolist(), seen]
        objective, labels = logit(index) - 0.5 * rivals(index), [names[i] for i in index]
    else:
        index = [_number(word) for word in _words(channels)]
        objective, labels = channel(layer, index), [f"channel {i} of {layer}" for i in index]
    frames: list[Tensor] = []

    def watch(step: Step) -> None:
        if (step.done - 1) % max(1, steps // 40) == 0:
            frames.append(step.image)
        tell(step)

    made = _ascent(model, objective, len(index), size, steps, seed, tell=watch, all=True, of_class=layer is None)
    with torch.no_grad():
        chances = model(made.images).softmax(1)
    likeliest = [f"{names[int(row.argmax())]}, {float(row.max()):.2f}" for row in chances]
    report.images("painted", {f"{label} (seen as {said})": picture for label, said, picture in
                              zip(labels, likeliest, made.images, strict=True)},
                  "Painted from noise; in brackets what the network then sees there, and how surely. What convinces it "
                  "need not convince you.")  # fmt: skip
    if layer is None:
        heat = grad_cam(model, x, seen)
        report.images("cam_and_ascent", {
            "photograph": x[0],
            f"Grad-CAM: where '{names[seen]}' is": overlay(x[0], heat[0] / heat.max().clamp_min(1e-12)),
            f"gradient ascent: what '{names[seen]}' is": made.images[-1],
        }, "Two questions to one network. Grad-CAM takes one photograph and says where; gradient ascent takes none and "
           "says what.")  # fmt: skip
    report.video("climb", torch.stack(frames), caption=f"From noise: {labels[0]}.")
    report.curve("activations", {label: (range(1, steps + 1), values) for label, values in
                                 zip(labels, made.activations.T, strict=True)}, x="step", y="activation of the view",
                 caption="It rises at once; the ripples are the random views.")  # fmt: skip


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise InputError("say what to paint: names or numbers with commas between")
    return words


def _number(word: str) -> int:
    if not word.isdigit():
        raise InputError(f"a channel is a number from 0 on, not '{word}'")
    return int(word)


def _ascent(model: nn.Module, objective: Objective, count: int, side: int, steps: int, seed: int, *,
            basis: Any = "pixel", limit: Any = "none", decorrelate: bool = False, all: bool = False,
            of_class: bool = True, tell: Tell = ignore, **more: Any) -> Maximized:  # fmt: skip
    """The ascent with what a variant adds to free pixels, or with all of it."""
    generator = torch.Generator().manual_seed(seed)
    if all:
        deviation = 0.01 if of_class else 0.05  # a channel of ReLUs has no gradient where all is quiet
        parameters = ImageParameters((side, side), count=count, decay=DECAY, deviation=deviation, generator=generator)
        more = {"views": ImageTransformations()} | ({} if of_class else {"smoothness": 5, "l2": 1}) | more
    else:
        parameters = ImageParameters((side, side), count=count, basis=basis, limit=limit, decorrelate=decorrelate,
                                     generator=generator)  # fmt: skip
        more = {"rate": 0.03 if basis == "fourier" else 0.02, "views": None, "smoothness": 0, "l2": 0} | more
    return activation_maximization(model, objective, (side, side), steps=steps, parameters=parameters,
                                   generator=generator, tell=tell, **more)  # fmt: skip


@torch.no_grad()
def _regularizers(report: Report, model: nn.Module, variants: Mapping[str, dict[str, Any]], subjects: list[str],
                  side: int, steps: int, seed: int, tell: Tell) -> None:  # fmt: skip
    """The same classes from free pixels, with each regulariser alone, and with all."""
    index = [class_index(name) for name in subjects]
    right = [CIFAR10.index(SUBJECTS[name]) for name in subjects]
    other = resnet20(weights="cifar10").eval()
    photos = torch.stack([middle_square(read_image(name), side) for name in PHOTOS])
    rows, sheet, spectra, fine, kept, rises, again = [], {}, {"photographs": _spectrum(photos)}, {}, {}, {}, {}
    for number, (name, added) in enumerate(variants.items()):
        heard = part_of(tell, number * steps, 1)
        made = _ascent(model, logit(index), len(index), side, steps, seed, tell=heard, **added)
        shown = (made.images.clamp(0, 1) * 255).round() / 255
        f = model(shown)[range(len(index)), index]
        views = ImageTransformations()
        g = torch.Generator().manual_seed(seed + 1000)
        seen = torch.stack([model(views(shown, g)) for _ in range(4)])[:, range(len(index))]
        chance, after = (y[:, range(len(index)), index] for y in (seen.softmax(2), seen))  # (4 views, classes)
        shaken = only(jitter=12)
        moved = torch.stack([model(shaken(shown, g))[range(len(index)), index] for _ in range(4)])
        by_other = other(resize(shown, (32, 32))).softmax(1)[range(len(index)), right]
        quarter = max(1, steps // 4)
        rises[name] = made.activations[-quarter:].mean(0) - made.activations[:quarter].mean(0)
        kept[name], again[name] = (y.mean(1) / f.mean() for y in (moved, after))
        fine[name], spectra[name] = _fine(shown), _spectrum(shown)
        sheet[f"{name}: {float(chance[:, 0].mean()):.2f}"] = shown[0]
        rows.append((name, *(f"{float(v.mean()):.{d}f}" for v, d in
                             ((f, 1), (fine[name], 2), (kept[name], 2), (chance, 2), (by_other, 2)))))  # fmt: skip
    report.claim("5.3.c1", torch.minimum(rises["none"].mean(), rises["all"].mean()), low=0, unit="logits",
                 detail=f"mean rise of a class's logit from the first to the last quarter of {steps} steps, "
                 f"{len(index)} classes; the smaller of those without and with all regularisers")  # fmt: skip
    report.claim("5.3.c2", fine["none"].mean(), low=0.5,
                 detail=f"share of the picture's variance in details finer than 8 pixels, without a regulariser; "
                 f"{_fine(photos).mean():.2f} in photographs, {fine['all'].mean():.2f} with all, 0.95 in white "
                 "noise")  # fmt: skip
    report.claim("5.3.c3", fine["Gaussian blur"].mean() / fine["none"].mean(), high=0.5,
                 detail="that share with Gaussian blur every fourth step, over that without")  # fmt: skip
    gained = kept["jitter"] - kept["none"]
    report.claim("5.3.c4", gained.mean(), low=0, spread=two_standard_errors(gained),
                 detail=f"share of the logit that is left after random shifts of up to 12 pixels: "
                 f"{kept['jitter'].mean():.2f} with jitter in the ascent, {kept['none'].mean():.2f} without; spread: "
                 "two standard errors over four draws")  # fmt: skip
    gained = again["all"] - again["none"]
    report.claim("5.3.x2", gained.mean(), low=0, spread=two_standard_errors(gained),
                 detail=f"share of the logit that is left in four random views (turned, scaled, moved), with all "
                 f"regularisers ({again['all'].mean():.2f}) less without ({again['none'].mean():.2f})")  # fmt: skip
    report.images("regularizers", sheet, f"'{subjects[0]}' from the same noise, with one regulariser each, {steps} "
                  f"steps, {side} pixels; the number is the class's mean probability in random views.")  # fmt: skip
    report.table("what_each_buys", ("regulariser", "logit", "finer than 8 px", "logit left when shifted",
                                    "probability in views", "another network's"), rows,
                 f"Means of {len(index)} classes. The last column is ResNet-20, trained on CIFAR-10 and shown the "
                 "picture at 32 pixels: its probability of the class that is meant (chance: 0.1). It is hardly "
                 "convinced by any: what one network wants is not what another sees.")  # fmt: skip
    some = {name: spectra[name] for name in ("photographs", "none", "Gaussian blur", "Fourier basis", "all")}
    report.curve("spectra", some, x="cycles a pixel", y="power", log_y=True,
                 caption="Mean power by frequency. Photographs fall; plain ascent adds fast waves.")  # fmt: skip


def _fine(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """The share of a picture's variance in details finer than 8 pixels."""
    varied = (images - images.mean((2, 3), keepdim=True)).square().mean((1, 2, 3))
    return high_frequencies(images) / varied.clamp_min(1e-12)


def _spectrum(images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, Tensor]:
    """Frequencies, and the mean power in a ring around each."""
    size = (images.shape[-2], images.shape[-1])
    power = torch.fft.rfft2(images - images.mean((2, 3), keepdim=True)).abs().square().mean((0, 1)).flatten()
    rings = 12
    edges = torch.logspace(math.log10(1 / max(size)), math.log10(0.5), rings + 1)
    ring = torch.bucketize(frequencies(size).flatten(), edges).clamp(1, rings) - 1
    count = torch.bincount(ring, minlength=rings)
    mean = torch.bincount(ring, power, minlength=rings) / count.clamp_min(1)
    return (edges[1:] * edges[:-1]).sqrt()[count > 0], mean[count > 0]


@torch.no_grad()
def _gallery(report: Report, model: nn.Module, units: int, side: int, steps: int, seed: int, tell: Tell) -> None:
    """Channels of each layer, from shallow to deep; are the first ones edges, the last ones objects?"""
    rows, named, directed = {}, {}, {}
    for number, layer in enumerate(LAYERS):
        (maps,) = activations(model, torch.zeros(1, 3, side, side), [layer])
        index = list(range(0, maps.shape[1], maps.shape[1] // units))[:units]
        made = _ascent(model, channel(layer, index), units, side, steps, seed, all=True, of_class=False,
                       tell=part_of(tell, number * steps, 1))  # fmt: skip
        rows[f"{layer} ({maps.shape[1]} channels)"] = grid([*made.images], columns=math.ceil(units**0.5))
        named[layer], directed[layer] = model(made.images).softmax(1).amax(1), _coherence(made.images)
    stem = _ascent(model, channel("stem", range(32)), 32, 32, max(steps, 30), seed, all=True, of_class=False)
    edges = (_coherence(stem.images) > 0.5).float().mean()
    objects = (named["head.norm"] > 0.5).float().mean()
    report.claim("5.3.c6", torch.minimum(edges, objects), low=0.5,
                 detail=f"the smaller of two shares: of the stem's 32 channels whose picture has one main direction "
                 f"({edges:.2f}; {(directed['blocks.1'] > 0.5).float().mean():.2f} in blocks.1), and of the head's "
                 f"{units} whose picture the network names with at least 0.5 ({objects:.2f})")  # fmt: skip
    report.images("gallery", rows, "Channels as they come, none chosen: colours first, then stripes, then textures, "
                  "and in the last two layers hints of things.")  # fmt: skip
    report.image("first_layer", grid([*resize(stem.images, 64)], columns=8), "All 32 channels of the stem: most want a "
                 "flat colour, which is enough for their ReLU6. Grey: no gradient from this noise.")  # fmt: skip


def _coherence(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """How much one direction prevails, 0 to 1: (a - b) / (a + b) for the structure tensor's eigenvalues a and b."""
    grey = images.mean(1)
    across, down = grey.diff(dim=2)[:, :-1], grey.diff(dim=1)[:, :, :-1]
    xx, yy, xy = ((a * b).mean((1, 2)) for a, b in ((across, across), (down, down), (across, down)))
    return torch.hypot(xx - yy, 2 * xy) / (xx + yy).clamp_min(1e-9)


@torch.no_grad()
def _bounds(report: Report, model: nn.Module, seed: int) -> None:
    """Larger and larger steps, and no limit to the picture: does the objective stop somewhere?"""
    with seeded(seed):
        convolutions = [nn.Conv2d(3, 16, 3, bias=False), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, bias=False), nn.ReLU()]
        free = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10, bias=False))
    free.eval()
    networks: dict[str, tuple[nn.Module, int, int]] = {
        "ReLU network without biases": (free, 3, 32),
        "ResNet-20 (ReLU)": (resnet20(weights="cifar10").eval(), 3, 32),
        "EfficientNet-Lite0 (ReLU6)": (model, class_index("flamingo"), 64),
    }
    rows, growth = [], {}
    for name, (network, c, side) in networks.items():
        made = [_ascent(network, logit(c), 1, side, 20, seed, rate=0.02 * factor) for factor in FACTORS]
        f = [float(each.activations.max()) for each in made]
        growth[name] = f[-1] / f[-2]
        rows.append((name, *(f"{value:,.1f}" for value in f)))
        if network is free:
            twice = [float(free.double()(factor * made[0].images.double())[0, c]) for factor in (1, 10)]
            free.float()
    ratio, (_, with_biases, capped) = twice[1] / twice[0], growth.values()
    report.claim("5.3.c5", ratio, high=1,
                 detail="f(10 I) / f(I) in a ReLU network without biases, I the end of an ascent; the squared "
                 f"objective grows by {ratio**2:.6g}")  # fmt: skip
    report.claim("5.3.x1", capped, low=5,
                 detail="the logit reached in 20 steps of a size of 20 over that with 2, without a limit, in "
                 f"EfficientNet-Lite0, whose ReLU6 ends at 6; {with_biases:.2f} in ResNet-20, with ReLU")  # fmt: skip
    w, b = (model.get_parameter(f"classifier.{name}")[class_index("flamingo")] for name in ("weight", "bias"))
    ceiling = 6 * w.clamp_min(0).sum() + b
    report.table("without_limit", ("network", *(f"step {0.02 * factor:g}" for factor in FACTORS)), rows,
                 "The largest logit in 20 steps of gradient ascent without any limit, by the steps' size. ReLU goes "
                 f"on for ever; behind ReLU6 no picture at all gives more than {ceiling:.0f}.")  # fmt: skip


@torch.no_grad()
def _squares(report: Report, model: nn.Module, seed: int) -> None:
    """The printed objective, the square: single neurons before their ReLU6, from where noise happens to leave them."""
    index = list(range(32)) * 3
    plain = neuron("stem.norm", index)
    ((weight, layer, read),) = plain.terms
    squared = Objective(((weight, layer, lambda A: read(A).square()),))
    last = {}
    for name, objective in (("squared", squared), ("plain", plain)):
        made = _ascent(model, objective, len(index), 16, 30, seed, limit="clip")
        last[name] = plain(model, made.images)
    start = plain(model, _ascent(model, plain, len(index), 16, 1, seed, rate=0).images)
    up = {name: (values > start).float().mean() for name, values in last.items()}
    report.claim("5.3.c7", up["squared"], low=0.95,
                 detail=f"share of {len(index)} neurons before the first ReLU6 whose activation the squared objective "
                 f"raised; {up['plain']:.2f} by the activation itself. (-5)^2 = 25 is more than 1^2 = 1")  # fmt: skip
    report.curve("squares", {"start": (range(len(index)), start.sort().values),
                             **{f"{name} objective": (range(len(index)), v.sort().values) for name, v in last.items()}},
                 x="neuron, least active first", y="activation before ReLU6",
                 caption="Squares drive a neuron down as readily as up: it depends on where it was.")  # fmt: skip
