"""Embeddings in a file: one safetensors file with vectors, classes and names, written as the vectors come.

A file that is being written is called `checkpoint-NAME` and has whole batches; an extraction that was interrupted goes
on after the last of them, to the same bytes as if nothing had happened, and the file gets its name when it is complete.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.tensor_file import read_tensors

BYTES = 4  # of a float32
Batches = Callable[[int], Iterable[Float[Tensor, "_ d"]]]  # from picture number `start` on


class Embeddings(NamedTuple):
    """A row for each picture, its class (0 where there are none), its name, and how they were made."""

    vectors: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    about: Mapping[str, str]


def extract_to(path: Path, batches: Batches, labels: Int[Tensor, " n"], *, names: Sequence[str], classes: Sequence[str],
               batch_size: int, about: Mapping[str, str]) -> Path:  # fmt: skip
    """Write what `batches(start)` yields, or go on with what an interrupted extraction of the same left.

    `batches(start)` must yield the embeddings of pictures start, start + 1, ..., `batch_size` at a time. `about` says
    what the numbers depend on (model, layer, size, pictures); where it differs, the extraction begins anew.
    """
    part = path.with_name(f"checkpoint-{path.name}")
    more = {"names": json.dumps(list(names)), "classes": json.dumps(list(classes)), **about}
    done, d = _done(part, labels, more, batch_size)
    try:
        with part.open("r+b" if done else "wb") as file:
            if done:
                file.truncate(len(_header(labels, d, more)) + done * d * BYTES)
                file.seek(0, os.SEEK_END)
            for batch in batches(done) if done < len(labels) else ():
                if not done:
                    d = batch.shape[1]
                    file.write(_header(labels, d, more))
                file.write(batch.float().cpu().contiguous().numpy().tobytes())
                file.flush()
                done += len(batch)
        if done != len(labels):
            raise InputError(f"{done} embeddings came for {len(labels)} pictures")
        part.replace(path)
    except OSError as error:
        raise InputError(f"{part} cannot be written: {error.strerror or error}") from None
    return path


def read_embeddings(path: str | Path) -> Embeddings:
    """What `extract_to` wrote. InputError where the file is missing, damaged or another one."""
    tensors, about = read_tensors(path)
    try:
        names, classes = (tuple(json.loads(about.pop(key))) for key in ("names", "classes"))
        return Embeddings(tensors["embeddings"], tensors["labels"], names, classes, about)
    except (KeyError, ValueError):
        raise InputError(f"{path} holds no embeddings that `vivace run embeddings` wrote") from None


def fingerprint(parts: Iterable[str | bytes]) -> str:
    """Sixteen letters that differ when any part does."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _header(labels: Int[Tensor, " n"], d: int, about: Mapping[str, str]) -> bytes:
    """All of a safetensors file before the vectors: length, JSON, labels. The vectors are last, so they can grow."""
    n = len(labels)
    start, end = 8 * n, 8 * n + BYTES * n * d
    layout = {
        "__metadata__": dict(about),
        "labels": {"dtype": "I64", "shape": [n], "data_offsets": [0, start]},
        "embeddings": {"dtype": "F32", "shape": [n, d], "data_offsets": [start, end]},
    }
    text = json.dumps(layout).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin where 8 divides
    return len(text).to_bytes(8, "little") + text + labels.cpu().numpy().astype("<i8").tobytes()


def _done(part: Path, labels: Int[Tensor, " n"], about: Mapping[str, str], batch_size: int) -> tuple[int, int]:
    """How many pictures, in whole batches, an unfinished file of the same extraction has, and its width; else 0, 0."""
    try:
        with part.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            d = json.loads(file.read(length))["embeddings"]["shape"][1]
            header = _header(labels, d, about)
            file.seek(0)
            same = file.read(len(header)) == header
        rows = (part.stat().st_size - len(header)) // (BYTES * d)
    except (OSError, ValueError, KeyError, TypeError, IndexError, OverflowError, MemoryError):
        return 0, 0
    rows = min(rows, len(labels))
    done = rows if rows == len(labels) else rows - rows % batch_size
    return (done, d) if same and done > 0 else (0, 0)
