"""The tour: experiments in parallel processes of one thread each, and one report for all questions."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vivace import index
from vivace.base.errors import InputError
from vivace.exam import bank
from vivace.page import Run, check_folder, write_tour


def take(out: Path, *, quick: bool, chapter: int | None, processes: int) -> list[str]:
    """Run the experiments that the questions name and write `out/index.html`; returns those that did not finish."""
    questions = [q for q in bank.questions().values() if chapter in (None, q.chapter)]
    if not questions:
        raise InputError(f"no question of chapter {chapter} is answered yet")
    wanted = dict.fromkeys(key for question in questions for key in question.experiments)
    keys = [entry.key for entry in index.experiments() if entry.key in wanted]
    check_folder(out)
    began = time.perf_counter()
    runs, failed = _run_all(keys, out, quick, processes)
    facts = {"time": f"{time.perf_counter() - began:.0f} s", **next(iter(runs.values())).facts} if runs else {}
    facts |= {
        "experiments": f"{len(runs)} of {len(keys)}",
        "claims": str(sum(len(run.measured) for run in runs.values())),
    }
    facts["time"] = f"{time.perf_counter() - began:.0f} s"
    write_tour(runs, questions, out / "index.html", facts=facts)
    _tell(runs, failed)
    print(f"{out / 'index.html'}")
    return list(failed)


def _run_all(keys: list[str], out: Path, quick: bool, processes: int) -> tuple[dict[str, Run], dict[str, str]]:
    runs, failed = {}, {}
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    context = multiprocessing.get_context("spawn")
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # read by the workers' BLAS when it loads
    with (
        ProcessPoolExecutor(processes, mp_context=context, initializer=_prepare_worker) as pool,
        Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar,
    ):
        task = bar.add_task("tour", total=len(keys))
        futures: dict[Future[Run], str] = {pool.submit(_run_one, key, out / key, quick): key for key in keys}
        try:
            for future in as_completed(futures):
                key = futures[future]
                bar.advance(task)
                try:
                    runs[key] = future.result()
                    words = runs[key].facts["time"]
                except (
                    Exception
                ) as error:  # one experiment that fails doesn't take the tour with it; it is told at the end
                    failed[key] = words = f"{type(error).__name__}: {error}"
                if not console.is_terminal:
                    print(f"tour: {key}  {words}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    return {key: runs[key] for key in keys if key in runs}, failed


def _prepare_worker() -> None:
    """One thread each, and deaf to Ctrl-C: the parent hears it and ends its workers."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _run_one(key: str, folder: Path, quick: bool) -> Run:
    from vivace.runner import run_experiment

    return run_experiment(key, {}, folder, quick=quick)


def _tell(runs: Mapping[str, Run], failed: Mapping[str, str]) -> None:
    for key, run in runs.items():
        verdicts = [m.claim.verdict for m in run.measured]
        counts = ", ".join(f"{verdicts.count(v)} {v}" for v in ("holds", "refuted", "inconclusive") if v in verdicts)
        surprising = ", ".join(m.claim.id for m in run.measured if m.surprising)
        warning = f"  NOT AS EXPECTED: {surprising}" if surprising else ""
        print(f"{key:32} {run.facts['time']:>8}  {counts}{warning}")
    for key, words in failed.items():
        print(f"{key:32} did not finish: {words.splitlines()[0][:200]}")
