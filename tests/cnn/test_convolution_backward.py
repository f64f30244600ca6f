"""A convolution's backward pass against autograd, im2col and numbers by hand; mutants fail the same check."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.cnn import Conv2dByHand, bias_gradient, convolution_backward, input_gradient, max_pool2d, weight_gradient

Setting = dict[str, int | tuple[int, int]]


def drawn(seed: int) -> tuple[Tensor, Tensor, Tensor, Setting]:
    """Random images, weight, gradient of the output and settings."""
    generator = torch.Generator().manual_seed(seed)

    def one(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    groups, (kh, kw) = one(1, 3), (one(1, 4), one(1, 4))
    s, p, d = ((one(1, 3), one(1, 3)), (one(0, 4), one(0, 4)), (one(1, 3), one(1, 3)))
    h, w = one(0, 8) + d[0] * (kh - 1) + 1, one(0, 8) + d[1] * (kw - 1) + 1
    images = torch.randn(one(1, 3), groups * one(1, 3), h, w, generator=generator, dtype=torch.float64)
    weight = torch.randn(
        groups * one(1, 3), images.shape[1] // groups, kh, kw, generator=generator, dtype=torch.float64
    )
    setting: Setting = {"stride": s, "padding": p, "dilation": d, "groups": groups}
    shape = F.conv2d(images, weight, None, **setting).shape
    return images, weight, torch.randn(shape, generator=generator, dtype=torch.float64), setting


def by_autograd(images: Tensor, weight: Tensor, gradient: Tensor, setting: Setting) -> tuple[Tensor, ...]:
    bias = torch.zeros(len(weight), dtype=torch.float64)
    given = [tensor.clone().requires_grad_() for tensor in (images, weight, bias)]
    return torch.autograd.grad(F.conv2d(*given, **setting), given, gradient)


def is_backward(backward: Callable[..., tuple[Tensor, ...]], count: int = 300) -> bool:
    for seed in range(count):
        images, weight, gradient, setting = drawn(seed)
        found = backward(gradient, images, weight, **setting)
        for ours, theirs in zip(found, by_autograd(images, weight, gradient, setting), strict=True):
            if ours.shape != theirs.shape or (ours - theirs).abs().max() > 1e-12 * max(1, theirs.abs().max()):
                return False
    return True


def test_is_autograds_in_300_random_settings() -> None:
    assert is_backward(convolution_backward)


def mutant(dx: Callable[..., Tensor] = input_gradient, dw: Callable[..., Tensor] = weight_gradient,
           db: Callable[..., Tensor] = bias_gradient) -> Callable[..., tuple[Tensor, ...]]:  # fmt: skip
    return lambda g, x, w, **more: (dx(g, w, x.shape[2:], **more), dw(g, x, w.shape[2:], **more), db(g))


def blind_to(name: str, value: int, of: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(*args: Tensor, **setting: int) -> Tensor:
        try:
            return of(*args, **{**setting, name: value})
        except RuntimeError:  # the shapes no longer fit
            return torch.zeros(0)

    return call


MUTANTS = {
    "kernel not turned": mutant(dx=lambda g, w, *a, **m: input_gradient(g, w.flip(2, 3), *a, **m)),
    "kernel turned about one axis": mutant(dx=lambda g, w, *a, **m: input_gradient(g, w.flip(3), *a, **m)),
    "weight gradient turned": mutant(dw=lambda *a, **m: weight_gradient(*a, **m).flip(2, 3)),
    "gradient turned": mutant(dw=lambda g, *a, **m: weight_gradient(g.flip(2, 3), *a, **m)),
    "mean over the batch": mutant(dw=lambda g, *a, **m: weight_gradient(g / len(g), *a, **m)),
    "bias averaged": mutant(db=lambda g: g.mean((0, 2, 3))),
    "bias without the batch": mutant(db=lambda g: g[0].sum((1, 2))),
    "stride forgotten": mutant(dw=blind_to("stride", 1, weight_gradient)),
    "dilation forgotten": mutant(dx=blind_to("dilation", 1, input_gradient)),
    "padding forgotten": mutant(dx=blind_to("padding", 0, input_gradient)),
    "one group": mutant(dx=blind_to("groups", 1, input_gradient)),
}


@pytest.mark.parametrize("wrong", MUTANTS.values(), ids=MUTANTS)
def test_rejects_the_mutant(wrong: Callable[..., tuple[Tensor, ...]]) -> None:
    assert not is_backward(wrong, 60)


@pytest.mark.parametrize("seed", range(20))
def test_is_im2col_backwards(seed: int) -> None:
    """Columns of windows, a matrix product each way, and columns laid back on each other."""
    images, weight, gradient, setting = drawn(seed)
    groups = setting.pop("groups")
    assert isinstance(groups, int)
    columns = F.unfold(images, weight.shape[2:], **setting).unflatten(1, (groups, -1))  # (B, G, C/G*kh*kw, L)
    g, W = gradient.flatten(2).unflatten(1, (groups, -1)), weight.flatten(1).unflatten(0, (groups, -1))
    dW = (g @ columns.mT).sum(0).flatten(0, 1).view_as(weight)
    dX = F.fold((W.mT @ g).flatten(1, 2), images.shape[2:], weight.shape[2:], **setting)
    ours = convolution_backward(gradient, images, weight, groups=groups, **setting)
    assert torch.allclose(ours[0], dX) and torch.allclose(ours[1], dW)


def test_by_hand() -> None:
    """x = 1 2 3, w = a b = 10 20, y = (50, 80); g = (1, 100): dx_1 = 1*20 + 100*10, dw = (1*1 + 100*2, 1*2 + 100*3)."""
    x, w, g = (torch.tensor(row, dtype=torch.float64).view(1, 1, 1, -1) for row in ([1, 2, 3], [10, 20], [1, 100]))
    dx, dw, db = convolution_backward(g, x, w)
    assert dx.flatten().tolist() == [10, 1020, 2000] and dw.flatten().tolist() == [201, 302] and db.tolist() == [101]


def small(conv: type[nn.Conv2d]) -> nn.Sequential:
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    net = nn.Sequential(conv(1, 4, 3, padding=1), nn.ReLU(), conv(4, 6, 3, stride=2, padding=1, groups=2, bias=False),
                        nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 3)).double()  # fmt: skip
    torch.random.set_rng_state(torch_state)
    return net


def test_a_network_trains_as_with_torchs_own() -> None:
    images = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.arange(12) % 3
    ours, theirs = small(Conv2dByHand), small(nn.Conv2d)
    for net in (ours, theirs):
        steps = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for _ in range(10):
            steps.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            steps.step()
    for name, weight in ours.state_dict().items():
        assert torch.allclose(weight, theirs.state_dict()[name], rtol=0, atol=1e-12), name
    assert copy.deepcopy(ours)(images).shape == (12, 3)


def test_second_derivatives() -> None:
    layer = Conv2dByHand(2, 2, 3, padding=1, stride=2).double()
    given = torch.randn(1, 2, 7, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(layer, given) and torch.autograd.gradgradcheck(layer, given)
    assert torch.autograd.gradgradcheck(lambda x: max_pool2d(layer(x).square(), 2), given)


def test_bad_input() -> None:
    images, weight = torch.zeros(1, 2, 5, 5), torch.zeros(3, 2, 3, 3)
    with pytest.raises(InputError, match=r"output \(1, 3, 3, 3\)"):
        convolution_backward(torch.zeros(1, 3, 4, 4), images, weight)
    with pytest.raises(InputError, match="groups"):
        convolution_backward(torch.zeros(1, 3, 3, 3), images, weight, groups=2)
    for options in ({"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}):
        with pytest.raises(InputError, match="zeros"):
            Conv2dByHand(1, 1, 3, **options)
