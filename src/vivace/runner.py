"""Run an experiment for a front door: arguments checked, folder ready before the work, report written after."""

import json
import platform
import shlex
import time
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from vivace import __version__
from vivace.base.errors import InputError, unknown
from vivace.base.files import written_whole
from vivace.base.parameters import parameters, takes_run_folder
from vivace.base.report import Tell, ignore
from vivace.page import Run, check_folder, remove_empty, write_run

SETTINGS = "settings.json"


def run_experiment(
    key: str, values: Mapping[str, Any], folder: Path, *, quick: bool = False, tell: Tell = ignore
) -> Run:
    """Run `room.name` with the values given and write the run into `folder`.

    `quick` takes the experiment's QUICK sizes for what is not given; `resume` the settings of the run that it
    goes on with. Where the run fails, a folder made for it and left empty is removed; checkpoints stay.
    """
    module = import_module(f"vivace.experiments.{key}")
    known = {parameter.name: parameter for parameter in parameters(module.run)}
    chosen = {**_settings_of(values.get("resume")), **(module.QUICK if quick else {}), **values}
    for name in chosen:
        if name not in known:
            raise unknown(f"parameter of {key}", name, known)
    chosen = {name: known[name].check(value) for name, value in chosen.items()}
    new = check_folder(folder)
    began = time.perf_counter()
    try:
        extra = {}
        if takes_run_folder(module.run):
            extra["folder"] = folder
            _write_settings(folder, chosen)
        report = module.run(**chosen, **extra, tell=tell)
        facts = {"time": f"{time.perf_counter() - began:.1f} s", **machine()}
        parameters_used = {name: chosen.get(name, parameter.default) for name, parameter in known.items()}
        command = " ".join(["vivace run", key.split(".")[1], *_flags(values), *(["--quick"] if quick else [])])
        return write_run(report, folder, key=key, command=command, parameters=parameters_used, facts=facts)
    except BaseException:
        if not any(folder.glob("checkpoint-*")):
            (folder / SETTINGS).unlink(missing_ok=True)
        remove_empty(new)
        raise


def _write_settings(folder: Path, chosen: Mapping[str, Any]) -> None:
    with written_whole(folder / SETTINGS) as temporary:
        kept = {name: value for name, value in chosen.items() if name != "resume"}
        temporary.write_text(json.dumps(kept, indent=2, default=str), encoding="utf-8")


def _settings_of(resume: str | Path | None) -> dict[str, Any]:
    """What the run in that folder was started with."""
    if resume is None:
        return {}
    path = Path(resume).expanduser() / SETTINGS
    if not path.exists():
        raise InputError(f"{resume} is no run that can be resumed: there is no {SETTINGS} in it")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        raise InputError(f"{path} is damaged; start the run anew") from None


def machine() -> dict[str, str]:
    """What a number depends on: the device, its threads and the versions."""
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else f"{platform.machine()}, {torch.get_num_threads()} thread(s)"
    return {"on": device, "vivace": __version__, "torch": version("torch")}


def _flags(values: Mapping[str, Any]) -> list[str]:
    flags = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            flags += [f"--{flag}", shlex.quote(str(value))]
    return flags
