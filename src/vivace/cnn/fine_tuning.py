"""Fine-tuning: a network that learnt one task learns another from few pictures, its early layers kept or let go.

Yosinski, Clune, Bengio, Lipson, "How transferable are features in deep neural networks?" (2014), section 3; the order,
first the head alone, then the rest: Kumar et al., "Fine-tuning can distort pretrained features" (2022), section 3.4.
In: a trained model, pictures (N, 3, H, W) in [0, 1], labels (N,) from 0. Out: the model with a head for these classes.
Departs from the paper: the head is fitted to its optimum by L-BFGS, not by steps over batches; batch normalisation
keeps its statistics, since those of a small batch ruin what was learnt.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.hooks import evaluating, find_layer
from vivace.base.progress import Step, Tell, ignore
from vivace.cnn._imagenet import last_linear, replace_head

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _Enough(Exception):
    """Raised in front of the head: what it would say is not wanted."""


@torch.no_grad()
def head_inputs(model: nn.Module, images: Float[Tensor, "n 3 h w"], *, batch_size: int = 32, tell: Tell = ignore
                ) -> Float[Tensor, "n d"]:  # fmt: skip
    """What the model's last linear layer is given for each picture: computed once, learnt from as often as needed."""
    found: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0])
        raise _Enough

    handle = last_linear(model)[1].register_forward_pre_hook(keep)
    try:
        with evaluating(model):
            for done, batch in enumerate(images.split(batch_size)):
                tell(Step(done * batch_size, len(images), "looking at pictures"))
                with suppress(_Enough):
                    model(batch)
    finally:
        handle.remove()
    return torch.cat(found)


def fit_head(model: nn.Module, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], *, classes: int,
             weight_decay: float = 1e-3) -> nn.Linear:  # fmt: skip
    """Give the model a new last layer: softmax regression on its `head_inputs`, weights drawn to zero.

    InputError for labels outside 0 to classes - 1, or as many features as there are no labels for.
    """
    if len(features) != len(labels) or not len(labels):
        raise InputError(f"{len(features)} pictures and {len(labels)} labels: one label for each, at least one")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise InputError(f"labels run from 0 to {classes - 1}; got {int(labels.min())} to {int(labels.max())}")
    head = replace_head(model, classes)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(head(features), labels) + weight_decay * head.weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    head.zero_grad()
    return head


def freeze(model: nn.Module, *, but: Sequence[str] = ()) -> None:
    """Only the layers `but`, by dotted name, go on learning; batch norms keep their statistics everywhere.

    `but=[""]` is the whole model. A batch norm stays as it predicts also where `model.train()` is called, until the
    next `freeze` or `thaw`.
    """
    learning = {id(weight) for name in but for weight in (find_layer(model, name) if name else model).parameters()}
    for weight in model.parameters():
        weight.requires_grad_(id(weight) in learning)
    for module in model.modules():
        if isinstance(module, NORMS):
            module.eval()
            module.train = partial(_as_it_is, module)  # type: ignore[assignment, method-assign]


def thaw(model: nn.Module) -> None:
    """All weights learn again, and batch norms take the statistics of their batches in training."""
    for weight in model.parameters():
        weight.requires_grad_(True)
    for module in model.modules():
        module.__dict__.pop("train", None)


def _as_it_is(module: nn.Module, _mode: bool = True) -> nn.Module:
    return module
