"""What the networks made for ImageNet share: how it normalises pictures, and the weights published for it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError, unknown
from vivace.base.progress import Tell
from vivace.base.weights import CARDS, load_weights

M = TypeVar("M", bound=nn.Module)
Weights = str | None  # what it was trained on ("imagenet", "cifar10"), or none: untrained


class Normalization(nn.Module):
    """(images - mean) / std for each channel. The constants are in no `state_dict`: published files lack them."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] = (0.485, 0.456, 0.406), std: Sequence[float] = (0.229, 0.224, 0.225)
                 ) -> None:  # fmt: skip
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            constant = torch.tensor(values, device="cpu").view(-1, 1, 1)  # not on "meta", where the rest may begin
            self.register_buffer(name, constant, persistent=False)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return (images - self.mean) / self.std


@contextmanager
def pictures_of(images: Tensor, least: int) -> Iterator[None]:
    """What torch says when a map shrinks to nothing, as an InputError in pixels of the picture.

    Said only when it happens: early layers, looked at alone, take smaller pictures.
    """
    try:
        yield
    except RuntimeError:
        height, width = images.shape[-2:]
        if min(height, width) >= least:
            raise
        raise InputError(
            f"pictures of {height} x {width} pixels shrink to nothing on the way; {least} x {least} are the least here"
        ) from None


def built(build: Callable[..., M], name: str, *, classes: int, weights: Weights, tell: Tell,
          rename: Callable[[str], str] = str) -> M:  # fmt: skip
    """The architecture `build(classes=)` untrained, or with its trained weights in evaluation mode.

    For another number of classes than the weights have, the last layer is a new one. `rename` turns a published
    parameter's name into ours, where they differ.
    """
    if classes < 1:
        raise InputError(f"a classifier needs at least one class; got {classes}")
    if weights is None:
        return build(classes=classes)
    cards = {"imagenet": (name, 1000), "cifar10": (f"{name}-cifar10", 10)}  # the file, and the classes it ends in
    known = {data: card for data, card in cards.items() if card[0] in CARDS}
    if weights not in known:
        raise unknown(f"weights for {name}", weights, known)
    card, trained = known[weights]
    published = {rename(key): tensor for key, tensor in load_weights(card, tell=tell).items()}
    with torch.device("meta"):  # no memory is filled with numbers that the file replaces
        model = build(classes=trained)
    model.load_state_dict(published, assign=True)
    if classes != trained:
        replace_head(model, classes)
    return model.eval()


def round_channels(channels: float) -> int:
    """To a multiple of 8, never more than a tenth below: how MobileNet and EfficientNet scale their widths."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def last_linear(model: nn.Module) -> tuple[str, nn.Linear]:
    """The model's last linear layer and its dotted name: the head of every classifier here."""
    linear = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise InputError(f"{type(model).__name__} has no linear layer")
    return linear[-1]


def replace_head(model: nn.Module, classes: int) -> nn.Linear:
    """Put a new linear layer, of as many classes, in the place of the model's last one; returns it."""
    name, old = last_linear(model)
    head = nn.Linear(old.in_features, classes, bias=old.bias is not None).to(old.weight)
    model.set_submodule(name, head)
    return head
