"""Pooling against torch's, numbers by hand and a naive loop; mutants fail the same check."""

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vivace.base.errors import InputError
from vivace.cnn import (
    BlurPool2d,
    adaptive_average_pool2d,
    adaptive_bins,
    adaptive_max_pool2d,
    average_pool2d,
    average_pool2d_backward,
    blur_pool2d,
    global_average_pool,
    max_pool2d,
    max_pool2d_backward,
    max_pool2d_recorded,
    spatial_pyramid_pool,
)

BY_HAND = torch.tensor([[[[2.0, 8, 1, 3], [6, 5, 4, 2], [3, 1, 4, 2], [7, 4, 3, 5]]]])

Pool = Callable[..., Tensor]


def random_maps(seed: int, *shape: int, ties: bool = False) -> Tensor:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * maps).round().relu() if ties else maps


def both(pool: Callable[[Tensor], Tensor], maps: Tensor) -> tuple[Tensor, Tensor]:
    """What comes out, and the gradient of a weighted sum of it."""
    given = maps.clone().requires_grad_()
    pooled = pool(given)
    (gradient,) = torch.autograd.grad((pooled * random_maps(99, *pooled.shape)).sum(), given)
    return pooled.detach(), gradient


def same(ours: Callable[[Tensor], Tensor], peer: Callable[[Tensor], Tensor], maps: Tensor) -> bool:
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=1e-12)
               for a, b in zip(both(ours, maps), both(peer, maps), strict=True))  # fmt: skip


# (shape, kernel, stride, padding): overlapping, gaps, odd sizes, oblong, padded, one window, window of one
SETTINGS = [
    ((2, 3, 8, 8), 2, None, 0), ((1, 2, 7, 9), 3, 2, 1), ((2, 1, 5, 6), (2, 3), (1, 2), (1, 0)),
    ((1, 1, 11, 5), 2, 3, 0), ((1, 2, 4, 4), 4, 1, 2), ((3, 1, 1, 1), 1, 1, 0), ((1, 1, 9, 9), 5, 1, 2),
    ((1, 2, 6, 6), (3, 1), 1, (1, 0)), ((1, 1, 20, 18), 17, 1, 8),
]  # fmt: skip


def is_max_pooling(pool: Pool) -> bool:
    return torch.equal(pool(BY_HAND, 2), torch.tensor([[[[8.0, 4], [7, 5]]]])) and all(
        same(
            lambda x, k=k, s=s, p=p: pool(x, k, s, padding=p),
            lambda x, k=k, s=s, p=p: F.max_pool2d(x, k, s, p),
            random_maps(1, *shape, ties=ties),
        )
        for (shape, k, s, p), ties in product(SETTINGS, (False, True))
    )


def is_average_pooling(pool: Pool) -> bool:
    return torch.equal(pool(BY_HAND, 2), torch.tensor([[[[5.25, 2.5], [3.75, 3.5]]]])) and all(
        same(
            lambda x, k=k, s=s, p=p, c=counted: pool(x, k, s, padding=p, count_padding=c),
            lambda x, k=k, s=s, p=p, c=counted: F.avg_pool2d(x, k, s, p, count_include_pad=c),
            random_maps(2, *shape),
        )
        for (shape, k, s, p), counted in product(SETTINGS, (True, False))
    )


def test_poolings_are_torchs() -> None:
    assert is_max_pooling(max_pool2d) and is_average_pooling(average_pool2d)


def to_the_last(x: Tensor, k: int, s: int | None = None, *, padding: int = 0) -> Tensor:
    """Max pooling that, of equals, takes the last."""
    return max_pool2d(x.flip(2, 3), k, s, padding=padding).flip(2, 3)


def shared(x: Tensor, k: int, s: int | None = None, *, padding: int = 0) -> Tensor:
    """Max pooling that divides the gradient between equals."""
    (kh, kw), (sh, sw), (ph, pw) = ((v, v) if isinstance(v, int) else v for v in (k, s or k, padding))
    return F.pad(x, (pw, pw, ph, ph), value=-math.inf).unfold(2, kh, sh).unfold(3, kw, sw).amax((-2, -1))


