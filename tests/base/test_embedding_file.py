"""Embeddings in a file: interrupted anywhere, gone on with to the same bytes; nothing else is taken for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from vivace.base.embedding_file import extract_to, fingerprint, read_embeddings
from vivace.base.errors import InputError

N, D, BATCH = 25, 7, 4
VECTORS = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(N) % 3


def batches(start: int) -> Iterator[Tensor]:
    for i in range(start, N, BATCH):
        yield VECTORS[i : i + BATCH]


def write(path: Path, source: object = batches, **about: str) -> Path:
    names = [f"{i}.png" for i in range(N)]
    return extract_to(path, source, LABELS, names=names, classes=("a", "b", "c"), batch_size=BATCH,  # type: ignore[arg-type]
                      about={"model": "m", **about})  # fmt: skip


def test_is_a_plain_safetensors_file(tmp_path: Path) -> None:
    path = write(tmp_path / "e.safetensors")
    with safe_open(path, "pt") as file:
        assert torch.equal(file.get_tensor("embeddings"), VECTORS) and torch.equal(file.get_tensor("labels"), LABELS)
    read = read_embeddings(path)
    assert torch.equal(read.vectors, VECTORS) and read.names[3] == "3.png" and read.classes == ("a", "b", "c")
    assert read.about == {"model": "m"}
    assert [file.name for file in tmp_path.iterdir()] == ["e.safetensors"]


@pytest.mark.parametrize("after", [0, 1, 3, 6])
@pytest.mark.parametrize("torn", [0, 5])
def test_goes_on_to_the_same_bytes(tmp_path: Path, after: int, torn: int) -> None:
    whole = write(tmp_path / "whole.safetensors").read_bytes()
    path, part = tmp_path / "e.safetensors", tmp_path / "checkpoint-e.safetensors"
    begun: list[int] = []

    def interrupted(start: int) -> Iterator[Tensor]:
        for i, batch in enumerate(batches(start)):
            if i == after:
                raise KeyboardInterrupt
            yield batch

    def watched(start: int) -> Iterator[Tensor]:
        begun.append(start)
        return batches(start)

    with pytest.raises(KeyboardInterrupt):
        write(path, interrupted)
    assert not path.exists() and part.exists()
    with part.open("ab") as file:
        file.write(b"x" * torn)  # half a row, as a power cut leaves it
    write(path, watched)
    assert path.read_bytes() == whole and not part.exists()
    assert begun == [after * BATCH]


def test_begins_anew_where_anything_differs(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"

    def two(start: int) -> Iterator[Tensor]:
        yield VECTORS[:BATCH]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, two, side="64")
    wrong = torch.zeros_like(VECTORS)
    write(path, lambda start: iter([wrong[start:]]), side="96")
    assert torch.equal(read_embeddings(path).vectors, wrong), "a mutant that ignores `about` keeps the first four rows"


def test_too_few_embeddings_are_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="4 embeddings came for 25 pictures"):
        write(tmp_path / "e.safetensors", lambda start: iter([VECTORS[:4]]))
    assert not (tmp_path / "e.safetensors").exists()


def test_garbage_in_place_of_an_unfinished_file(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-e.safetensors").write_bytes(b"\xff" * 100)
    assert read_embeddings(write(tmp_path / "e.safetensors")).vectors.shape == (N, D)


@pytest.mark.parametrize(
    ("content", "words"), [(None, "no file"), (b"", "not a safetensors"), (b"a" * 99, "not a saf")]
)
def test_what_is_no_embedding_file(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "e.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_embeddings(path)


def test_another_safetensors_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="holds no embeddings"):
        read_embeddings(tmp_path / "w.safetensors")


def test_no_room(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "no folder" / "e.safetensors")


def test_a_fingerprint_tells_where_parts_begin() -> None:
    assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"]) and len(fingerprint([b"x"])) == 16
