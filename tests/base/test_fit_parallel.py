"""Several processes take the steps of one, fail as one, and stop as one."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

from base.fit_problem import COUNT, Net, examples, loss
from vivace.base.checkpoint import checkpoints
from vivace.base.errors import InputError
from vivace.base.fit import Fitted, fit


def weights(model: nn.Module) -> Tensor:
    return torch.cat([value.double().flatten() for value in model.state_dict().values()])


def trained(*, devices: int, loss: Callable[[Any, Any], Tensor] = loss, **settings: Any) -> tuple[Net, Fitted]:
    """Without dropout, in float64; batches of 13, of which each process has a part, and one of a single example."""
    model = Net().double()
    chosen = {"epochs": 2, "batch_size": 13, "ema": 0.5, "monitor": "val_loss", "evaluate": scores} | settings
    return model, fit(model, examples(torch.float64), loss, devices=devices, device="cpu", **chosen)


def scores(model: Net) -> dict[str, float]:
    return {"val_loss": loss(model, examples(torch.float64).tensors).item()}


def same(one: tuple[Net, Fitted], other: tuple[Net, Fitted]) -> bool:
    losses = [[row[name] for row in found.history for name in ("train_loss", "val_loss")] for _, found in (one, other)]
    return torch.allclose(weights(one[0]), weights(other[0]), rtol=0, atol=1e-10) and all(
        math.isclose(a, b, rel_tol=1e-9) for a, b in zip(*losses, strict=True)
    )


def test_two_processes_take_the_steps_of_one() -> None:
    assert COUNT % 13 == 1, "the last batch is too small for two"
    one = trained(devices=1)
    threads = torch.get_num_threads()
    two = trained(devices=2, accumulate=4)
    assert same(one, two) and two[1].device == "2 x CPU"
    assert (torch.get_num_threads(), distributed.is_initialized()) == (threads, False), "all is as it was"

    def summed(model: Net, batch: Any) -> Tensor:
        return loss(model, batch) * len(batch[0])

    assert not same(one, trained(devices=1, loss=summed)), "mutant: sums instead of means"


def test_ctrl_c_stops_both_and_one_process_can_go_on(tmp_path: Path) -> None:
    def pressing(model: Net, batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 3 and distributed.get_rank() == 0:
            signal.raise_signal(signal.SIGINT)
        return loss(model, batch)

    calls = 0
    with pytest.raises(KeyboardInterrupt):
        trained(devices=2, loss=pressing, folder=tmp_path)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-00000003"]
    assert same(trained(devices=1, resume=tmp_path), trained(devices=1))


class Broken:
    """Examples of which the second process can't read one."""

    def __init__(self, how: str) -> None:
        self.how, self.all = how, examples(torch.float64)

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, place: int) -> Any:
        if distributed.get_rank() == 1 and place == 7:
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise InputError("seven.png is no picture") if self.how == "input" else RuntimeError("a bug")
        return self.all[place]


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("input", InputError, "^seven.png is no picture$"),
        ("killed", RuntimeError, "process 1 of 2 failed: it ended with -9"),
    ],
)
def test_a_failure_in_another_process_is_told(how: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        fit(Net().double(), Broken(how), loss, devices=2, device="cpu")
    assert not distributed.is_initialized()


def test_what_can_not_be_sent_is_said(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:

        def writing(model: Net, batch: Any) -> Tensor:
            file.write("x")
            return loss(model, batch)

        with pytest.raises(InputError, match="go to other processes: Cannot pickle"):
            fit(Net(), examples(), writing, devices=2, device="cpu")


def test_under_torchrun_its_processes_train(tmp_path: Path) -> None:
    script = Path(__file__).with_name("fit_problem.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    first, second = sorted((json.loads(line) for line in done.stdout.splitlines()), key=lambda row: -row["told"])
    assert first["told"] >= 6 and second["told"] == 0, "only the first reports"
    assert first["losses"] == second["losses"] and first["losses"][-1] < first["losses"][0]
    assert first["checksum"] == second["checksum"], "all end with the same weights"
