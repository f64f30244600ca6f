"""AdaIN against PyTorch's instance_norm with the style's statistics; attention against PyTorch's own."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import Row, compare
from vivace.style import StyleAttention, adaptive_instance_norm, attend


def rows() -> Iterator[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        for shape in ((1, 144, 128, 128), (4, 240, 32, 32)):
            x, y = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
            yield compare(f"AdaIN, {' x '.join(map(str, shape))}", lambda x=x, y=y: adaptive_instance_norm(x, y),
                          lambda x=x, y=y: peer(x, y), peer_name="F.instance_norm, mean, std", repeats=21,
                          agree=apart)  # fmt: skip
        for places in (1024, 4096):
            Q, K, V = (torch.randn(1, places, 96, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
            heads = [rows[:, None] for rows in (Q, K, V)]
            yield compare(f"attention of {places:,} places, 96 wide", lambda Q=Q, K=K, V=V: attend(Q, K, V),
                          lambda heads=heads: F.scaled_dot_product_attention(*heads)[:, 0], repeats=11,
                          peer_name="F.scaled_dot_product_attention", agree=apart)  # fmt: skip
        content, style = (torch.randn(1, 96, 32, 32, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
        block, theirs = both_blocks(96)
        yield compare("style attention's block, 96 x 32 x 32", lambda: block(content, style),
                      lambda: with_heads(theirs, content, style), repeats=21, agree=apart,
                      peer_name="F.instance_norm, nn.MultiheadAttention of one head")  # fmt: skip
    torch.set_num_threads(threads)


def peer(content: Tensor, style: Tensor) -> Tensor:
    """As it is usually written."""
    mean, deviation = style.mean((2, 3), keepdim=True), style.std((2, 3), keepdim=True, correction=0)
    return F.instance_norm(content) * deviation + mean


def with_heads(attention: nn.MultiheadAttention, content: Tensor, style: Tensor) -> Tensor:
    q, k, v = (maps.flatten(2).mT for maps in (F.instance_norm(content), F.instance_norm(style), style))
    return content + attention(q, k, v, need_weights=False)[0].mT.view_as(content)


def both_blocks(width: int) -> tuple[StyleAttention, nn.MultiheadAttention]:
    """Ours and PyTorch's, with the same weights."""
    ours, theirs = StyleAttention(width), nn.MultiheadAttention(width, 1, batch_first=True)
    parts = ours.query, ours.key, ours.value
    theirs.in_proj_weight.copy_(torch.cat([part.weight.flatten(1) for part in parts]))
    theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.weight.copy_(ours.out.weight.flatten(1))
    theirs.out_proj.bias.copy_(ours.out.bias)
    return ours, theirs


def apart(ours: Tensor, theirs: Tensor) -> str:
    return f"apart by {float((ours - theirs).abs().max()):.0e}"
