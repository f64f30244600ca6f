"""Labelled pictures: shipped, downloaded with a checksum, or a folder of yours.

A published file is looked for below $VIVACE_DATA, then in the cache, and is downloaded only if neither has it.
A new data set is a `Source` for each of its files and a function that reads them into `Labelled`.
"""

import gzip
import io
import math
import os
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pooch
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from requests import RequestException
from torch import Tensor
from torch.utils.data import Dataset

from vivace.base.errors import InputError, unknown
from vivace.base.files import written_whole
from vivace.base.images import SUFFIXES, crop_center, read_image, resize
from vivace.base.report import Step, Tell, ignore

Split = Literal["train", "test"]


class Labelled(NamedTuple):
    """Pictures of one size in [0, 1], the class of each, and what the classes are called."""

    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    classes: tuple[str, ...]

    def taken(self, which: Int[Tensor, " m"]) -> "Labelled":
        """The pictures at these places."""
        return Labelled(self.images[which], self.labels[which], self.classes)

    def first(self, count: int) -> "Labelled":
        """The first so many pictures, or all there are."""
        return Labelled(self.images[:count], self.labels[:count], self.classes)

    def first_of_each(self, count: int) -> "Labelled":
        """The first so many pictures of each class, in the order in which they are."""
        places = [torch.nonzero(self.labels == label)[:count, 0] for label in range(len(self.classes))]
        return self.taken(torch.cat(places).sort().values)


@dataclass(frozen=True)
class Source:
    """A published file: its place below a data folder, its SHA-256, and where it can be had."""

    file: str
    sha256: str
    urls: tuple[str, ...]


def _mnist_file(name: str, sha256: str) -> Source:
    mirrors = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
    return Source(f"mnist/{name}", sha256, tuple(mirror + name for mirror in mirrors))


