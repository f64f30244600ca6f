"""Every experiment at its quick size: its verdicts are the expected ones, and nothing is left out."""

from importlib import import_module

import pytest

from vivace import index
from vivace.base.report import Report, Step
from vivace.exam import bank


@pytest.mark.parametrize("entry", index.experiments(), ids=lambda e: e.key)
def test_verdicts_are_as_expected(entry: index.Entry) -> None:
    module = import_module(f"vivace.experiments.{entry.key}")
    steps: list[Step] = []
    report: Report = module.run(**module.QUICK, tell=steps.append)
    expected = {c.id: c.expect for q in bank.questions().values() for c in q.claims if c.experiment == entry.key}
    found = {claim.id: claim.verdict for claim in report.claims}
    assert found == expected, {
        c.id: (c.value, c.range, expected.get(c.id)) for c in report.claims if found[c.id] != expected.get(c.id)
    }
    assert report.artefacts, "something to look at"
    assert all(0 <= step.done <= step.total for step in steps)
