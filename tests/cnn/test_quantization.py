"""Quantisation against torch's own, and against products taken in whole numbers; mutants fail the same checks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.cnn import Quantized, QuantizedLayer, input_ranges, quantize, quantized, stored_bytes


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Channels of very different sizes, not centred."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x * torch.logspace(-2, 1, shape[0]).view(-1, *[1] * (len(shape) - 1)) + 0.01


def is_torchs(quantizer: Callable[..., Quantized]) -> bool:
    """Values equal to torch's fake_quantize, given scale and zero point by hand; and codes that mean these values."""
    x = numbers(6, 5, 3, 3)
    low, high = x.min().item(), x.max().item()
    scale = (high - low) / 255
    theirs = torch.fake_quantize_per_tensor_affine(x, scale, -128 - round(low / scale), -128, 127)
    ours = quantizer(x)
    if not (torch.allclose(ours.dequantized(), theirs, atol=1e-6) and ours.q.unique().numel() > 50):
        return False
    scales = x.abs().amax((1, 2, 3)) / 127
    theirs = torch.fake_quantize_per_channel_affine(x, scales, torch.zeros(6, dtype=torch.int32), 0, -127, 127)
    ours = quantizer(x, axis=0, symmetric=True)
    codes = (theirs / scales.view(-1, 1, 1, 1)).round().to(torch.int8)
    return torch.allclose(ours.dequantized(), theirs, atol=1e-6) and torch.equal(ours.q, codes)


def test_equals_torchs() -> None:
    assert is_torchs(quantize)


def cut_off(x: Tensor, **options: object) -> Quantized:
    """Rounded towards zero."""
    right = quantize(x, **options)  # type: ignore[arg-type]
    shape = [-1] + [1] * (x.ndim - 1) if len(right.scale) > 1 else [1] * x.ndim
    q = (x / right.scale.view(shape)).trunc() + right.zero_point.view(shape)
    return Quantized(q.clamp(-128, 127).to(torch.int8), right.scale, right.zero_point)


def one_scale(x: Tensor, **options: object) -> Quantized:
    return quantize(x, **(options | {"axis": None}))  # type: ignore[arg-type]


def other_axis(x: Tensor, **options: object) -> Quantized:
    return quantize(x, **(options | ({"axis": 1} if "axis" in options else {})))  # type: ignore[arg-type]


def never_symmetric(x: Tensor, **options: object) -> Quantized:
    return quantize(x, **(options | {"symmetric": False}))  # type: ignore[arg-type]


def always_symmetric(x: Tensor, **options: object) -> Quantized:
    return quantize(x, **(options | {"symmetric": True}))  # type: ignore[arg-type]


@pytest.mark.parametrize("mutant", [cut_off, one_scale, other_axis, never_symmetric, always_symmetric])
def test_rejects(mutant: Callable[..., Quantized]) -> None:
    assert not is_torchs(mutant)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@given(seed=st.integers(0, 1000), shift=st.floats(-5, 5), symmetric=st.booleans())