MNIST = {
    "train": (
        _mnist_file("train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        _mnist_file("train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ),
    "test": (
        _mnist_file("t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        _mnist_file("t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
}


def mnist(split: Split, *, tell: Tell = ignore) -> Labelled:
    """MNIST's handwritten digits: 60,000 to train on, 10,000 to test on; images (N, 1, 28, 28), white on black.

    LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition" (1998), section III.
    """
    images_path, labels_path = (fetch(source, tell=tell) for source in MNIST[_known(split)])
    pixels, digits = read_idx(images_path), read_idx(labels_path)
    if pixels.shape[1:] != (28, 28):
        raise InputError(f"{images_path} holds an array of {pixels.shape}; MNIST's pictures are (N, 28, 28)")
    if digits.shape != pixels.shape[:1] or digits.max(initial=0) > 9:
        raise InputError(f"{labels_path} doesn't hold {len(pixels)} digits 0 to 9, one for each picture")
    images = torch.from_numpy(pixels.astype(np.float32) / 255)[:, None]
    return Labelled(images, torch.from_numpy(digits.astype(np.int64)), tuple("0123456789"))


def digits(split: Split) -> Labelled:
    """scikit-learn's 1,797 handwritten digits: images (N, 1, 8, 8); one in five of each digit is for testing.

    Alpaydin, Kaynak, "Optical recognition of handwritten digits" (1998). They come with scikit-learn: no download.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels.reshape(-1, 1, 8, 8).astype(np.float32) / 16)
    every = Labelled(images, torch.from_numpy(labels.astype(np.int64)), tuple("0123456789"))
    return stratified(every, test_share=0.2)[_known(split)]


CIFAR10 = Source(
    "cifar10/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar10(split: Split, *, each: int | None = None, tell: Tell = ignore) -> Labelled:
    """CIFAR-10's photographs of ten kinds of things: 50,000 to train on, 10,000 to test on; images (N, 3, 32, 32).

    Krizhevsky, "Learning multiple layers of features from tiny images" (2009), chapter 3. `each` takes only the first
    so many of each class. Read from `cifar10/SPLIT.zip` (pictures by class, `cat/0001.png`) below a data folder, or
    from the published archive.
    """
    path = _cifar10_zip(_known(split))
    if path is not None:
        images, labels = _zipped_pictures(path, CIFAR10_CLASSES, each, tell)
    else:
        images, labels = _cifar10_archive(fetch(CIFAR10, tell=tell), split)
    every = Labelled(torch.from_numpy(images).float() / 255, torch.from_numpy(labels), CIFAR10_CLASSES)
    return every if each is None else every.first_of_each(each)


def cifar10_at_hand() -> bool:
    """Whether CIFAR-10 is on this machine already, in either form."""
    return at_hand(CIFAR10) or all(_cifar10_zip(split) is not None for split in ("train", "test"))


class ImageFolder(Dataset[tuple[Tensor, int]]):
    """A folder with one sub-folder of pictures for each class; a picture is read when it is asked for.

    Each is cut to the middle square and brought to `size`. With `flat`, where classes don't matter, a folder without
    sub-folders is one class of its own name. InputError: no folder, no sub-folder, one without a picture; and, when it
    is read, a picture that is broken, by name.
    """

    def __init__(self, folder: str | Path, *, size: int, grey: bool = False, flat: bool = False) -> None:
        root = Path(folder).expanduser()
        if not root.is_dir():
            raise InputError(f"{root} is a file; a folder is needed" if root.exists() else f"no folder {root}")
        inside = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not inside and flat:
            inside = [root]
        if not inside:
            raise InputError(
                f"{root} has no sub-folders; it needs one for each class, with that class's pictures in it"
            )
        self.size, self.grey = size, grey
        self.classes = tuple(path.name for path in inside)
        self.paths: list[Path] = []
        self.labels: list[int] = []
        for label, path in enumerate(inside):
            pictures = sorted(file for file in path.iterdir() if _is_picture(file))
            if not pictures:
                kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
                hint = "" if path == root else "; each sub-folder is a class"
                raise InputError(f"{path} has no picture in it ({kinds}){hint}")
            self.paths += pictures
            self.labels += [label] * len(pictures)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "c h w"], int]:
        image = crop_center(resize(read_image(self.paths[index], max_side=8 * self.size), self.size), self.size)
        return image.mean(0, keepdim=True) if self.grey else image, self.labels[index]

    def read(self, *, tell: Tell = ignore) -> Labelled:
        """All pictures at once, for folders that fit into memory."""
        images = []
        for index in range(len(self)):
            images.append(self[index][0])
            tell(Step(index + 1, len(self), "reading pictures"))
        return Labelled(torch.stack(images), torch.tensor(self.labels), self.classes)


def stratified(pictures: Labelled, *, test_share: float, seed: int = 0) -> dict[str, Labelled]:
    """The pictures in two parts, "train" and "test": the same share of each class, at least one picture of each.

    InputError if a class has a single picture only.
    """
    generator = torch.Generator().manual_seed(seed)
    places: dict[str, list[Tensor]] = {"train": [], "test": []}
    for label, name in enumerate(pictures.classes):
        mine = torch.nonzero(pictures.labels == label)[:, 0]
        if len(mine) < 2:
            raise InputError(f"class '{name}' has one picture only; one to train and one to test on are needed")
        mine = mine[torch.randperm(len(mine), generator=generator)]
        count = max(1, round(test_share * len(mine)))
        places["test"].append(mine[:count])
        places["train"].append(mine[count:])
    return {part: pictures.taken(torch.cat(mine).sort().values) for part, mine in places.items()}


def data_places() -> list[Path]:
    """The folders in which published data is looked for, the best first: $VIVACE_DATA (if set), then the cache."""
    own = os.environ.get("VIVACE_DATA")
    cache = Path(os.environ.get("VIVACE_CACHE") or pooch.os_cache("vivace")).expanduser() / "data"
    return [Path(own).expanduser(), cache] if own else [cache]


def at_hand(*sources: Source) -> bool:
    """Whether all these files are on this machine already."""
    return all(_at_hand(source.file) is not None for source in sources)


def fetch(source: Source, *, tell: Tell = ignore) -> Path:
    """The file on this machine; downloaded into the cache where it is not there yet, whole and with the right hash.

    InputError where that is impossible: it names the file, the folder to put it into and where it is published.
    """
    path = _at_hand(source.file)
    if path is not None:
        return path
    path = data_places()[-1] / source.file
    tell(Step(0, 1, f"downloading {source.file}"))
    why = []
    with written_whole(path) as temporary:
        for url in source.urls:
            try:
                pooch.HTTPDownloader(timeout=30)(url, str(temporary), None)
            except RequestException as error:
                why.append(type(error).__name__)
            else:
                if pooch.file_hash(str(temporary), alg="sha256") == source.sha256:
                    return path
                why.append("a wrong SHA-256")
        places = " or ".join(str(place / source.file) for place in data_places())
        raise InputError(
            f"no data file {source.file}, and no download ({', '.join(why)}): get it from {source.urls[0]} as {places}"
        )


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """An array of bytes from gzipped IDX: 0, 0, 8 (for bytes), the number of axes, their lengths, then the values."""
    try:
        with gzip.open(path) as file:
            data = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is not a whole gzip file: {error}") from None
    if len(data) < 4 or data[:3] != b"\0\0\x08" or len(data) < 4 + 4 * data[3]:
        raise InputError(f"{path} is not an IDX file of bytes: it begins with {data[:4].hex(' ') or 'nothing'}")
    axes = data[3]
    shape = struct.unpack_from(f">{axes}I", data, 4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if values.size != math.prod(shape):
        raise InputError(f"{path} is truncated or damaged: {values.size:,} of {math.prod(shape):,} values")
    return values.reshape(shape)


def _cifar10_zip(split: str) -> Path | None:
    return _at_hand(f"cifar10/{split}.zip")


def _zipped_pictures(path: Path, classes: tuple[str, ...], each: int | None, tell: Tell
                     ) -> tuple[UInt8[np.ndarray, "n 3 h w"], Int[np.ndarray, " n"]]:  # fmt: skip
    """Small pictures of one size, from a zip file with a folder for each class; in the file's order of numbers."""
    found: list[tuple[str, int, np.ndarray]] = []
    try:
        with zipfile.ZipFile(path) as archive:
            for label, name in enumerate(classes):
                members = sorted(member for member in archive.namelist() if member.startswith(f"{name}/")
                                 and Path(member).suffix.lower() in SUFFIXES)[:each]  # fmt: skip
                if not members:
                    raise InputError(f"{path} has no pictures in a folder {name}/")
                for member in members:
                    pixels = np.asarray(Image.open(io.BytesIO(archive.read(member))).convert("RGB"))
                    found.append((Path(member).stem, label, pixels))
                tell(Step(label + 1, len(classes), f"reading {path.name}"))
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path} is not a whole zip file of pictures: {error}") from None
    if len({pixels.shape for _, _, pixels in found}) > 1:
        raise InputError(f"{path} has pictures of several sizes; they must all have one")
    found.sort(key=lambda entry: entry[:2])  # classes in turn, as no learner should see them in blocks
    images = np.stack([pixels for _, _, pixels in found]).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images), np.array([label for _, label, _ in found], np.int64)


def _cifar10_archive(path: Path, split: Split) -> tuple[UInt8[np.ndarray, "n 3 32 32"], Int[np.ndarray, " n"]]:
    """The published binary form: for each picture a byte for its class, then 3 x 32 x 32 bytes."""
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] if split == "train" else ["test_batch.bin"]
    try:
        with tarfile.open(path) as archive:
            parts = []
            for name in names:
                member = archive.extractfile(f"cifar-10-batches-bin/{name}")
                parts.append(member.read() if member is not None else b"")
    except (tarfile.TarError, KeyError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is not the published archive of CIFAR-10: {error}") from None
    rows = np.frombuffer(b"".join(parts), np.uint8)
    if rows.size != 3073 * 10_000 * len(names):
        raise InputError(f"{path} is truncated: {rows.size:,} of {3073 * 10_000 * len(names):,} bytes of pictures")
    rows = rows.reshape(-1, 3073)
    return rows[:, 1:].reshape(-1, 3, 32, 32).copy(), rows[:, 0].astype(np.int64)


def _at_hand(file: str) -> Path | None:
    return next((place / file for place in data_places() if (place / file).is_file()), None)


def _known(split: Split) -> Split:
    if split not in ("train", "test"):
        raise unknown("split", split, ("train", "test"))
    return split


def _is_picture(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
