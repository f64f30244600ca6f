"""What a step of training works with and changes, and the step itself; `vivace.base.fit` is the loop around it."""

import copy
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import TensorDataset, default_collate

from vivace.base.checkpoint import Checkpoint, Weights
from vivace.base.errors import InputError, unknown
from vivace.base.randomness import randomness, seed_randomness, set_randomness
from vivace.base.report import Tell

if TYPE_CHECKING:
    import lightning_fabric

Batch = Any  # what examples collate to: a tuple of tensors, as a rule
Loss = Callable[[Any, Batch], Tensor]  # of the model and a batch
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"]
Mode = Literal["min", "max"]


@runtime_checkable
class Examples(Protocol):
    """What can be learned from: a TensorDataset, which is asked once a batch, or anything that is asked by place."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: Any, /) -> Any: ...


@dataclass(frozen=True)
class Job:
    """The arguments of `fit`."""

    model: nn.Module
    train: Examples
    loss: Loss
    epochs: int
    batch_size: int
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None
    schedule: Callable[[Optimizer, int], LRScheduler] | None
    evaluate: Callable[[Any], Mapping[str, Any]] | None
    monitor: str | None
    mode: str
    patience: int | None
    clip_norm: float | None
    accumulate: int
    ema: float | None
    seed: int
    device: str
    devices: int
    precision: str
    folder: Path | None
    resume: Path | None
    save_every: int | None
    tell: Tell

    @property
    def epoch_steps(self) -> int:
        return -(-len(self.train) // self.batch_size)

    @property
    def steps(self) -> int:
        return self.epochs * self.epoch_steps

    @property
    def learned(self) -> list[nn.Parameter]:
        return [weight for weight in self.model.parameters() if weight.requires_grad]

    def check(self) -> None:
        """InputError for what can't be done, before anything is started or written."""
        for name, known in (("precision", Precision), ("device", Device), ("mode", Mode)):
            if getattr(self, name) not in get_args(known):
                raise unknown(name, getattr(self, name), get_args(known))
        for name in ("epochs", "batch_size", "accumulate", "devices", "patience", "save_every"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, but must be at least 1")
        clip, ema, gpus = self.clip_norm, self.ema, torch.cuda.device_count()
        most, what = (gpus, "GPUs") if self.device == "cuda" else (max(2, os.cpu_count() or 1), "CPU cores")
        for wrong, message in (
            (len(self.train) == 0, "there is nothing to learn from: the data set is empty"),
            (not self.learned, f"there is nothing to learn: {type(self.model).__name__} has no weight to be trained"),
            (not 0 <= self.seed < 2**31, f"seed is {self.seed}, but must be 0 to {2**31 - 1}"),
            (clip is not None and not clip > 0, f"clip_norm is {clip}, but must be above 0"),
            (ema is not None and not 0 <= ema < 1, f"ema is {ema}, but must be from 0 to below 1"),
            (ema is not None and self.precision == "bf16-true", "ema needs weights of 32 bits: take bf16-mixed"),
            (self.patience is not None and not self.monitor, "patience needs monitor: the number that gets better"),
            (self.device == "cuda" and not gpus, "device is cuda, but torch finds no GPU here"),
            (self.devices > most, f"devices is {self.devices}, but this machine has {most} {what}"),
            (self.device == "cpu" and self.precision == "16-mixed", "16-mixed needs a GPU; on a CPU take bf16-mixed"),
        ):
            if wrong:
                raise InputError(message)


class Training:
    """A model being trained, with its average, its optimizer and its schedule."""

    def __init__(self, fabric: "lightning_fabric.Fabric", job: Job, start: Checkpoint | None) -> None:
        self.fabric, self.job = fabric, job
        optimizer = _optimizer(job)
        self.settings = _settings(job, optimizer)
        if start:
            self._hold_to(start)
            _load(job.model, start.weights["weights"])
        self.objective = fabric.setup_module(_Objective(job.model, job.loss).train())
        self.optimizer: Any = fabric.setup_optimizers(optimizer)
        self.schedule = job.schedule(optimizer, job.steps) if job.schedule else None
        self.average = copy.deepcopy(job.model) if job.ema is not None else None
        self.done = start.step if start else 0  # steps
        self.whole = True  # whether the last step came to its end
        seed_randomness(fabric.device, job.seed + 1_000_003 * fabric.global_rank + self.done)
        if start:
            self._restore(start)

    @property
    def wanted(self) -> nn.Module:
        """The model that is evaluated and comes back."""
        return self.job.model if self.average is None else self.average

    def step(self, places: Int[Tensor, " b"]) -> Float[Tensor, ""]:
        """One step on the examples at these places, shared among the processes; their mean loss."""
        job, fabric = self.job, self.fabric
        self.whole = False
        self.optimizer.zero_grad()
        mean_loss = torch.zeros((), dtype=torch.float64, device=fabric.device)
        parts = places.tensor_split(min(job.accumulate, len(places)))
        for part in parts:
            share = part[fabric.global_rank :: fabric.world_size]
            batch = self._batch(share if len(share) else part[:1])  # one that counts nothing keeps all in step
            with fabric.no_backward_sync(self.objective, enabled=part is not parts[-1]):
                loss = self.objective(lambda batch=batch: batch) * (len(share) * fabric.world_size / len(places))
                fabric.backward(loss)
            mean_loss += loss.detach()
        if job.clip_norm is not None:
            fabric.clip_gradients(self.objective, self.optimizer, max_norm=job.clip_norm, error_if_nonfinite=False)
        self.optimizer.step()
        if self.schedule is not None:
            self._advance(self.schedule)
        if self.average is not None:
            self._follow(self.average)
        shared: Any = fabric.all_reduce(mean_loss, reduce_op="mean")
        self.done += 1
        self.whole = True
        return shared

    def _batch(self, places: Int[Tensor, " b"]) -> Batch:
        train, fabric = self.job.train, self.fabric
        at_once = isinstance(train, TensorDataset)
        batch = train[places] if at_once else default_collate([train[place] for place in places.tolist()])
        batch = fabric.to_device(batch)
        return fabric.strategy.precision.convert_input(batch) if self.job.precision == "bf16-true" else batch

    def _advance(self, schedule: LRScheduler) -> None:
        if self.done:
            schedule.step()
            return
        with warnings.catch_warnings():  # 16-mixed may leave out a first step that is too long, and torch wonders
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            schedule.step()

    @torch.no_grad()
    def _follow(self, average: nn.Module) -> None:
        """average = ema * average + (1 - ema) * model; what is not learned is the model's."""
        get_ema_multi_avg_fn(self.job.ema)([*average.parameters()], [*self.job.model.parameters()], None)
        for mean, buffer in zip(average.buffers(), self.job.model.buffers(), strict=True):
            mean.copy_(buffer)

    def finite(self) -> bool:
        """Whether every weight is a number."""
        return all(bool(weight.isfinite().all()) for weight in self.job.model.parameters())

    def weights(self) -> dict[str, Weights]:
        """The sets of weights of a checkpoint."""
        found: dict[str, Weights] = {"weights": self.job.model.state_dict()}
        return found if self.average is None else {**found, "average": self.average.state_dict()}

    def state(self) -> dict[str, Any]:
        """What else the next step depends on."""
        return {
            "step": self.done,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule is not None else {},
            "precision": self.fabric.strategy.precision.state_dict(),
            "randomness": randomness(self.fabric.device),
            "settings": self.settings,
        }

    def _hold_to(self, start: Checkpoint) -> None:
        """InputError where a checkpoint can't be gone on from as if training had never stopped."""
        before = start.state["settings"]
        for name, now in self.settings.items():
            then = before.get(name, now)  # another torch may know other settings
            if then != now:
                raise InputError(f"{self.job.resume} was trained with {name} {then} and can't go on with {now}")
        if start.step > self.job.steps:
            raise InputError(f"{self.job.resume} has done more than {self.job.epochs} epochs already")

    def _restore(self, start: Checkpoint) -> None:
        """What else the next step depends on, from a checkpoint."""
        state = start.state
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        if self.average is not None:
            _load(self.average, start.weights["average"])
        if self.fabric.is_global_zero:  # the other processes have drawn anew already
            set_randomness(self.fabric.device, state["randomness"])


class _Objective(nn.Module):
    """The loss as a module, so that all it does with the model runs in Fabric's precision and keeps in step."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Callable[[], Batch]) -> Tensor:  # a function, or Fabric would round what is in it
        return self.loss(self.model, batch())


def _optimizer(job: Job) -> Optimizer:
    scaled = job.precision == "16-mixed" and job.clip_norm is not None
    if job.optimizer is None:
        return Adam(job.learned, lr=1e-3, fused=not scaled)  # on a CPU, 6 times as fast as the default
    optimizer = job.optimizer(job.learned)
    if scaled and getattr(optimizer, "_step_supports_amp_scaling", False):
        raise InputError("a fused optimizer can't clip in 16-mixed: take bf16-mixed, or no fused, or no clip_norm")
    return optimizer


def _settings(job: Job, optimizer: Optimizer) -> dict[str, str]:
    """What has to stay the same when a training goes on."""
    names = ["seed", "batch_size", "accumulate", "clip_norm", "ema", "precision", "monitor", "mode"]
    settings = {name: repr(getattr(job, name)) for name in names}
    settings["examples"] = str(len(job.train))
    settings["schedule"] = f"over {job.epochs} epochs" if job.schedule else "None"
    return settings | {"optimizer": type(optimizer).__name__, **{k: repr(v) for k, v in optimizer.defaults.items()}}


def _load(model: nn.Module, weights: Weights) -> None:
    """InputError where the weights don't fit the model."""
    needed, given = (
        {name: tuple(value.shape) for name, value in weights.items()} for weights in (model.state_dict(), weights)
    )
    for name in needed | given:
        if needed.get(name) != given.get(name):
            has, wants = (shapes.get(name, "missing") for shapes in (given, needed))
            raise InputError(f"the checkpoint is of another model: {name} is {has} in it, {wants} here")
    model.load_state_dict(weights)
