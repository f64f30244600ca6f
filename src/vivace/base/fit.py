"""The plain training loop: batches in, a trained model out; devices and precision are Lightning Fabric's.

Set up, one step, report: `_train` is all of it, and `Training.step` the step. The order of an epoch's examples is a
function of the seed and the epoch alone, and a checkpoint holds everything else that a step depends on, so that a
training that was stopped (Ctrl-C, `kill -9`) and resumed ends, on one device, with the same bits as one that was not.
"""

import copy
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from vivace.base.checkpoint import (
    Checkpoint,
    checkpoints,
    newest_checkpoint,
    set_aside,
    sweep,
    to_safetensors,
    write_checkpoint,
)
from vivace.base.errors import InputError, unknown
from vivace.base.files import written_whole
from vivace.base.hooks import evaluating
from vivace.base.interruption import uninterrupted
from vivace.base.randomness import own_randomness
from vivace.base.report import Step, Tell, ignore
from vivace.base.training import Device, Examples, Job, Loss, Mode, Precision, Training

if TYPE_CHECKING:
    import lightning_fabric

PAUSE = 0.1  # seconds between two ticks of `tell`; only then does the program wait for the GPU


@dataclass(frozen=True)
class Fitted:
    """How training went; the model itself holds the weights."""

    history: list[dict[str, float]]  # a row an epoch: epoch, step, train_loss, lr, seconds, and what `evaluate` said
    steps: int
    seconds: float  # of training, with those before it was resumed
    device: str
    best: int | None  # the epoch whose weights the model has, where something was monitored


def fit(
    model: nn.Module,
    train: Examples,
    loss: Loss,
    *,
    epochs: int = 10,
    batch_size: int = 64,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
    schedule: Callable[[Optimizer, int], LRScheduler] | None = None,
    evaluate: Callable[[Any], Mapping[str, Any]] | None = None,
    monitor: str | None = None,
    mode: Mode = "min",
    patience: int | None = None,
    clip_norm: float | None = None,
    accumulate: int = 1,
    ema: float | None = None,
    seed: int = 0,
    device: Device = "auto",
    devices: int = 1,
    precision: Precision = "32-true",
    folder: str | Path | None = None,
    resume: str | Path | None = None,
    save_every: int | None = None,
    tell: Tell = ignore,
) -> Fitted:
    """Train `model` in place; it comes back on its own device, in evaluation mode.

    train: the examples, best as a TensorDataset; each epoch goes through all of them in an order of its own, and its
        last batch may be smaller
    loss: `loss(model, batch)`: the mean over a batch's examples; it may call any method of the model
    batch_size: the examples of one step, on all devices together
    optimizer: made from the parameters that are learned; Adam with a rate of 1e-3 where none is given
    schedule: made from the optimizer and the number of steps in all; moves on with every step
    evaluate: numbers about the model (its average, with `ema`) as it predicts, after each epoch; it is on its device
    monitor, mode: which number of an epoch's row is best where; the weights of the best epoch come back
    patience: stop after so many epochs in which the monitored number got no better
    clip_norm: the longest that the gradient, of all parameters together, may be
    accumulate: work through a batch in so many parts, where memory is short; the step is the same
    ema: the decay of a running average of the weights, which is evaluated and comes back
    seed: of the order of the examples and of torch's randomness in the loss; the caller's is left as it was
    devices: so many processes share each batch: one for each GPU, or on the CPU; under torchrun its processes do.
        Gradients are those of one process to rounding, but batch normalisation sees only its own share
    precision: "bf16-mixed" is nearly always right on a GPU; weights stay in 32 bits in all but "bf16-true"
    folder: gets `metrics.jsonl`, checkpoints, and in the end `weights.safetensors`; without it nothing is written.
        Checkpoints that are there are moved to `earlier/`, unless they are resumed
    resume: a folder of before, to go on from its newest whole checkpoint with the same settings; to the bit on the
        CPU with as many threads, on a GPU with `torch.use_deterministic_algorithms`
    save_every: steps between two checkpoints; None: each epoch has one
    tell: hears of the loss as it goes, and of each epoch's row; it may raise KeyboardInterrupt to stop

    InputError: settings out of range or other than those resumed with, no checkpoint, a full disk, a loss that is no
    number (with the step, and what to try). Ctrl-C leaves a checkpoint of the last whole step and is passed on.
    """
    kind = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    out, start = (Path(path).expanduser() if path else None for path in (folder, resume))
    job = Job(model, train, loss, epochs, batch_size, optimizer, schedule, evaluate, monitor, mode, patience,
              clip_norm, accumulate, ema, seed, kind, devices, precision, out, start, save_every, tell)  # fmt: skip
    job.check()
    from vivace.base.parallel import fabric_on  # Lightning Fabric: a second or two

    others = partial(_train, job=replace(job, evaluate=None, folder=None, tell=ignore))
    with fabric_on(kind, devices=devices, precision=precision, others=others) as fabric:
        return _train(fabric, job)


