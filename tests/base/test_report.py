"""Claims that can fail, artefacts with plain names."""

import math

import pytest
import torch

from vivace.base.report import Claim, Report, Step, number, part_of


@pytest.mark.parametrize(
    ("measured", "low", "high", "spread", "verdict"),
    [(3.0, 2.5, 3.5, 0, "holds"), (3.5, 2.5, 3.5, 0, "holds"), (3.6, 2.5, 3.5, 0, "refuted"),
     (2.0, 2.5, math.inf, 0, "refuted"),
     (2.6, 2.5, math.inf, 0.2, "inconclusive"), (2.4, 2.5, math.inf, 0.2, "inconclusive"),
     (2.8, 2.5, math.inf, 0.2, "holds"),
     (10, 10, 10, 0, "holds"), (10.5, 10, 10, 0, "refuted")],
)  # fmt: skip
def test_the_verdict_follows_from_the_range(
    measured: float, low: float, high: float, spread: float, verdict: str
) -> None:
    assert Claim("1.1.c1", measured, low, high, spread).verdict == verdict


def test_ranges_and_values_in_words() -> None:
    assert [Claim("a", 1, *bounds).range for bounds in ((2, 2), (-math.inf, 0.05), (3, math.inf), (2.5, 3.5))] == [
        "= 2", "≤ 0.05", "≥ 3", "2.5 to 3.5"]  # fmt: skip
    assert Claim("a", 3.14159, low=0, spread=0.01, unit="s").value == "3.142 ± 0.01 s"
    assert [number(x) for x in (109386, 1e-9, 0.5, 2.0, math.inf)] == ["109,386", "1e-09", "0.5", "2", "inf"]


def test_a_claim_that_cannot_fail_is_refused() -> None:
    report = Report("t")
    with pytest.raises(ValueError, match="cannot fail"):
        report.claim("1.1.c1", measured=1.0)
    with pytest.raises(ValueError, match="NaN"):
        report.claim("1.1.c1", measured=math.nan, low=0)
    report.claim("1.1.c1", measured=torch.tensor(1.0), low=0)
    with pytest.raises(ValueError, match="twice"):
        report.claim("1.1.c1", measured=1.0, low=0)


@pytest.mark.parametrize("name", ["../etc", "A b", "", "a/b", ".hidden"])
def test_an_artefacts_name_is_a_files_name(name: str) -> None:
    with pytest.raises(ValueError, match="artefact name"):
        Report("t").image(name, torch.zeros(3, 2, 2))


def test_two_artefacts_need_two_names() -> None:
    report = Report("t")
    report.image("a", torch.zeros(3, 2, 2))
    with pytest.raises(ValueError, match="two artefacts"):
        report.table("a", ["x"], [[1]])
    with pytest.raises(ValueError, match="cells"):
        report.table("b", ["x", "y"], [[1]])


def test_parts_of_longer_work_count_on() -> None:
    told: list[Step] = []
    part_of(told.append, 10, 30)(Step(5, 10, "half"))
    assert (told[0].done, told[0].total, told[0].text) == (15, 30, "half")
