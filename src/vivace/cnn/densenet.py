"""DenseNet: inside a block every layer is given the maps of all layers before it, side by side, and adds a few.

Huang, Liu, van der Maaten, Weinberger, "Densely connected convolutional networks" (2017), section 3 and table 1;
`memory_efficient`: Pleiss et al., "Memory-efficient implementation of DenseNets" (2017), section 3.
In: pictures (B, 3, H, W), RGB, [0, 1], H and W at least 29, made for 224 (`stem="cifar"`: at least 2 to the number of
transitions, made for 32). Out: logits (B, classes).
Departs from the paper: no dropout (the paper's 0.2, for data that is not augmented); pictures are normalised inside the
model. Names are torchvision's, where what comes before the first block is a part of `features` too.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vivace.base.errors import InputError, unknown
from vivace.base.progress import Tell, ignore
from vivace.cnn._imagenet import Normalization, Weights, built, pictures_of

Maps = Float[Tensor, "b _ h w"]


class DenseLayer(nn.Module):
    """k new maps from all that it is given: by way of `bottleneck` * k of them (1 x 1), or at once where that is 0."""

    def __init__(self, inputs: int, growth: int, *, bottleneck: int, memory_efficient: bool) -> None:
        super().__init__()
        inner = bottleneck * growth or inputs
        if bottleneck:
            self.norm1 = nn.BatchNorm2d(inputs)
            self.relu1 = nn.ReLU()
            self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(inner, growth, 3, padding=1, bias=False)
        self.bottleneck = bottleneck > 0
        self.memory_efficient = memory_efficient

    def forward(self, maps: Sequence[Maps]) -> Float[Tensor, "b k h w"]:
        if self.memory_efficient and torch.is_grad_enabled():
            narrow = checkpoint(self._narrowed, *maps, use_reentrant=False, context_fn=self._contexts)
        else:
            narrow = self._narrowed(*maps)
        return self.conv2(narrow)

    def _narrowed(self, *maps: Maps) -> Maps:
        """What the last convolution sees. Concatenated and normalised copies of all maps are what takes the memory."""
        x = torch.cat(maps, 1) if len(maps) > 1 else maps[0]
        if self.bottleneck:
            x = self.conv1(self.relu1(self.norm1(x)))
        return self.relu2(self.norm2(x))

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), self._averages_kept()

    @contextmanager
    def _averages_kept(self) -> Iterator[None]:
        """While a batch is computed again: it is in the running averages already, and must not count twice."""
        norms = [layer for layer in self.children() if isinstance(layer, nn.BatchNorm2d) and layer.training]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
            norm.num_batches_tracked.sub_(1)  # type: ignore[union-attr]
        try:
            yield
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


class DenseBlock(nn.ModuleDict):
    """Layers `denselayer1`, `denselayer2`, ...; puts out what it was given and all that they added."""

    def forward(self, maps: Maps) -> Maps:
        found = [maps]
        for layer in self.values():
            found.append(layer(found))
        return torch.cat(found, 1)


class Transition(nn.Sequential):
    """Between two blocks: fewer maps, of half the height and width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(OrderedDict(norm=nn.BatchNorm2d(inputs), relu=nn.ReLU(),
                                     conv=nn.Conv2d(inputs, outputs, 1, bias=False), pool=nn.AvgPool2d(2)))  # fmt: skip


