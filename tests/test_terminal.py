"""What the terminal shows of formulas, and of work under way."""

from pathlib import Path

import pytest
import torch

from vivace.base.report import Step
from vivace.terminal import progress, readable


def test_formulas_become_readable() -> None:
    assert readable("so $\\hat y = w^T x$ and **bold** stays") == "so ŷ = w^T x and **bold** stays"
    assert "∑" in readable("$$\\alpha = \\frac{1}{Z} \\sum_i A_i$$") and "\\" not in readable("$\\frac{a}{b}$")
    assert readable("it costs \\$5 and \\$6") == "it costs \\$5 and \\$6"


def test_away_from_a_terminal_long_work_says_a_line_now_and_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("vivace.terminal.time.monotonic", lambda: now[0])
    with progress("gatys", tmp_path) as tell:
        for done in range(40):
            now[0] += 1
            tell(Step(done, 40, "level 1", {"loss": 0.5}, torch.zeros(3, 4, 4)))
            assert (tmp_path / "live.png").exists()
    said = capsys.readouterr().err.splitlines()
    assert 3 <= len(said) <= 4 and all("gatys: " in line and "loss 0.5" in line for line in said)
    assert not (tmp_path / "live.png").exists()
