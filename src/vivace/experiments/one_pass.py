"""One-pass style transfer with Lite0 as the encoder: what it sees, its losses, its training, its shipped weights."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vivace.base.errors import InputError
from vivace.base.fit import Fitted, fit
from vivace.base.hooks import activations
from vivace.base.images import total_variation
from vivace.base.progress import part_of
from vivace.base.report import Report, Tell, ignore
from vivace.base.tensor_file import read_tensors
from vivace.base.training import Precision
from vivace.base.weights import load_weights
from vivace.experiments.style_pictures import Pairs, photographs, style_pictures
from vivace.style import StyleAttentionNet, StyleDecoder, adaptive_instance_norm, feature_statistics
from vivace.style.adain import Encode, Maps, opponents

JUDGES = ("stem.norm", *(f"blocks.{i}.expand.norm" for i in (1, 2, 3, 4, 5, 6, 8)))  # before their activations
DEPTHS = (3, 5)  # of them those that the decoder gets, at a fourth and an eighth of the picture's size
CHANNELS = (0, 0, 144, 240)
SIDE = 128  # of the crops in training
PAINTED_EACH, PAINTED_SHARE = 14, 0.2  # paintings of each kind; photographs, of all, that are styles too
N = TypeVar("N", bound=nn.Module)
Paint = Callable[[nn.Module, Maps, Maps], Tensor]  # a picture from the maps of the content and of the style


def encoder(model: nn.Module) -> Encode:
    """The pictures and what Lite0's expansions say of them, from shallow to deep."""
    names = [JUDGES[depth] for depth in DEPTHS]

    def encode(images: Float[Tensor, "b 3 h w"]) -> Maps:
        maps = activations(model, images, names)
        return [coarse_colors(images, maps[-1]), *maps]

    return encode


def coarse_colors(images: Float[Tensor, "b 3 h w"], maps: Float[Tensor, "b _ mh mw"]) -> Float[Tensor, "b 3 mh mw"]:
    """The pictures' opponent colours at the size of a map."""
    height, width = maps.shape[-2:]
    return F.adaptive_avg_pool2d(opponents(images), (height, width))


def judged(model: nn.Module, images: Float[Tensor, "b 3 h w"]) -> Maps:
    """The maps whose statistics are a picture's style: eight depths, and the colours.

    Means and deviations of red, green, blue and of three mixtures of them say all about the colours' covariance.
    """
    return [*activations(model, images, JUDGES), opponents(images), images]


def encoded(maps: Maps) -> Maps:
    """What `encoder` gives, out of what `judged` gave."""
    return [coarse_colors(maps[-1], maps[DEPTHS[-1]]), *(maps[depth] for depth in DEPTHS)]


def style_error(maps: Maps, style: Maps) -> Float[Tensor, " b"]:
    """Squared differences of means and deviations over the square of the style's deviations: the depths' mean."""
    errors = []
    for f, s in zip(maps, style, strict=True):
        (mean, deviation), (to_mean, to_deviation) = feature_statistics(f), feature_statistics(s)
        apart = (mean - to_mean).square() + (deviation - to_deviation).square()
        errors.append(apart.sum(1) / to_deviation.square().sum(1))
    return torch.stack(errors).mean(0)


