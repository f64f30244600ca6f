"""Nets trained side by side: each as torch would train it alone; and their sharpness, against the whole Hessian."""

import pytest
import torch
import torch.nn.functional as F
from torch.optim import SGD, Adam

from vivace.base.data import Labelled
from vivace.experiments.optimization.sharp_minima import per_example, sharpness
from vivace.experiments.side_by_side import SideBySide
from vivace.networks import MLP

SIZES = (6, 5, 3)
RATES, SEEDS = (0.05, 0.2), (3, 4)


def pictures(count=24):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 1, 2, 3, generator=generator)
    return Labelled(images, torch.randint(3, (count,), generator=generator), ("a", "b", "c"))


def alone(rate, seed, make, steps=9, batch=8):
    """One net trained by torch's optimizer, its batches drawn as side by side."""
    net, given = MLP(SIZES, generator=torch.Generator().manual_seed(seed)), pictures()
    optimizer, generator, batches = make(net.parameters(), rate), torch.Generator().manual_seed(seed), []
    for step in range(steps):
        batches = batches or list(torch.randperm(24, generator=generator).split(batch))
        places = batches.pop(0)
        optimizer.zero_grad()
        F.cross_entropy(net(given.images[places]), given.labels[places]).backward()
        for group in optimizer.param_groups:
            group["lr"] = rate / (1 + step)
        optimizer.step()
    return list(net.parameters())


MAKE = {
    "sgd": lambda p, rate: SGD(p, rate),
    "momentum": lambda p, rate: SGD(p, rate, momentum=0.9),
    "adam": lambda p, rate: Adam(p, rate),
}


def agree(optimizer, make) -> bool:
    nets = SideBySide(SIZES, RATES, SEEDS, optimizer)
    nets.train(pictures(), 8, 9, share=lambda t: 1 / (1 + t))
    for i, (rate, seed) in enumerate(zip(RATES, SEEDS, strict=True)):
        expected = alone(rate, seed, make)
        if not all(torch.allclose(w[i], e, atol=1e-6) for w, e in zip(nets.weights, expected, strict=True)):
            return False
    return True


@pytest.mark.parametrize("optimizer", MAKE)
def test_each_net_is_trained_as_alone(optimizer):
    assert agree(optimizer, MAKE[optimizer])


@pytest.mark.parametrize(("optimizer", "mutant"), [("momentum", MAKE["sgd"]), ("adam", MAKE["momentum"]),
                                                   ("sgd", lambda p, rate: SGD(p, 0.2, weight_decay=0.1))])  # fmt: skip
def test_rejects(optimizer, mutant):
    assert not agree(optimizer, mutant)


def test_sharpness_is_the_hessians_largest_eigenvalue():
    nets, given = SideBySide(SIZES, RATES, SEEDS), pictures()
    nets.train(given, 8, 30)
    found = sharpness(nets.weights, given, rounds=200)
    for i in range(2):
        shapes = [weight[i].shape for weight in nets.weights]

        def loss(flat, shapes=shapes):
            W1, b1, W2, b2 = (part.view(shape) for part, shape in zip(
                flat.split([shape.numel() for shape in shapes]), shapes, strict=True))  # fmt: skip
            return F.cross_entropy(
                F.linear(torch.relu(F.linear(given.images.flatten(1), W1, b1)), W2, b2), given.labels
            )

        flat = torch.cat([weight[i].detach().flatten() for weight in nets.weights])
        eigenvalues = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))
        assert found[i] == pytest.approx(eigenvalues.max().item(), rel=0.01)


def test_gradients_of_single_pictures_add_up():
    nets, given = SideBySide(SIZES, [0.1], [3]), pictures()
    net = MLP(SIZES, generator=torch.Generator().manual_seed(3))
    F.cross_entropy(net(given.images), given.labels).backward()
    whole = torch.cat([weight.grad.flatten() for weight in net.parameters()])
    each = per_example(nets, given)
    assert each.shape == (24, whole.numel())
    torch.testing.assert_close(each.mean(0), whole, rtol=1e-4, atol=1e-6)
