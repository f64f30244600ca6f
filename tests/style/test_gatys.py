"""Style transfer against the paper's formulas written out, and toy networks; mutants fail the same checks."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.base.report import Step
from vivace.cnn import efficientnet_lite0
from vivace.style import LITE0, Gaze, gatys, gram_matrix, seeing
from vivace.style._goal import Goal

PAPER = {"center": False, "whiten": 0.0}


def pictures(height: int = 40, width: int = 48) -> tuple[Tensor, Tensor]:
    content = resize(read_image("coffee"), (height, width))
    style = resize(read_image("chelsea"), (width, height))
    return content, style


class Toy(nn.Module):
    """Two layers whose features anyone can compute."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 4, 3, stride=2, padding=1)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=0.3, generator=generator)
            nn.init.zeros_(layer.bias)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.second(F.relu(self.first(images)))


TOY = Gaze(content=("second",), style=("first", "second"), margin=0)


def formula(model: Toy, x: Tensor, content: Tensor, style: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """Eq. 1 to 7 with each error relative to its target: the maps are computed here, layer by layer."""

    def maps(image: Tensor) -> tuple[Tensor, Tensor]:
        first = model.first(image[None])
        return first, model.second(F.relu(first))

    def gram(features: Tensor) -> Tensor:
        flat = features[0].flatten(1)
        return flat @ flat.T / flat.shape[1]

    P, X, A = maps(content), maps(x), maps(style)
    loss_content = (X[1] - P[1]).pow(2).sum() / P[1].pow(2).sum()
    targets = [*A, style[None]]  # the colours are a style map, too
    pairs = zip([*X, x[None]], targets, strict=True)
    errors = [(gram(f) - gram(a)).pow(2).sum() / gram(a).pow(2).sum() for f, a in pairs]
    steps = (x[:, 1:] - x[:, :-1]).pow(2).mean() + (x[:, :, 1:] - x[:, :, :-1]).pow(2).mean()
    return weights[0] * loss_content + weights[1] * torch.stack(errors).mean() + weights[2] * steps


def test_the_goal_is_the_papers() -> None:
    content, style = pictures()
    x = resize(read_image("rocket"), content.shape[-2:])
    weights = (0.7, 2.0, 30.0)
    right = formula(Toy(), x, content, style, weights)
    see = seeing(Toy(), TOY)
    goal = Goal(see, content[None], [style[None]], weights=weights, **PAPER)
    assert torch.isclose(goal(x[None])[0], right, rtol=1e-2)
    mutants = {
        "centred Grams": Goal(see, content[None], [style[None]], weights=weights, center=True, whiten=0.0),
        "whitened Grams": Goal(see, content[None], [style[None]], weights=weights, center=False, whiten=1.0),
        "content and style exchanged": Goal(see, style[None].mT, [content[None].mT], weights=weights, **PAPER),
        "weights exchanged": Goal(see, content[None], [style[None]], weights=(2.0, 0.7, 30.0), **PAPER),
        "no total variation": Goal(see, content[None], [style[None]], weights=(0.7, 2.0, 0.0), **PAPER),
    }
    for name, mutant in mutants.items():
        assert not torch.isclose(mutant(x[None])[0], right, rtol=1e-2), name


def test_a_perfect_answer_costs_nothing() -> None:
    content, _ = pictures()
    goal = Goal(seeing(Toy(), TOY), content[None], [content[None]], weights=(1, 1, 0), **PAPER)
    loss, content_error, style_error = goal(content[None])
    assert content_error == 0 and style_error < 1e-8 and loss < 1e-8


def test_folding_a_block_keeps_every_distance() -> None:
    """Grams of the few folded channels differ as those of the full expansion do: the loss is in distances."""
    model = efficientnet_lite0(weights="imagenet").requires_grad_(False)
    one, other = (resize(read_image(name), (64, 64))[None] for name in ("brick", "chelsea"))
    folded = Gaze(content=(("blocks.4", "blocks.5.expand"),), style=(("blocks.4", "blocks.5.expand"),), margin=0)
    full = Gaze(content=("blocks.5.expand.norm",), style=("blocks.5.expand.norm",), margin=0)
    distances = []
    for gaze in (folded, full):
        see = seeing(model, gaze)
        (content,), (features, _) = see(one)
        (content_other,), (features_other, _) = see(other)
        distances.append([float((content - content_other).square().sum()),
                          float((gram_matrix(features) - gram_matrix(features_other)).square().sum())])  # fmt: skip
    assert distances[0] == pytest.approx(distances[1], rel=1e-3)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_both_losses_fall_and_the_picture_stays_a_picture(optimizer: str) -> None:
    content, style = pictures(45, 61)
    told: list[Step] = []
    made = gatys(seeing(Toy(), TOY), content, style, steps=40, optimizer=optimizer, init="noise", coarsest=None,
                 generator=torch.Generator().manual_seed(0), tell=told.append, **PAPER)  # fmt: skip
    assert made.shape == content.shape and 0 <= made.min() and made.max() <= 1
    first, last = told[0].values, told[-1].values
    assert last["style"] < 0.2 * first["style"] and last["content"] < first["content"]
    assert [step.done for step in told] == sorted(step.done for step in told) and told[-1].done <= told[-1].total


def test_coarse_to_fine_visits_each_size_and_ends_at_the_pictures() -> None:
    content, style = pictures(70, 130)
    sizes: list[tuple[int, ...]] = []
    made = gatys(seeing(Toy(), TOY), content, style, steps=2, coarsest=35,
                 tell=lambda step: sizes.append(tuple(step.image.shape[-2:])))  # type: ignore[union-attr]  # fmt: skip
    assert made.shape == content.shape
    assert list(dict.fromkeys(sizes)) == [(35, 65), (70, 130)]


def same_seed_same_bytes(make: Callable[[int], Tensor]) -> bool:
    return torch.equal(make(3), make(3)) and not torch.equal(make(3), make(4))


def test_the_generator_alone_decides() -> None:
    content, style = pictures(36, 36)
    see = seeing(Toy(), TOY)

    def make(seed: int) -> Tensor:
        return gatys(see, content, style, steps=3, init="noise", generator=torch.Generator().manual_seed(seed))

    def mutant(seed: int) -> Tensor:
        return gatys(see, content, style, steps=3, init="noise")

    torch.rand(1)
    assert same_seed_same_bytes(make) and not same_seed_same_bytes(mutant)


def test_tiles_give_the_whole_pictures_gradient() -> None:
    content, style = pictures(160, 230)
    x = resize(read_image("rocket"), content.shape[-2:])[None]
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(2, 160, 230, generator=generator).round()
    see, styles = seeing(Toy(), TOY), [style[None], content[None].mT]
    for masked in (None, masks):
        options = {"weights": (0.7, 2.0, 30.0), "mix": [1.0, 3.0], "masks": masked, **PAPER}
        whole, tiled = (Goal(see, content[None], styles, tile=tile, **options) for tile in (None, 96))
        (loss, *_, gradient), (tiled_loss, *_, tiled_gradient) = whole.gradient(x), tiled.gradient(x)
        assert len(tiled.parts) == 6 and torch.isclose(loss, tiled_loss, rtol=1e-4)
        assert torch.allclose(gradient, tiled_gradient, atol=1e-3 * float(gradient.abs().max()))
        mutant = torch.zeros_like(gradient)  # each tile made alike the style for itself: another loss
        for part in tiled.parts:
            alone = Goal(see, content[None][part.where], styles[:1], weights=(0.7, 2.0, 30.0), **PAPER)
            mutant[part.where] = alone.gradient(x[part.where])[-1]
        assert not torch.allclose(gradient, mutant, atol=1e-1 * float(gradient.abs().max()))


def test_the_gradient_is_autograds() -> None:
    content, style = pictures()
    x = resize(read_image("rocket"), content.shape[-2:])[None].requires_grad_()
    goal = Goal(seeing(Toy(), TOY), content[None], [style[None]], weights=(0.7, 2.0, 30.0), **PAPER)
    (right,) = torch.autograd.grad(formula(Toy(), x[0], content, style, (0.7, 2.0, 30.0)), x)
    cosine = torch.cosine_similarity(goal.gradient(x)[-1].flatten(), right.flatten(), dim=0)
    assert cosine > 0.999


def test_a_style_comes_only_where_its_mask_is() -> None:
    content, style = pictures(64, 64)
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1
    made = gatys(seeing(Toy(), TOY), content, style, steps=10, masks=left, smoothness=0.0)
    assert torch.equal(made[..., 32:], content[..., 32:]), "elsewhere the content, to the last bit"
    assert (made - content)[..., :32].abs().mean() > 0.02
    colors = torch.stack([torch.full((3, 64, 64), level) for level in (0.1, 0.9)])
    made = gatys(seeing(Toy(), TOY), content, list(colors), steps=30, content_weight=0.0,
                 masks=torch.cat([left, 1 - left]))  # fmt: skip
    mutant = gatys(seeing(Toy(), TOY), content, list(colors), steps=30, content_weight=0.0)  # both everywhere
    dark_left = [float(picture[..., 36:].mean() - picture[..., :28].mean()) for picture in (made, mutant)]
    assert dark_left[0] > 0.5 and abs(dark_left[1]) < 0.25


def test_the_mix_decides_between_styles() -> None:
    content, _ = pictures(40, 40)
    colors = [torch.full((3, 40, 40), level) for level in (0.1, 0.9)]
    means = [float(gatys(seeing(Toy(), TOY), content, colors, steps=30, content_weight=0.0, mix=mix).mean())
             for mix in ([1.0, 0.0], [1.0, 1.0], [0.0, 1.0])]  # fmt: skip
    assert means[0] < 0.2 < means[1] < 0.8 < means[2]


def test_no_weight_of_the_network_is_touched() -> None:
    content, style = pictures(36, 36)
    model = Toy().requires_grad_(True)
    gatys(seeing(model, TOY), content, style, steps=2)
    assert all(weight.grad is None for weight in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"content": torch.zeros(3, 8, 80)}, "at least 32 x 32"),
        ({"content": torch.full((3, 40, 40), float("nan"))}, "NaN"),
        ({"style": torch.zeros(3, 80, 31)}, "at least 32 x 32"),
        ({"layer_weights": [1.0]}, "layer weights"),
        ({"layer_weights": [0.0, 0.0, 0.0]}, "layer weights"),
        ({"mix": [1.0, 1.0]}, "shares of the styles"),
        ({"style": []}, "a style picture"),
        ({"masks": torch.ones(2, 36, 36)}, "masks of 1 styles"),
        ({"masks": torch.ones(1, 36, 35)}, "masks of 1 styles"),
        ({"masks": torch.full((1, 36, 36), 2.0)}, "in \\[0, 1\\]"),
        ({"masks": torch.zeros(1, 36, 36)}, "has a place"),
        ({"tile": 16}, "64 pixels at least"),
    ],
)
def test_what_cannot_be_is_said(change: dict[str, object], words: str) -> None:
    content, style = pictures(36, 36)
    with pytest.raises(InputError, match=words):
        gatys(**{"see": seeing(Toy(), TOY), "content": content, "style": style, "steps": 1, **change})


