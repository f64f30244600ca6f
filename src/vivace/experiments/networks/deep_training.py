"""Experiment: what makes deep nets train: skips, normalisation, the activation; and what doing to gradients does."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import nn

from vivace.base.data import Labelled
from vivace.base.drawing import PALETTE, drawing
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.classifier import accuracy
from vivace.experiments.plain_training import standardized_digits, train
from vivace.networks import MLP
from vivace.networks.residual import ResidualMLP

QUICK = {"epochs": 4, "nets": 2}

BLOCKS = 24  # of two layers; with the first and the last, 50 layers
WIDTH = 64
NORMED = 20  # layers of the nets with and without normalisation
MIDDLE = 10  # layers of the nets of tanh and of sigmoids
TRAINED = 80.0  # % of the test digits: where a net counts as trained

TRAININGS = 12  # kinds of nets

DESCENT = partial(torch.optim.SGD, lr=0.1)


@checked
def run(*, epochs: Annotated[int, Ge(3), Le(200)] = 15, nets: Annotated[int, Ge(1), Le(10)] = 3, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """Fifty layers with and without skips, twenty with and without normalisation, ten of tanh and of sigmoids.

    vivace run deep_training        50 s; with skips 50 layers reach a hundredth of the loss without

    epochs: of each training
    nets: how many of each kind, of which the mean is taken
    seed: the first of the seeds
    """
    report = Report(
        "What makes a deep net train",
        f"All nets learn scikit-learn's digits (standardised) for {epochs} epochs; each number is the mean of {nets}.",
    )
    study = Study(*standardized_digits(), epochs, range(seed, seed + nets), tell)
    _skips(report, study)
    _normalisers(report, study)
    _tanh_or_sigmoid(report, study)
    _changed_gradients(report, study)
    tell(Step(TRAININGS, TRAININGS, "done"))
    return report


class Study:
    """Trains several nets of a kind; keeps their loss curves."""

    def __init__(self, data: Labelled, test: Labelled, epochs: int, seeds: Sequence[int], tell: Tell) -> None:
        self.data, self.test, self.epochs, self.seeds, self.tell = data, test, epochs, seeds, tell
        self.done = 0

    def trained(
        self, what: str, made: Callable[[torch.Generator], nn.Module], **how: object
    ) -> tuple[list[float], float]:
        """The mean loss after each epoch, and the mean test accuracy in %."""
        self.tell(Step(self.done, TRAININGS, f"training {what}"))
        self.done += 1
        losses, right = [], []
        for seed in self.seeds:
            net = made(torch.Generator().manual_seed(seed))
            losses.append(train(net, self.data, epochs=self.epochs, seed=seed, **how))  # type: ignore[arg-type]
            right.append(100 * accuracy(net, self.test))
        return torch.tensor(losses).mean(0).tolist(), sum(right) / len(right)


def _skips(report: Report, study: Study) -> None:
    curves, right = {}, {}
    for label, skip in (("with skips", True), ("without", False)):
        curves[label], right[label] = study.trained(f"50 layers {label}", partial(_fifty, skip))
    epochs = range(1, study.epochs + 1)
    report.curve("skips", {label: (epochs, losses) for label, losses in curves.items()}, x="epoch",
                 y="training cross-entropy", log_y=True,
                 caption=f"The same {2 * BLOCKS + 2} layers of {WIDTH} units, He's weights, Adam at 0.001; test "
                 + ", ".join(f"{label} {r:.1f} %" for label, r in right.items()) + ".")  # fmt: skip
    report.claim("2.12.Q3.c2", curves["with skips"][-1] / curves["without"][-1], high=0.5,
                 detail="training loss with skips over that without, after "
                 f"{study.epochs} epochs: {curves['with skips'][-1]:.3f} and {curves['without'][-1]:.3f}")  # fmt: skip


def _fifty(skip: bool, generator: torch.Generator) -> ResidualMLP:
    return ResidualMLP(64, WIDTH, 10, blocks=BLOCKS, skip=skip, generator=generator)


def normed_mlp(generator: torch.Generator, *, batch: bool, layer: bool) -> nn.Sequential:
    """A ReLU MLP whose weights start too small, N(0, 1 / (3 fan in)) as PyTorch's own do."""
    parts: list[nn.Module] = [nn.Flatten()]
    inputs = 64
    for _ in range(NORMED - 1):
        parts.append(_small(inputs, WIDTH, generator))
        parts += [nn.BatchNorm1d(WIDTH)] * batch + [nn.LayerNorm(WIDTH)] * layer
        parts.append(nn.ReLU())
        inputs = WIDTH
    return nn.Sequential(*parts, _small(inputs, 10, generator))


