"""A classifier on too few pictures, some of them wrongly labelled: where overfitting and its cures are watched."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vivace.base.data import MNIST, Labelled, at_hand, digits, mnist, stratified
from vivace.base.hooks import evaluating
from vivace.networks import ACTIVATIONS, Dropout, he_

DataSet = Literal["auto", "mnist", "digits"]
BATCH = 32


class Small(NamedTuple):
    """A few pictures to learn from, more to validate on, and many to test on."""

    name: str
    train: Labelled
    validation: Labelled
    test: Labelled


@dataclass(frozen=True)
class Recipe:
    """What a training differs in."""

    hidden: Sequence[int] = (128, 64)
    activation: str = "relu"
    drop: float = 0.0
    batch_norm: bool = False
    weight_decay: float = 0.0
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    learning_rate: float = 2e-3
    epochs: int = 60

    def but(self, **changes: object) -> "Recipe":
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass
class Learned:
    """A trained net, and its errors (in %) and losses after each epoch."""

    net: nn.Module
    curves: dict[str, list[float]] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """Test error less training error at the end, in points."""
        return self.curves["test error"][-1] - self.curves["training error"][-1]


def small_data(dataset: DataSet, few: int, wrong: float, seed: int) -> Small:
    """`few` pictures of MNIST, or of scikit-learn's digits, a share `wrong` of them with another class's label."""
    if dataset == "mnist" or (dataset == "auto" and at_hand(*MNIST["train"], *MNIST["test"])):
        name, every, test = "MNIST", mnist("train"), mnist("test")
        every = stratified(every, test_share=0.05, seed=seed)["test"]  # 3,000, for a validation that can be trusted
    else:
        name, every, test = "scikit-learn's digits", digits("train"), digits("test")
    parts = stratified(every, test_share=1 - few / len(every.labels), seed=seed)
    train, rest = parts["train"], parts["test"]
    generator = torch.Generator().manual_seed(seed)
    count = round(wrong * len(train.labels))
    chosen = torch.randperm(len(train.labels), generator=generator)[:count]
    labels = train.labels.clone()
    labels[chosen] = (labels[chosen] + torch.randint(1, 10, (count,), generator=generator)) % 10
    if name == "MNIST":
        validation = rest
    else:  # the shipped digits are few: half of what is left over is for testing too
        halves = stratified(rest, test_share=0.5, seed=seed)
        validation, more = halves["train"], halves["test"]
        test = Labelled(torch.cat([more.images, test.images]), torch.cat([more.labels, test.labels]), test.classes)
    return Small(name, Labelled(train.images, labels, train.classes), validation, test)


def build(inputs: int, recipe: Recipe, generator: torch.Generator) -> nn.Sequential:
    """An MLP with He initialisation, with batch normalisation before and dropout after each activation if asked for."""
    layers: list[nn.Module] = [nn.Flatten()]
    sizes = (inputs, *recipe.hidden, 10)
    for i, (n, m) in enumerate(pairwise(sizes)):
        linear = nn.Linear(n, m)
        he_(linear.weight, generator=generator)
        nn.init.zeros_(linear.bias)
        layers.append(linear)
        if i < len(recipe.hidden):
            layers += [nn.BatchNorm1d(m)] if recipe.batch_norm else []
            layers.append(_Bend(recipe.activation))
            layers += [Dropout(recipe.drop)] if recipe.drop else []
    return nn.Sequential(*layers)


class _Bend(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.f = ACTIVATIONS[name].fused

    def forward(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        return self.f(x)


def learn(data: Small, recipe: Recipe, seed: int, *, after: Callable[[nn.Module, dict[str, float]], bool] | None = None
          ) -> Learned:  # fmt: skip
    """Train with AdamW at a constant rate, measuring after each epoch; `after` may end it."""
    generator = torch.Generator().manual_seed(seed)
    net = build(data.train.images[0].numel(), recipe, generator).train()
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    learned = Learned(net)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # dropout's own
        for _ in range(recipe.epochs):
            for places in torch.randperm(len(data.train.labels), generator=generator).split(BATCH):
                images = data.train.images[places]
                if recipe.augment is not None:
                    images = recipe.augment(images, generator)
                loss = F.cross_entropy(net(images), data.train.labels[places])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            row = measure(net, data)
            for name, value in row.items():
                learned.curves.setdefault(name, []).append(value)
            if after is not None and after(net, row):
                break
    return learned


@torch.no_grad()
def measure(net: nn.Module, data: Small) -> dict[str, float]:
    """Error in % and cross-entropy of the net as it predicts, on each part of the data."""
    row = {}
    with evaluating(net):
        for name, part in (("training", data.train), ("validation", data.validation), ("test", data.test)):
            logits = net(part.images)
            row[f"{name} error"] = 100 * (logits.argmax(1) != part.labels).double().mean().item()
            row[f"{name} loss"] = F.cross_entropy(logits, part.labels).item()
    return row


def of_class(net: nn.Module, given: Labelled, classes: Sequence[int]) -> float:
    """The share, in %, of these classes' pictures that are named rightly."""
    which: Int[Tensor, " m"] = torch.isin(given.labels, torch.tensor(classes)).nonzero()[:, 0]
    with evaluating(net), torch.no_grad():
        return 100 * (net(given.images[which]).argmax(1) == given.labels[which]).double().mean().item()


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """The mean of several trainings' numbers, and twice its standard error."""
    numbers = torch.tensor(values, dtype=torch.float64)
    return numbers.mean().item(), 2 * (numbers.std() / len(values) ** 0.5).item()