MAX_MUTANTS: dict[str, Pool] = {
    "the mean": average_pool2d,
    "the smallest": lambda x, k, s=None, *, padding=0: -max_pool2d(-x, k, s, padding=padding),
    "padded with zeros": lambda x, k, s=None, *, padding=0: max_pool2d(
        F.pad(x, [p for p in reversed((padding, padding) if isinstance(padding, int) else padding) for _ in "ab"]), k, s
    ),
    "the last of equals": to_the_last,
    "shared between equals": shared,
    "steps of one": lambda x, k, s=None, *, padding=0: max_pool2d(x, k, 1, padding=padding),
}

AVERAGE_MUTANTS: dict[str, Pool] = {
    "the largest": lambda x, k, s=None, *, padding=0, count_padding=True: max_pool2d(x, k, s, padding=padding),
    "zeros always count": lambda x, k, s=None, *, padding=0, count_padding=True: average_pool2d(
        x, k, s, padding=padding
    ),
    "the sum": lambda x, k, s=None, *, padding=0, count_padding=True: (
        4 * average_pool2d(x, k, s, padding=padding, count_padding=count_padding)
    ),
    "no gradient": lambda x, k, s=None, *, padding=0, count_padding=True: (
        average_pool2d(x.detach(), k, s, padding=padding, count_padding=count_padding) + 0 * x.sum()
    ),
}


@pytest.mark.parametrize("mutant", MAX_MUTANTS.values(), ids=MAX_MUTANTS)
def test_rejects_a_max_pooling_mutant(mutant: Pool) -> None:
    assert not is_max_pooling(mutant)


@pytest.mark.parametrize("mutant", AVERAGE_MUTANTS.values(), ids=AVERAGE_MUTANTS)
def test_rejects_an_average_pooling_mutant(mutant: Pool) -> None:
    assert not is_average_pooling(mutant)


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    share=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
    ties=st.booleans(),
    seed=st.integers(0, 999),
)
def test_any_setting_is_torchs(size, kernel, stride, share, ties, seed) -> None:
    padding = tuple(int(k * part) for k, part in zip(kernel, share, strict=True))
    maps = random_maps(seed, 2, 2, *size, ties=ties)
    if any(n + 2 * p < k for n, p, k in zip(size, padding, kernel, strict=True)):
        with pytest.raises(InputError, match="does not fit"):
            max_pool2d(maps, kernel, stride, padding=padding)
        return
    values, argmax = max_pool2d_recorded(maps, kernel, stride, padding=padding)
    theirs, places = F.max_pool2d(maps, kernel, stride, padding, return_indices=True)
    assert torch.equal(values, theirs) and torch.equal(argmax, places)
    assert same(lambda x: max_pool2d(x, kernel, stride, padding=padding),
                lambda x: F.max_pool2d(x, kernel, stride, padding), maps)  # fmt: skip
    assert same(lambda x: average_pool2d(x, kernel, stride, padding=padding, count_padding=False),
                lambda x: F.avg_pool2d(x, kernel, stride, padding, count_include_pad=False), maps)  # fmt: skip


def test_backward_by_hand() -> None:
    """Windows that overlap in the middle column: its gradient is the sum of both; means share 1/2 each."""
    maps = torch.tensor([[[[1.0, 3.0, 2.0]]]])
    g = torch.tensor([[[[10.0, 100.0]]]])
    values, argmax = max_pool2d_recorded(maps, (1, 2), (1, 1))
    assert values.tolist() == [[[[3, 3]]]] and argmax.tolist() == [[[[1, 1]]]]
    assert max_pool2d_backward(g, argmax, (1, 3)).tolist() == [[[[0, 110, 0]]]]
    assert average_pool2d_backward(g, (1, 3), (1, 2), stride=1).tolist() == [[[[5, 55, 50]]]]


def test_infinities_and_nan() -> None:
    maps = torch.full((1, 1, 3, 3), -math.inf).requires_grad_()
    max_pool2d(maps, 2, 2, padding=1).sum().backward()
    assert maps.grad is not None and maps.grad.sum() == 4
    holes = torch.tensor([[[[1.0, math.nan], [2.0, 0.0]]]])
    assert max_pool2d(holes, 2).isnan().all() and average_pool2d(holes, 2).isnan().all()


