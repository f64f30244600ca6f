"""What a user sees who types wrong things: one clear line, exit code 2 (130 for Ctrl-C), nothing left behind."""

import inspect
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from annotated_types import Ge, Gt
from PIL import Image

from vivace.base.parameters import parameters
from vivace.base.report import Report
from vivace.cli import _main
from vivace.index import Entry, experiments


def picture(path: Path, size: tuple[int, int] = (64, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)).save(path)


def make_files(here: Path) -> None:
    """Everything that can be wrong with a file or a folder."""
    picture(here / "good.png")
    picture(here / "one.png", (1, 1))
    picture(here / "thin.png", (400, 2))
    (here / "text.jpg").write_text("this is not a picture")
    (here / "empty.png").touch()
    (here / "half.png").write_bytes((here / "good.png").read_bytes()[:2000])
    (here / "page.pdf").write_bytes(b"%PDF-1.4 nothing")
    nan = np.full((40, 40), np.nan, np.float32)
    Image.fromarray(nan).save(here / "nan.tif")
    Image.new("1", (20_000, 10_000)).save(here / "huge.png")
    (here / "nothing").mkdir()
    (here / "flat").mkdir()
    picture(here / "flat" / "a.png")
    for i in range(5):
        picture(here / "broken" / "cats" / f"{i}.png")
        picture(here / "broken" / "dogs" / f"{i}.png")
        picture(here / "single" / "cats" / f"{i}.png")
    (here / "broken" / "dogs" / "3.png").write_text("not a picture either")
    (here / "bare" / "cats").mkdir(parents=True)
    picture(here / "bare" / "dogs" / "a.png")
    (here / "file").write_text("a file")
    (here / "gaps.csv").write_text("size,price\n1,2\n2,nan\n3,4\n4,5\n5,6\n")
    (here / "words.csv").write_text("size,price\nsmall,cheap\nlarge,dear\n")
    (here / "good.csv").write_text("size,rooms,price\n" + "".join(f"{i},{i % 4},{3 * i + 1}\n" for i in range(40)))
    (here / "short.csv").write_text("size,price\n1,2\n")
    (here / "empty.csv").touch()


