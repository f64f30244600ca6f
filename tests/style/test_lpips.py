"""LPIPS against a naive loop over positions and numbers by hand; mutants fail the same check."""

from collections.abc import Callable, Sequence
from importlib import import_module

import pytest
import torch
from torch import Tensor

from vivace.base import weights as base_weights
from vivace.base.errors import InputError
from vivace.base.hooks import activations
from vivace.cnn import AlexNet
from vivace.style import LPIPS_LAYERS, backbone_distance, lpips, lpips_weights, unit_normalized

Distance = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], Tensor]


def given(seed: int = 0) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, 3, 4, 5), (2, 6, 2, 3))
    F, P = ([torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes] for _ in range(2))
    return F, P, [torch.rand(s[1], generator=generator, dtype=torch.float64) for s in shapes]


def naive(features: Sequence[Tensor], others: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Eq. 1, one position at a time."""
    distances = []
    for n in range(len(features[0])):
        distance = 0.0
        for F, P, w in zip(features, others, weights, strict=True):
            h, width = F.shape[2:]
            for i in range(h):
                for j in range(width):
                    f, p = F[n, :, i, j], P[n, :, i, j]
                    distance += float((w * (f / f.norm() - p / p.norm()) ** 2).sum()) / (h * width)
        distances.append(distance)
    return torch.tensor(distances, dtype=torch.float64)


def is_lpips(distance: Distance) -> bool:
    F, P, w = given()
    return torch.allclose(distance(F, P, w), naive(F, P, w))


def test_it_is_the_definition() -> None:
    assert is_lpips(lpips)


def _raw(F: Sequence[Tensor], P: Sequence[Tensor], w: Sequence[Tensor]) -> Tensor:
    return torch.stack([(w_l.view(-1, 1, 1) * (f - p) ** 2).sum(1).mean((1, 2))
                        for f, p, w_l in zip(F, P, w, strict=True)]).sum(0)  # fmt: skip


MUTANTS: dict[str, Distance] = {
    "features as they are": _raw,
    "whole maps at length 1": lambda F, P, w: _raw([f / f.flatten(1).norm(dim=1)[:, None, None, None] for f in F],
                                                   [p / p.flatten(1).norm(dim=1)[:, None, None, None] for p in P], w),
    "weights forgotten": lambda F, P, w: lpips(F, P, [torch.ones_like(w_l) for w_l in w]),
    "weights squared": lambda F, P, w: lpips(F, P, [w_l**2 for w_l in w]),
    "roots": lambda F, P, w: lpips(F, P, w).sqrt(),
    "mean of the layers": lambda F, P, w: lpips(F, P, w) / 2,
    "one picture's for all": lambda F, P, w: lpips(F, P, w)[:1].expand(2),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_rejects_the_mutant(mutant: Distance) -> None:
    assert not is_lpips(mutant)


def test_features_ten_times_as_large_are_as_far_apart() -> None:
    F, P, w = given()
    assert torch.allclose(lpips([10 * f for f in F], [10 * p for p in P], w), lpips(F, P, w))


def test_equal_weights_by_hand() -> None:
    F, P = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), torch.tensor([5.0, 0.0]).view(1, 2, 1, 1)
    assert float(backbone_distance([F], [P])) == pytest.approx(0.4**2 + 0.8**2)  # (0.6, 0.8) and (1, 0)
    assert float(backbone_distance([F, F], [P, F])) == pytest.approx(0.4)  # the mean of 0.8 and 0
    assert float(backbone_distance([F], [-F])) == pytest.approx(4)


def test_dead_positions_have_a_finite_gradient() -> None:
    F = torch.zeros(1, 3, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(backbone_distance([F], [torch.rand(1, 3, 2, 2)]).sum(), F)
    assert bool(gradient.isfinite().all()) and bool((unit_normalized(F) == 0).all())


def test_published_weights_are_read_and_fit_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    channels = (64, 192, 384, 256, 256)
    tensors = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(channels)}
    monkeypatch.setattr(
        import_module("vivace.style.lpips"), "load_weights", lambda name, tell: {"lpips-alexnet": tensors}[name]
    )
    w = lpips_weights("alexnet")
    assert [len(w_l) for w_l in w] == list(channels) and torch.equal(w[2], tensors["lin2.model.1.weight"][0, :, 0, 0])
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = activations(AlexNet(), x, LPIPS_LAYERS["alexnet"])
    assert all(bool((f >= 0).all()) for f in maps)  # after the ReLUs
    assert lpips(maps, [f.flip(0) for f in maps], w).shape == (2,)


def test_the_files_are_known() -> None:
    assert {"lpips-vgg16", "lpips-alexnet"} <= set(base_weights.CARDS)


def test_bad_input_is_named() -> None:
    F, P, w = given()
    with pytest.raises(InputError, match="1 of weights"):
        lpips(F, P, w[:1])
    with pytest.raises(InputError, match="same layer"):
        lpips(F, P, w[::-1])
    with pytest.raises(InputError, match="0 and 0 layers"):
        lpips([], [], [])
    with pytest.raises(InputError, match="vgg16"):
        lpips_weights("vgg15")
