"""Weight statistics: SciPy, NumPy's SVD, numbers by hand, and mutants."""

import numpy as np
import pytest
import torch
from scipy.stats import kurtosis
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.explain.weight_statistics import (
    connection_pattern,
    excess_kurtosis,
    relative_change,
    spectral_norm,
    weight_statistics,
)


def test_scipy_and_numpy_agree() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.ConvTranspose2d(8, 4, 3), nn.Flatten(), nn.Linear(12, 30))
    for row in weight_statistics(net):
        weight = net.get_parameter(f"{row.name}.weight").detach().numpy()
        rows = weight.swapaxes(0, 1) if row.name == "2" else weight
        assert row.shape == rows.shape
        assert row.kurtosis == pytest.approx(kurtosis(weight.ravel().astype(float)), abs=1e-6)
        assert row.mean == pytest.approx(weight.mean(), abs=1e-7) and row.std == pytest.approx(weight.std(), rel=1e-5)
        assert row.spectral_norm == pytest.approx(np.linalg.svd(rows.reshape(len(rows), -1))[1][0], rel=1e-3)
        assert row.norm == pytest.approx(np.linalg.norm(weight), rel=1e-6)


def by_hand() -> nn.Sequential:
    net = nn.Sequential(nn.Conv2d(1, 4, (1, 2), bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[10.0, -10], [10, 0.5], [0.05, 0], [0, 0]]).view(4, 1, 1, 2))
    return net


def test_by_hand() -> None:
    """Root mean square sqrt(300.2525 / 8) = 6.13: a tenth of it is above 0.5; the largest norm is 14.1."""
    (row,) = weight_statistics(by_hand())
    assert row.near_zero == 5 / 8 and row.dead == 2 / 4
    assert row.norm == pytest.approx(300.2525**0.5)


def near_by_the_mean(w: Tensor) -> float:
    return (w.abs() < 0.1 * w.mean().abs()).double().mean().item()


def near_by_an_absolute_bound(w: Tensor) -> float:
    return (w.abs() < 0.1).double().mean().item()


@pytest.mark.parametrize("mutant", [near_by_the_mean, near_by_an_absolute_bound])
def test_rejects_mutants_of_near_zero(mutant) -> None:  # type: ignore[no-untyped-def]
    w = torch.randn(100_000, generator=torch.Generator().manual_seed(0)) + 0.5
    for scale in (1.0, 0.01):
        net = nn.Linear(1000, 100, bias=False)
        net.weight.data.copy_((scale * w).view(100, 1000))
        (row,) = weight_statistics(net)
        reference = float(np.mean(np.abs(w.numpy()) < 0.1 * np.sqrt(np.mean(w.numpy() ** 2))))
        assert row.near_zero == pytest.approx(reference, abs=1e-4)
    assert mutant(0.01 * w) != pytest.approx(reference, abs=1e-4)


@pytest.mark.parametrize(
    ("draw", "value"),
    [
        (torch.distributions.Normal(0, 2), 0),
        (torch.distributions.Uniform(1, 2), -1.2),
        (torch.distributions.Laplace(0, 1), 3),
    ],
)
def test_kurtosis_of_what_is_known(draw: torch.distributions.Distribution, value: float) -> None:
    torch.manual_seed(1)
    values = draw.sample((200_000,))
    assert excess_kurtosis(values) == pytest.approx(value, abs=0.15)
    mutant = (values.double().pow(4).mean() / values.double().square().mean() ** 2 - 3).item()  # mean not taken off
    assert value != -1.2 or mutant != pytest.approx(-1.2, abs=0.15)
    assert excess_kurtosis(torch.ones(5)) == 0


@pytest.mark.parametrize("shape", [(3, 5), (40, 7), (16, 3, 3, 3), (64, 32, 1, 1), (1, 9), (5, 1)])
def test_spectral_norm_is_the_largest_singular_value(shape: tuple[int, ...]) -> None:
    for seed in range(5):
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        assert spectral_norm(weight) == pytest.approx(float(torch.linalg.matrix_norm(weight.flatten(1), 2)), rel=1e-3)
    assert spectral_norm(torch.zeros(shape)) == 0
    assert spectral_norm(torch.eye(4)) == pytest.approx(1)
    frobenius = float(weight.norm())  # a mutant that is the same for one row or column only
    assert (frobenius == pytest.approx(spectral_norm(weight), rel=1e-3)) == (1 in weight.flatten(1).shape)


def test_relative_change_by_hand() -> None:
    before = {"a": torch.tensor([3.0, 4.0]), "b": torch.zeros(2)}
    after = {"a": torch.tensor([3.0, 5.0]), "b": torch.ones(2)}
    assert relative_change(before, after) == {"a": pytest.approx(0.2)}
    assert relative_change(after, before)["a"] == pytest.approx(1 / 34**0.5)  # a mutant over |after| would give this
    with pytest.raises(InputError, match="not of one network"):
        relative_change(before, {"a": torch.ones(3), "b": torch.ones(2)})


def test_connections_by_hand() -> None:
    conv = nn.Conv2d(4, 2, 1, groups=2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[1.0, -2], [3, 0]]).view(2, 2, 1, 1))
    assert connection_pattern(conv).tolist() == [[1, 2, 0, 0], [0, 0, 3, 0]]
    assert torch.equal(connection_pattern(nn.Conv2d(2, 2, 1, groups=2)) > 0, torch.eye(2) > 0)
    linear = nn.Linear(3, 2)
    assert torch.equal(connection_pattern(linear), linear.weight.detach().abs())
    wide = nn.Conv2d(3, 2, 3)
    assert torch.allclose(connection_pattern(wide)[1, 2], wide.weight[1, 2].norm())


def test_bad_input() -> None:
    with pytest.raises(InputError, match="no convolution"):
        weight_statistics(nn.ReLU())
    with pytest.raises(InputError, match="near is"):
        weight_statistics(by_hand(), near=0)
    broken = by_hand()
    broken[0].weight.data[0] = torch.nan
    with pytest.raises(InputError, match="the layer '0' has NaN"):
        weight_statistics(broken)
    with pytest.raises(InputError, match="between channels"):
        connection_pattern(nn.ReLU())