def content_error(features: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Squared distance from the target, over the target's variance."""
    variance = (target - target.mean((2, 3), keepdim=True)).square().sum((1, 2, 3))
    return (features - target).square().sum((1, 2, 3)) / variance


class Task:
    """What a batch teaches: every content of it is to be seen in its own style picture and in its neighbour's."""

    def __init__(self, judge: nn.Module, paint: Paint, *, content: float, style: float, smoothness: float,
                 fringes: float = 0, identity: float = 0) -> None:  # fmt: skip
        self.judge, self.paint = judge, paint
        self.weights = {"content": content, "style": style, "smoothness": smoothness, "fringes": fringes,
                        "range": 10.0, "identity": identity}  # fmt: skip

    def __call__(self, model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
        found = self.losses(model, *batch)
        return torch.stack([self.weights[name] * value for name, value in found.items()]).sum()

    def losses(self, model: nn.Module, contents: Tensor, styles: Tensor) -> dict[str, Float[Tensor, ""]]:
        """By name, before they are weighted."""
        turned = torch.arange(len(contents)).roll(-1) if len(contents) > 1 else torch.arange(0)
        mine, theirs = torch.arange(len(contents)).repeat(2)[: len(contents) + len(turned)], torch.cat(
            [torch.arange(len(contents)), turned])  # fmt: skip
        with torch.no_grad():
            c, s = ([f[which] for f in judged(self.judge, images)]
                    for images, which in ((contents, mine), (styles, theirs)))  # fmt: skip
            target = adaptive_instance_norm(c[DEPTHS[-1]], s[DEPTHS[-1]])
        picture = self.paint(model, encoded(c), encoded(s))
        seen = judged(self.judge, picture)
        found = {
            "content": content_error(seen[DEPTHS[-1]], target).mean(),
            "style": style_error(seen, s).mean(),
            "smoothness": total_variation(picture),
            "fringes": total_variation(opponents(picture)[:, 1:]),  # edges in colour make up its deviation cheaply
            "range": (picture - picture.clamp(0, 1)).square().mean(),
        }
        if self.weights["identity"]:
            same = [f[: len(contents)] for f in encoded(c)]
            found["identity"] = (self.paint(model, same, same) - contents).square().mean()
        return found


def learned(net: nn.Module, task: Task, steps: int, *, data: str | Path | None, styles: str | Path | None,
            batch_size: int, rate: float, seed: int, precision: Precision, devices: int, folder: Path | None,
            resume: str | Path | None, tell: Tell) -> Fitted:  # fmt: skip
    """Train a network on crops of photographs and of styles: Adam, with a rate that falls along a cosine."""
    each = max(1, min(PAINTED_EACH, steps // 10))
    contents = photographs(data)
    pictures = style_pictures(styles, each, tell=part_of(tell, 0, 10 * steps))
    pictures = [*pictures, *contents[:: round(1 / PAINTED_SHARE)]]
    pairs = Pairs(contents, pictures, steps * batch_size, side=SIDE, seed=seed)

    def falling(optimizer: Optimizer, total: int) -> LambdaLR:
        return LambdaLR(optimizer, lambda n: min(1, (n + 1) / 20) * (0.52 + 0.48 * math.cos(math.pi * n / total)))

    return fit(net, pairs, task, epochs=1, batch_size=batch_size, optimizer=lambda p: Adam(p, rate), schedule=falling,
               clip_norm=1.0, seed=seed, precision=precision, devices=devices, folder=folder, resume=resume,
               save_every=min(100, steps), tell=tell)  # fmt: skip


def training_table(report: Report, fitted: Fitted) -> None:
    report.table("training", ("steps", "device", "minutes", "loss, mean of the training"),
                 [(fitted.steps, fitted.device, f"{fitted.seconds / 60:.1f}",
                   f"{fitted.history[-1]['train_loss']:.3f}")],
                 "The weights are in the run's folder as weights.safetensors; --weights takes them.")  # fmt: skip


def adain_decoder(path: str | Path | None = None, *, tell: Tell = ignore) -> StyleDecoder:
    """The shipped decoder for AdaIN, or one of yours."""
    return _filled(StyleDecoder(CHANNELS), "adain-lite0", path, tell)


def style_attention_net(path: str | Path | None = None, *, tell: Tell = ignore) -> StyleAttentionNet:
    """The shipped network with style attention, or one of yours."""
    return _filled(StyleAttentionNet(CHANNELS), "style-attention-lite0", path, tell)


def _filled(net: N, name: str, path: str | Path | None, tell: Tell) -> N:
    tensors = load_weights(name, tell=tell) if path is None else read_tensors(path)[0]
    try:
        net.load_state_dict({key: tensor.float() for key, tensor in tensors.items()})
    except RuntimeError:
        raise InputError(f"{path} holds no weights of a {type(net).__name__}") from None
    return net.eval()
