"""Clipping against torch's, numbers by hand, the direction kept, what isn't finite, and mutants."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vivace.base.errors import InputError
from vivace.optimization import clip_norm, clip_value, normalize_gradient

SHAPES = ((3, 4), (5,), (), (2, 3, 2, 2))


def parameters(seed=0, scale=1.0, dtype=torch.float32):
    """Tensors with gradients, one of them without."""
    generator = torch.Generator().manual_seed(seed)
    made = [torch.zeros(shape, dtype=dtype, requires_grad=True) for shape in SHAPES]
    for each in made:
        each.grad = scale * torch.randn(each.shape, generator=generator, dtype=dtype)
    return [*made, torch.zeros(2, requires_grad=True)]


def flat(given):
    return torch.cat([each.grad.flatten() for each in given if each.grad is not None])


def fits_torch(clip) -> bool:
    """Whether clip(parameters, limit, order=) is clip_grad_norm_: the norm that it returns and what it leaves."""
    for scale in (0.01, 1, 1e6):
        for order in (1.0, 2.0, math.inf):
            for limit in (0.5, 100.0):
                ours, theirs = parameters(scale=scale), parameters(scale=scale)
                norm = clip(ours, limit, order=order)
                expected = nn.utils.clip_grad_norm_(theirs, limit, norm_type=order)
                if not (torch.allclose(norm, expected) and torch.allclose(flat(ours), flat(theirs), rtol=1e-6, atol=0)):
                    return False
    return True


def each_by_itself(given, limit, *, order):
    """Every parameter clipped for itself: the direction of the whole is lost."""
    norms = [clip_norm([each], limit, order=order) for each in given]
    return torch.linalg.vector_norm(torch.stack(norms), order)


def always_scaled(given, limit, *, order):
    """Without the minimum with 1: a short gradient is made longer."""
    norm = normalize_gradient(given, order=order)
    for each in given[:-1]:
        each.grad *= limit
    return norm


def norm_of_what_is_left(given, limit, *, order):
    clip_norm(given, limit, order=order)
    return torch.linalg.vector_norm(flat(given), order)


def entries_clamped(given, limit, *, order):
    return clip_value(given, limit, order=order)


def test_clip_norm_is_torchs():
    assert fits_torch(clip_norm)


@pytest.mark.parametrize("mutant", [each_by_itself, always_scaled, norm_of_what_is_left, entries_clamped])
def test_rejects(mutant):
    assert not fits_torch(mutant)


@pytest.mark.parametrize("scale", [0.01, 1, 1e6])
def test_clip_value_is_torchs(scale):
    ours, theirs = parameters(scale=scale), parameters(scale=scale)
    norm = clip_value(ours, 0.5)
    nn.utils.clip_grad_value_(theirs, 0.5)
    assert torch.equal(flat(ours), flat(theirs))
    assert norm == pytest.approx(torch.linalg.vector_norm(flat(parameters(scale=scale))).item())


def test_three_four_by_hand():
    """(3, 4) has length 5: to length 1 it is (0.6, 0.8); entry by entry within 1 it is (1, 1), another direction."""
    for change, expected in ((lambda p: clip_norm(p, 1), [0.6, 0.8]), (lambda p: clip_value(p, 1), [1, 1]),
                             (normalize_gradient, [0.6, 0.8]), (lambda p: clip_norm(p, 6), [3, 4])):  # fmt: skip
        weight = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        weight.grad = torch.tensor([3.0, 4.0], dtype=torch.float64)
        assert change(weight).item() == 5 and weight.grad.tolist() == pytest.approx(expected, abs=1e-6)


@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e6), limit=st.floats(1e-3, 1e3))
@settings(max_examples=60, deadline=None)
def test_caps_the_norm_and_keeps_the_direction(seed, scale, limit):
    given, before = parameters(seed, scale, torch.float64), flat(parameters(seed, scale, torch.float64))
    norm = clip_norm(given, limit)
    after = flat(given)
    assert after.norm() <= limit * (1 + 1e-9) or torch.equal(after, before)
    assert torch.cosine_similarity(after, before, dim=0) > 1 - 1e-12
    assert norm == pytest.approx(before.norm().item())


def test_unit_norm():
    for scale in (1e-3, 1.0, 1e9):
        given = parameters(scale=scale)
        normalize_gradient(given)
        assert flat(given).norm() == pytest.approx(1, abs=1e-3)
    still = torch.zeros(3, requires_grad=True)
    still.grad = torch.zeros(3)
    assert normalize_gradient([still]) == 0 and still.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize("change", [lambda p, **k: clip_norm(p, 1, **k), lambda p, **k: clip_value(p, 1, **k),
                                    normalize_gradient], ids=["norm", "value", "unit"])  # fmt: skip
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_what_is_not_finite_is_said(change, bad):
    given = parameters()
    given[1].grad[2] = bad
    before = flat(given).clone()
    with pytest.raises(InputError, match=r"norm is (inf|nan) \(gradient 1 of 4 is the first"):
        change(given)
    assert torch.equal(flat(given).nan_to_num(), before.nan_to_num()), "left as it was"
    assert not change(given, nonfinite="zero").isfinite() and not flat(given).any()
    given[1].grad[2] = bad
    assert not change(given, nonfinite="keep").isfinite()
    assert flat(given).isnan().any() or flat(given).max() == 1, "clamped, an infinity is a number again"


def test_bad_input():
    assert clip_norm([], 1) == 0 and clip_value(torch.zeros(2, requires_grad=True), 1) == 0
    given = parameters(scale=1e30)
    with pytest.raises(InputError, match="overflows"):
        clip_norm(given, 1)
    for limit in (0, -1, math.nan):
        with pytest.raises(InputError, match="must be above 0"):
            clip_norm(given, limit)
