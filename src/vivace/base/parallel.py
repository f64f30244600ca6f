"""One training on several processes of this machine: the caller's is the first, the others work beside it.

The others are fresh interpreters that get their work through a pipe, by cloudpickle (lambdas, closures and what a
notebook defines may be part of it). So nothing of the caller's program runs twice, its threads and its GPU context
don't matter, and the others end when it ends, however it does. Under torchrun the processes are there already.
Importing this module imports Lightning Fabric, which takes a second or two.
"""

import atexit
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from torch import distributed

from vivace.base.errors import InputError

TIMEOUT = timedelta(hours=2)  # for which the first process may let the others wait: while it evaluates, for instance

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces devices and precision at length


class _Seat(LightningEnvironment):
    """The place of one process among several that need no launching any more."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def local_rank(self) -> int:
        return self.rank


@contextmanager
def fabric_on(kind: str, *, devices: int, precision: Any, others: Callable[[Fabric], object]) -> Iterator[Fabric]:
    """Fabric on one device, on torchrun's processes, or on `devices` processes, of which the others do `others`."""
    if distributed.is_torchelastic_launched():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // local
        fabric = Fabric(accelerator=kind, strategy="ddp", devices=local, num_nodes=nodes, precision=precision)
        fabric.launch()
        atexit.unregister(_leave)
        atexit.register(_leave)
        yield fabric
    elif devices == 1:
        yield Fabric(accelerator=kind, devices=1, precision=precision)
    else:
        with _beside(kind, devices, precision, others) as place, _seated(0, kind, devices, precision, place) as fabric:
            yield fabric


def _leave() -> None:
    """Leave torchrun's group before Python ends: gloo's threads, still running then, now and then abort the process."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def _seated(rank: int, kind: str, devices: int, precision: Any, place: str) -> Iterator[Fabric]:
    """Fabric as the process `rank` of several that meet at a file; what it changes in this process is changed back."""
    threads, limited = torch.get_num_threads(), "OMP_NUM_THREADS" in os.environ
    backend = "nccl" if kind == "cuda" else "gloo"
    distributed.init_process_group(backend, init_method=place, rank=rank, world_size=devices, timeout=TIMEOUT)
    try:
        fabric = Fabric(accelerator=kind, strategy="ddp", devices=devices, precision=precision, plugins=[_Seat(rank)])
        fabric.launch()  # joins the group that is there, and shares the cores out
        yield fabric
        fabric.barrier()
    finally:
        distributed.destroy_process_group()
        torch.set_num_threads(threads)
        if not limited:
            os.environ.pop("OMP_NUM_THREADS", None)


@contextmanager
def _beside(kind: str, devices: int, precision: Any, others: Callable[[Fabric], object]) -> Iterator[str]:
    """The other processes, ready, until the block ends; where one of them failed, its error is the block's."""
    try:
        work = cloudpickle.dumps(others)
    except (TypeError, pickle.PicklingError) as error:
        raise InputError(f"with {devices} devices, model, data and loss go to other processes: {error}") from None
    with tempfile.TemporaryDirectory(prefix="vivace-") as folder:
        logs = [Path(folder) / f"{rank}.log" for rank in range(1, devices)]
        started = [_interpreter(log) for log in logs]
        try:
            place = (Path(folder) / "meeting").as_uri()
            for rank, process in enumerate(started, start=1):
                assert process.stdin
                pickle.dump((work, rank, kind, devices, precision, place), process.stdin)
                process.stdin.flush()
            if not all(process.stdout and process.stdout.read(1) for process in started):
                raise ChildProcessError("another process did not come up")
            yield place
        except (RuntimeError, OSError) as error:
            if _is_lost(str(error)) or isinstance(error, distributed.DistError | OSError):
                _raise_failure(started, logs)
            raise
        finally:
            for process in started:
                process.kill()
                process.communicate()


def _interpreter(log: Path) -> subprocess.Popen[bytes]:
    """A Python like this one that waits for work; a terminal's Ctrl-C doesn't reach it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", "from vivace.base.parallel import join; join()"]
    with log.open("wb") as errors:
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,  # noqa: S603
                                stderr=errors, start_new_session=True)  # fmt: skip


def join() -> None:
    """What another process does: get the work, say that it is there, do it, and end without ceremony."""
    code = 1
    try:
        work, rank, kind, devices, precision, place = pickle.load(sys.stdin.buffer)  # noqa: S301
        others = pickle.loads(work)  # noqa: S301
        threading.Thread(target=_end_with_the_first, daemon=True).start()
        os.write(1, b".")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the others print would be printed twice
        with _seated(rank, kind, devices, precision, place) as fabric:
            others(fabric)
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)  # torch's threads may abort an exit at leisure


def _end_with_the_first() -> None:
    sys.stdin.buffer.read()  # until the first process ends, or closes it
    os._exit(1)


def _is_lost(message: str) -> bool:
    """Whether the connection to another process broke, which is a consequence only."""
    return "gloo/transport" in message


def _raise_failure(started: Sequence[subprocess.Popen[bytes]], logs: Sequence[Path]) -> None:
    """Raise what went wrong in one of the other processes, if anything did."""
    for rank, (process, log) in enumerate(zip(started, logs, strict=True), start=1):
        try:
            code = process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            continue
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"it ended with {code}"
        if reason.startswith("vivace.base.errors."):
            raise InputError(reason.partition(": ")[2]) from None
        if code and not _is_lost(reason):
            raise RuntimeError(f"process {rank} of {len(started) + 1} failed: {reason}") from None
