"""Data sets: what is read, what is looked for where, and what a user is told when something is wrong."""

import gzip
import hashlib
import io
import os
import re
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
from PIL import Image
from sklearn.datasets import load_digits

from vivace.base import data
from vivace.base.data import (
    CIFAR10,
    CIFAR10_CLASSES,
    ImageFolder,
    Labelled,
    Source,
    at_hand,
    cifar10,
    cifar10_at_hand,
    digits,
    fetch,
    mnist,
    read_idx,
    stratified,
)
from vivace.base.errors import InputError


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """A data folder and a cache of our own, both empty, and no network."""
    monkeypatch.setenv("VIVACE_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("VIVACE_CACHE", str(tmp_path / "cache"))

    def offline(*args, **kwargs):
        raise requests.ConnectionError("no network in tests")

    monkeypatch.setattr(requests, "get", offline)
    return tmp_path / "own"


def idx(array: np.ndarray) -> bytes:
    """Gzipped IDX, written independently of the reader."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


def small_mnist(folder: Path, *, pixels: np.ndarray | None = None, labels: np.ndarray | None = None) -> None:
    (folder / "mnist").mkdir(parents=True)
    pixels = np.arange(2 * 28 * 28).reshape(2, 28, 28) % 256 if pixels is None else pixels
    (folder / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(idx(pixels))
    (folder / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(np.array([7, 2]) if labels is None else labels))


def picture(path: Path, color: tuple[int, int, int], size: tuple[int, int] = (20, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def said(action) -> str:
    """The one line that the user is told."""
    with pytest.raises(InputError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_mnist_by_hand(own_data):
    small_mnist(own_data)
    images, labels, classes = mnist("test")
    assert images.shape == (2, 1, 28, 28) and images.dtype == torch.float32
    assert images[0, 0, 0, 3].item() == pytest.approx(3 / 255) and images.max() == 1
    assert labels.tolist() == [7, 2] and labels.dtype == torch.int64 and classes[7] == "7"


@pytest.mark.skipif("VIVACE_DATA" not in os.environ, reason="needs VIVACE_DATA with mnist/")
def test_mnist_is_the_published_one():
    """MD5 of the uncompressed files as published; counts of each digit in the test set as in the paper's data."""
    folder = Path(os.environ["VIVACE_DATA"], "mnist")
    md5 = {
        "train-images-idx3": "6bbc9ace898e44ae57da46a324031adb",
        "t10k-labels-idx1": "27ae3e4e09519cfbb04c329615203637",
    }
    for name, expected in md5.items():
        inside = gzip.decompress((folder / f"{name}-ubyte.gz").read_bytes())
        assert hashlib.md5(inside).hexdigest() == expected
    test = mnist("test")
    assert torch.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert test.images.mean().item() == pytest.approx(0.1325, abs=1e-4)


def test_digits_are_scikit_learns():
    train, test = digits("train"), digits("test")
    assert train.images.shape[1:] == (1, 8, 8) and len(train.labels) + len(test.labels) == 1797
    assert train.images.min() == 0 and train.images.max() == 1
    theirs = {(image.tobytes(), label) for image, label in zip(*load_digits(return_X_y=True), strict=True)}
    ours = torch.cat([train.images, test.images]).flatten(1).double() * 16
    labels = torch.cat([train.labels, test.labels])
    assert {(image.numpy().tobytes(), int(label)) for image, label in zip(ours, labels, strict=True)} == theirs
    share = torch.bincount(test.labels) / torch.bincount(labels)
    assert (share - 0.2).abs().max() < 0.005
    assert torch.equal(digits("test").images, test.images)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not an IDX file"),
        (b"<!DOCTYPE html>", "not a whole gzip file"),
        (idx(np.zeros((3, 28, 28)))[:-20], "not a whole gzip file"),
        (gzip.compress(gzip.decompress(idx(np.zeros((3, 28, 28))))[:-5]), "2,347 of 2,352 values"),
        (gzip.compress(b"\x00\x00\x0d\x01\x00\x00\x00\x00"), "00 00 0d 01"),
        (gzip.compress(b"\x00\x00\x08\x03\x00"), "not an IDX file"),
    ],
    ids=["empty", "web page", "truncated gzip", "truncated values", "floats", "truncated header"],
)
def test_broken_idx(tmp_path, content, words):
    path = tmp_path / "broken.gz"
    path.write_bytes(content)
    message = said(lambda: read_idx(path))
    assert str(path) in message and words in message


