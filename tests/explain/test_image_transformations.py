"""Views: SciPy's affine map, moves by hand, torch's own blur, a gradient that passes, and wrong versions."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.explain.image_parameterization import blurred
from vivace.explain.image_transformations import ImageTransformations

STILL = {"pad": 0, "jitter": 0, "rotation": 0, "zoom": (1, 1), "shift": 0}
SIZE = (40, 56)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(count: int = 1) -> Tensor:
    return blurred(torch.rand(count, 3, *SIZE, generator=seeded(7)), 1.5)


def check(views: Callable[[Tensor, torch.Generator], Tensor]) -> None:
    """Each view is what SciPy samples at R(angle) v / zoom + shift around the middle of the padded picture."""
    x, height, width = picture(3), *SIZE
    made = views(x, seeded())
    u = torch.rand(4, 3, generator=seeded()).double().numpy()
    for index in range(3):
        angle = math.radians(20) * (2 * u[0, index] - 1)
        zoom = 0.7 * (1.5 / 0.7) ** u[1, index]
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom  # of (row, column)
        moved = 0.1 * (2 * u[2:, index] - 1) * SIZE
        offset = (np.array(SIZE) + 15) / 2 + moved - turn @ ((np.array(SIZE) - 1) / 2)
        padded = np.pad(x[index].double().numpy(), ((0, 0), (8, 8), (8, 8)), constant_values=0.5)
        expected = [affine_transform(p, turn, offset, (height, width), order=1, mode="nearest") for p in padded]
        np.testing.assert_allclose(made[index].numpy(), np.stack(expected), atol=2e-5)


def test_is_scipys_affine_map() -> None:
    check(ImageTransformations(pad=8, rotation=20, zoom=(0.7, 1.5), shift=0.1))


MUTANTS = {
    "turned the other way": lambda x, g: ImageTransformations(8, 0, 20, (0.7, 1.5), 0.1)(x.mT, g).mT,
    "scaled by the inverse": ImageTransformations(8, 0, 20, (1 / 1.5, 1 / 0.7), 0.1),
    "black for grey": lambda x, g: ImageTransformations(8, 0, 20, (0.7, 1.5), 0.1)(x - 0.5, g) + 0.5 - 0.5,
    "same view of all": lambda x, g: torch.cat([ImageTransformations(8, 0, 20, (0.7, 1.5), 0.1)(x[:1], g)] * 3),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_rejects(mutant: Callable[[Tensor, torch.Generator], Tensor]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


def test_a_picture_that_is_not_shaken_stays() -> None:
    x = picture(2)
    assert torch.equal(ImageTransformations(**STILL)(x), x)
    torch.testing.assert_close(ImageTransformations(**(STILL | {"pad": 5}))(x), x)


def test_jitter_moves_by_whole_pixels() -> None:
    x = picture(20)
    made = ImageTransformations(**(STILL | {"jitter": 3}))(x, seeded())
    places = [(i, j) for i in range(-3, 4) for j in range(-3, 4)]
    where = [
        [p for p in places if torch.equal(view, image.roll(p, (1, 2)))] for view, image in zip(made, x, strict=True)
    ]
    assert all(len(found) == 1 for found in where)
    assert len({found[0] for found in where}) > 10


def test_each_alone_and_within_its_bounds() -> None:
    x = resize(read_image("chelsea"), SIZE)[None].expand(30, -1, -1, -1)
    for alone in ({"rotation": 10}, {"zoom": (0.9, 1.1)}, {"shift": 0.1}, {"jitter": 2}):
        made = ImageTransformations(**(STILL | alone))(x, seeded())
        assert made.shape == x.shape and made.min() >= 0 and made.max() <= 1
        assert 0 < (made - x).abs().mean() < 0.12
        assert torch.equal(made, ImageTransformations(**(STILL | alone))(x, seeded()))


def test_a_gradient_passes() -> None:
    x = picture(2).requires_grad_()
    ImageTransformations()(x, seeded()).sum().backward()
    assert x.grad is not None and (x.grad > 0).float().mean() > 0.5


@pytest.mark.parametrize(("wrong", "told"), [({"pad": -1}, "at least 0"), ({"zoom": (1.2, 0.8)}, "the smaller first"),
                                             ({"zoom": (0, 1)}, "above 0")])  # fmt: skip
def test_tells_what_is_wrong(wrong: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        ImageTransformations(**wrong)