def _small(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.normal_(linear.weight, std=(3 * inputs) ** -0.5, generator=generator)
    nn.init.zeros_(linear.bias)
    return linear


def _normalisers(report: Report, study: Study) -> None:
    kinds = {"none": (False, False), "batch norm": (True, False), "layer norm": (False, True), "both": (True, True)}
    rows, right = [], {}
    for label, (batch, layer) in kinds.items():
        losses, right[label] = study.trained(f"{NORMED} layers, {label}", partial(normed_mlp, batch=batch, layer=layer))
        rows.append((label, round(losses[-1], 3), round(right[label], 1)))
    report.table("normalisers", ("normalisation", "training loss", "test accuracy, %"), rows,
                 f"{NORMED} layers of {WIDTH} ReLUs whose weights start too small, N(0, 1/(3 fan in)); Adam at "
                 "0.001.")  # fmt: skip
    one = max(right["batch norm"], right["layer norm"])
    everything = ", ".join(f"{label} {r:.1f} %" for label, r in right.items())
    report.claim("2.12.Q3.c3", right["both"] - one, low=5, unit="points",
                 detail=f"test accuracy with both less that with the better one alone; {everything}")  # fmt: skip
    report.claim("2.12.Q3.x3", one - right["none"], low=20, unit="points",
                 detail="test accuracy with the better one alone less that with none")  # fmt: skip


def _tanh_or_sigmoid(report: Report, study: Study) -> None:
    final = {}
    for name in ("tanh", "sigmoid"):
        losses, right = study.trained(f"{MIDDLE} layers of {name}", partial(_plain, name, MIDDLE))
        final[name] = losses[-1], right
    report.claim("3.2.c6", final["tanh"][0] / final["sigmoid"][0], high=0.5,
                 detail=f"training loss of {MIDDLE} layers of tanh over that of sigmoids; "
                 + ", ".join(f"{k} {loss:.3f}, {right:.1f} %" for k, (loss, right) in final.items()))  # fmt: skip


def _plain(activation: str, layers: int, generator: torch.Generator) -> MLP:
    return MLP([64, *[WIDTH] * (layers - 1), 10], activation=activation, generator=generator,  # type: ignore[arg-type]
               initialization="he" if activation == "relu" else "xavier")  # fmt: skip


def clip(net: nn.Module) -> None:
    """The usual remedy against explosion: shorten the whole gradient to 1 where it is longer."""
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)


def rescale(net: nn.Module) -> None:
    """Each layer's gradient at length 1, however short it was."""
    for parameter in net.parameters():
        assert parameter.grad is not None
        parameter.grad /= parameter.grad.norm() + 1e-30


def _changed_gradients(report: Report, study: Study) -> None:
    """A deep sigmoid net whose gradients are clipped or rescaled; a tanh net for comparison."""
    figure, axes = drawing()
    right = {}
    kinds = {"as they are": ("sigmoid", None), "clipped to length 1": ("sigmoid", clip),
             "each layer's at length 1": ("sigmoid", rescale), "tanh, as they are": ("tanh", None)}  # fmt: skip
    for i, (label, (name, change)) in enumerate(kinds.items()):
        losses, right[label] = study.trained(f"gradients {label}", partial(_plain, name, NORMED), optimizer=DESCENT,
                                             change=change)  # fmt: skip
        axes.plot(range(1, study.epochs + 1), losses, color=PALETTE[i], label=label, linewidth=5 - 1.2 * i)
    axes.set(xlabel="epoch", ylabel="training cross-entropy", ylim=(0, 2.6))
    axes.legend(frameon=False, fontsize=9)
    report.figure("changed-gradients", figure, f"{NORMED} layers of sigmoids, gradient descent at rate 0.1: gradients "
                  "clipped or stretched hardly make it learn; another activation does.")  # fmt: skip
    report.claim("2.12.Q4.c3", right["each layer's at length 1"], low=TRAINED, unit="%",
                 detail=f"test accuracy of {NORMED} sigmoid layers with each layer's gradient at length 1; "
                 + ", ".join(f"{label} {r:.1f} %" for label, r in right.items()))  # fmt: skip
    net = _plain("sigmoid", NORMED, torch.Generator().manual_seed(study.seeds[0]))
    F.cross_entropy(net(study.data.images), study.data.labels).backward()
    first = net.get_parameter("layers.0.weight").grad
    assert first is not None
    before = first.norm().item()
    clip(net)
    after = first.norm().item()
    report.claim("2.12.Q4.x3", after / before, low=1.001, detail="length of the first layer's gradient after clipping, "
                 f"over that before, {before:.1e}")  # fmt: skip