class DenseNet(nn.Module):
    """`features`: conv0, denseblock1, transition1, ..., norm5; then ReLU, global average pooling, `classifier`.

    growth: the maps k that each layer adds
    blocks: how many layers each block has
    bottleneck: 1 x 1 convolutions narrow to so many times k maps before each 3 x 3; 0: none (the paper's "B")
    compression: the share of the maps that a transition keeps (the paper's "C": 0.5)
    stem: "imagenet" begins with a 7 x 7 convolution of stride 2 and pooling, "cifar" with one of 3 x 3
    memory_efficient: in training, compute what each layer concatenates once more instead of keeping it
    """

    def __init__(
        self,
        *,
        growth: int = 32,
        blocks: Sequence[int] = (6, 12, 24, 16),
        bottleneck: int = 4,
        compression: float = 0.5,
        stem: Literal["imagenet", "cifar"] = "imagenet",
        stem_maps: int = 64,
        memory_efficient: bool = False,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        if growth < 1 or not blocks or min(blocks) < 1 or bottleneck < 0 or not 0 < compression <= 1:
            raise InputError(f"no DenseNet of growth {growth}, blocks {tuple(blocks)}, bottleneck {bottleneck} and "
                             f"compression {compression}: layers and growth from 1, compression in (0, 1]")  # fmt: skip
        if stem not in STEMS:
            raise unknown("stem", stem, STEMS)
        halved = 2 ** (len(blocks) - 1)  # pixels of the stem's map that the transitions halve to one
        self.least = halved if stem == "cifar" else 4 * halved - 3
        self.normalization = Normalization()
        self.features = nn.Sequential(STEMS[stem](stem_maps))
        maps = stem_maps
        for number, layers in enumerate(blocks, start=1):
            block = DenseBlock()
            for layer in range(layers):
                block[f"denselayer{layer + 1}"] = DenseLayer(
                    maps, growth, bottleneck=bottleneck, memory_efficient=memory_efficient
                )
                maps += growth
            self.features.add_module(f"denseblock{number}", block)
            if number < len(blocks):
                kept = int(maps * compression)
                self.features.add_module(f"transition{number}", Transition(maps, kept))
                maps = kept
        self.features.add_module("norm5", nn.BatchNorm2d(maps))
        self.classifier = nn.Linear(maps, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        with pictures_of(images, self.least):
            maps = self.features(self.normalization(images))
        return self.classifier(torch.relu(maps).mean((2, 3)))


def _imagenet_stem(maps: int) -> OrderedDict[str, nn.Module]:
    return OrderedDict(conv0=nn.Conv2d(3, maps, 7, stride=2, padding=3, bias=False), norm0=nn.BatchNorm2d(maps),
                       relu0=nn.ReLU(), pool0=nn.MaxPool2d(3, 2, padding=1))  # fmt: skip


def _cifar_stem(maps: int) -> OrderedDict[str, nn.Module]:
    return OrderedDict(conv0=nn.Conv2d(3, maps, 3, padding=1, bias=False))


STEMS = {"imagenet": _imagenet_stem, "cifar": _cifar_stem}


def densenet121(*, classes: int = 1000, weights: Weights = None, memory_efficient: bool = False, tell: Tell = ignore
                ) -> DenseNet:  # fmt: skip
    """DenseNet-121: with ImageNet's weights (32 MB) in evaluation mode, or untrained."""
    build = partial(DenseNet, memory_efficient=memory_efficient)
    return built(build, "densenet121", classes=classes, weights=weights, tell=tell, rename=_renamed)


def densenet169(*, classes: int = 1000, weights: Weights = None, memory_efficient: bool = False, tell: Tell = ignore
                ) -> DenseNet:  # fmt: skip
    """DenseNet-169: with ImageNet's weights (57 MB) in evaluation mode, or untrained."""
    build = partial(DenseNet, blocks=(6, 12, 32, 32), memory_efficient=memory_efficient)
    return built(build, "densenet169", classes=classes, weights=weights, tell=tell, rename=_renamed)


def densenet201(*, classes: int = 1000, weights: Weights = None, memory_efficient: bool = False, tell: Tell = ignore
                ) -> DenseNet:  # fmt: skip
    """DenseNet-201: with ImageNet's weights (81 MB) in evaluation mode, or untrained."""
    build = partial(DenseNet, blocks=(6, 12, 48, 32), memory_efficient=memory_efficient)
    return built(build, "densenet201", classes=classes, weights=weights, tell=tell, rename=_renamed)


def densenet40(*, classes: int = 10, weights: Weights = None, memory_efficient: bool = False, tell: Tell = ignore
               ) -> DenseNet:  # fmt: skip
    """The paper's smallest net for CIFAR-10 (L = 40, k = 12), untrained: no bottleneck, no compression."""
    build = partial(DenseNet, growth=12, blocks=(12, 12, 12), bottleneck=0, compression=1.0, stem="cifar",
                    stem_maps=16, memory_efficient=memory_efficient)  # fmt: skip
    return built(build, "densenet40", classes=classes, weights=weights, tell=tell)


def _renamed(name: str) -> str:
    """A published parameter's name (`denselayer1.norm.1.weight`) as torchvision calls it today (`norm1.weight`)."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name)
