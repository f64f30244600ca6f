"""Pictures with a class for each pixel: CamVid's street scenes, from a data folder."""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from vivace.base.data import data_places
from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.base.report import Step, Tell, ignore

CAMVID_CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "cyclist",
)


class Segmented(NamedTuple):
    """Pictures of one size in [0, 1], the class of each pixel, and what the classes are called.

    A label of `len(classes)` says that nobody knows: such pixels are neither learnt from nor counted.
    """

    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, "n h w"]
    classes: tuple[str, ...]


def camvid(split: Literal["train", "val"], *, size: int = 360, tell: Tell = ignore) -> Segmented:
    """CamVid's 367 street scenes to train on, or 101 to validate with, the shorter side `size` pixels; label 11: none.

    Brostow, Fauqueur, Cipolla, "Semantic object classes in video: a high-definition ground truth database" (2009), with
    its 32 classes as the 11 of SegNet. Read from `camvid/train`, `trainannot`, `val` and `valannot` below a data
    folder; not downloaded.
    """
    if size < 1:
        raise InputError(f"a picture's shorter side has at least one pixel; got size={size}")
    root = _folder()
    pictures = sorted((root / split).glob("*.jpg"))
    if not pictures:
        raise InputError(f"{root / split} has no .jpg in it")
    images, labels = [], []
    for place, path in enumerate(pictures):
        tell(Step(place, len(pictures), f"reading camvid/{split}"))
        image = resize(read_image(path), size)
        images.append(image)
        labels.append(_labels(root / f"{split}annot" / f"{path.stem}.png", image.shape[-2:]))
    if len({image.shape for image in images}) > 1:
        raise InputError(f"{root / split} has pictures of several shapes; they must all have one")
    return Segmented(torch.stack(images), torch.stack(labels), CAMVID_CLASSES)


def camvid_at_hand() -> bool:
    """Whether CamVid is on this machine."""
    return any((place / "camvid" / "train").is_dir() for place in data_places())


def _folder() -> Path:
    places = [place / "camvid" for place in data_places()]
    found = next((place for place in places if (place / "train").is_dir()), None)
    if found is None:
        where = " or ".join(map(str, places))
        raise InputError(f"no CamVid here: put its folders train, trainannot, val and valannot into {where}")
    return found


def _labels(path: Path, shape: torch.Size) -> Int[Tensor, "h w"]:
    """A label image at that size; each pixel takes the label nearest to it, since labels have no mean."""
    try:
        with Image.open(path) as file:
            values = np.asarray(file.resize((shape[1], shape[0]), Image.Resampling.NEAREST))
    except (OSError, SyntaxError) as error:
        raise InputError(f"{path} is no label image: {error}") from None
    if values.ndim != 2 or values.max() > len(CAMVID_CLASSES):
        raise InputError(f"{path} is no label image: it needs one channel of values 0 to {len(CAMVID_CLASSES)}")
    return torch.from_numpy(values.astype(np.int64))
