"""The calibration error and the temperature that the experiment reports: numbers by hand, and a planted answer."""

import pytest
import torch

from vivace.experiments.networks.activation_swap import _temperature, calibration_error

P = torch.tensor([0.05, 0.05, 0.95, 0.95], dtype=torch.float64)
Y = torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=torch.float64)


def test_by_hand() -> None:
    # bins 0 and 9: |0.5 - 0.05| and |1 - 0.95|, two of four each; mutants: the mean error, the error in one bin
    assert calibration_error(P, Y) == pytest.approx((0.45 + 0.05) / 2)
    assert (Y - P).abs().mean().item() != pytest.approx(calibration_error(P, Y))
    assert abs((Y - P).mean().item()) == pytest.approx(0.25)  # here alike; not where the bins err both ways:
    assert calibration_error(P, torch.tensor([1.0, 0, 0, 1]).double()) == pytest.approx((0.45 + 0.45) / 2)


def test_the_temperature_is_found() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, generator=generator, dtype=torch.float64)
    y = torch.bernoulli(torch.sigmoid(logits), generator=generator)
    assert _temperature(3 * logits, y) == pytest.approx(3, rel=0.1)
    assert calibration_error(torch.sigmoid(logits), y) < 0.02 < calibration_error(torch.sigmoid(3 * logits), y)
