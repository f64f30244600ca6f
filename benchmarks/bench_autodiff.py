"""Our automatic differentiation against torch.autograd, float32, one thread: a gradient of the digit classifier.

At batch 128 the products of matrices are nearly all of the work, and both leave them to an optimised BLAS. On top, ours
pays for Python at each step and a fresh array for each result: at batch 1 little else is left. The convolution shows
what a kernel made for it is worth.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits

from harness import Row, compare
from vivace.optimization import Variable, conv2d, max_pool2d, softmax_cross_entropy

SIZES = (784, 128, 64, 10)


def rows() -> Iterator[Row]:
    with threadpool_limits(1):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for batch in (128, 1):
            yield digit_classifier(batch)
        yield convolution()
        torch.set_num_threads(threads)


def digit_classifier(batch: int) -> Row:
    generator = np.random.default_rng(0)
    arrays = [generator.normal(0, (2 / n) ** 0.5, (n, m)).astype(np.float32)
              for n, m in pairwise(SIZES)]  # fmt: skip
    arrays += [np.zeros(m, np.float32) for m in SIZES[1:]]
    images = generator.uniform(size=(batch, SIZES[0])).astype(np.float32)
    labels = generator.integers(0, 10, batch)
    mine, peers = [Variable(array) for array in arrays], [torch.tensor(array, requires_grad=True) for array in arrays]
    x, target = torch.from_numpy(images), torch.from_numpy(labels)

    def ours() -> list[np.ndarray]:
        h = images @ mine[0] + mine[3]
        h = h.relu() @ mine[1] + mine[4]
        softmax_cross_entropy(h.relu() @ mine[2] + mine[5], labels).backward()
        return taken(mine)

    def theirs() -> list[np.ndarray]:
        h = torch.addmm(peers[3], x, peers[0])
        h = torch.addmm(peers[4], h.relu(), peers[1])
        F.cross_entropy(torch.addmm(peers[5], h.relu(), peers[2]), target).backward()
        return taken(peers)

    return compare(f"autodiff, gradient of 784-128-64-10, batch {batch}", ours, theirs, peer_name="torch.autograd",
                   repeats=201, agree=apart)  # fmt: skip


def convolution() -> Row:
    generator = np.random.default_rng(0)
    images = generator.uniform(size=(32, 3, 32, 32)).astype(np.float32)
    kernels = generator.normal(size=(16, 3, 3, 3)).astype(np.float32)
    mine, peer = Variable(kernels), torch.tensor(kernels, requires_grad=True)
    x = torch.from_numpy(images)

    def ours() -> list[np.ndarray]:
        max_pool2d(conv2d(images, mine, padding=1).relu(), 2).mean().backward()
        return taken([mine])

    def theirs() -> list[np.ndarray]:
        F.max_pool2d(F.conv2d(x, peer, padding=1).relu(), 2).mean().backward()
        return taken([peer])

    return compare("autodiff, convolution 3 to 16, ReLU, max pooling, 32 x 32, batch 32", ours, theirs,
                   peer_name="torch.autograd", repeats=31, agree=apart)  # fmt: skip


def taken(leaves: Sequence[Variable] | Sequence[torch.Tensor]) -> list[np.ndarray]:
    """The gradients, which are forgotten, as before the next step of training."""
    found = [np.asarray(leaf.grad) for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    return found


def apart(ours: list[np.ndarray], theirs: list[np.ndarray]) -> str:
    largest = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, theirs, strict=True))
    return f"max relative difference {largest:.0e}"
