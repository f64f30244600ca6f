"""Activations: torch's functions, autograd's slopes, numbers by hand; mutants fail the same checks."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vivace.networks import ACTIVATIONS, softmax, softmax_jacobian
from vivace.networks.activations import (
    elu,
    elu_slope,
    gelu,
    leaky_relu,
    leaky_relu_slope,
    relu_slope,
    sigmoid,
    sigmoid_slope,
    silu_slope,
    tanh,
    tanh_slope,
)

GRID = torch.cat([torch.linspace(-50, 50, 20_001), torch.tensor([0.0, 1000.0, -1000.0, 1e-9, -1e-9])]).double()
EXACT = {"rtol": 1e-12, "atol": 1e-12}
TORCHS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda z: z,
    "step": lambda z: torch.heaviside(z, torch.ones_like(z)),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "softplus": lambda z: F.softplus(z, threshold=700),  # torch's own takes z itself from 20 on
    "silu": F.silu,
    "gelu": F.gelu,
}


def is_torchs(name: str, f: Callable[[Tensor], Tensor]) -> bool:
    return torch.allclose(f(GRID), TORCHS[name](GRID), **EXACT)


def is_the_slope(name: str, slope: Callable[[Tensor], Tensor]) -> bool:
    if name == "step":
        return bool((slope(GRID) == 0).all())
    z = GRID.clone().requires_grad_()
    (found,) = torch.autograd.grad(TORCHS[name](z).sum(), z)
    return torch.allclose(slope(GRID), found, **EXACT)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_is_torchs(name: str) -> None:
    activation = ACTIVATIONS[name]
    assert is_torchs(name, activation.f) and is_the_slope(name, activation.slope)
    assert torch.allclose(activation.fused(GRID), activation.f(GRID), rtol=1e-8, atol=1e-8)
    for dtype in (torch.float32, torch.float64):
        z = GRID.to(dtype)
        assert activation.f(z).dtype == activation.slope(z).dtype == dtype
        assert activation.f(z).isfinite().all() and activation.slope(z).isfinite().all()


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "step"])
def test_autograd_goes_through_the_formula(name: str) -> None:
    """At kinks and far out too: no NaN from a branch that wasn't taken."""
    z = GRID.clone().requires_grad_()
    (found,) = torch.autograd.grad(ACTIVATIONS[name].f(z).sum(), z)
    assert torch.allclose(found, ACTIVATIONS[name].slope(GRID), rtol=1e-9, atol=1e-12)


MUTANTS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "leaky ReLU with the leak above zero": ("leaky_relu", lambda z: torch.where(z > 0, 0.01 * z, z)),
    "leaky ReLU as the larger, with leak 2": ("leaky_relu", lambda z: torch.maximum(2 * z, z)),
    "GELU by tanh": ("gelu", lambda z: F.gelu(z, approximate="tanh")),
    "GELU as z s(1.702 z)": ("gelu", lambda z: z * torch.sigmoid(1.702 * z)),
    "tanh without the stretch": ("tanh", lambda z: 2 * sigmoid(z) - 1),
    "softplus, plainly": ("softplus", lambda z: torch.log(1 + torch.exp(z))),  # infinite at 1000
    "ELU without the -1": ("elu", lambda z: torch.where(z > 0, z, torch.exp(z.clamp(max=0)))),
}
SLOPE_MUTANTS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "ReLU's 1 at zero": ("relu", lambda z: (z >= 0).to(z)),
    "sigmoid's without 1 - s": ("sigmoid", sigmoid),
    "sigmoid's written with h, given z": ("sigmoid", lambda z: z * (1 - z)),
    "tanh's without the square": ("tanh", lambda z: 1 - tanh(z)),
    "SiLU's as the sigmoid alone": ("silu", sigmoid),
    "ELU's as ELU": ("elu", elu),
    "leaky ReLU's without the leak": ("leaky_relu", relu_slope),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_rejects_the_mutant(name: str) -> None:
    which, mutant = MUTANTS[name]
    assert not is_torchs(which, mutant)


@pytest.mark.parametrize("name", SLOPE_MUTANTS)
def test_rejects_the_mutant_slope(name: str) -> None:
    assert not is_the_slope(*SLOPE_MUTANTS[name])


def test_by_hand() -> None:
    z = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
    assert leaky_relu(z).tolist() == [-0.02, 0, 3] and leaky_relu_slope(z, 0.5).tolist() == [0.5, 0.5, 1]
    assert sigmoid(torch.tensor(math.log(3.0))).item() == pytest.approx(0.75)
    assert elu(z, 2.0)[0].item() == pytest.approx(2 * (math.exp(-2) - 1))
    assert torch.allclose(elu(z, 2.0), F.elu(z, 2.0)) and elu_slope(z, 2.0)[0].item() == pytest.approx(2 * math.exp(-2))
    assert gelu(z)[2].item() == pytest.approx(3 * 0.9986501)
    assert silu_slope(torch.zeros(1)).item() == 0.5


def test_small_slopes_keep_their_digits() -> None:
    """s (1 - s) is exactly 0 from z = 37 on; s(z) s(-z) is e^-z, as it should be."""
    z = torch.tensor([40.0, 100.0], dtype=torch.float64)
    h = torch.sigmoid(z)
    assert (h * (1 - h)).tolist() == [0, 0]
    assert torch.allclose(sigmoid_slope(z), torch.exp(-z), rtol=1e-12, atol=0)
    assert torch.allclose(tanh_slope(z / 2), 4 * torch.exp(-z), rtol=1e-12, atol=0)


def test_softmax() -> None:
    z = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for dim in (0, -1):
        assert torch.allclose(softmax(z, dim), torch.softmax(z, dim), **EXACT)
    expected = torch.stack([torch.autograd.functional.jacobian(lambda v: torch.softmax(v, 0), row) for row in z])
    assert torch.allclose(softmax_jacobian(z), expected, **EXACT)
    assert not torch.allclose(torch.diag_embed(softmax(z) * (1 - softmax(z))), expected)  # mutant: as if each alone
    assert softmax(torch.tensor([1000.0, 0.0])).tolist() == [1, 0]
    plain = torch.exp(torch.tensor([1000.0, 0.0]))
    assert (plain / plain.sum()).isnan().any()  # mutant: without taking off the largest
    assert torch.allclose(softmax(z + 7), softmax(z))
