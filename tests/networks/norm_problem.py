"""What the tests of the normalisation layers share: random features, and whether two layers are one."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Features with a mean of 2 and a deviation of 3, in float64."""
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(shape, generator=generator, dtype=torch.float64) + 2


def same(ours: Callable[..., Tensor], peer: Callable[..., Tensor], leaves: Sequence[Tensor], tolerance: float) -> bool:
    """Whether both give the same output of the leaves, and the same gradient for each."""
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    y, expected = ours(*leaves), peer(*leaves)
    dy = drawn(*y.shape, seed=9)
    gradients = (torch.autograd.grad(output, leaves, dy) for output in (y, expected))
    pairs = [(y, expected), *zip(*gradients, strict=True)]
    return all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in pairs)
