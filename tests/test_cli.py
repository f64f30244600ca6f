"""The terminal front door: what it says and its exit codes. `python tests/test_cli.py` renews golden_help.txt."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vivace import index
from vivace.cli import _main
from vivace.exam import bank

GOLDEN = Path(__file__).with_name("golden_help.txt")
COMMANDS = ("", "list", "where", "ask", "tour", "version", "run", "run grad_cam", "run gatys", "run mlp")


def help_texts() -> str:
    """Every `--help` that is held golden, one after another."""
    code = "import sys; from vivace.cli import _main; _main(sys.argv[1:])"
    plain = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    texts = []
    for command in COMMANDS:
        words = [*command.split(), "--help"]
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, env=plain
        )
        texts.append(f"$ vivace {' '.join(words)}\n{done.stdout}")
    return "\n".join(texts)


def test_help_is_golden() -> None:
    assert help_texts() == GOLDEN.read_text(encoding="utf-8"), "if this is meant: python tests/test_cli.py"


def test_list_shows_every_method_and_every_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  {method.name} ", shown, re.MULTILINE) for method in index.methods())
    assert _main(["list", "--chapter", "5"]) == 0
    assert "vivace ask 5.1" in capsys.readouterr().out
    assert _main(["list", "--room", "style"]) == 0
    assert "gatys" in capsys.readouterr().out


TYPED = ("grad cam", "Grad-CAM", "gradcam", "gradient class activation map", "5.1 heat map grad-cam")


@pytest.mark.parametrize("typed", TYPED)
def test_where_finds_grad_cam(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(["where", typed]) == 0
    shown = capsys.readouterr().out
    assert re.match(r"\S*src/vivace/explain/grad_cam\.py:\d+\n", shown)
    for wanted in ("Selvaraju", "experiments/explain/grad_cam.py", "tests/explain/test_grad_cam.py", "vivace ask 5.1"):
        assert wanted in shown
    place, line = re.match(r"(\S+):(\d+)", shown).groups()  # type: ignore[union-attr]
    source = (index.CHECKOUT / place).read_text().splitlines()
    assert source[int(line) - 1].startswith("def grad_cam(")


@pytest.mark.parametrize("method", index.methods(), ids=lambda m: m.key)
def test_where_finds_every_method_by_its_name(method: index.Entry) -> None:
    assert index.where(method.name.replace("_", " "))[0] == method


def test_an_answer_of_ones_own_is_marked(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(["ask", "1.5", "--answer", "minimise the squared error over w and the bias"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("✓") == 2 and shown.count("✗") == 3 and "2 of 5 key points" in shown
    assert not list(elsewhere.iterdir())


def test_ask_prints_the_answer_and_measures(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(["ask", "1.4", "--out", "answer"]) == 0
    shown = capsys.readouterr().out
    question = bank.questions()["1.4"]
    assert question.title.zh in shown and "Key points" in shown and "Commonly taught" in shown
    assert all(claim.id in shown for claim in question.claims)
    assert "refuted" in shown and "expected" not in shown and "\\frac" not in shown
    assert list((elsewhere / "answer").rglob("index.html"))


def test_a_run_writes_its_folder(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(["run", "linear-regression", "--quick", "--out", "here/it is"]) == 0
    told = json.loads((elsewhere / "here" / "it is" / "report.json").read_text())
    assert (
        told["experiment"] == "learning.linear_regression" and told["claims"] and told["facts"]["time"].endswith(" s")
    )
    assert capsys.readouterr().out.rstrip().endswith("here/it is/index.html")


def test_ctrl_c_is_130_and_leaves_nothing(elsewhere: Path) -> None:
    code = "from vivace.cli import main; main()"
    command = [sys.executable, "-c", code, "run", "gatys", "--size", "256", "--steps", "2000", "--out", "run"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    for _ in range(600):
        if (elsewhere / "run" / "live.png").exists():
            break
        time.sleep(0.1)
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said and said.strip().splitlines()[-1] == "vivace: stopped"
    assert not (elsewhere / "run").exists()


if __name__ == "__main__":
    GOLDEN.write_text(help_texts(), encoding="utf-8")