def _train(fabric: "lightning_fabric.Fabric", job: Job) -> Fitted:
    """Set up, one step, report."""
    first = next(job.model.parameters())
    home = first.device, first.dtype if job.precision == "bf16-true" else None
    with own_randomness(fabric.device):
        try:
            run = _Run(fabric, job)
            try:
                while not run.over:
                    for places in run.rest_of_epoch():
                        with uninterrupted():
                            run.note(run.training.step(places), count=len(places))
                        run.report()
                    run.close_epoch()
                return run.finish()
            except KeyboardInterrupt:
                run.save()
                raise
        finally:
            job.model.zero_grad()
            job.model.to(*home).eval()


class _Run:
    """A training from epoch to epoch: its losses, its history, its checkpoints. Only the first process writes."""

    def __init__(self, fabric: "lightning_fabric.Fabric", job: Job) -> None:
        self.fabric, self.job = fabric, job
        self.first = fabric.is_global_zero
        start = newest_checkpoint(job.resume, tell=job.tell if self.first else ignore) if job.resume else None
        self.training = Training(fabric, job, start)
        self.history: list[dict[str, float]] = start.state["history"] if start else []
        self.best = start.weights.get("best") if start else None
        self.loss_sum: float = start.state["loss_sum"] if start else 0.0  # of this epoch, as far as losses are read
        self.unread: list[tuple[Float[Tensor, ""], int]] = []  # losses that may be on a GPU still, and their examples
        self.told = time.perf_counter()
        self.began = self.told - (start.state["seconds"] if start else 0.0)
        if job.folder and self.first:
            self.write_metrics()  # or learn now that nothing can be written there
            sweep(job.folder)
            if not (job.resume and job.resume.resolve().is_relative_to(job.folder.resolve())):
                set_aside(job.folder)

    @property
    def best_epoch(self) -> int | None:
        """The epoch, from 1, with the best of what is monitored; the first of equals."""
        monitor, sign = self.job.monitor, 1 if self.job.mode == "min" else -1
        values = [sign * row[monitor] for row in self.history] if monitor else []
        known = [value for value in values if not math.isnan(value)]
        return values.index(min(known)) + 1 if known else None

    @property
    def over(self) -> bool:
        """Whether all epochs are done, or what is monitored has not got better for too long."""
        done, patience = len(self.history), self.job.patience
        return done >= self.job.epochs or (patience is not None and done - (self.best_epoch or 0) >= patience)

    def rest_of_epoch(self) -> Iterator[Int[Tensor, " b"]]:
        """The places of the examples of each batch that this epoch still has."""
        epoch = len(self.history)
        order = epoch_order(len(self.job.train), seed=self.job.seed, epoch=epoch)
        yield from order.split(self.job.batch_size)[self.training.done - epoch * self.job.epoch_steps :]

    def note(self, loss: Float[Tensor, ""], *, count: int) -> None:
        """Keep a step's loss until the device is waited for anyway."""
        self.unread.append((loss, count))

    def read_losses(self) -> float:
        """Add up the losses that were noted; the last of them. InputError where one is no number."""
        last = math.nan
        with uninterrupted():
            for step, (loss, count) in enumerate(self.unread, start=self.training.done - len(self.unread) + 1):
                last = loss.item()
                if not math.isfinite(last):
                    raise self.diverged(f"the loss became {last} at step {step}")
                self.loss_sum += last * count
            self.unread.clear()
        return last

    def diverged(self, what: str) -> InputError:
        kept = checkpoints(self.job.folder)[-1:] if self.job.folder else []
        last = "".join(f"; {path} is from before" for path in kept)
        return InputError(f"{what}: try a smaller learning rate or clip_norm=1, and look for NaN in the data{last}")

    def report(self) -> None:
        """Tell the loss, now and then; save, where it is time to."""
        due = self.job.save_every is not None and self.training.done % self.job.save_every == 0
        if self.first and (due or time.perf_counter() - self.told > PAUSE):
            self.tell({"loss": self.read_losses()}, epoch=len(self.history) + 1)
        if due:
            self.save()

    def tell(self, values: Mapping[str, float], *, epoch: int) -> None:
        self.told = time.perf_counter()
        if self.first:
            self.job.tell(Step(self.training.done, self.job.steps, f"epoch {epoch} of {self.job.epochs}", values))

    def close_epoch(self) -> None:
        """Evaluate, and add the epoch's row to the history."""
        job = self.job
        self.read_losses()
        row: dict[str, float] = {
            "epoch": len(self.history) + 1,
            "step": self.training.done,
            "train_loss": self.loss_sum / len(job.train),
            "lr": float(self.training.optimizer.param_groups[0]["lr"]),
            "seconds": round(time.perf_counter() - self.began, 3),
        }
        row = self.fabric.broadcast(row | self.evaluated())
        if job.monitor is not None and job.monitor not in row:
            raise unknown("number to monitor", job.monitor, row)
        with uninterrupted():
            self.history.append(row)
            self.loss_sum = 0.0
            if self.best_epoch == len(self.history):
                wanted = self.training.wanted.state_dict()
                self.best = {name: value.detach().clone() for name, value in wanted.items()}
        self.write_metrics()
        self.tell({name: row[name] for name in row if name not in ("epoch", "step")}, epoch=len(self.history))
        if job.save_every is None or self.over:
            self.save()

    def evaluated(self) -> dict[str, float]:
        evaluate, half = self.job.evaluate, self.job.precision == "bf16-true"
        if evaluate is None or not self.first:
            return {}
        model = copy.deepcopy(self.training.wanted).float() if half else self.training.wanted
        arithmetic = nullcontext() if half else self.fabric.autocast()
        with own_randomness(self.fabric.device), evaluating(model), arithmetic:
            return {name: float(value) for name, value in evaluate(model).items()}

    def write_metrics(self) -> None:
        if self.job.folder and self.first:
            with written_whole(self.job.folder / "metrics.jsonl") as temporary:
                temporary.write_text("".join(json.dumps(row) + "\n" for row in self.history), encoding="utf-8")

    def save(self) -> None:
        """A checkpoint of the last step, if it came to its end and left numbers."""
        if not self.job.folder or not self.first or not self.training.whole:
            return
        self.read_losses()
        self.hold_finite()
        weights = self.training.weights() | ({"best": self.best} if self.best else {})
        own = {"history": self.history, "loss_sum": self.loss_sum, "seconds": time.perf_counter() - self.began}
        write_checkpoint(self.job.folder, Checkpoint(self.training.done, weights, self.training.state() | own))

    def hold_finite(self) -> None:
        if not self.training.finite():
            raise self.diverged(f"a weight was no number any more after step {self.training.done}")

    def finish(self) -> Fitted:
        """Give the model the weights that are wanted, and write them."""
        model, fabric = self.job.model, self.fabric
        self.hold_finite()
        model.load_state_dict(self.best or self.training.wanted.state_dict())
        if self.job.folder and self.first:
            with written_whole(self.job.folder / "weights.safetensors") as temporary:
                temporary.write_bytes(to_safetensors(model.state_dict()))
        name = torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else "CPU"
        device = f"{fabric.world_size} x {name}" if fabric.world_size > 1 else name
        return Fitted(self.history, self.training.done, time.perf_counter() - self.began, device, self.best_epoch)


def epoch_order(count: int, *, seed: int, epoch: int) -> Int[Tensor, " count"]:
    """The order in which an epoch (0, 1, ...) goes through `count` examples."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(1_000_003 * seed + epoch))
