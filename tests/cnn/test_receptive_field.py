"""Receptive fields against the pixels that a gradient reaches, numbers by hand and published ones; mutants fail."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.cnn import (
    Field,
    effective_field,
    efficientnet_lite0,
    pixels_holding,
    receptive_fields,
    spread,
    vgg16,
)

Fields = Callable[..., dict[str, Field]]
SIDE = (151, 173)


def pick(generator: torch.Generator, *options: int) -> int:
    return options[int(torch.randint(len(options), (), generator=generator))]


def random_stack(seed: int) -> nn.Sequential:
    """Two to four convolutions and poolings with settings of their own on each axis; weights all positive."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for _ in range(pick(generator, 2, 3, 4)):
        kernel, stride, dilation = (tuple(pick(generator, *some) for _ in range(2))
                                    for some in ((1, 2, 3, 5), (1, 1, 2, 3), (1, 1, 2)))  # fmt: skip
        kind = pick(generator, 0, 0, 1, 2)
        padding = tuple(pick(generator, *range(k // 2 + 1)) for k in kernel)
        if kind == 0:
            layers += [nn.Conv2d(1, 1, kernel, stride, padding, dilation, bias=False), nn.ReLU()]  # type: ignore[arg-type]
        elif kind == 1:
            layers += [nn.AvgPool2d(kernel, stride, padding)]  # type: ignore[arg-type]
        else:
            layers += [nn.ZeroPad2d(tuple(pick(generator, 0, 1, 2) for _ in range(4)))]  # type: ignore[arg-type]
    model = nn.Sequential(*layers).double()
    for weight in model.parameters():
        nn.init.constant_(weight, 0.5)
    return model


def reached(model: nn.Module, row: int, column: int) -> tuple[int, int, int, int]:
    """(x1, y1, x2, y2) around the pixels of which the unit's value has a derivative other than zero."""
    picture = torch.ones(1, 1, *SIDE, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(picture)[0, :, row, column].sum(), picture)
    rows, columns = gradient[0, 0].nonzero().T
    if not len(rows):  # a unit of which all is padding
        return SIDE[1], SIDE[0], 0, 0
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def sees_what_the_gradient_reaches(fields: Fields, stacks: int = 300) -> bool:
    """Exactly, where the field lies in the picture; where it hangs over, the gradient stays in it (taps have gaps)."""
    inside = 0
    for seed in range(stacks):
        model = random_stack(seed)
        with torch.no_grad():
            height, width = model(torch.ones(1, 1, *SIDE, dtype=torch.float64)).shape[-2:]
        field = fields(model, (1, *SIDE))[f"{len(model) - 1}"]
        for row, column in ((height // 2, width // 2), (height // 3, width // 4)):
            x1, y1, x2, y2 = field.box(row, column)
            a1, b1, a2, b2 = reached(model, row, column)
            if 0 <= x1 and 0 <= y1 and x2 <= SIDE[1] and y2 <= SIDE[0]:
                inside += 1
                if (a1, b1, a2, b2) != (x1, y1, x2, y2):
                    return False
            elif a1 < a2 and not (x1 <= a1 and y1 <= b1 and a2 <= x2 and b2 <= y2):
                return False
    return inside > stacks


def test_a_stack_sees_what_the_gradient_reaches() -> None:
    assert sees_what_the_gradient_reaches(receptive_fields)


def changed(change: Callable[[Field], Field]) -> Fields:
    return lambda model, shape: {name: change(field) for name, field in receptive_fields(model, shape).items()}


def without(attribute: str, neutral: tuple[int, int] | int) -> Fields:
    """The arithmetic of a network whose layers had no dilation, no stride or no padding."""

    def fields(model: nn.Module, shape: tuple[int, ...]) -> dict[str, Field]:
        kept = [getattr(layer, attribute, None) for layer in model]  # type: ignore[arg-type, union-attr]
        for layer, value in zip(model, kept, strict=True):  # type: ignore[arg-type]
            if value is not None:
                setattr(layer, attribute, neutral)
        found = receptive_fields(model, (1, 400, 400))
        for layer, value in zip(model, kept, strict=True):  # type: ignore[arg-type]
            if value is not None:
                setattr(layer, attribute, value)
        return found

    return fields


MUTANTS: dict[str, Fields] = {
    "dilation forgotten": without("dilation", (1, 1)),
    "stride forgotten": without("stride", (1, 1)),
    "padding forgotten": without("padding", (0, 0)),
    "axes swapped": changed(lambda f: Field(f.size[::-1], f.jump[::-1], f.start[::-1])),
    "one pixel short": changed(lambda f: Field((f.size[0] - 1, f.size[1] - 1), f.jump, f.start)),
    "centred on the corner": changed(lambda f: Field(f.size, f.jump, (-(f.size[0] // 2), -(f.size[1] // 2)))),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_rejects_the_mutant(mutant: Fields) -> None:
    assert not sees_what_the_gradient_reaches(mutant, 40)


@pytest.mark.parametrize(
    ("layer", "size", "jump"),
    [("conv1_1", 3, 1), ("conv1_2", 5, 1), ("pool1", 6, 2), ("conv2_2", 14, 2), ("conv3_3", 40, 4), ("conv4_3", 92, 8),
     ("conv5_3", 196, 16), ("pool5", 212, 32)],
)  # fmt: skip
def test_vgg16_as_published(layer: str, size: int, jump: int) -> None:
    with torch.device("meta"):
        model = vgg16()
    field = receptive_fields(model)[model.layer(layer)]
    assert field.size == (size, size) and field.jump == (jump, jump)


class Branches(nn.Module):
    """A residual block: 3 x 3, stride 2, then 5 x 5, beside a 1 x 1 of stride 2; functions do what they can."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, 2, 1), nn.Conv2d(4, 4, 5, padding=2)
        self.beside, self.end = nn.Conv2d(2, 4, 1, 2), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.end(self.second(F.relu(self.first(x), inplace=True)) + self.beside(x))
        return F.max_pool2d(torch.cat([x, x], 1), 2).mean((2, 3))


def test_branches_meet_in_the_larger_field() -> None:
    found = receptive_fields(Branches(), (2, 32, 32))
    assert found["first"] == Field((3, 3), (2, 2), (-1, -1))
    assert found["beside"] == Field((1, 1), (2, 2), (0, 0))
    assert found["end"] == Field((11, 11), (2, 2), (-5, -5))  # 3 + 4 * 2; from -1 - 2 * 2


def test_uneven_padding_and_whole_pictures() -> None:
    """EfficientNet-Lite0 pads an even side by 0 before and 1 after at stride 2, and averages all places in the end."""
    found = receptive_fields(efficientnet_lite0())
    assert found["stem"] == Field((3, 3), (2, 2), (0, 0))
    assert found["blocks.1.depthwise.conv"] == Field((11, 11), (4, 4), (-2, -2))  # 3, then 3 x 3 at 2: 7; then 3 at 2
    squeeze = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1))
    assert [math.isinf(field.size[0]) for field in receptive_fields(squeeze).values()] == [False, True, True]


ENLARGED: dict[str, nn.Module] = {
    "transposed 2": nn.ConvTranspose2d(1, 1, 2, 2),
    "transposed 4": nn.ConvTranspose2d(1, 1, 4, 2, 1),
    "nearest": nn.Upsample(scale_factor=2),
    "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
    "corners": nn.Upsample(scale_factor=3, mode="bilinear", align_corners=True),
}


@pytest.mark.parametrize("layer", ENLARGED.values(), ids=ENLARGED)
def test_enlargements_lie_in_the_box_and_nearly_fill_it(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.Conv2d(1, 1, 3, padding=1), layer, nn.Conv2d(1, 1, 3)).double()
    for weight in model.parameters():
        nn.init.constant_(weight, 0.5)
    field = receptive_fields(model, (1, *SIDE))["3"]
    largest = 0
    for column in range(30, 36):
        x1, y1, x2, y2 = field.box(25, column)
        a1, b1, a2, b2 = reached(model, 25, column)
        assert x1 <= a1 and y1 <= b1 and a2 <= x2 and b2 <= y2
        largest = max(largest, a2 - a1)
    assert field.size[1] - largest <= 4  # at most two steps of 2 pixels


def test_the_effective_field_of_a_linear_net_is_the_product_of_its_kernels() -> None:
    """n layers of 3 x 3 means: a binomial-like bell of variance n * 2/3 (Luo et al. 2016, section 2.1)."""
    model = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(6)))
    for weight in model.parameters():
        nn.init.constant_(weight, 1 / 9)
    images = torch.rand(3, 1, 41, 41, generator=torch.Generator().manual_seed(0))
    field = effective_field(model, images, "5")
    assert field.sum().item() == pytest.approx(1) and int((field > 0).sum()) == 13 * 13
    assert spread(field) == pytest.approx(((6 * 2 / 3) ** 0.5,) * 2)
    bell = torch.ones(1, dtype=torch.float64)
    for _ in range(6):  # the convolution of six boxes, by the definition
        bell = sum(F.pad(bell, (i, 2 - i)) for i in range(3)) / 3
    assert torch.allclose(field[20, 14:27].double(), bell * bell[6], atol=1e-6)
    mutant = field.square() / field.square().sum()  # squares instead of absolute values
    assert spread(mutant)[0] < 0.8 * spread(field)[0]


def test_smallest_number_of_pixels() -> None:
    field = torch.tensor([[0.5, 0.3], [0.15, 0.05]])
    assert [pixels_holding(field, mass) for mass in (0.4, 0.75, 0.94, 1.0)] == [1, 2, 3, 4]


def test_a_model_in_training_comes_back_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    receptive_fields(model, (1, 9, 9))
    effective_field(model, torch.rand(2, 1, 9, 9), "2")
    assert model[1].training and all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model[0]._forward_hooks and all(parameter.grad is None for parameter in model.parameters())


def test_bad_input() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(InputError, match="takes no picture"):
        receptive_fields(model, (1, 9, 9))
    with pytest.raises(InputError, match="not a map"):
        effective_field(model, torch.rand(1, 3, 3, 3), "2")
    with pytest.raises(InputError, match="no pixel"):
        effective_field(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Hardtanh(9, 10)), torch.rand(1, 1, 3, 3), "1")
    with pytest.raises(InputError, match="share"):
        pixels_holding(torch.ones(2, 2), 0)
