"""LeNet-5 against the paper's counts and table, and its forward pass written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vivace.base.errors import InputError
from vivace.cnn import LeNet5, lenet5
from vivace.cnn.lenet import TABLE, class_codes

# parameters of C1, S2, C3, S4, C5, F6 (section II.B), and their sum, the paper's 60,000
COUNTS = {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48_120, "f6": 10_164}
# table I, column by column: X where a map of C3 (0 to 15) sees a map of S2 (rows 0 to 5)
ROWS = ("X   XXX  XXXX XX", "XX   XXX  XXXX X", "XXX   XXX  X XXX", " XXX  XXXX  X XX", "  XXX  XXXX XX X",
        "   XXX  XXXX XXX")  # fmt: skip


def count(model: LeNet5, layer: str) -> int:
    return sum(weight.numel() for weight in model.get_submodule(layer).parameters())


def test_has_the_papers_sixty_thousand_parameters() -> None:
    assert {layer: count(lenet5(), layer) for layer in COUNTS} == COUNTS
    assert sum(weight.numel() for weight in lenet5().parameters()) == sum(COUNTS.values()) == 60_000
    assert sum(weight.numel() for weight in lenet5(modern=True).parameters()) == 61_706


def test_c3_sees_what_table_one_says() -> None:
    assert [sorted(seen) for seen in TABLE] == [[c for c in range(6) if ROWS[c][k] == "X"] for k in range(16)]


def written_out(model: LeNet5, images: Tensor, *, table: bool = True, gain: float = 1.7159) -> Tensor:
    """The paper's forward pass with loops over maps."""

    def bend(a: Tensor) -> Tensor:
        return gain * torch.tanh(2 / 3 * a)

    def subsampled(x: Tensor, layer: str) -> Tensor:
        weight, bias = model.get_parameter(f"{layer}.weight"), model.get_parameter(f"{layer}.bias")
        sums = sum(x[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
        return bend(sums * weight[:, None, None] + bias[:, None, None])

    x = F.pad(images, [2] * 4) * 1.275 - 0.1
    x = subsampled(bend(model.c1(x)), "s2")
    kernels, place, maps = model.get_parameter("c3.weight"), 0, []
    for k, seen in enumerate(TABLE):
        total = model.get_parameter("c3.bias")[k]
        for c in seen if table else sorted(seen, reverse=True):
            total = total + F.conv2d(x[:, c : c + 1], kernels[None, None, place])[:, 0]
            place += 1
        maps.append(bend(total))
    x = subsampled(torch.stack(maps, 1), "s4")
    x = bend(model.c5(x)).flatten(1)
    x = bend(x @ model.f6.weight.T + model.f6.bias)
    return -torch.cdist(x, class_codes(10)).square()


def agrees(**changes: object) -> bool:
    torch.manual_seed(0)
    model = lenet5()
    with torch.no_grad():
        for name in ("s2", "s4"):  # far from what they begin as, so that they matter
            model.get_parameter(f"{name}.weight").uniform_(0.2, 0.8)
        images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
        return torch.allclose(model(images), written_out(model, images, **changes), rtol=1e-4)  # type: ignore[arg-type]


def test_forward_is_the_papers_written_out() -> None:
    assert agrees()


@pytest.mark.parametrize("mutant", [{"table": False}, {"gain": 1.0}])
def test_rejects_a_mutant(mutant: dict[str, object]) -> None:
    assert not agrees(**mutant)


def test_codes_are_ten_different_drawings() -> None:
    codes = class_codes(10)
    assert set(codes.unique().tolist()) == {-1.0, 1.0} and len(codes.unique(dim=0)) == 10
    assert len(class_codes(30).unique(dim=0)) == 30


def test_other_sizes_are_told() -> None:
    with pytest.raises(InputError, match="28 x 28 or 32 x 32"):
        lenet5()(torch.rand(1, 1, 30, 30))
