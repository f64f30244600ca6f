"""Positional encoding against the formulas number by number, complex rotation, a Gaussian kernel and torch's lookup."""

import cmath
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vivace.base.errors import InputError
from vivace.networks import (
    LearnedPositions,
    fourier_features,
    gaussian_features,
    positional_encoding,
    random_frequencies,
    rotary,
    shift_matrix,
)

Code = Callable[[Tensor, int], Tensor]
POSITIONS = torch.arange(40, dtype=torch.float64)


def angles_of(positions: Tensor, d: int, exponents: Tensor) -> Tensor:
    return positions[..., None] / 10_000 ** (exponents / d)


def interleaved(angles: Tensor) -> Tensor:
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


def is_the_transformers_code(code: Code) -> bool:
    """Each number by the paper's formula, and the first of them by hand."""
    d = 6
    found = code(POSITIONS, d)
    formula = [[(math.sin if j % 2 == 0 else math.cos)(p / 10_000 ** (2 * (j // 2) / d)) for j in range(d)]
               for p in range(40)]  # fmt: skip
    hand = torch.tensor([0.8415, 0.5403, 0.0464, 0.9989], dtype=torch.float64)  # sin 1, cos 1; 10000^(1/3) = 21.544
    return torch.allclose(found, torch.tensor(formula).double()) and torch.allclose(found[1, :4], hand, atol=1e-4)


def test_is_the_transformers_code() -> None:
    assert is_the_transformers_code(positional_encoding)
    many = positional_encoding(POSITIONS.view(4, 10), 8)
    assert many.shape == (4, 10, 8) and torch.equal(many.view(40, 8), positional_encoding(POSITIONS, 8))
    assert positional_encoding(POSITIONS.float(), 8).dtype == torch.float32


MUTANTS: dict[str, Code] = {
    "exponent lost": lambda p, d: interleaved(p[..., None] / (10_000 * torch.arange(0, d, 2).clamp(min=1) / d)),
    "i/d for 2i/d": lambda p, d: interleaved(angles_of(p, d, torch.arange(d // 2))),
    "each place its own wavelength": lambda p, d: torch.where(
        torch.arange(d) % 2 == 0, angles_of(p, d, torch.arange(d)).sin(), angles_of(p, d, torch.arange(d)).cos()
    ),
    "halves, not pairs": lambda p, d: torch.cat([f(angles_of(p, d, torch.arange(0, d, 2))) for f in (torch.sin,
                                                                                                    torch.cos)], -1),
    "cosine first": lambda p, d: positional_encoding(p, d).unflatten(-1, (-1, 2)).flip(-1).flatten(-2),
    "counted from one": lambda p, d: positional_encoding(p + 1, d),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_rejects_the_mutant(mutant: Code) -> None:
    assert not is_the_transformers_code(mutant)


@settings(max_examples=30, deadline=None)
@given(st.floats(-500, 500), st.floats(-500, 500), st.sampled_from([2, 8, 64]))
def test_a_shift_is_a_rotation(p: float, k: float, d: int) -> None:
    here, there = positional_encoding(torch.tensor([p, p + k], dtype=torch.float64), d)
    R = shift_matrix(k, d)
    torch.testing.assert_close(R @ here, there)
    torch.testing.assert_close(R @ R.T, torch.eye(d, dtype=torch.float64))
    if abs(math.sin(k)) > 1e-3:
        assert not torch.allclose(R.T @ here, there)  # the mutant that turns the other way


def turns_by_position(turn: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Multiplication of complex pairs by e^{i omega p}, one by one."""
    x = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = torch.tensor([0.0, 1.0, 7.0], dtype=torch.float64)
    expected = x.clone()
    for b in range(2):
        for n in range(3):
            for i in range(3):
                z = complex(x[b, n, 2 * i], x[b, n, 2 * i + 1])
                z *= cmath.exp(1j * float(p[n]) / 10_000 ** (2 * i / 6))
                expected[b, n, 2 * i], expected[b, n, 2 * i + 1] = z.real, z.imag
    return torch.allclose(turn(x, p), expected)


def test_rotary_is_complex_rotation_and_sees_offsets_only() -> None:
    assert turns_by_position(rotary)
    q, k = torch.randn(2, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def product(m: float, n: float) -> Tensor:
        at = torch.tensor([m, n], dtype=torch.float64)
        turned = rotary(torch.stack([q, k]), at)
        return turned[0] @ turned[1]

    torch.testing.assert_close(product(3, 8), product(1003, 1008))
    assert not torch.isclose(product(3, 8), product(3, 9))


@pytest.mark.parametrize("mutant", [lambda x, p: rotary(x, -p), lambda x, p: rotary(x.flip(-1), p).flip(-1),
                                    lambda x, p: x + positional_encoding(p, 6)])  # fmt: skip
def test_rejects_rotary(mutant: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert not turns_by_position(mutant)


def is_nerfs_code(code: Callable[[Tensor, int], Tensor]) -> bool:
    x = torch.tensor([[0.5, -0.25], [0.1, 0.9]], dtype=torch.float64)
    found = code(x, 3)
    for row, numbers in zip(x.tolist(), found.tolist(), strict=True):
        expected = [f(2**k * math.pi * v) for v in row for k in range(3) for f in (math.sin, math.cos)]
        if numbers != pytest.approx(expected, abs=1e-12):
            return False
    return True


def test_nerfs_code() -> None:
    assert is_nerfs_code(fourier_features)
    place, direction = fourier_features(torch.rand(5, 3), 10), fourier_features(torch.rand(5, 3), 4)
    assert place.shape == (5, 60) and direction.shape == (5, 24)


NERF_MUTANTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "an octave too high": lambda x, L: fourier_features(2 * x, L),
    "pi forgotten": lambda x, L: fourier_features(x / math.pi, L),
    "k, not 2^k": lambda x, L: torch.cat([fourier_features(x * k, 1) for k in range(1, L + 1)], -1),
    "coordinates first": lambda x, L: fourier_features(x, L).unflatten(-1, (2, -1)).mT.flatten(-2),
}  # fmt: skip


@pytest.mark.parametrize("mutant", NERF_MUTANTS.values(), ids=NERF_MUTANTS)
def test_rejects_nerfs(mutant: Callable[[Tensor, int], Tensor]) -> None:
    assert not is_nerfs_code(mutant)


def is_gaussian_kernel(features: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Inner products over m tend to exp(-2 pi^2 sigma^2 |x - y|^2), which the frequencies' density transforms to."""
    B = random_frequencies(200_000, 2, sigma=0.5, generator=torch.Generator().manual_seed(0)).double()
    x = torch.tensor([[0.1, 0.3], [0.4, -0.1], [0.0, 1.0]], dtype=torch.float64)
    kernel = features(x, B) @ features(x, B).T / len(B)
    return torch.allclose(kernel, torch.exp(-2 * math.pi**2 * 0.25 * torch.cdist(x, x).square()), atol=0.01)


def test_gaussian_features_make_a_gaussian_kernel() -> None:
    assert is_gaussian_kernel(gaussian_features)
    for mutant in (lambda x, B: gaussian_features(x / (2 * math.pi), B), lambda x, B: gaussian_features(x, B.abs())):
        assert not is_gaussian_kernel(mutant)


def test_learned_positions_end_where_they_end() -> None:
    codes = LearnedPositions(5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(codes(torch.tensor([4.0, 0.0])), codes.codes[[4, 0]])
    with pytest.raises(InputError, match="positions 0 to 4; asked for 2 to 5"):
        codes(torch.tensor([2.0, 5.0]))


@pytest.mark.parametrize("d", [7, 0])
def test_bad_input(d: int) -> None:
    with pytest.raises(InputError, match=f"even and at least 2; got {d}"):
        positional_encoding(POSITIONS, d)