def test_second_derivatives() -> None:
    maps = random_maps(3, 1, 2, 5, 5).requires_grad_()
    for pool in (lambda x: max_pool2d(x, 3, 2, padding=1), lambda x: average_pool2d(x, 3, 2, padding=1),
                 lambda x: adaptive_max_pool2d(x, 3), lambda x: blur_pool2d(x)):  # fmt: skip
        assert torch.autograd.gradcheck(pool, maps) and torch.autograd.gradgradcheck(pool, maps)


@pytest.mark.parametrize("size", [1, 3, (2, 5), (7, 7), (9, 4)])
@pytest.mark.parametrize("shape", [(2, 3, 7, 7), (1, 2, 13, 10), (1, 1, 3, 5)])
def test_adaptive_is_torchs(shape: tuple[int, ...], size: int | tuple[int, int]) -> None:
    for ties in (False, True):
        maps = random_maps(4, *shape, ties=ties)
        assert same(lambda x: adaptive_max_pool2d(x, size), lambda x: F.adaptive_max_pool2d(x, size), maps)
        assert same(lambda x: adaptive_average_pool2d(x, size), lambda x: F.adaptive_avg_pool2d(x, size), maps)
    mutant = [slice(i * 10 // 4, (i + 1) * 10 // 4) for i in range(4)]  # cells that don't overlap
    assert adaptive_bins(10, 4) == [slice(0, 3), slice(2, 5), slice(5, 8), slice(7, 10)] != mutant


def test_global_and_pyramid() -> None:
    maps = random_maps(5, 2, 3, 9, 6)
    assert torch.allclose(global_average_pool(maps), maps.sum((2, 3)) / 54)
    pyramid = spatial_pyramid_pool(maps)
    assert pyramid.shape == (2, 3 * 21) and torch.equal(pyramid[:, :3], maps.amax((2, 3)))
    assert torch.equal(pyramid[:, 3:15], F.adaptive_max_pool2d(maps, 2).flatten(1))
    assert pyramid.shape == spatial_pyramid_pool(random_maps(6, 2, 3, 31, 4)).shape


def test_blur_is_a_binomial_filter() -> None:
    """SciPy's convolution with the mirrored edge, every second value."""
    from scipy.ndimage import convolve

    maps = random_maps(7, 1, 2, 9, 12)
    for size, row in ((3, [1, 2, 1]), (5, [1, 4, 6, 4, 1])):
        weights = torch.tensor(row, dtype=torch.float64)
        kernel = weights[:, None] * weights / weights.sum() ** 2
        theirs = torch.stack([torch.from_numpy(convolve(m.numpy(), kernel.numpy(), mode="mirror")) for m in maps[0]])
        assert torch.allclose(blur_pool2d(maps, size)[0], theirs[:, ::2, ::2])
        mutant = torch.stack([torch.from_numpy(convolve(m.numpy(), kernel.numpy(), mode="nearest")) for m in maps[0]])
        assert not torch.allclose(blur_pool2d(maps, size)[0], mutant[:, ::2, ::2])
    assert torch.equal(blur_pool2d(maps, 1), maps[..., ::2, ::2])
    assert torch.allclose(blur_pool2d(torch.full((1, 1, 8, 8), 3.0)), torch.tensor(3.0))
    assert torch.equal(BlurPool2d(5, stride=3)(maps), blur_pool2d(maps, 5, stride=3))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: max_pool2d(x, 0), "at least 1"),
        (lambda x: average_pool2d(x, 2, 0), "at least 1"),
        (lambda x: max_pool2d(x, 2, padding=2), "more than half"),
        (lambda x: max_pool2d(x, 9), "does not fit"),
        (lambda x: adaptive_max_pool2d(x, 0), "cannot be pooled"),
        (lambda x: spatial_pyramid_pool(x, ()), "at least one level"),
        (lambda x: blur_pool2d(x, 9), "larger than"),
        (lambda x: blur_pool2d(x, 0), "at least 1"),
    ],
)
def test_bad_input(call: Callable[[Tensor], Tensor], words: str) -> None:
    with pytest.raises(InputError, match=words):
        call(random_maps(8, 1, 1, 4, 4))