def test_off_by_half_a_step_at_most(bits: int, seed: int, shift: float, symmetric: bool) -> None:
    x = torch.randn(40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift
    coded = quantize(x, bits=bits, symmetric=symmetric)
    values = coded.dequantized()
    assert coded.q.unique().numel() <= 2**bits
    step = coded.scale.item()  # the zero point is rounded too: at the ends that can cost another half step
    assert (values - x).abs().max() <= (0.5 if symmetric else 1.0) * step * (1 + 1e-9)
    assert torch.equal(quantize(torch.cat([x, x.new_zeros(1)]), bits=bits).dequantized()[-1:], x.new_zeros(1))
    assert torch.equal(quantize(values, bits=bits, symmetric=symmetric).q, coded.q) or not symmetric


def test_a_number_outside_the_range_becomes_its_end() -> None:
    coded = quantize(torch.tensor([-9.0, 0, 1, 9]), low=torch.tensor([-1.0]), high=torch.tensor([1.55]))
    assert coded.scale.item() == pytest.approx(0.01)
    assert torch.allclose(coded.dequantized(), torch.tensor([-1.0, 0, 1, 1.55]))
    assert quantize(torch.zeros(3)).dequantized().tolist() == [0, 0, 0]


def in_whole_numbers(layer: QuantizedLayer, conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Jacob et al. eq. 7: sums of products of whole numbers, and one multiplication by S1 S2 at the end."""
    assert layer.low is not None and layer.high is not None
    scale = (layer.high - layer.low) / 255
    zero = -128 - round(layer.low / scale)
    q = (x / scale).round().add(zero).clamp(-128, 127).long() - zero
    q = F.pad(q, [1] * 4)
    patches = q.unfold(2, 3, 1).unfold(3, 3, 1).permute(0, 2, 3, 1, 4, 5).flatten(3)  # (b, h, w, 9 c)
    sums = (patches[..., None, :] * layer.weight.long().flatten(1)).sum(-1).permute(0, 3, 1, 2)
    assert conv.bias is not None
    return sums * (scale * layer.weight_scale.double()).view(-1, 1, 1) + conv.bias.view(-1, 1, 1)


def small_net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(100, 3)).double().eval()


def test_simulated_products_are_those_of_whole_numbers() -> None:
    model, x = small_net(), torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    coded = quantized(model, x)
    layer, conv = coded[0], model[0]
    assert isinstance(layer, QuantizedLayer) and isinstance(conv, nn.Conv2d)
    assert torch.allclose(layer(x), in_whole_numbers(layer, conv, x), atol=1e-12)
    weights_only = quantized(model)[0]
    assert not torch.allclose(weights_only(x), layer(x), atol=1e-4), "a mutant: inputs that aren't rounded"


def test_ranges_are_those_of_the_layers_inputs() -> None:
    model, x = small_net(), numbers(3, 2, 5, 5).double()
    ranges = input_ranges(model, x)
    hidden = model[1](model[0](x))
    assert ranges == {"0": (x.min().item(), x.max().item()), "3": (0.0, hidden.max().item())}
    assert not model[0]._forward_pre_hooks


def test_more_bits_more_alike_and_the_model_itself_untouched() -> None:
    model, x = small_net(), numbers(9, 2, 5, 5).double()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    errors = [(quantized(model, x, bits=bits)(x) - model(x)).square().mean().item() for bits in (2, 4, 6, 8)]
    assert errors == sorted(errors, reverse=True) and errors[0] > 100 * errors[-1]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_saved_as_bytes_and_read_again(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Flatten(), nn.Linear(64 * 36, 50))
    coded = quantized(model, torch.rand(4, 3, 8, 8))
    save_file(coded.state_dict(), tmp_path / "int8.safetensors")
    other = quantized(nn.Sequential(nn.Conv2d(3, 64, 3), nn.Flatten(), nn.Linear(64 * 36, 50)), torch.rand(4, 3, 8, 8))
    for mine, theirs in zip(other, coded, strict=True):
        if isinstance(mine, QuantizedLayer):
            mine.low, mine.high = theirs.low, theirs.high
    other.load_state_dict(load_file(tmp_path / "int8.safetensors"))
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(other(x), coded(x))
    weights = 64 * 27 + 50 * 64 * 36
    assert stored_bytes(coded) == weights + 4 * 2 * (64 + 50) and stored_bytes(model) == 4 * (weights + 64 + 50)
    assert stored_bytes(quantized(model, bits=4)) == weights // 2 + 4 * 2 * (64 + 50)
    assert abs((tmp_path / "int8.safetensors").stat().st_size - stored_bytes(coded)) < 1000


@pytest.mark.parametrize("bits", [1, 9])
def test_bad_bits(bits: int) -> None:
    with pytest.raises(InputError, match="2 to 8 bits"):
        quantize(torch.ones(3), bits=bits)


def test_bad_input() -> None:
    for wrong in (torch.tensor([1.0, torch.nan]), torch.tensor([torch.inf]), torch.empty(0)):
        with pytest.raises(InputError, match="finite"):
            quantize(wrong)
    for empty in (nn.ReLU(), nn.Linear(3, 3)):
        with pytest.raises(InputError, match="inside"):
            quantized(empty)