def test_not_mnist(own_data):
    small_mnist(own_data, pixels=np.zeros((2, 32, 32)))
    assert "(N, 28, 28)" in said(lambda: mnist("test"))


@pytest.mark.parametrize("labels", [np.array([1, 2, 3]), np.array([1, 10])], ids=["too many", "no digit"])
def test_wrong_labels(own_data, labels):
    small_mnist(own_data, labels=labels)
    message = said(lambda: mnist("test"))
    assert "t10k-labels" in message and "2 digits" in message


def test_offline_says_where_to_put_it(own_data):
    message = said(lambda: mnist("train"))
    assert "train-images-idx3-ubyte.gz" in message and str(own_data) in message and "cache" in message
    assert "ConnectionError" in message
    assert not at_hand(*data.MNIST["train"])
    assert not list(own_data.parent.rglob("*.gz"))


class Answer:
    """What a server sends."""

    def __init__(self, content: bytes) -> None:
        self.content, self.headers = content, {"content-length": str(len(content))}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def close(self):
        pass

    def raise_for_status(self):
        pass

    def iter_content(self, chunk_size):
        yield self.content


def test_download_is_checked_and_kept(own_data, monkeypatch):
    content = idx(np.array([1, 2]))
    asked = []

    def get(url, **kwargs):
        asked.append(url)
        if "down" in url:
            raise requests.ConnectionError
        return Answer(b"something else" if "wrong" in url else content)

    monkeypatch.setattr(requests, "get", get)
    good = hashlib.sha256(content).hexdigest()
    source = Source(
        "toy/labels.gz", good, ("https://down.example/a", "https://wrong.example/a", "https://up.example/a")
    )
    path = fetch(source)
    assert read_idx(path).tolist() == [1, 2] and len(asked) == 3
    assert fetch(source) == path and len(asked) == 3 and at_hand(source)

    mutant = Source("toy/other.gz", "0" * 64, ("https://up.example/a",))
    assert "wrong SHA-256" in said(lambda: fetch(mutant))
    assert not at_hand(mutant) and [file.name for file in path.parent.iterdir()] == ["labels.gz"]


def test_cache_that_cannot_be_written(own_data, monkeypatch):
    (own_data.parent / "cache").write_text("a file in the way")
    message = said(lambda: fetch(Source("toy/labels.gz", "0" * 64, ("https://up.example/a",))))
    assert "labels.gz" in message and "cannot be written" in message


