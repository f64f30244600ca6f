"""The network against a plain Sequential of torch's layers, its loss against Gatys'; mutants fail the same checks."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.cnn import efficientnet_lite0
from vivace.style import LITE0, FeedForward, PerceptualLoss, color_transfer, one_pass, seeing, slimmed
from vivace.style._goal import Goal, StyleTarget
from vivace.style.feed_forward import ResidualBlock


def net(**options: object) -> FeedForward:
    torch.manual_seed(0)
    made = FeedForward(**{"width": 4, "blocks": 2, **options})  # type: ignore[arg-type]
    for module in made.modules():
        if isinstance(module, nn.InstanceNorm2d):
            nn.init.uniform_(module.weight, 0.2, 2.0)
            nn.init.uniform_(module.bias, -1.0, 1.0)
    return made.eval().requires_grad_(False)


def photo(height: int = 40, width: int = 48, name: str = "coffee") -> Tensor:
    return resize(read_image(name), (height, width))


def by_hand(given: FeedForward, x: Tensor, *, upsampling: str = "nearest", padding: str = "reflect", relu: bool = False,
            order: str = "per picture", skip: float = 4.0, gain: float = 0.1) -> Tensor:  # fmt: skip
    """The paper's table, written out: every convolution in full, in the order of the weights."""
    convs = iter([m for m in given.modules() if isinstance(m, nn.Conv2d)])
    norms = iter([m for m in given.modules() if isinstance(m, nn.InstanceNorm2d)])

    def conv(x: Tensor, stride: int = 1) -> Tensor:
        weight, bias = (layer := next(convs)).weight, layer.bias
        return F.conv2d(F.pad(x, (weight.shape[-1] // 2,) * 4, mode=padding), weight, bias, stride)

    def norm(x: Tensor) -> Tensor:
        layer, axes = next(norms), (2, 3) if order == "per picture" else (0, 2, 3)
        mean, variance = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
        scale, shift = layer.weight[:, None, None], layer.bias[:, None, None]
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    grey = x.mean(1, keepdim=True)
    blurred = torch.stack([grey[..., i::4, j::4] for i in range(4) for j in range(4)]).mean(0)
    grey = F.interpolate(blurred, scale_factor=4, mode="bilinear")
    x = 2 * x - 1
    for stride in (1, 2, 2):
        x = norm(conv(x, stride)).relu()
    for _ in range(given.blocks):
        x = x + norm(conv(norm(conv(x)).relu()))
        x = x.relu() if relu else x
    for _ in range(2):
        x = norm(conv(F.interpolate(x, scale_factor=2.0, mode=upsampling))).relu()
    return 1 / (1 + torch.exp(-gain * conv(x) - skip * (grey - 0.5)))


def test_the_network_is_the_papers() -> None:
    made, pictures = net(), torch.stack([photo(), photo(name="chelsea")])
    found = made(pictures)
    assert torch.allclose(found, by_hand(made, pictures), atol=1e-5)
    mutants = {
        "bilinear enlarging": by_hand(made, pictures, upsampling="bilinear"),
        "padding with zeros": by_hand(made, pictures, padding="constant"),
        "ReLU after the sum": by_hand(made, pictures, relu=True),
        "statistics of the batch": by_hand(made, pictures, order="batch"),
        "no grey picture added": by_hand(made, pictures, skip=0.0),
        "no gain": by_hand(made, pictures, gain=1.0),
    }
    for name, mutant in mutants.items():
        assert not torch.allclose(found, mutant, atol=1e-3), name


def test_the_papers_net_has_the_papers_size() -> None:
    """Johnson et al.: 9x9x32, down to 64 and 128, five blocks, up again; counted with biases and scales."""
    convolutions = [(3, 32, 9), (32, 64, 3), (64, 128, 3), *10 * [(128, 128, 3)], (128, 64, 3), (64, 32, 3), (32, 3, 9)]
    scales = 2 * (32 + 64 + 128 + 10 * 128 + 64 + 32)
    wanted = sum(i * o * k * k + o for i, o, k in convolutions) + scales
    assert sum(p.numel() for p in FeedForward(width=32).parameters()) == wanted


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (41, 23)])
def test_any_size_comes_back_as_it_was(size: tuple[int, int]) -> None:
    made = one_pass(net(), photo(*size))
    assert made.shape == (3, *size) and 0 <= made.min() and made.max() <= 1
    assert torch.equal(one_pass(net(), photo(*size)[None])[0], made)


def test_contrast_and_brightness_are_taken_off_first() -> None:
    """Instance normalisation: what is darker and flatter comes out the same, but for the grey picture added."""
    picture = photo()
    for normalization, same in (("instance", True), ("batch", False), ("none", False)):
        made = net(normalization=normalization, skip=0.0)
        bright, dark = made(picture[None]), made(0.2 + 0.3 * picture[None])
        off = float((bright - dark).norm() / (bright - bright.mean((2, 3), keepdim=True)).norm())
        assert (off < 0.05) == same, (normalization, off)


def loss_network() -> nn.Module:
    return efficientnet_lite0(weights="imagenet").requires_grad_(False)


def test_the_loss_is_that_of_gatys() -> None:
    see, style = seeing(loss_network(), LITE0), photo(64, 64, "chelsea")
    contents, made = [photo(48, 64), photo(48, 64, "rocket")], [photo(48, 64, "china"), photo(48, 64, "flower")]
    with torch.no_grad():
        maps = see(style[None])[1]
    plain, whitened, centred = (
        [StyleTarget(f, center=center, whiten=whiten) for f in maps]
        for center, whiten in ((False, 0.0), (False, 0.5), (True, 0.0))
    )
    right = {
        "targets": plain,
        "show": partial(color_transfer, palette=style),
        "content_weight": 3.0,
        "smoothness": 20.0,
    }
    found = PerceptualLoss(see, **right)(torch.stack(made), torch.stack(contents))  # type: ignore[arg-type]
    rows = []
    for x, content in zip(made, contents, strict=True):
        goal = Goal(
            see, color_transfer(content, style)[None], [style[None]], weights=(3.0, 1.0, 20.0), center=False, whiten=0
        )
        rows.append(torch.stack(goal(x[None])))
    wanted = torch.stack(rows).mean(0)
    assert torch.allclose(torch.stack(found), wanted, rtol=1e-3)
    mutants: dict[str, dict[str, object]] = {
        "content in its own colours": {"show": None},
        "weights exchanged": {"content_weight": 1.0, "style_weight": 3.0},
        "whitened Grams": {"targets": whitened},
        "centred Grams": {"targets": centred},
        "no total variation": {"smoothness": 0.0},
    }
    for name, mutant in mutants.items():
        other = PerceptualLoss(see, **{**right, **mutant})(torch.stack(made), torch.stack(contents))  # type: ignore[arg-type]
        assert not torch.isclose(other[0], wanted[0], rtol=1e-2), name


def test_it_learns() -> None:
    """A few steps on one crop: the loss falls, and the loss network is left alone."""
    model, picture = loss_network(), photo(48, 48)[None]
    see = seeing(model, LITE0)
    targets = [StyleTarget(f, center=True, whiten=0.5) for f in see(photo(64, 64, "chelsea")[None])[1]]
    loss = PerceptualLoss(see, targets)
    made = net().requires_grad_(True)
    steps = torch.optim.Adam(made.parameters(), lr=1e-2)
    values = []
    for _ in range(8):
        value = loss(made(picture), picture)[0]
        steps.zero_grad()
        value.backward()
        steps.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.5 * values[0]
    assert all(weight.grad is None for weight in model.parameters())


def test_channels_that_nobody_reads_go_first_and_are_not_missed() -> None:
    made, picture = net(), photo()
    inner = made.layers[3]
    assert isinstance(inner, ResidualBlock)
    for block in (b for b in made.layers if isinstance(b, ResidualBlock)):
        block.body[3].weight[:, ::2] = 0  # the second convolution doesn't read half of the channels
    slim = slimmed(made, 0.5)
    assert torch.allclose(one_pass(slim, picture), one_pass(made, picture), atol=1e-5)
    assert sum(p.numel() for p in slim.parameters()) < sum(p.numel() for p in made.parameters())
    mutant = slimmed(made, 0.6)  # one more than can be spared
    assert not torch.allclose(one_pass(mutant, picture), one_pass(made, picture), atol=1e-5)
    batch = net(normalization="batch")
    assert one_pass(slimmed(batch, 0.5), picture).isfinite().all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: one_pass(net(), torch.zeros(3, 15, 80)), "at least 16 x 16"),
        (lambda: FeedForward(width=0), "width of 1"),
        (lambda: slimmed(net(), 1.0), "less than 1"),
        (lambda: slimmed(net(normalization="none"), 0.5), "has none"),
    ],
)
def test_what_cannot_be_is_said(make: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()  # type: ignore[operator]
