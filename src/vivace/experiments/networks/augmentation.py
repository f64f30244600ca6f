"""Experiment: data augmentation: which changes leave a picture's class, and which do not."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.hooks import evaluating
from vivace.base.images import crop_center, grid, middle_square, read_image, resize
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.cnn import efficientnet_lite0
from vivace.experiments.small_data import DataSet, Learned, Recipe, learn, mean_and_spread, of_class, small_data
from vivace.networks import add_noise, random_affine, random_flip

QUICK = {"dataset": "digits", "few": 200, "epochs": 40, "runs": 6}

ANGLES = (0, 15, 60, 180)  # degrees, each way
PHOTOS = ("astronaut", "chelsea", "china", "coffee", "flower", "hopper", "rocket")
Augment = Callable[[Float[Tensor, "b c h w"], torch.Generator], Float[Tensor, "b c h w"]]


@checked
def run(*, image: ImagePath = "chelsea", dataset: DataSet = "auto", few: Annotated[int, Ge(50), Le(1000)] = 500,
        epochs: Annotated[int, Ge(30), Le(500)] = 60, runs: Annotated[int, Ge(3), Le(50)] = 4, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """Augmentation: turned, scaled, moved, flipped, roughened; what helps digits and what spoils them.

    vivace run augmentation        60 s on two cores with MNIST; turned by up to 180 degrees, one 6 or 9 in six is lost

    image: a picture that is shown augmented
    dataset: mnist, scikit-learn's 8 x 8 digits, or auto: mnist if it is there
    few: pictures to learn from
    epochs: how often each is seen
    runs: trainings of each kind
    seed: the first of the seeds
    """
    report = Report(
        "Augmentation: only what leaves the class as it is",
        "Every picture is changed at random each time it is seen, so that no two epochs show the same. That teaches "
        "the net what does not matter; a change that *does* matter teaches it something wrong.",
    )
    _shown(report, image, seed)
    recipes: dict[str, Recipe] = {
        f"turned by up to {angle}": Recipe(epochs=epochs, augment=_turned(angle)) for angle in ANGLES
    }
    recipes["flipped"] = Recipe(epochs=epochs, augment=_flipped)
    found: dict[str, list[Learned]] = {}
    data = [small_data(dataset, few, 0.0, s) for s in range(seed, seed + runs)]
    for i, (name, recipe) in enumerate(recipes.items()):
        tell(Step(i, len(recipes), f"training: {name}"))
        found[name] = [learn(one, recipe, s) for s, one in enumerate(data, start=seed)]
    six_nine = {
        name: [of_class(one.net, part.test, (6, 9)) for one, part in zip(learned, data, strict=True)]
        for name, learned in found.items()
    }
    errors = {name: [one.curves["test error"][-1] for one in learned] for name, learned in found.items()}
    _claims(report, six_nine, errors)
    _photographs(report, [one.net for one in found["turned by up to 0"]], [part.test.images for part in data])
    return report


def _turned(angle_degrees: float) -> Augment | None:
    if not angle_degrees:
        return None
    return partial(_affine, rotation=math.radians(angle_degrees))


def _affine(images: Float[Tensor, "b c h w"], generator: torch.Generator, *, rotation: float
            ) -> Float[Tensor, "b c h w"]:  # fmt: skip
    return random_affine(images, rotation=rotation, generator=generator)


def _flipped(images: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
    return random_flip(images, generator=generator)


def _shown(report: Report, source: ImagePath, seed: int) -> None:
    """One picture, eight times each way."""
    picture = read_image(source)
    image = middle_square(picture, 160)[None].repeat(6, 1, 1, 1)
    generator = torch.Generator().manual_seed(seed)
    moved = random_affine(image, rotation=0.3, scale=(0.8, 1.25), shift=15, generator=generator)
    ways = {
        "rotation, up to 30 degrees": random_affine(image, rotation=math.radians(30), generator=generator),
        "scaling, 0.7 to 1.4": random_affine(image, scale=(0.7, 1.4), generator=generator),
        "shift, up to 30 pixels": random_affine(image, shift=30, generator=generator),
        "flips": random_flip(image, generator=generator),
        "noise of deviation 0.15": add_noise(image, 0.15, generator=generator),
        "all of them": add_noise(random_flip(moved, generator=generator), 0.08, generator=generator),
    }
    report.images(
        "ways",
        {name: grid(list(pictures), columns=6) for name, pictures in ways.items()},
        "Six draws of each; black where the picture has nothing to show.",
    )


def _claims(report: Report, six_nine: dict[str, list[float]], errors: dict[str, list[float]]) -> None:
    """Rotation by its range, and flips, on digits (3.4.Q3.c2, 3.5.c4)."""
    plain = "turned by up to 0"
    both = {name: (mean_and_spread(errors[name]), mean_and_spread(six_nine[name])) for name in errors}
    rows = [(name, *(f"{mean:.1f} ± {spread:.1f}" for mean, spread in values)) for name, values in both.items()]
    report.table(
        "digits",
        ("training pictures", "test error, %", "6s and 9s named rightly, %"),
        rows,
        "Degrees each way. A 6 turned by 180 degrees is a 9.",
    )
    turned = [both[f"turned by up to {angle}"] for angle in ANGLES]
    lines = {"6s and 9s": [right for _, (right, _) in turned], "all digits": [100 - error for (error, _), _ in turned]}
    report.curve(
        "rotation",
        {name: (ANGLES, line) for name, line in lines.items()},
        x="largest rotation of the training pictures, degrees",
        y="test digits named rightly, %",
    )

    def gain(values: dict[str, list[float]], name: str, sign: int) -> tuple[float, float]:
        return mean_and_spread([sign * (a - b) for a, b in zip(values[name], values[plain], strict=True)])

    worst, spread = min(gain(six_nine, f"turned by up to {angle}", 1) for angle in ANGLES[1:])
    report.claim(
        "3.4.Q3.c2",
        worst,
        low=0,
        spread=spread,
        unit="points",
        detail="6s and 9s named rightly, with rotation less without: the worst of the ranges 15 to 180 degrees",
    )
    flip, spread = gain(errors, "flipped", -1)
    report.claim(
        "3.5.c4",
        flip,
        low=0,
        spread=spread,
        unit="points",
        detail="test error of digits without flips, less that with them",
    )


@torch.no_grad()
def _photographs(report: Report, nets: Sequence[nn.Module], digits: Sequence[Float[Tensor, "n c h w"]]) -> None:
    """Whether a flip changes what is seen: a CNN on photographs, the trained nets on digits (3.5.x5, 3.5.x6)."""
    model = efficientnet_lite0(weights="imagenet").eval()
    crops = torch.stack([part for name in PHOTOS for part in _crops(read_image(name))])
    photos = (model(crops).argmax(1) == model(crops.flip(-1)).argmax(1)).double().mean().item()
    shares = []
    for net, images in zip(nets, digits, strict=True):
        with evaluating(net):
            shares.append((net(images).argmax(1) == net(images.flip(-1)).argmax(1)).double().mean().item())
    report.claim(
        "3.5.x5",
        photos,
        low=0.75,
        detail=f"share of {len(crops)} crops of photographs whose class (EfficientNet-Lite0) is the same when flipped",
    )
    report.claim(
        "3.5.x6", sum(shares) / len(shares), low=0.75, detail="share of test digits named the same when flipped"
    )


def _crops(image: Float[Tensor, "3 h w"]) -> list[Float[Tensor, "3 224 224"]]:
    """The middle square and three quarters of it, as the classifier takes them."""
    square = crop_center(image, min(image.shape[1:]))
    inset = square.shape[-1] // 8
    return [resize(part, (224, 224)) for part in (square, square[:, inset:-inset, inset:-inset])]
