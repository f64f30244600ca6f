"""Feed-forward style networks: trained on crops of photographs, or as they are shipped."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset

from vivace.base.errors import InputError
from vivace.base.fit import Fitted, fit
from vivace.base.images import read_image, reduce_to, resize
from vivace.base.randomness import seeded
from vivace.base.report import Tell, ignore
from vivace.base.training import Precision
from vivace.base.weights import load_weights
from vivace.experiments.loss_network import loss_network
from vivace.experiments.picture_folders import bsds500, pictures_in
from vivace.style import LITE0, FeedForward, Gaze, PerceptualLoss, color_transfer, seeing
from vivace.style._goal import StyleTarget
from vivace.style.feed_forward import Normalization

SHIPPED_STYLES = ("swirls", "poppies")
OFFLINE = ("chelsea", "coffee", "china", "flower", "hopper", "rocket", "motorcycle", "grass", "coins", "gravel")
STYLE_SIDE = 512  # longer side of the style picture that the shipped networks learned from
LARGEST = 640  # longer side of a photograph that crops are cut from
ROUNDS = 20  # times that a training tells how it stands


class Crops(Dataset[tuple[Tensor]]):
    """Random squares of photographs, half of them mirrored, drawn from torch's randomness (a training's own)."""

    def __init__(self, photos: Sequence[str | Path], *, side: int, count: int) -> None:
        self.photos, self.side, self.count = photos, side, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> tuple[Float[Tensor, "3 s s"]]:
        photo = photograph(self.photos[place % len(self.photos)], side=self.side)
        top, left = (int(torch.randint(n - self.side + 1, ())) for n in photo.shape[-2:])
        crop = photo[:, top : top + self.side, left : left + self.side]
        return (crop.flip(-1) if torch.rand(()) < 0.5 else crop,)


def photograph(source: str | Path, *, side: int) -> Float[Tensor, "3 h w"]:
    """A picture no larger than crops are cut from, and no smaller than `side`."""
    photo = read_image(source, max_side=max(LARGEST, side))
    return photo if min(photo.shape[-2:]) >= side else resize(photo, side)


def photographs(folder: str | Path | None, *, part: Literal["train", "test"] = "train") -> Sequence[str | Path]:
    """The pictures of a folder; BSDS500's (`part` of them) where they are at hand; else the shipped ones' names."""
    if folder is not None:
        return pictures_in(folder)
    found = bsds500(part)
    return pictures_in(found) if found else OFFLINE


def perceptual_loss(style: Float[Tensor, "3 h w"], *, content_weight: float = 1.0, smoothness: float = 0.1,
                    gaze: Gaze = LITE0, device: str = "cpu") -> PerceptualLoss:  # fmt: skip
    """What a style's network learns from: EfficientNet-Lite0 looks."""
    model = loss_network()[0].to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    see, painting = seeing(model, gaze), style.to(device)
    with torch.no_grad():
        targets = [StyleTarget(features, center=True, whiten=0.5) for features in see(painting[None])[1]]
    return PerceptualLoss(see, targets, show=partial(color_transfer, palette=painting), content_weight=content_weight,
                          smoothness=smoothness)  # fmt: skip


def new_net(width: int, *, normalization: Normalization = "instance", skip: float = 4.0, seed: int = 0
            ) -> FeedForward:  # fmt: skip
    """Untrained, laid out channels last, which convolutions on a CPU are faster in."""
    with seeded(seed):
        net = FeedForward(width=width, normalization=normalization, skip=skip)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def learned(style: str | Path, weights: str | Path | None) -> str | Path:
    """Whose weights to take, where nothing is to be trained."""
    if weights is None and str(style) not in SHIPPED_STYLES:
        raise InputError(
            f"no network has learned the style {style} yet: give --train-steps 300, or --weights of a training "
            f"of yours; learned already are {' and '.join(SHIPPED_STYLES)}"
        )
    return weights or style


def stylizer(name: str | Path) -> FeedForward:
    """The network of a shipped style, or of a file of weights that a training left."""
    if str(name) in SHIPPED_STYLES:
        return _with(load_weights(f"style-{name}"), str(name))
    path = Path(name).expanduser()
    if not path.is_file():
        raise InputError(f"no file of weights {path}")
    try:
        return _with(load_file(path), path.name)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} holds no weights: {str(error).splitlines()[0]}") from None


def _with(weights: Mapping[str, Tensor], name: str) -> FeedForward:
    """The network whose weights these are; its width and number of blocks are read off them."""
    first = weights.get("layers.0.0.weight")
    if first is None:
        raise InputError(f"{name} holds no weights of a feed-forward style network")
    blocks = sum(key.endswith("body.0.weight") for key in weights)
    normalization: Normalization = "batch" if "layers.0.1.running_mean" in weights else "instance"
    net = FeedForward(width=len(first), blocks=blocks, normalization=normalization)
    try:
        net.load_state_dict({key: value.float() for key, value in weights.items()})
    except RuntimeError as error:
        raise InputError(f"{name} doesn't fit a feed-forward style network: {str(error).splitlines()[-1]}") from None
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net.eval()


def train_stylizer(
    net: FeedForward,
    loss: PerceptualLoss,
    photos: Sequence[str | Path],
    *,
    steps: int,
    side: int = 128,
    batch_size: int = 1,
    rate: float = 2e-3,
    seed: int = 0,
    device: str = "cpu",
    precision: Precision = "32-true",
    folder: Path | None = None,
    resume: str | Path | None = None,
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    tell: Tell = ignore,
) -> Fitted:
    """Learn the loss's style, in place; `history` has a row for each twentieth of the steps."""
    rounds = min(ROUNDS, steps)
    return fit(
        net,
        Crops(photos, side=side, count=batch_size * (steps // rounds)),
        partial(_error, perceptual=loss),
        epochs=rounds,
        batch_size=batch_size,
        optimizer=partial(Adam, lr=rate, fused=True),
        schedule=_warm_then_cosine,
        evaluate=evaluate,
        clip_norm=1.0,
        seed=seed,
        device=device,  # type: ignore[arg-type]
        precision=precision,
        folder=folder,
        resume=resume,
        tell=tell,
    )


def _error(net: nn.Module, batch: Sequence[Tensor], *, perceptual: PerceptualLoss) -> Tensor:
    (images,) = batch
    images = images.contiguous(memory_format=torch.channels_last)
    return perceptual(net(images), images)[0]


def _warm_then_cosine(optimizer: Optimizer, steps: int) -> LambdaLR:
    """The rate as a share of the highest: rising over 50 steps, falling to zero at the end."""
    return LambdaLR(optimizer, lambda t: min((t + 1) / 50, 0.5 + 0.5 * math.cos(math.pi * t / steps)))


@torch.no_grad()
def errors(
    net: nn.Module, loss: PerceptualLoss, pictures: Sequence[Float[Tensor, "3 _ _"]]
) -> tuple[float, float, float]:
    """Loss, content's error and style's error of what the network makes of the pictures: means over them."""
    rows = [loss(net(picture[None]), picture[None]) for picture in pictures]
    found = torch.tensor([[float(value) for value in row] for row in rows]).mean(0).tolist()
    return found[0], found[1], found[2]


def reduced(names: Sequence[str | Path], side: int) -> list[Tensor]:
    return [reduce_to(read_image(name), side) for name in names]
