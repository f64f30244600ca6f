"""Pictures to embed, one by one: CIFAR-10's, crops of photographs, or a folder of yours; and the network for it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure
from torch import Tensor, nn

from vivace.base.data import ImageFolder, Labelled, cifar10, cifar10_at_hand, digits
from vivace.base.drawing import ORANGE, drawing
from vivace.base.embedding_file import fingerprint
from vivace.base.errors import InputError
from vivace.base.images import crop_center, read_image, resize
from vivace.base.report import Step, Tell, ignore
from vivace.cnn import create_model, efficientnet_lite0, for_inference, load_model
from vivace.experiments.labelled_pictures import patches
from vivace.explain import embedding

EmbeddedSet = Literal["auto", "cifar10", "photographs"]
BATCH = 50
MANY = 2000
QUERIES = 0.2  # the share of the pictures that ask; the others are searched


@dataclass(frozen=True)
class Pictures:
    """What is embedded: how many, of which class, under which names, and how to see number i at side x side."""

    name: str
    labels: Int[Tensor, " n"]
    classes: tuple[str, ...]
    names: tuple[str, ...]
    asking: Bool[Tensor, " n"]  # the pictures that are queries
    side: int
    fingerprint: str  # of everything the pixels depend on
    see: Callable[[int], Float[Tensor, "c h w"]]

    def batches(self, start: int = 0, *, tell: Tell = ignore) -> Iterator[Float[Tensor, "b c h w"]]:
        """The pictures from number `start` on, so many at a time."""
        for first in range(start, len(self.labels), BATCH):
            tell(Step(first, len(self.labels), "looking at pictures"))
            yield self.some(range(first, min(first + BATCH, len(self.labels))))

    def some(self, places: range | list[int]) -> Float[Tensor, "b c h w"]:
        return torch.stack([self.see(i) for i in places])


def pictures(data: str | Path | None, dataset: EmbeddedSet, *, count: int, side: int, seed: int, tell: Tell = ignore
             ) -> Pictures:  # fmt: skip
    """A folder of yours (all of it), or `count` pictures of CIFAR-10 where it is at hand, else crops of photographs."""
    if data is not None:
        return _own(Path(data).expanduser(), side, seed)
    if dataset == "cifar10" or (dataset == "auto" and cifar10_at_hand()):
        some = cifar10("test", each=max(2, count // 10), tell=tell)
        return _of(some, "CIFAR-10", _stratified(some.labels, seed), side)
    crops = changed_crops(max(2, count // 10), side=side, seed=seed)
    asking = torch.arange(len(crops.labels)) >= len(crops.labels) - 10 * max(1, round(QUERIES * (count // 10)))
    return _of(crops, "crops of ten photographs", asking, side)


def digit_pictures(count: int) -> Pictures:
    """scikit-learn's 8 x 8 digits, about `count` of them, none of which asks."""
    some = digits("train").first_of_each(max(2, count // 10))
    return _of(some, "scikit-learn's digits", torch.zeros(len(some.labels), dtype=torch.bool), 8)


def _of(given: Labelled, name: str, asking: Bool[Tensor, " n"], side: int) -> Pictures:
    names = tuple(f"{given.classes[label]} {i}" for i, label in enumerate(given.labels.tolist()))
    stamp = fingerprint([given.images.numpy().tobytes(), str(side)])
    return Pictures(name, given.labels, given.classes, names, asking, side, stamp,
                    lambda i: resize(given.images[i], (side, side)))  # fmt: skip


def _own(folder: Path, side: int, seed: int) -> Pictures:
    files = ImageFolder(folder, size=side, flat=True)
    names = tuple(str(path.relative_to(folder)) for path in files.paths)
    labels = torch.tensor(files.labels)
    facts = [path.stat() for path in files.paths]
    stamp = fingerprint([*names, *(f"{fact.st_size} {fact.st_mtime_ns}" for fact in facts), str(side)])
    return Pictures(folder.resolve().name, labels, files.classes, names, _stratified(labels, seed), side, stamp,
                    lambda i: files[i][0])  # fmt: skip


def _stratified(labels: Int[Tensor, " n"], seed: int) -> Bool[Tensor, " n"]:
    """A fifth of each class asks, one picture at least where there are two."""
    generator, asking = torch.Generator().manual_seed(seed), torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        mine = torch.nonzero(labels == label)[:, 0]
        mine = mine[torch.randperm(len(mine), generator=generator)]
        asking[mine[: max(1, round(QUERIES * len(mine)))] if len(mine) > 1 else mine[:0]] = True
    return asking


def changed_crops(each: int, *, side: int, seed: int) -> Labelled:
    """`each` squares of ten photographs, tinted, greyed, turned, mirrored: from left halves, a fifth from right ones.

    So that what is asked for was never cut from where the answers are, and colour alone doesn't give it away.
    """
    asks = max(1, round(QUERIES * each))
    left = patches(each - asks, side=side, seed=seed, part="left")
    right = patches(asks, side=side, seed=seed + 1, part="right")
    generator = torch.Generator().manual_seed(seed)
    images = torch.stack([_changed(image, generator) for part in (left, right) for image in part.images])
    return Labelled(images, torch.cat([left.labels, right.labels]), left.classes)


def _changed(image: Float[Tensor, "3 h w"], generator: torch.Generator) -> Float[Tensor, "3 h w"]:
    mirrored, turned, grey = torch.rand(3, generator=generator).tolist()
    image = image.flip(2) if mirrored < 0.5 else image
    image = torch.rot90(image, 1 + int(2 * (turned > 0.75)), (1, 2)) if turned > 0.5 else image
    image = image.mean(0, keepdim=True).expand(3, -1, -1) if grey < 0.5 else image
    tint = 0.6 + 0.8 * torch.rand(3, 1, 1, generator=generator)
    return (image * tint).clamp(0, 1)


def network(architecture: str, weights: str | Path | None, *, tell: Tell = ignore) -> tuple[str, nn.Module]:
    """What the network is called, and it: with ImageNet's weights, or one of yours from `save_model`'s file."""
    if weights is not None:
        return Path(weights).name, load_model(weights)[0]
    return architecture, create_model(architecture, weights="imagenet", tell=tell)


def quick_embedding(model: nn.Module, layer: str | None, given: Pictures) -> Callable[[Tensor], Tensor]:
    """Batch to embeddings; for many pictures, and where no layer is named, batch norms are folded first.

    That takes seconds, and then half of the time for each picture.
    """
    folded = layer is None and len(given.labels) >= MANY
    faster = for_inference(model, (3, given.side, given.side)) if folded else model
    return lambda images: embedding(faster, images, layer)


def embed_all(given: Pictures, *, tell: Tell = ignore) -> Float[Tensor, "n d"]:
    """What EfficientNet-Lite0, trained on ImageNet, averages before it names a class, for all of the pictures."""
    embed = quick_embedding(efficientnet_lite0(weights="imagenet"), None, given)
    return torch.cat([embed(batch) for batch in given.batches(tell=tell)])


def query_square(image: str | Path, side: int) -> Float[Tensor, "3 h w"]:
    """A picture as the network is to see it: its middle square."""
    picture = read_image(image, max_side=8 * side)
    if min(picture.shape[1:]) < 2:
        raise InputError(f"{image} is {picture.shape[2]} x {picture.shape[1]} pixels; too small to embed")
    return crop_center(resize(picture, side), side)


def sheet(rows: Sequence[Sequence[tuple[str, Float[Tensor, "c h w"]]]]) -> Figure:
    """A row for each picture that asks, which stands first with a frame around it, then what was found, with words."""
    columns = max(map(len, rows))
    figure, axes = drawing(len(rows), columns, width=1.25 * columns, height=1.5 * len(rows), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for each in line:
            each.set_axis_off()
        for place, (each, (words, picture)) in enumerate(zip(line, row, strict=False)):
            each.imshow(picture.expand(3, -1, -1).movedim(0, -1).clamp(0, 1).numpy())
            each.set_title(words[:18], fontsize=8)
            if place == 0:
                each.set_axis_on()
                each.set(xticks=(), yticks=())
                for side in each.spines.values():
                    side.set(visible=True, color=ORANGE, linewidth=3)
    return figure