# (what is typed, what the line must say)
TYPED = [
    ("run grad_cam --image nope.jpg", "no file nope.jpg"),
    ("run grad_cam --image astronut", "astronaut"),
    ("run grad_cam --image text.jpg", "not a picture"),
    ("run grad_cam --image page.pdf", "not a picture"),
    ("run grad_cam --image empty.png", "empty"),
    ("run grad_cam --image half.png", "truncated"),
    ("run grad_cam --image nothing", "folder"),
    ("run grad_cam --image nan.tif", "NaN"),
    ("run grad_cam --image huge.png", "too many pixels"),
    ("run grad_cam --image one.png", "one.png|pixel|small|at least"),
    ("run grad_cam --image good.png --target tabbbby", "tabby"),
    ("run grad_cam --image good.png --target 1000", "0 to 999"),
    ("run grad_cam --image good.png --layer blocks.99", "blocks"),
    ("run grad_cam --imgae good.png", "--image"),
    ("run grad_cam --image", "requires an argument|needs"),
    ("run gradcam2", "grad_cam"),
    ("run gatys --content one.png", "at least|pixel"),
    ("run gatys --content thin.png", "at least|pixel"),
    ("run gatys --content good.png --style text.jpg", "not a picture"),
    ("run gatys --steps 0", "--steps is 0"),
    ("run gatys --steps many", "whole number"),
    ("run gatys --size 100000", "--size is 100000"),
    ("run gatys --optimizer sgdd", "adam|lbfgs"),
    ("run gatys --backbone vgg19 --quick", "vgg19-dcbb9e9d.pth"),
    ("run efficientnet_lite --image good.png --top 0", "--top is 0"),
    ("run linear_regression --data nope.csv", "no file nope.csv"),
    ("run linear_regression --data empty.csv", "empty"),
    ("run linear_regression --data gaps.csv", "gaps.csv"),
    ("run linear_regression --data words.csv", "words.csv"),
    ("run linear_regression --data short.csv", "short.csv"),
    ("run linear_regression --data good.csv --target prize", "price"),
    ("run linear_regression --data good.png", "good.png"),
    ("run mlp --data nowhere", "no folder nowhere"),
    ("run mlp --data nothing", "sub-folder"),
    ("run mlp --data flat", "sub-folder"),
    ("run mlp --data bare", "cats"),
    ("run mlp --data single", "classes|one"),
    ("run mlp --data broken --epochs 1", "3.png"),
    ("run mlp --data file", "file"),
    ("run mlp --epochs 0", "--epochs is 0"),
    ("run mlp --learning-rate nan", "a number"),
    ("run mlp --learning-rate -1", "--learning-rate is -1"),
    ("run mlp --devices 99", "--devices is 99"),
    ("run mlp --devices 64 --dataset digits", "64"),
    ("run mlp --precision 17", "bf16-mixed"),
    ("run mlp --resume nowhere", "nowhere"),
    ("run mlp --resume nothing", "nothing"),
    ("run mlp --quick --out file", "file"),
    ("run mlp --quick --out file/inside", "cannot be written"),
    ("run mlp --quick --out /proc/vivace", "cannot be written"),
    ("run", "Usage"),
    ("gatys --steps 3", "vivace run gatys"),
    ("rnu gatys", "No such command"),
    ("ask 99.1", "no question"),
    ("ask 1.5 --answer=", "answer is empty"),
    ("ask qqqq zzzz", "no question"),
    ("ask", "WORDS"),
    ("where zzzzqqqq", "no method"),
    ("list --chapter 11", "11"),
    ("list --chapter x", "x"),
    ("list --room styel", "style"),
    ("tour --chapter 0", "0"),
    ("tour --out file", "file"),
    ("tour --processes 0", "0"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("files")
    make_files(here)
    return here


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(("typed", "said"), [row for row in TYPED if row[0] != "run"], ids=lambda text: str(text))
def test_one_clear_line(typed: str, said: str, files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                        capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.chdir(files)
    monkeypatch.setenv("VIVACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("VIVACE_DATA", raising=False)
    before = contents(files)
    assert _main(typed.split()) == 2
    shown = capsys.readouterr().err
    lines = [line for line in shown.splitlines() if line.startswith("vivace: ")]
    assert len(lines) == 1 and lines[0] == shown.splitlines()[-1], shown
    assert any(word in lines[0] for word in said.split("|")), lines[0]
    assert "Traceback" not in shown and "bug" not in lines[0]
    assert contents(files) == before, "nothing is left behind"


@pytest.mark.parametrize("entry", experiments(), ids=lambda e: e.key)
def test_every_flag_of_every_experiment_says_what_is_wrong_with_its_value(
    entry: Entry, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is not there, a number out of range, a choice that is none: named at once, in one line."""
    for parameter in parameters(import_module(f"vivace.experiments.{entry.key}").run):
        if parameter.choices:
            wrong, said = "nonesuch", str(parameter.choices[0])
        elif parameter.role != "value":
            wrong, said = "nowhere/nope.xyz", "nowhere/nope.xyz"
        elif parameter.kind in (int, float):
            wrong, said = "nan", "number"
            bound = next((b for b in parameter.bounds if isinstance(b, Ge | Gt)), None)
            if bound is not None:
                wrong, said = str((bound.ge if isinstance(bound, Ge) else bound.gt) - 1), parameter.flag
        else:
            continue
        assert _main(["run", entry.name, "--quick", f"{parameter.flag}={wrong}", "--out", "here"]) == 2, parameter.flag
        shown = capsys.readouterr().err.splitlines()
        assert shown[-1].startswith("vivace: ") and said in shown[-1] and "Traceback" not in "".join(shown), shown
        assert not list(elsewhere.iterdir()), "nothing is left behind"


@pytest.mark.parametrize("entry", experiments(), ids=lambda e: e.key)
def test_a_full_disk_is_said_and_nothing_half_written_stays(entry: Entry, elsewhere: Path,
                                                            monkeypatch: pytest.MonkeyPatch,
                                                            capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """The disk fills up when the page is written, after all the work (here a short one)."""
    module = import_module(f"vivace.experiments.{entry.key}")
    short: Callable[..., Report] = lambda **_: Report("short")  # noqa: E731
    short.__signature__ = inspect.signature(module.run)  # type: ignore[attr-defined]
    short.__annotations__ = module.run.__annotations__
    monkeypatch.setattr(module, "run", short)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vivace.page._render", full)
    assert _main(["run", entry.name, "--quick", "--out", "here"]) == 2
    assert "No space left" in capsys.readouterr().err
    assert contents(elsewhere) <= {"here", "here/settings.json"}


def test_a_diverging_training_says_so(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = _main(
        "run mlp --dataset digits --epochs 3 --learning-rate 1 --weight-decay 10 --precision bf16-mixed --out r".split()
    )
    shown = capsys.readouterr().err
    assert code == 0 or (code == 2 and "learning rate" in shown.splitlines()[-1])


def test_ctrl_c_in_training_leaves_a_checkpoint_that_goes_on(elsewhere: Path) -> None:
    code = [
        sys.executable,
        "-c",
        "from vivace.cli import main; main()",
        "run",
        "mlp",
        "--dataset",
        "digits",
        "--epochs",
        "400",
    ]
    process = subprocess.Popen([*code, "--out", "run"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    for _ in range(900):
        if list((elsewhere / "run").glob("checkpoint*")):
            break
        time.sleep(0.1)
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said
    assert said.strip().splitlines()[-1].startswith("vivace: stopped") and "--resume run" in said
    assert list((elsewhere / "run").glob("checkpoint*")) and not list((elsewhere / "run").glob(".*"))


def test_a_damaged_checkpoint_is_said(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("run mlp --dataset digits --epochs 2 --out run".split()) == 0
    for path in (elsewhere / "run").glob("checkpoint*/*"):
        path.write_bytes(path.read_bytes()[:100])
    assert _main("run mlp --resume run".split()) == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith("vivace: ") and "checkpoint" in shown


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -c 'from vivace.cli import main; main()' list | head -n 1"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert done.stderr == "" and shutil.which("head")
