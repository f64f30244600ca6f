"""Tensors and a few words about them in a safetensors file: written whole, read as data."""

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.files import written_whole


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> Path:
    """Write the file whole or not at all."""
    path = Path(path).expanduser()
    with written_whole(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(dict(tensors), dict(about)))
    return path


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the words. InputError where the file is missing, damaged or of another kind."""
    path = Path(path).expanduser()
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in list(file.keys())}, dict(file.metadata() or {})
    except FileNotFoundError:
        raise InputError(f"no file {path}") from None
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from None
