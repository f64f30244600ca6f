"""Linear probes: against scikit-learn on features taken by hand, and a mutant that forgets the mode of the model."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.cnn.linear_probe import linear_probe, pooled_features


def data(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(3).repeat(30)
    return torch.randn(90, 5, generator=generator) + 1.5 * nn.functional.one_hot(labels, 5), labels


def test_is_scikit_learns_on_standardised_features() -> None:
    (x, y), (x_test, y_test) = data(0), data(1)
    found = linear_probe(x, y, x_test, y_test)
    mean, std = x.double().mean(0), x.double().std(0, correction=0)
    peer = LogisticRegression(max_iter=1000).fit(((x - mean) / std).numpy(), y.numpy())
    assert found.train == pytest.approx(peer.score(((x - mean) / std).numpy(), y.numpy()))
    assert found.test == pytest.approx(peer.score(((x_test - mean) / std).numpy(), y_test.numpy()))
    assert 0.6 < found.test < 1


def test_a_probe_of_shuffled_labels_is_chance() -> None:
    (x, y), (x_test, y_test) = data(0), data(1)
    mixed = y[torch.randperm(90, generator=torch.Generator().manual_seed(2))]
    assert linear_probe(x, mixed, x_test, y_test).test < 0.6


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).mean((2, 3)))


def by_hand(net: Net, images: Tensor) -> Tensor:
    maps = net.conv(images)
    mean, var = net.norm.running_mean, net.norm.running_var
    assert mean is not None and var is not None
    return ((maps - mean[:, None, None]) / (var[:, None, None] + net.norm.eps).sqrt()).mean((2, 3))


def test_features_are_means_of_the_maps_as_the_net_predicts() -> None:
    torch.manual_seed(0)
    net = Net()
    net.norm.running_mean = torch.rand(4)
    images = torch.rand(7, 1, 8, 8)
    net.train()
    with torch.no_grad():
        norm, head = pooled_features(net, images, ["norm", "head"], batch_size=3)
        assert torch.allclose(norm, by_hand(net, images), atol=1e-5)
        assert torch.allclose(head, norm @ net.head.weight.T + net.head.bias, atol=1e-5)
        mutant = net.norm(net.conv(images)).mean((2, 3))  # statistics of the batch
    assert not torch.allclose(mutant, norm, atol=1e-2)


def test_bad_input_is_told() -> None:
    x, y = data(0)
    with pytest.raises(InputError, match="two classes"):
        linear_probe(x, torch.zeros_like(y), x, y)
    with pytest.raises(InputError, match="above 0"):
        linear_probe(x, y, x, y, C=0)
    assert np.isfinite(linear_probe(x, y, x, y).train)
