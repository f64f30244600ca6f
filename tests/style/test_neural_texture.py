"""Neural textures on a toy network whose Grams are computed by hand; mutants fail the same checks."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.base.report import Step
from vivace.style import gatys, neural_texture
from vivace.style._goal import Maps
from vivace.style.neural_texture import TextureGoal, color_axes


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache  # the mosaic is painted anew each time it is read
def exemplar(name: str = "mosaic", side: int = 48) -> Tensor:
    return resize(read_image(name), 96)[:, :side, :side]


KERNELS = [torch.randn(6, 3, 3, 3, generator=seeded(0)), torch.randn(8, 6, 3, 3, generator=seeded(1))]


def see(images: Tensor) -> tuple[Maps, Maps]:
    """Two layers of fixed random filters, whose maps cover the whole picture."""
    first = F.conv2d(images, KERNELS[0], padding=1).relu()
    second = F.conv2d(F.avg_pool2d(first, 2), KERNELS[1], padding=1).relu()
    return [second], [first, second, images]


def gram(features: Tensor) -> Tensor:
    flat = features[0].flatten(1)
    return flat @ flat.T / flat.shape[1]


def test_the_goal_is_the_papers() -> None:
    """Eq. 4 and 5, with each layer's error over its target's size."""
    source, x = exemplar(), resize(read_image("coffee"), (60, 60))
    pairs = list(zip(see(x[None])[1], see(source[None])[1], strict=True))
    weights = [1.0, 2.0, 5.0]
    right = sum(w / 8 * ((gram(f) - gram(a)).square().sum() / gram(a).square().sum())
                for w, (f, a) in zip(weights, pairs, strict=True))  # fmt: skip
    goal = TextureGoal(see, source[None], weights, along=color_axes(source), smoothness=0.0, sight=0)
    assert torch.isclose(goal(x[None])[0], right, rtol=1e-3)
    mutants = {
        "weights in the wrong order": TextureGoal(see, source[None], weights[::-1], along=color_axes(source),
                                                  smoothness=0.0, sight=0),
        "the exemplar enlarged": TextureGoal(see, resize(source, 96)[None], weights, along=color_axes(source),
                                             smoothness=0.0, sight=0),
        "smoothed": TextureGoal(see, source[None], weights, along=color_axes(source), smoothness=9.0, sight=0),
    }  # fmt: skip
    for name, mutant in mutants.items():
        assert not torch.isclose(mutant(x[None])[0], right, rtol=1e-3), name


def test_the_exemplar_costs_nothing_wherever_it_is_moved_to() -> None:
    tile = exemplar(side=32)
    many, moved = tile.repeat(1, 8, 8)[None], tile.roll((5, 9), (1, 2))[None]
    goal, mutant = (TextureGoal(see, many, along=color_axes(tile), smoothness=0.0, sight=sight) for sight in (16, 0))
    assert goal(moved)[0] < 1e-3 < 5e-3 < mutant(moved)[0], "its borders are seen, too"


@pytest.mark.parametrize("size", [(32, 32), (40, 90)])
def test_the_loss_falls_at_any_size(size: tuple[int, int]) -> None:
    told: list[Step] = []
    made = neural_texture(see, exemplar(), size, steps=15, generator=seeded(0), tell=told.append)
    assert made.shape == (3, *size) and 0 <= made.min() and made.max() <= 1
    assert told[-1].values["style"] < 0.1 * told[0].values["style"]
    assert [step.done for step in told] == sorted(step.done for step in told) and told[-1].done <= told[-1].total


def test_coarse_to_fine_reduces_the_exemplar_alike() -> None:
    sizes: list[tuple[int, ...]] = []
    neural_texture(see, exemplar(), (192, 192), steps=1, coarsest=40, generator=seeded(0),
                   tell=lambda step: sizes.append(tuple(step.image.shape[-2:])))  # type: ignore[union-attr]  # fmt: skip
    assert list(dict.fromkeys(sizes)) == [(128, 128), (192, 192)], "48 may only be reduced to 32"


def test_a_grey_exemplar_gives_a_grey_texture() -> None:
    grey = exemplar("gravel")
    made = neural_texture(see, grey, (40, 40), steps=20, generator=seeded(0))
    noise = torch.rand(3, 40, 40, generator=seeded(0))
    mutant = gatys(see, noise, grey, steps=20, content_weight=0.0, center=False, whiten=0.0)
    assert (made[0] - made[1]).abs().max() < 1e-4 < 1e-2 < (mutant[0] - mutant[1]).abs().max()
    assert torch.allclose(color_axes(exemplar())(exemplar()[None])[0], exemplar(), atol=1e-5), "colours stay"


def border_over_inside(image: Tensor) -> float:
    across = torch.cat(
        [(image[:, 0] - image[:, -1]).abs().flatten(), (image[:, :, 0] - image[:, :, -1]).abs().flatten()]
    )
    inside = torch.cat([image.diff(dim=1).abs().flatten(), image.diff(dim=2).abs().flatten()])
    return float(across.mean() / inside.mean())


def test_seamless_tiles() -> None:
    source = resize(read_image("mosaic"), 192)[:, :64, :64]

    def ratio(seamless: bool) -> float:
        made = [neural_texture(see, source, (64, 64), steps=25, seamless=seamless, coarsest=None, generator=seeded(at))
                for at in (0, 1)]  # fmt: skip
        return sum(border_over_inside(image) for image in made) / 2

    assert ratio(True) < 1.06 < 1.1 < ratio(False)  # not seamless: the mutant


def test_the_generator_alone_decides() -> None:
    first, again, other = (neural_texture(see, exemplar(), (36, 36), steps=3, generator=seeded(s)) for s in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_one_color_is_a_texture(level: float) -> None:
    made = neural_texture(see, torch.full((3, 40, 40), level), (40, 40), steps=8, generator=seeded(0))
    assert made.isfinite().all() and (made.mean() - level).abs() < 0.05


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"exemplar": torch.zeros(3, 8, 80)}, "at least 32"),
        ({"size": (31, 80)}, "at least 32"),
        ({"exemplar": torch.full((3, 40, 40), float("nan"))}, "NaN"),
        ({"layer_weights": [1.0]}, "layer weights"),
    ],
)
def test_what_cannot_be_is_said(change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        neural_texture(**{"see": see, "exemplar": exemplar(), "size": (40, 40), "steps": 1, **change})
