"""Checkpoints: folders written whole, held to their hashes when read, and read as data, never as code.

`checkpoint-00000120` has all that training needs to go on after step 120: sets of weights as safetensors (the model's;
its average's and the best epoch's, where there are any), `state.pt` with the rest, and `sha256.json`. The last two are
kept, so that a damaged one costs no more than the steps since the one before.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.files import written_whole
from vivace.base.interruption import uninterrupted
from vivace.base.report import Step, Tell, ignore

Weights = Mapping[str, Tensor]

KEPT = 2
STATE, HASHES = "state.pt", "sha256.json"


@dataclass(frozen=True)
class Checkpoint:
    """Training after `step` steps: sets of weights by name, and the rest as tensors and plain values."""

    step: int
    weights: Mapping[str, Weights]
    state: Mapping[str, Any]


def checkpoints(folder: Path) -> list[Path]:
    """The folder's checkpoints, the oldest first."""
    return sorted(folder.glob("checkpoint-[0-9]*"), key=lambda path: int(path.name.split("-")[1]))


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint whole or not at all, then remove all but the last two. InputError where there is no room."""
    state = io.BytesIO()
    torch.save(dict(checkpoint.state), state)
    files = {f"{name}.safetensors": to_safetensors(weights) for name, weights in checkpoint.weights.items()}
    files[STATE] = state.getvalue()
    files[HASHES] = json.dumps({name: hashlib.sha256(data).hexdigest() for name, data in files.items()}).encode()
    path = folder / f"checkpoint-{checkpoint.step:08}"
    with written_whole(path) as temporary:
        temporary.mkdir()
        for name, data in files.items():
            (temporary / name).write_bytes(data)
    for old in checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def newest_checkpoint(folder: Path, *, tell: Tell = ignore) -> Checkpoint:
    """The newest checkpoint in the folder that is as it was written; hears of those that are not: `tell`.

    InputError where there is none.
    """
    paths = checkpoints(folder)
    if not paths:
        raise InputError(f"nothing to resume: {folder} " + ("has no checkpoint" if folder.is_dir() else "is no folder"))
    reasons = []
    for path in reversed(paths):
        try:
            return read_checkpoint(path)
        except InputError as error:
            reasons.append(str(error))
            tell(Step(0, 1, f"{error}; looking for the one before"))
    raise InputError(f"nothing to resume: {'; '.join(reasons)}")


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in that folder, on the CPU. InputError where a byte differs, or where it is more than data."""
    try:
        hashes = json.loads((path / HASHES).read_bytes())
        files = {name: (path / name).read_bytes() for name in hashes}
        if any(hashlib.sha256(data).hexdigest() != hashes[name] for name, data in files.items()):
            raise InputError(f"{path} is damaged")
        state = torch.load(io.BytesIO(files.pop(STATE)), map_location="cpu", weights_only=True)
        weights = {name.removesuffix(".safetensors"): safetensors.torch.load(data) for name, data in files.items()}
        return Checkpoint(state["step"], weights, state)
    except UnpicklingError:
        raise InputError(f"{path / STATE} holds more than data and is not opened") from None
    except (OSError, ValueError, AttributeError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise error if isinstance(error, InputError) else InputError(f"{path} is damaged") from None


def sweep(folder: Path) -> None:
    """Remove what a training that was killed left half-written."""
    for name in ("checkpoint", "metrics", "weights"):
        for path in folder.glob(f".{name}-*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def set_aside(folder: Path) -> None:
    """Move the checkpoints of another training to `earlier/`, where those of the last such one are kept."""
    found = checkpoints(folder)
    if found:
        with uninterrupted():
            shutil.rmtree(folder / "earlier", ignore_errors=True)
            (folder / "earlier").mkdir()
            for path in found:
                path.rename(folder / "earlier" / path.name)


def to_safetensors(weights: Weights) -> bytes:
    """The content of a safetensors file; weights that are tied are in it twice."""
    apart = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in weights.items()}
    return safetensors.torch.save(apart)
