"""Convolution, pooling and cross-entropy with their gradients, against torch's; mutants fail the same check."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vivace.base.errors import InputError
from vivace.optimization import Variable, average_pool2d, conv2d, max_pool2d, softmax_cross_entropy
from vivace.optimization.autodiff import result

LABELS = np.array([2, 0, 0, 1])


def agrees(ours: Callable, theirs: Callable, *shapes: tuple[int, ...], scale: float = 1.0) -> bool:
    """Value and every gradient are torch's to 1e-10, for a random gradient at the result."""
    generator = np.random.default_rng(0)
    arrays = [scale * generator.normal(size=shape) for shape in shapes]
    mine, peers = [Variable(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = ours(*mine), theirs(*peers)
    if y.shape != tuple(z.shape) or not np.allclose(y.value, z.detach().numpy(), rtol=1e-10, atol=1e-10):
        return False
    seed = generator.normal(size=y.shape)
    y.backward(seed)
    z.backward(torch.tensor(seed))
    return all(np.allclose(a.grad, b.grad.numpy(), rtol=1e-10, atol=1e-10) for a, b in zip(mine, peers, strict=True))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("kernels", [(4, 3, 3, 3), (2, 3, 1, 1), (2, 3, 2, 5)], ids=str)
def test_convolution_is_torchs(kernels: tuple[int, ...], stride: int, padding: int) -> None:
    assert agrees(
        lambda x, k: conv2d(x, k, stride=stride, padding=padding),
        lambda x, k: F.conv2d(x, k, stride=stride, padding=padding),
        (2, 3, 7, 6),
        kernels,
    )


def test_convolution_by_hand() -> None:
    image = np.arange(9.0).reshape(1, 1, 3, 3)
    kernel = Variable([[[[1.0, 0.0], [0.0, -1.0]]]])
    y = conv2d(image, kernel)  # each cell less the one below on the right: -4
    assert (y.value == -4).all()
    y.sum().backward()
    assert kernel.grad.tolist() == [[[[0 + 1 + 3 + 4, 1 + 2 + 4 + 5], [3 + 4 + 6 + 7, 4 + 5 + 7 + 8]]]]


@pytest.mark.parametrize(("size", "stride"), [(2, 0), (3, 0), (3, 2), (2, 1), (2, 3)])
def test_pooling_is_torchs(size: int, stride: int) -> None:
    shape = (2, 3, 7, 6)
    assert agrees(lambda x: max_pool2d(x, size, stride), lambda x: F.max_pool2d(x, size, stride or size), shape)
    assert agrees(lambda x: average_pool2d(x, size, stride), lambda x: F.avg_pool2d(x, size, stride or size), shape)


def test_max_pooling_gives_a_tie_to_the_first() -> None:
    x = Variable(np.ones((1, 1, 2, 2)))
    max_pool2d(x, 2).sum().backward()
    assert x.grad.tolist() == [[[[1, 0], [0, 0]]]]


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_cross_entropy_is_torchs(scale: float) -> None:
    def theirs(z):
        return F.cross_entropy(z, torch.tensor(LABELS))

    assert agrees(lambda z: softmax_cross_entropy(z, LABELS), theirs, (4, 3), scale=scale)


def test_a_whole_network_is_torchs() -> None:
    def ours(x, k, w, b):
        maps = max_pool2d((conv2d(x, k, padding=1) + b.reshape(1, -1, 1, 1)).relu(), 2)
        return softmax_cross_entropy(average_pool2d(maps, 3).reshape(4, -1) @ w, LABELS)

    def theirs(x, k, w, b):
        maps = F.max_pool2d(F.conv2d(x, k, b, padding=1).relu(), 2)
        return F.cross_entropy(F.avg_pool2d(maps, 3).flatten(1) @ w, torch.tensor(LABELS))

    assert agrees(ours, theirs, (4, 2, 6, 6), (5, 2, 3, 3), (5, 3), (5,))


def flipped(x, k):
    """The kernel turned round, as in mathematics."""
    return conv2d(x, k[:, :, ::-1, ::-1], padding=1)


def kernel_not_turned_on_the_way_back(x, k):
    """The gradient by the image convolved with the kernel as it is: wrong, it has to be turned round."""
    y = conv2d(x, k, padding=1)
    (_, back_kernels) = y.edges[1]
    return result("conv", y.value, (x, lambda g: conv2d(g, k.value.transpose(1, 0, 2, 3), padding=1).value),
                  (k, back_kernels))  # fmt: skip


@pytest.mark.parametrize("mutant", [flipped, kernel_not_turned_on_the_way_back])
def test_rejects_the_mutant_convolution(mutant: Callable) -> None:
    def theirs(x, k):
        return F.conv2d(x, k, padding=1)

    assert agrees(lambda x, k: conv2d(x, k, padding=1), theirs, (2, 3, 5, 5), (4, 3, 3, 3))
    assert not agrees(mutant, theirs, (2, 3, 5, 5), (4, 3, 3, 3))


def test_rejects_mutant_pooling_and_loss() -> None:
    def shared(x):  # the whole window gets the gradient
        return result("max", max_pool2d(x, 2).value, (x, lambda g: 0.25 * g.repeat(2, 2).repeat(2, 3)))

    def without_onehot(z):
        p = np.exp(z.value) / np.exp(z.value).sum(1, keepdims=True)
        return result("loss", softmax_cross_entropy(z, LABELS).value, (z, lambda g: g * p / 4))

    assert not agrees(shared, lambda x: F.max_pool2d(x, 2), (1, 1, 4, 4))
    assert not agrees(without_onehot, lambda z: F.cross_entropy(z, torch.tensor(LABELS)), (4, 3))


def test_bad_input() -> None:
    maps = Variable(np.ones((1, 1, 4, 4)))
    with pytest.raises(InputError, match="window of 5 x 5 doesn't fit into maps of 4 x 4"):
        conv2d(maps, np.ones((1, 1, 5, 5)))
    with pytest.raises(InputError, match="at least 1"):
        max_pool2d(maps, 2, -1)
    with pytest.raises(InputError, match="labels are 0 to 2 for 3 logits; found 0 to 3"):
        softmax_cross_entropy(Variable(np.zeros((2, 3))), np.array([0, 3]))