def test_folder(tmp_path):
    picture(tmp_path / "red" / "a.png", (255, 0, 0))
    picture(tmp_path / "red" / "b.JPG", (255, 0, 0), size=(9, 30))
    picture(tmp_path / "blue" / "c.webp", (0, 0, 255))
    (tmp_path / "red" / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden").mkdir()
    folder = ImageFolder(tmp_path, size=8)
    assert folder.classes == ("blue", "red") and len(folder) == 3
    images, labels, classes = folder.read()
    assert images.shape == (3, 3, 8, 8) and labels.tolist() == [0, 1, 1] and classes == folder.classes
    assert (images[1, 0] > 0.95).all() and (images[1, 2] < 0.05).all()
    assert ImageFolder(tmp_path, size=8, grey=True)[1][0].shape == (1, 8, 8)
    whole = ImageFolder(tmp_path / "red", size=8, flat=True)
    assert whole.classes == ("red",) and len(whole) == 2
    assert ImageFolder(tmp_path, size=8, flat=True).classes == folder.classes


def test_folders_that_cannot_be_used(tmp_path):
    assert "no folder" in said(lambda: ImageFolder(tmp_path / "nothing", size=8))
    (tmp_path / "file").write_text("")
    assert "is a file" in said(lambda: ImageFolder(tmp_path / "file", size=8))
    (tmp_path / "empty").mkdir()
    assert "no sub-folders" in said(lambda: ImageFolder(tmp_path / "empty", size=8))
    (tmp_path / "some" / "cats").mkdir(parents=True)
    picture(tmp_path / "some" / "dogs" / "a.png", (0, 0, 0))
    assert re.search(r"cats has no picture", said(lambda: ImageFolder(tmp_path / "some", size=8)))
    (tmp_path / "some" / "cats" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    folder = ImageFolder(tmp_path / "some", size=8)
    assert "broken.png" in said(folder.read)


def test_stratified_keeps_each_class_share():
    labels = torch.tensor([0] * 10 + [1] * 40 + [2] * 2)
    every = Labelled(torch.arange(52.0).reshape(52, 1, 1, 1), labels, ("a", "b", "c"))
    parts = stratified(every, test_share=0.2)
    assert torch.bincount(parts["test"].labels).tolist() == [2, 8, 1]
    assert torch.bincount(parts["train"].labels).tolist() == [8, 32, 1]
    both = torch.cat([parts["train"].images, parts["test"].images]).flatten()
    assert both.sort().values.tolist() == list(range(52))
    again, other = (stratified(every, test_share=0.2, seed=seed)["test"].images for seed in (0, 1))
    assert torch.equal(again, parts["test"].images) and not torch.equal(other, again)
    alone = Labelled(every.images[:11], labels[:11], ("cat", "dog"))
    assert "'dog'" in said(lambda: stratified(alone, test_share=0.2))


def png(value: int, side: int = 32) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (value, 0, 255 - value)).save(file, "PNG")
    return file.getvalue()


def cifar_zip(path: Path, *, leave_out: str = "", side: int = 32) -> None:
    """Two pictures of each class; the red of picture n of class k is 20 k + n."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for label, name in enumerate(CIFAR10_CLASSES):
            for number in range(2):
                if name != leave_out:
                    archive.writestr(f"{name}/{number:04d}.png", png(20 * label + number, side if label else 32))


def cifar_archive(path: Path, *, pictures: int = 10_000) -> None:
    """The published form; each picture's class and first red value are its number's last digit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.zeros((pictures, 3073), np.uint8)
    rows[:, 0] = rows[:, 1] = np.arange(pictures) % 10
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        member.size = rows.size
        archive.addfile(member, io.BytesIO(rows.tobytes()))


def test_cifar10_from_pictures_in_a_zip(own_data: Path, tmp_path: Path) -> None:
    cifar_zip(tmp_path / "own" / "cifar10" / "train.zip")
    assert not cifar10_at_hand()  # there is no test.zip
    cifar_zip(tmp_path / "own" / "cifar10" / "test.zip")
    assert cifar10_at_hand()
    every = cifar10("train")
    assert every.images.shape == (20, 3, 32, 32) and every.labels.tolist() == [*range(10)] * 2
    red = (every.images[:, 0, 0, 0] * 255).round().int().tolist()
    assert red == [20 * k + n for n in range(2) for k in range(10)]
    assert cifar10("test", each=1).labels.tolist() == [*range(10)]


def test_cifar10_from_the_published_archive(own_data: Path, tmp_path: Path) -> None:
    cifar_archive(tmp_path / "own" / CIFAR10.file)
    found = cifar10("test", each=3)
    assert len(found.labels) == 30 and found.labels.tolist() == [*range(10)] * 3
    assert torch.equal((found.images[:, 0, 0, 0] * 255).round().long(), found.labels)
    cifar_archive(tmp_path / "own" / CIFAR10.file, pictures=9_999)
    with pytest.raises(InputError, match="truncated"):
        cifar10("test")


def test_a_broken_cifar10_is_told(own_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "own" / "cifar10" / "train.zip"
    cifar_zip(path, leave_out="frog")
    with pytest.raises(InputError, match="frog"):
        cifar10("train")
    cifar_zip(path, side=31)
    with pytest.raises(InputError, match="several sizes"):
        cifar10("train")
    path.write_bytes(b"<html>")
    with pytest.raises(InputError, match="not a whole zip"):
        cifar10("train")
    (tmp_path / "own" / CIFAR10.file).write_bytes(b"<html>")
    with pytest.raises(InputError, match="not the published archive"):
        cifar10("test")
