"""Activation functions: the bends between layers, without which any stack of layers is a single one.

Glorot, Bordes, Bengio, "Deep sparse rectifier neural networks" (2011), section 3 (ReLU, softplus); Maas, Hannun, Ng,
"Rectifier nonlinearities" (2013), eq. 2 (leaky ReLU); Clevert et al. (2016), eq. 15 (ELU); Hendrycks, Gimpel (2016),
section 2 (GELU, SiLU); Bridle (1990), eq. 3 (softmax).
In: z, any shape, finite. Out: f(z) or f'(z), as large; softmax is positive and sums to 1 along its dimension.
Departs from the paper: written so that nothing overflows; at a kink the slope is the left one, as in torch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Numbers = Float[Tensor, "*shape"]
LEAK = 0.01  # leaky ReLU's slope below zero


def sigmoid(z: Numbers) -> Numbers:
    """1 / (1 + e^-z), in (0, 1)."""
    return torch.exp(-softplus(-z))


def sigmoid_slope(z: Numbers) -> Numbers:
    """s(z) (1 - s(z)), at most 1/4; 1 - s(z) is s(-z), which keeps its digits where s(z) is nearly 1."""
    return sigmoid(z) * sigmoid(-z)


def tanh(z: Numbers) -> Numbers:
    """(e^2z - 1) / (e^2z + 1), in (-1, 1): 2 s(2z) - 1, a sigmoid stretched and moved."""
    e = torch.expm1(2 * z.clamp(-20, 20))  # beyond, it is 1 to the last digit of float64
    return e / (e + 2)


def tanh_slope(z: Numbers) -> Numbers:
    """1 - tanh(z)^2, at most 1."""
    return 4 * sigmoid_slope(2 * z)


def relu(z: Numbers) -> Numbers:
    """max(0, z)."""
    return torch.where(z > 0, z, 0.0)


def relu_slope(z: Numbers) -> Numbers:
    return (z > 0).to(z)


def leaky_relu(z: Numbers, leak: float = LEAK) -> Numbers:
    """z above zero, leak * z below: max(leak * z, z) as long as leak <= 1."""
    return torch.where(z > 0, z, leak * z)


def leaky_relu_slope(z: Numbers, leak: float = LEAK) -> Numbers:
    return torch.where(z > 0, torch.ones_like(z), leak)


def softplus(z: Numbers) -> Numbers:
    """log(1 + e^z), in (0, inf): a ReLU without the kink."""
    return torch.logaddexp(z, torch.zeros_like(z))


def softplus_slope(z: Numbers) -> Numbers:
    return sigmoid(z)


def elu(z: Numbers, alpha: float = 1.0) -> Numbers:
    """z above zero, alpha (e^z - 1) below, in (-alpha, inf)."""
    return torch.where(z > 0, z, alpha * torch.expm1(z.clamp(max=0)))


def elu_slope(z: Numbers, alpha: float = 1.0) -> Numbers:
    return torch.where(z > 0, 1.0, alpha * torch.exp(z.clamp(max=0)))


def silu(z: Numbers) -> Numbers:
    """z s(z), also called swish."""
    return z * sigmoid(z)


def silu_slope(z: Numbers) -> Numbers:
    return sigmoid(z) * (1 + z * sigmoid(-z))


def gelu(z: Numbers) -> Numbers:
    """z Phi(z), with the normal distribution's Phi."""
    return z * torch.erfc(-z / math.sqrt(2)) / 2


def gelu_slope(z: Numbers) -> Numbers:
    """Phi(z) + z phi(z)."""
    return torch.erfc(-z / math.sqrt(2)) / 2 + z * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def identity(z: Numbers) -> Numbers:
    """z: for the output of a regression. Between layers it bends nothing."""
    return z


def identity_slope(z: Numbers) -> Numbers:
    return torch.ones_like(z)


def step(z: Numbers) -> Numbers:
    """1 from zero on, else 0: Heaviside's. (`Perceptron` fires above zero only.)"""
    return (z >= 0).to(z)


def step_slope(z: Numbers) -> Numbers:
    """0 wherever there is one: gradient descent learns nothing through a step."""
    return torch.zeros_like(z)


def softmax(z: Numbers, dim: int = -1) -> Numbers:
    """e^z_k / sum_j e^z_j: probabilities of classes of which exactly one is true."""
    e = torch.exp(z - z.amax(dim, keepdim=True).detach())  # the same shares, and nothing overflows
    return e / e.sum(dim, keepdim=True)


def softmax_jacobian(z: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k k"]:
    """dp_i/dz_j = p_i (1[i = j] - p_j): each output depends on all inputs."""
    p = softmax(z)
    return torch.diag_embed(p) - p[..., :, None] * p[..., None, :]


@dataclass(frozen=True)
class Activation:
    """An activation that works on each number by itself."""

    f: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]  # f'(z)
    fused: Callable[[Tensor], Tensor]  # torch's own, in one pass over the memory: what a network computes with


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(identity, identity_slope, identity),
    "step": Activation(step, step_slope, step),
    "sigmoid": Activation(sigmoid, sigmoid_slope, torch.sigmoid),
    "tanh": Activation(tanh, tanh_slope, torch.tanh),
    "relu": Activation(relu, relu_slope, torch.relu),
    "leaky_relu": Activation(leaky_relu, leaky_relu_slope, F.leaky_relu),
    "elu": Activation(elu, elu_slope, F.elu),
    "softplus": Activation(softplus, softplus_slope, F.softplus),
    "silu": Activation(silu, silu_slope, F.silu),
    "gelu": Activation(gelu, gelu_slope, F.gelu),
}
