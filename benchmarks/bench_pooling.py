"""Max and average pooling, and a convolution's backward pass by hand, against torch's own."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Row, compare
from vivace.cnn import average_pool2d, convolution_backward, max_pool2d

SHAPE = (16, 64, 56, 56)


def rows() -> Iterator[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    maps = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    size = " x ".join(map(str, SHAPE))
    for kernel, stride in ((2, 2), (3, 2)):
        for what, ours, peer in (("max", max_pool2d, F.max_pool2d), ("average", average_pool2d, F.avg_pool2d)):
            yield compare(f"{what} pooling {kernel} x {kernel}, stride {stride}, forward and backward, {size}",
                          both_ways(ours, maps, kernel, stride), both_ways(peer, maps, kernel, stride),
                          peer_name="torch", agree=apart)  # fmt: skip
    weight = torch.randn(64, 64, 3, 3, generator=torch.Generator().manual_seed(1)) / 24
    for stride in (1, 2):
        gradient = torch.randn_like(F.conv2d(maps, weight, stride=stride, padding=1))
        yield compare(f"gradients of input, weight and bias of a 3 x 3 convolution, 64 to 64, stride {stride}, {size}",
                      lambda g=gradient, s=stride: convolution_backward(g, maps, weight, stride=s, padding=1),
                      lambda g=gradient, s=stride: torch.ops.aten.convolution_backward(
                          g, maps, weight, [64], [s, s], [1, 1], [1, 1], False, [0, 0], 1, [True, True, True]),
                      peer_name="torch", repeats=7, agree=apart)  # fmt: skip
    torch.set_num_threads(threads)


def both_ways(pool: Callable[..., Tensor], maps: Tensor, kernel: int, stride: int) -> Callable[[], tuple[Tensor, ...]]:
    given = maps.clone().requires_grad_()
    gradient = torch.ones_like(pool(given, kernel, stride))

    def run() -> tuple[Tensor, ...]:
        pooled = pool(given, kernel, stride)
        return pooled, *torch.autograd.grad(pooled, given, gradient)

    return run


def apart(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> str:
    worst = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(ours, theirs, strict=True))
    return f"apart by {worst:.0e} of the largest"
