"""Maps from whatever a layer puts out: channels last, tokens with a class token or none, tuples; and what is none."""

from collections import namedtuple

import pytest
import torch
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.hooks import as_map, find_map, first_tensor, with_first

PICTURES = torch.zeros(2, 3, 32, 48)  # patches of 8: 4 x 6


def numbered(*shape: int) -> Tensor:
    return torch.arange(float(torch.Size(shape).numel())).view(shape)


def test_maps_stay_and_channels_last_turn_round() -> None:
    first, last = numbered(2, 16, 4, 6), numbered(2, 4, 6, 16)
    assert find_map(first, PICTURES) is first
    assert torch.equal(as_map(last, PICTURES), last.permute(0, 3, 1, 2))
    square = torch.zeros(2, 3, 16, 16)
    assert find_map(numbered(2, 8, 8, 8), square).stride() == (512, 64, 8, 1)  # type: ignore[union-attr]


@pytest.mark.parametrize("extra", [0, 1, 2, 4, 5])
def test_tokens_are_put_back_row_by_row(extra: int) -> None:
    patches = numbered(2, 16, 4, 6)
    tokens = torch.cat([torch.full((2, extra, 16), -1.0), patches.flatten(2).transpose(1, 2)], 1)
    assert torch.equal(as_map(tokens, PICTURES), patches)
    assert torch.equal(as_map(tokens.transpose(0, 1), PICTURES), patches)  # sequence first


@pytest.mark.parametrize(
    ("shape", "side", "grid"),
    [((1, 197, 64), (224, 224), (14, 14)), ((1, 197, 64), (230, 230), (14, 14)), ((1, 1201, 8), (480, 640), (30, 40)),
     ((1, 261, 8), (256, 256), (16, 16)), ((1, 15, 8), (31, 40), (3, 5))],
)  # fmt: skip
def test_grids_of_real_transformers(shape: tuple[int, ...], side: tuple[int, int], grid: tuple[int, int]) -> None:
    assert as_map(torch.zeros(shape), torch.zeros(1, 3, *side)).shape[2:] == grid


@pytest.mark.parametrize("shape", [(2, 16), (2, 16, 1, 1), (2, 23, 16), (2, 1, 16), (8, 16, 4, 6), ()])
def test_what_is_no_map(shape: tuple[int, ...]) -> None:
    assert find_map(torch.zeros(shape), PICTURES) is None
    with pytest.raises(InputError, match="not a spatial map"):
        as_map(torch.zeros(shape), PICTURES)


def test_the_first_of_several() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    pair = namedtuple("pair", ("states", "weights"))
    assert first_tensor(a) is first_tensor((a, b)) is first_tensor([a]) is first_tensor(pair(a, b)) is a
    assert first_tensor(None) is first_tensor(()) is first_tensor({"a": a}) is None
    assert with_first(a, b) is b and with_first((a, None), b) == (b, None) and with_first([a, 1], b) == [b, 1]
    assert with_first(pair(a, None), b) == pair(b, None)