def test_a_step_too_large_is_said() -> None:
    content, style = pictures(36, 36)
    with pytest.raises(InputError, match="gd diverged at 36 x 36"):
        gatys(seeing(Toy(), TOY), content, style, steps=30, optimizer="gd", rate=1e4)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_style_of_one_color_is_a_style(level: float) -> None:
    content, _ = pictures(64, 64)
    see = seeing(efficientnet_lite0(weights="imagenet").requires_grad_(False), LITE0)
    made = gatys(see, content, torch.full((3, 40, 40), level), steps=8)
    assert made.isfinite().all() and (made.mean() - level).abs() < (content.mean() - level).abs() + 0.05


def test_an_unknown_layer_lists_the_nearest() -> None:
    with pytest.raises(InputError, match="second"):
        seeing(Toy(), Gaze(content=("secnd",), style=("first",)))(torch.zeros(1, 3, 40, 40))


def test_lite0_looks_where_it_says() -> None:
    content, _ = pictures(64, 64)
    see = seeing(efficientnet_lite0(weights="imagenet").requires_grad_(False), LITE0)
    content_maps, style_maps = see(content[None])
    assert len(content_maps) == len(LITE0.content) and len(style_maps) == len(LITE0.style) + 1
    assert torch.equal(style_maps[-1], content[None]), "the colours themselves come last"
