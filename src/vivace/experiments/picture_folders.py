"""Folders of pictures, the user's and BSDS500's, for experiments that learn from photographs or stylise them."""

from pathlib import Path

from vivace.base.data import data_places
from vivace.base.errors import InputError
from vivace.base.images import SUFFIXES


def pictures_in(folder: str | Path) -> list[Path]:
    """The pictures of a folder and its sub-folders in the order of their names."""
    root = Path(folder).expanduser()
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
        why = f"none of {kinds} is in it" if root.is_dir() else "it is a file" if root.exists() else "it isn't there"
        raise InputError(f"{root} is no folder with pictures: {why}")
    return paths


def bsds500(part: str = "train") -> Path | None:
    """The folder of BSDS500's photographs, `train` or `test`, where they are at hand."""
    folders = [place / "bsds500" / part for place in data_places()]
    return next((folder for folder in folders if folder.is_dir()), None)
