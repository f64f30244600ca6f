"""Normalisation layers, forward and backward, and gradient clipping on 25 million parameters, against torch's own."""

import copy
from collections.abc import Callable, Iterator
from itertools import count

import torch
from torch import Tensor, nn

from harness import Row, compare
from vivace.networks import BatchNorm, GroupNorm, InstanceNorm, LayerNorm
from vivace.optimization import clip_norm, clip_value

SHAPE = (64, 64, 32, 32)


def rows() -> Iterator[Row]:
    x, dy = (torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    for what, ours, peer in (
        ("batch norm", BatchNorm(64), nn.BatchNorm2d(64)),
        ("layer norm", LayerNorm(SHAPE[1:]), nn.LayerNorm(SHAPE[1:])),
        ("instance norm", InstanceNorm(64), nn.InstanceNorm2d(64)),
        ("group norm, 8", GroupNorm(8, 64), nn.GroupNorm(8, 64)),
    ):
        yield compare(f"{what}, forward and backward, {' x '.join(map(str, SHAPE))}", both_ways(ours, x, dy),
                      both_ways(peer, x, dy), peer_name="torch.nn", repeats=15, agree=apart)  # fmt: skip
    model = nn.ParameterList([torch.zeros(1000, 1000) for _ in range(25)])
    for parameter in model:
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    other = copy.deepcopy(model)
    for mine, theirs in zip(model, other, strict=True):
        theirs.grad = mine.grad.clone()
    for what, shrink in (("clipped", 0.9), ("within the limit", 1.0)):
        ours, peer = (tightening(clip, given, 1e4 * shrink, shrink)
                      for clip, given in ((clip_norm, model), (nn.utils.clip_grad_norm_, other)))  # fmt: skip
        yield compare(f"clipping by norm, 25 M parameters, {what}", ours, peer, peer_name="torch.nn.utils", repeats=31,
                      agree=apart)  # fmt: skip
    yield compare("clipping by value, 25 M parameters", lambda: clip_value(model.parameters(), 1e-6),
                  lambda: nn.utils.clip_grad_value_(other.parameters(), 1e-6), peer_name="torch.nn.utils, no norm",
                  repeats=31, agree=lambda *_: apart(model[0].grad, other[0].grad))  # fmt: skip


def tightening(clip: Callable[..., Tensor], model: nn.Module, limit: float, shrink: float) -> Callable[[], Tensor]:
    """Each call clips to a smaller limit, or what was clipped once would never be again."""
    limits = (limit * shrink**k for k in count())
    return lambda: clip(model.parameters(), next(limits))


def both_ways(layer: nn.Module, x: Tensor, dy: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        leaf = x.clone().requires_grad_()
        layer(leaf).backward(dy)
        return leaf.grad

    return run


def apart(ours: Tensor, theirs: Tensor) -> str:
    return f"max difference {float((ours - theirs).abs().max()):.0e}"
