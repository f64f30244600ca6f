"""Photographs with a class each, and what a network trained on others sees in them: for grouping and naming them."""

import io
import zipfile

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vivace.base.data import Labelled, data_places
from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.base.report import Step, Tell, ignore
from vivace.cnn import efficientnet_lite0

PHOTOGRAPHS = ("brick", "grass", "gravel", "chelsea", "coffee", "astronaut", "china", "flower", "rocket", "coins")
CIFAR10 = "cifar10/train.zip"  # class/NNNN.jpg, below a data folder


def faces() -> Labelled:
    """200 grey photographs (200, 1, 25, 25), half of them faces (Huang et al. 2007); they come with scikit-image."""
    from skimage.data import lfw_subset

    images = torch.from_numpy(lfw_subset()).float()[:, None]
    return Labelled(images, torch.arange(200) // 100, ("face", "no face"))


def cats_and_dogs(count: int) -> Labelled | None:
    """`count` of CIFAR-10's cats and dogs (Krizhevsky 2009), half of each, where $VIVACE_DATA has them; else None."""
    path = next((place / CIFAR10 for place in data_places() if (place / CIFAR10).is_file()), None)
    if path is None:
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = [[name for name in sorted(archive.namelist()) if name.startswith(kind) and name.endswith(".jpg")]
                     for kind in ("cat/", "dog/")]  # fmt: skip
            chosen = [name for mine in names for name in mine[: count // 2]]
            pictures = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in chosen]
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path} is not a whole zip file of pictures: {error}") from None
    labels = torch.tensor([int(name.startswith("dog/")) for name in chosen])
    return Labelled(torch.from_numpy(np.stack(pictures)).movedim(-1, 1) / 255, labels, ("cat", "dog"))


def patches(count: int, *, side: int, seed: int) -> Labelled:
    """`count` random squares of each of ten shipped photographs, a third of its shorter side; the class is which."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for name in PHOTOGRAPHS:
        picture = read_image(name)
        height, width = picture.shape[-2:]
        edge = min(height, width) // 3
        for _ in range(count):
            top = int(torch.randint(height - edge + 1, (), generator=generator))
            left = int(torch.randint(width - edge + 1, (), generator=generator))
            found.append(resize(picture[:, top : top + edge, left : left + edge], (side, side)))
    return Labelled(torch.stack(found), torch.arange(len(PHOTOGRAPHS)).repeat_interleave(count), PHOTOGRAPHS)


def pixels(images: Float[Tensor, "n c h w"]) -> Float[np.ndarray, "n d"]:
    """The pictures as rows of numbers."""
    return images.flatten(1).double().numpy()


@torch.no_grad()
def cnn_features(images: Float[Tensor, "n c h w"], side: int, *, tell: Tell = ignore) -> Float[np.ndarray, "n 1280"]:
    """What EfficientNet-Lite0, trained on ImageNet, averages before it names a class; pictures enlarged to `side`."""
    model = efficientnet_lite0(weights="imagenet")
    found = []
    for start in range(0, len(images), 50):
        tell(Step(start, len(images), "looking at pictures"))
        batch = resize(images[start : start + 50], (side, side)).expand(-1, 3, -1, -1)
        found.append(model.features(batch).mean((2, 3)))
    return torch.cat(found).double().numpy()
