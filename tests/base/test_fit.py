"""`fit` against loops written by hand, bit for bit; what is stopped and resumed against what never stopped."""

import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import LambdaLR, MultiStepLR
from torch.utils.data import TensorDataset

from base.fit_problem import COUNT, STEPS, Net, evaluate, examples, loss, train
from vivace.base import checkpoint, training
from vivace.base.errors import InputError
from vivace.base.fit import Fitted, _Run, epoch_order, fit
from vivace.base.report import Step

GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
SCRIPT = Path(__file__).with_name("fit_problem.py")


def weights(model: nn.Module) -> Tensor:
    return torch.cat([value.double().cpu().flatten() for value in model.state_dict().values()])


def same(model: nn.Module, other: nn.Module) -> bool:
    return torch.equal(weights(model), weights(other))


def plain(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def fading(optimizer: torch.optim.Optimizer, _: int) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: 0.9**step)


def by_hand(*, device: str = "cpu", dtype: torch.dtype = torch.float32, dropout: float = 0.3, epochs: int = 3,
            clip: Callable[[list[nn.Parameter]], Any] = lambda _: None, parts: int = 1, part_mean: bool = False,
            order: Callable[[int], Tensor] = lambda epoch: epoch_order(COUNT, seed=5, epoch=epoch), zero: bool = True,
            schedule_by: str = "step", reduction: str = "mean", seed: int = 5) -> Net:  # fmt: skip
    """The loop as one writes it down; its arguments make the mistakes."""
    model = Net(dropout=dropout).to(device, dtype)
    x, y = (tensor.to(device) for tensor in examples(dtype).tensors)
    optimizer = Adam(model.parameters(), lr=0.02)
    schedule = fading(optimizer, 0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for epoch in range(epochs):
            for places in order(epoch).split(8):
                if zero:
                    optimizer.zero_grad()
                for part in places.tensor_split(parts):
                    share = 1 / parts if part_mean else len(part) / len(places) if reduction == "mean" else 1
                    (F.cross_entropy(model(x[part]), y[part], reduction=reduction) * share).backward()
                clip(list(model.parameters()))
                optimizer.step()
                if schedule_by == "step":
                    schedule.step()
            if schedule_by == "epoch":
                schedule.step()
    return model


def fitted(*, device: str = "cpu", dtype: torch.dtype = torch.float32, dropout: float = 0.3, **settings: Any) -> Net:
    model = Net(dropout=dropout).to(dtype)
    chosen = {"epochs": 3, "batch_size": 8, "optimizer": lambda weights: Adam(weights, lr=0.02), "seed": 5,
              "schedule": fading, "device": device} | settings  # fmt: skip
    fit(model, examples(dtype), loss, **chosen)
    return model


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_equals_a_loop_by_hand_bit_for_bit(device: str) -> None:
    assert same(fitted(device=device), by_hand(device=device))


@pytest.mark.parametrize(
    "mutant",
    [
        {"zero": False},
        {"schedule_by": "epoch"},
        {"reduction": "sum"},
        {"order": lambda _: torch.arange(COUNT)},
        {"order": lambda _: epoch_order(COUNT, seed=5, epoch=0)},
        {"seed": 6},
    ],
    ids=["gradients kept", "schedule by epoch", "sum", "unshuffled", "one order for all epochs", "other dropout"],
)
def test_rejects_a_mutant_of_the_loop(mutant: dict[str, Any]) -> None:
    assert not same(fitted(), by_hand(**mutant))


def test_an_epoch_goes_through_every_example_once_in_an_order_of_its_own() -> None:
    orders = [epoch_order(COUNT, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(order.sort().values.tolist() == list(range(COUNT)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 4


def test_clips_the_norm_of_all_gradients_together() -> None:
    model = fitted(clip_norm=0.1)
    assert same(model, by_hand(clip=lambda weights: nn.utils.clip_grad_norm_(weights, 0.1)))
    assert not same(model, by_hand(clip=lambda weights: nn.utils.clip_grad_value_(weights, 0.1)))
    assert not same(model, by_hand(clip=lambda weights: [nn.utils.clip_grad_norm_(w, 0.1) for w in weights]))


def test_accumulating_takes_the_same_steps() -> None:
    def close(one: nn.Module, other: nn.Module) -> bool:
        return torch.allclose(weights(one), weights(other), rtol=0, atol=1e-10)

    exact = {"dtype": torch.float64, "dropout": 0.0}
    model = fitted(accumulate=3, **exact)  # 8 in parts of 3, 3, 2, and the last 5 in 2, 2, 1
    assert close(model, by_hand(**exact))
    assert same(model, by_hand(parts=3, **exact))
    assert not close(model, by_hand(parts=3, part_mean=True, **exact)), "mutant: the mean of unequal parts' means"
    assert not close(model, by_hand(parts=3, reduction="sum", **exact)), "mutant: their sum"
    assert close(fitted(accumulate=100, **exact), model), "no more parts than examples"


def test_ema_is_the_closed_form() -> None:
    seen: list[Tensor] = []

    def watching(model: Net, batch: Any) -> Tensor:
        seen.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
        return loss(model, batch)

    model, raw = Net(norm=True).double(), Net(norm=True).double()
    settings: dict[str, Any] = {"epochs": 2, "optimizer": lambda w: SGD(w, lr=0.1), "device": "cpu"}
    fit(raw, examples(torch.float64), watching, **settings)
    seen.append(torch.cat([weight.detach().flatten() for weight in raw.parameters()]))
    fit(model, examples(torch.float64), loss, ema=0.9, **settings)
    found = torch.cat([weight.detach().flatten() for weight in model.parameters()])

    def closed_form(decay: float) -> Tensor:
        T = len(seen) - 1
        terms = [(1 - decay) * decay ** (T - t) * seen[t] for t in range(1, T + 1)]
        return decay**T * seen[0] + torch.stack(terms).sum(0)

    torch.testing.assert_close(found, closed_form(0.9))
    assert not torch.allclose(found, closed_form(0.1)), "mutant: decay and its complement swapped"
    assert torch.equal(model.norm.running_mean, raw.norm.running_mean), "buffers are the model's"


@pytest.mark.parametrize(
    ("mode", "values", "patience", "epochs", "best"),
    [
        ("min", [3, 1, 2, 2, 0, 0], 2, 4, 2),
        ("max", [1, 3, 2, 3, 2, 9], 3, 5, 2),
        ("min", [3, 1, 2, 2, 0, 0], None, 6, 5),
        ("max", [math.nan, 1, math.nan, math.nan, 2, 2], 2, 4, 2),
        ("min", [math.nan] * 6, 3, 3, None),
    ],
)
def test_the_best_epochs_weights_come_back(mode: Any, values: list[float], patience: int | None, epochs: int,
                                           best: int | None) -> None:  # fmt: skip
    after: list[Tensor] = []

    def scripted(model: nn.Module) -> dict[str, float]:
        after.append(weights(model))
        return {"score": values[len(after) - 1]}

    model = Net()
    found = fit(model, examples(), loss, epochs=6, evaluate=scripted, monitor="score", mode=mode, patience=patience,
                device="cpu")  # fmt: skip
    assert (len(found.history), found.best) == (epochs, best)
    assert torch.equal(weights(model), after[(best or epochs) - 1])
    assert best is None or not torch.equal(weights(model), after[-1]), "mutant: the last epoch's weights"


def test_leaves_the_caller_what_is_the_callers() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    handler = signal.getsignal(signal.SIGINT)
    model = Net(dropout=0.3)
    fit(model, examples(), loss, epochs=1, device="cpu")
    assert torch.equal(torch.rand(2), expected)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not model.training and all(weight.grad is None and weight.requires_grad for weight in model.parameters())


def test_evaluates_as_it_predicts_and_changes_nothing() -> None:
    modes: list[bool] = []

    def drawing(model: nn.Module) -> dict[str, float]:
        modes.append(model.training or any(weight.requires_grad for weight in model.parameters()))
        return {"drawn": torch.rand(7).mean()}

    assert same(fitted(evaluate=drawing), fitted())
    assert modes == [False] * 3


def test_history_and_what_is_told() -> None:
    told: list[Step] = []
    data = examples()
    found = fit(Net(), data, loss, epochs=4, batch_size=8, evaluate=evaluate, device="cpu",
                optimizer=lambda w: SGD(w, lr=0.0), tell=told.append)  # fmt: skip
    assert [row["step"] for row in found.history] == [STEPS, 2 * STEPS, 3 * STEPS, 4 * STEPS]
    assert (found.steps, found.best, found.device) == (4 * STEPS, None, "CPU")
    for row in found.history:  # nothing is learned, so the mean over the epoch's batches is the loss of all examples
        assert row["train_loss"] == pytest.approx(row["val_loss"], rel=1e-6)
        assert row["train_loss"] == pytest.approx(loss(Net(), data.tensors).item(), rel=1e-6)
    epochs = [step for step in told if "val_loss" in step.values]
    assert [{"epoch": i + 1, "step": step.done, **step.values} for i, step in enumerate(epochs)] == found.history
    assert all(step.total == 4 * STEPS and step.done <= step.total for step in told)
    assert epochs[1].text == "epoch 2 of 4"


def test_learns_from_any_map_style_data() -> None:
    data = examples()
    models = [Net(), Net()]
    for model, given in zip(models, (data, [data[i] for i in range(COUNT)]), strict=True):
        fit(model, given, loss, epochs=2, device="cpu")
    assert same(*models)


def test_a_batch_may_be_larger_than_the_data() -> None:
    assert fit(Net(), examples(), loss, epochs=2, batch_size=1000, device="cpu").steps == 2


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", pytest.param("16-mixed", marks=GPU.marks)])
def test_precisions(device: str, precision: Any, tmp_path: Path) -> None:
    device = "cuda" if precision == "16-mixed" else device
    seen: set[tuple[torch.dtype, ...]] = set()

    def watching(model: Net, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, label = batch
        logits = model.out(model.features(x))
        seen.add((x.dtype, label.dtype, logits.dtype, model.out.weight.dtype))
        return F.cross_entropy(logits, label)

    model = Net()
    settings: dict[str, Any] = {
        "batch_size": 8,
        "evaluate": evaluate,
        "device": device,
        "precision": precision,
        "optimizer": lambda w: SGD(w, lr=0.2),
        "clip_norm": 5.0,
        "folder": tmp_path,
    }
    found = fit(model, examples(), watching, epochs=20, **settings)
    half = torch.float16 if precision == "16-mixed" else torch.bfloat16
    kept = torch.bfloat16 if precision == "bf16-true" else torch.float32
    assert seen == {(kept, torch.int64, half, kept)}, "mixed precision leaves the data alone"
    assert found.history[-1]["accuracy"] > 0.9
    assert {weight.dtype for weight in model.parameters()} == {torch.float32} and next(model.parameters()).is_cpu
    again = fit(Net(), examples(), loss, epochs=21, resume=tmp_path, **settings)
    assert again.history[-1]["accuracy"] > 0.9


def pressing_ctrl_c(at: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, in whose call number `at` somebody presses Ctrl-C."""
    calls = 0

    def pressed(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            signal.raise_signal(signal.SIGINT)
        return function(*given)

    return pressed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Net, Fitted, Path]:
    """The problem of `fit_problem`, trained without a stop."""
    folder = tmp_path_factory.mktemp("whole")
    return *train(folder=folder), folder


def is_whole(model: Net, found: Fitted, folder: Path, whole: tuple[Net, Fitted, Path]) -> bool:
    """Whether a training that was stopped and resumed is the one that was not, in weights, history and files."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    states = [torch.load(checkpoint.checkpoints(path)[-1] / "state.pt", weights_only=True)["optimizer"]["state"]
              for path in (folder, whole[2])]  # fmt: skip
    moments = all(torch.equal(states[0][i]["exp_avg_sq"], states[1][i]["exp_avg_sq"]) for i in states[0])
    final = safetensors.torch.load_file(folder / "weights.safetensors")
    return (
        same(model, whole[0])
        and moments
        and plain(found.history) == plain(whole[1].history) == plain(rows)
        and (found.best, found.steps) == (whole[1].best, whole[1].steps)
        and all(torch.equal(final[name], value) for name, value in whole[0].state_dict().items())
    )


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("at", [1, 2 * 17, 2 * 21 - 1, 2 * 21])
def test_ctrl_c_in_a_step_and_resume(at: int, device: str, tmp_path: Path, whole: tuple[Net, Fitted, Path]) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(folder=tmp_path, loss=pressing_ctrl_c(at, loss), device=device)
    done = math.ceil(at / 2)
    assert checkpoint.checkpoints(tmp_path)[-1].name == f"checkpoint-{done:08}", "the step is taken to its end"
    resumed = train(folder=tmp_path, resume=tmp_path, device=device)
    if device == "cpu":
        assert is_whole(*resumed, tmp_path, whole)
    else:
        assert is_whole(*resumed, tmp_path, (*train(folder=tmp_path / "gpu", device=device), tmp_path / "gpu"))


def test_ctrl_c_while_it_evaluates_and_resume(tmp_path: Path, whole: tuple[Net, Fitted, Path]) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(folder=tmp_path, evaluate=pressing_ctrl_c(3, evaluate))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    elsewhere = tmp_path / "elsewhere"
    assert is_whole(*train(folder=elsewhere, resume=tmp_path), elsewhere, whole)


def test_the_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(folder=tmp_path, loss=pressing_ctrl_c(31, pressing_ctrl_c(31, loss)))
    assert checkpoint.checkpoints(tmp_path)[-1].name == "checkpoint-00000014", "half a step is not kept"


def test_tell_may_stop_it(tmp_path: Path, whole: tuple[Net, Fitted, Path]) -> None:
    def stop(step: Step) -> None:
        if step.done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(folder=tmp_path, save_every=10, tell=stop)
    assert is_whole(*train(folder=tmp_path, resume=tmp_path), tmp_path, whole)


def test_kill_9_and_resume(tmp_path: Path, whole: tuple[Net, Fitted, Path]) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, SCRIPT, tmp_path], env=environment)
    try:
        end = time.monotonic() + 120
        while not (tmp_path / "checkpoint-00000020").exists() and time.monotonic() < end:
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["checkpoint-00000015", "checkpoint-00000020"]
    assert is_whole(*train(folder=tmp_path, resume=tmp_path), tmp_path, whole)


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A training that was stopped in its 17th step of 42, with checkpoints of the steps 14 and 17."""
    with pytest.raises(KeyboardInterrupt):
        train(folder=tmp_path, loss=pressing_ctrl_c(2 * 17, loss))
    return tmp_path


@pytest.mark.parametrize("forgotten", ["randomness", "moments", "average", "place in the epoch"])
def test_a_mutant_that_forgets_something_does_not_resume(forgotten: str, stopped: Path, monkeypatch: pytest.MonkeyPatch,
                                                         whole: tuple[Net, Fitted, Path]) -> None:  # fmt: skip
    if forgotten == "randomness":
        monkeypatch.setattr(training, "set_randomness", lambda device, state: None)
    elif forgotten == "moments":
        monkeypatch.setattr(torch.optim.AdamW, "load_state_dict", lambda self, state: None)
    elif forgotten == "average":
        load = training._load
        monkeypatch.setattr(training, "_load", lambda model, given: load(model, given) if not model.training else None)
    else:

        def from_its_start(run: _Run) -> Iterator[Tensor]:
            order = epoch_order(COUNT, seed=0, epoch=len(run.history))
            return iter(order.split(8)[: STEPS - run.training.done % STEPS])

        monkeypatch.setattr(_Run, "rest_of_epoch", from_its_start)
    assert not is_whole(*train(folder=stopped, resume=stopped), stopped, whole)


def test_the_best_epoch_is_not_forgotten(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"monitor": "lr", "mode": "max"}  # one cycle: the rate is highest after epoch 2
    once = train(**settings, folder=tmp_path / "once")
    with pytest.raises(KeyboardInterrupt):
        train(**settings, folder=tmp_path, loss=pressing_ctrl_c(2 * 25, loss))
    assert once[1].best == 2
    assert is_whole(*train(**settings, folder=tmp_path, resume=tmp_path), tmp_path, (*once, tmp_path / "once"))


def test_a_finished_training_can_go_on(tmp_path: Path) -> None:
    longer = train(epochs=5, schedule=None, folder=tmp_path / "longer")
    first = train(epochs=3, schedule=None, folder=tmp_path / "first")
    again = train(epochs=3, schedule=None, resume=tmp_path / "first")
    assert same(first[0], again[0]) and again[1].history == first[1].history
    assert is_whole(*train(epochs=5, schedule=None, folder=tmp_path / "first", resume=tmp_path / "first"),
                    tmp_path / "first", (*longer, tmp_path / "longer"))  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 16}, "batch_size 8 and can't go on with 16"),
        ({"seed": 1}, "seed 0 and can't go on with 1"),
        ({"epochs": 7}, "schedule over 6 epochs and can't go on with over 7 epochs"),
        ({"schedule": None}, "schedule over 6 epochs and can't go on with None"),
        ({"ema": None}, "ema 0.8 and can't go on with None"),
        ({"precision": "bf16-mixed"}, "precision '32-true'"),
        ({"optimizer": lambda w: torch.optim.AdamW(w, lr=0.1)}, "lr 0.05 and can't go on with 0.1"),
        ({"optimizer": lambda w: SGD(w, lr=0.05)}, "optimizer AdamW and can't go on with SGD"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_resumes_with_the_same_settings_only(changes: dict[str, Any], words: str, stopped: Path) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        train(resume=stopped, **changes)


def test_resumes_the_same_model_and_data_only(stopped: Path, tmp_path: Path) -> None:
    few = TensorDataset(*examples()[:50])
    for changes, words in (
        ({"model": nn.Sequential(nn.Linear(6, 4))}, "of another model: 0.weight is missing in it, (4, 6) here"),
        ({"model": Net()}, " in it, missing here"),
        ({"train": few}, "examples 53 and can't go on with 50"),
    ):
        with pytest.raises(InputError, match=re.escape(words)):
            train(resume=stopped, **changes)


def test_resumes_no_fewer_epochs(tmp_path: Path) -> None:
    train(schedule=None, folder=tmp_path, epochs=2)
    with pytest.raises(InputError, match="has done more than 1 epochs"):
        train(schedule=None, resume=tmp_path, epochs=1)


@pytest.mark.parametrize("name", ["nowhere", "empty", "a file"])
def test_nothing_to_resume(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a file").touch()
    with pytest.raises(InputError, match="nothing to resume"):
        train(resume=tmp_path / name)


def damaged(path: Path, how: str) -> None:
    """Damage a checkpoint as disks and people do."""
    for file in sorted(path.iterdir()):
        data = file.read_bytes()
        if how == "truncated":
            file.write_bytes(data[: len(data) // 2])
        elif how == "a bit flipped" and file.name == "average.safetensors":
            file.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
        elif (how == "a file gone" and file.name == "weights.safetensors") or how == "all gone":
            file.unlink()
        elif how == "not hashes" and file.name == "sha256.json":
            file.write_text('["weights.safetensors"]')


@pytest.mark.parametrize("how", ["truncated", "a bit flipped", "a file gone", "all gone", "not hashes"])
def test_a_damaged_checkpoint_falls_back(how: str, stopped: Path, whole: tuple[Net, Fitted, Path]) -> None:
    last = checkpoint.checkpoints(stopped)[-1]
    damaged(last, how)
    told: list[str] = []
    resumed = train(folder=stopped, resume=stopped, tell=lambda step: told.append(step.text))
    assert told[0] == f"{last} is damaged; looking for the one before"
    assert is_whole(*resumed, stopped, whole)


def test_if_all_are_damaged_it_says_so(stopped: Path) -> None:
    for path in checkpoint.checkpoints(stopped):
        damaged(path, "truncated")
    with pytest.raises(InputError, match=r"nothing to resume: .*17 is damaged; .*14 is damaged"):
        train(resume=stopped)


def test_a_checkpoint_is_data_not_code(stopped: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "was here"),)

    for path in checkpoint.checkpoints(stopped):
        torch.save({"step": 17, "evil": Evil()}, path / "state.pt")
        hashes = {file.name: checkpoint.hashlib.sha256(file.read_bytes()).hexdigest()
                  for file in path.iterdir() if file.name != "sha256.json"}  # fmt: skip
        (path / "sha256.json").write_text(json.dumps(hashes))
    with pytest.raises(InputError, match="holds more than data"):
        train(resume=stopped)
    assert not (tmp_path / "was here").exists()
    torch.load(path / "state.pt", weights_only=False)
    assert (tmp_path / "was here").exists(), "mutant: a loader that runs it"


def test_starting_anew_keeps_the_checkpoints_of_before(stopped: Path) -> None:
    before = [path.name for path in checkpoint.checkpoints(stopped)]
    train(folder=stopped, epochs=1)
    assert [path.name for path in checkpoint.checkpoints(stopped / "earlier")] == before
    assert [path.name for path in checkpoint.checkpoints(stopped)] == ["checkpoint-00000007"]
    assert len((stopped / "metrics.jsonl").read_text().splitlines()) == 1


def test_what_a_killed_writer_left_is_swept_up(stopped: Path) -> None:
    (stopped / ".checkpoint-00000021-0123abcd").mkdir()
    (stopped / ".metrics-0123abcd.jsonl").touch()
    train(folder=stopped, resume=stopped)
    assert not list(stopped.glob(".*"))


def test_tied_weights_and_a_schedule_with_a_counter_go_through_a_checkpoint(tmp_path: Path) -> None:
    def tied() -> nn.Sequential:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
        model[2].weight = model[0].weight
        return model

    def error(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    settings: dict[str, Any] = {"schedule": lambda o, n: MultiStepLR(o, [3, 9, 9]), "device": "cpu", "epochs": 3,
                                "folder": tmp_path, "batch_size": 8}  # fmt: skip
    once, twice = tied(), tied()
    fit(once, examples(), error, **settings)
    with pytest.raises(KeyboardInterrupt):
        fit(tied(), examples(), pressing_ctrl_c(10, error), **settings)
    fit(twice, examples(), error, resume=tmp_path, **settings)
    assert same(once, twice) and twice[2].weight is twice[0].weight


def test_a_loss_that_is_no_number_says_where_and_loses_nothing(tmp_path: Path) -> None:
    def broken(model: Net, batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return loss(model, batch) * (math.nan if calls == 17 else 1)

    calls = 0
    with pytest.raises(InputError, match=r"became nan at step 17: try a smaller .*checkpoint-00000014 is from before"):
        train(folder=tmp_path, loss=broken, accumulate=1)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["checkpoint-00000007", "checkpoint-00000014"]
    assert train(resume=tmp_path, accumulate=1)[1].steps == 42


def test_weights_that_are_no_numbers_are_neither_saved_nor_returned(tmp_path: Path) -> None:
    def infinite_at_last(optimizer: torch.optim.Optimizer, steps: int) -> LambdaLR:
        return LambdaLR(optimizer, lambda step: math.inf if step == steps - 1 else 1.0)

    with pytest.raises(InputError, match="a weight was no number any more after step 7"):
        fit(Net(), examples(), loss, epochs=1, batch_size=8, device="cpu", folder=tmp_path,
            optimizer=lambda w: SGD(w, lr=0.1), schedule=infinite_at_last)  # fmt: skip
    assert not checkpoint.checkpoints(tmp_path) and not (tmp_path / "weights.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 0}, "epochs is 0, but must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"devices": 0}, "devices is 0"),
        ({"devices": 1000}, "devices is 1000, but this machine has"),
        ({"device": "cpu", "precision": "16-mixed"}, "16-mixed needs a GPU"),
        ({"device": "gpu"}, "no device named 'gpu'; try"),
        ({"precision": "float16"}, "no precision named 'float16'; try"),
        ({"mode": "best"}, "no mode named 'best'"),
        ({"patience": 3}, "patience needs monitor"),
        ({"patience": 0, "monitor": "loss"}, "patience is 0"),
        ({"save_every": 0}, "save_every is 0"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0"),
        ({"clip_norm": math.nan}, "clip_norm is nan"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"ema": 0.9, "precision": "bf16-true"}, "take bf16-mixed"),
        ({"seed": -1}, "seed is -1"),
        ({"monitor": "val_los", "evaluate": evaluate}, "no number to monitor named 'val_los'; try val_loss"),
        ({"train": []}, "the data set is empty"),
        ({"model": nn.ReLU()}, "ReLU has no weight to be trained"),
        ({"folder": "/proc/vivace"}, "cannot be written"),
        pytest.param(
            {"device": "cuda"},
            "torch finds no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_is_one_clear_line(changes: dict[str, Any], words: str, unchecked: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=re.escape(words)) as error:
        unchecked(**{"model": Net(), "train": examples(), "loss": loss, "epochs": 1, "device": "cpu"} | changes)
    assert "\n" not in str(error.value)


@pytest.fixture
def unchecked() -> Callable[..., Any]:
    """`fit` as a user calls it, without the test run's type checker around it."""
    return getattr(fit, "__wrapped__", fit)


def test_a_full_disk_is_said_and_the_last_checkpoint_stays(stopped: Path, whole: tuple[Net, Fitted, Path]) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))  # no file may be larger
    try:
        with pytest.raises(InputError, match=r"checkpoint-00000021 cannot be written: File too large"):
            train(folder=stopped, resume=stopped)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in checkpoint.checkpoints(stopped)] == ["checkpoint-00000014", "checkpoint-00000017"]
    assert not list(stopped.glob(".*"))
    assert is_whole(*train(folder=stopped, resume=stopped), stopped, whole)
