"""The feed-forward style network against the same layers of torch in a row, and against what it replaces."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import Row, compare
from vivace.base.images import crop_center, read_image
from vivace.cnn import efficientnet_lite0
from vivace.style import LITE0, FeedForward, color_transfer, gatys, one_pass, seeing
from vivace.style.feed_forward import GAIN

ITERATIONS = 10


def rows() -> Iterator[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = FeedForward(width=16).eval()
    photo = crop_center(read_image("astronaut"), 256)
    plain = in_a_row(net)
    yield compare("stylising 256 x 256, width 16", lambda: one_pass(net, photo), lambda: plain(photo),
                  peer_name="the same layers of torch in a row", repeats=11,
                  agree=lambda ours, theirs: f"apart by {float((ours - theirs).abs().max()):.0e}")  # fmt: skip
    see = seeing(efficientnet_lite0(weights="imagenet").requires_grad_(False), LITE0)
    style = read_image("swirls", max_side=256)
    what = f"stylising 256 x 256, width 16: one pass against {ITERATIONS} iterations"
    yield compare(what, lambda: one_pass(net, photo),
                  lambda: gatys(see, color_transfer(photo, style), style, steps=ITERATIONS, coarsest=None), repeats=3,
                  peer_name=f"our gatys, {ITERATIONS} iterations")  # fmt: skip
    torch.set_num_threads(threads)


def in_a_row(net: FeedForward) -> Callable[[Tensor], Tensor]:
    """What someone would write with torch alone; it shares the weights."""

    class Block(nn.Module):
        def __init__(self, body: nn.Module) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Tensor) -> Tensor:
            return x + self.body(x)  # type: ignore[no-any-return]

    layers = nn.Sequential(*(Block(layer.body) if hasattr(layer, "body") else layer for layer in net.layers))

    @torch.no_grad()
    def run(photo: Tensor) -> Tensor:
        x = photo[None]
        grey = F.interpolate(F.avg_pool2d(x.mean(1, keepdim=True), 4), scale_factor=4, mode="bilinear")
        return torch.sigmoid(GAIN * layers(2 * x - 1) + net.skip * (grey - 0.5))[0]

    return run
