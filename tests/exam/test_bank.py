"""The question bank: complete in itself, and found by what people type."""

import re
from pathlib import Path

import pytest

from vivace import index
from vivace.base.errors import InputError
from vivace.exam import bank
from vivace.exam.rubric import marked
from vivace.page import _markdown

QUESTIONS = list(bank.questions().values())
SYLLABUS = Path(__file__).parents[3] / "shared" / "syllabus.yaml"


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)
def test_a_question_is_complete(question: bank.Question) -> None:
    chinese = re.compile(r"[一-鿿]")
    assert question.experiments and question.points and len(question.answer) > 300
    assert all(chinese.search(text.zh) for text in (question.title, question.ask, *(c.text for c in question.claims)))
    assert set(question.experiments) <= {entry.key for entry in index.experiments()}
    own = {claim.id for claim in question.claims}
    for claim in question.claims:
        assert re.fullmatch(rf"{re.escape(question.id)}\.[cx]\d+", claim.id)
        assert bool(claim.experiment) != bool(claim.unmeasured), "measured by an experiment, or says why not"
        assert claim.expect in (("holds", "refuted", "inconclusive") if claim.experiment else ("",))
        assert claim.experiment in (*question.experiments, "")
    assert all(erratum.claim in own | {""} for erratum in question.errata)
    assert all(point.accept and all(word == word.lower() for word in point.accept) for point in question.points)
    html = _markdown()(question.answer)
    assert "$" not in re.sub(r"<math.*?</math>", "", html, flags=re.DOTALL), "every formula is one that can be drawn"


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)
def test_a_model_answer_makes_its_own_points(question: bank.Question) -> None:
    assert not [point.text for point, made in marked(question, question.answer) if not made]


@pytest.mark.skipif(not SYLLABUS.exists(), reason="the syllabus lies beside the checkout, not in it")
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)
def test_nothing_taught_is_left_out(question: bank.Question) -> None:
    entries = re.split(r"^- id: ", SYLLABUS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    entry = next(e for e in entries if e.splitlines()[0].strip("' ") == question.id)
    ids = set(re.findall(r"^  - id: '?([\w.]+?)'?$", entry, re.MULTILINE))
    ours = {claim.id for claim in question.claims} | {erratum.id for erratum in question.errata}
    assert ids <= ours, ids - ours


@pytest.mark.parametrize(
    ("text", "id_"),
    [
        ("5.1", "5.1"),
        ("grad cam", "5.1"),
        ("what does the gram matrix throw away", "6.2"),
        ("正规方程", "1.4"),
        ("how many parameters has the mnist classifier", "3.4.Q4"),
        ("neural style transfer", "6.1"),
        ("类激活图", "5.1"),
    ],
)
def test_found_by_what_people_type(text: str, id_: str) -> None:
    assert bank.find(text).id == id_


@pytest.mark.parametrize("text", ["99.1", "zzz qqq", "5.99"])
def test_what_is_not_there_is_said(text: str) -> None:
    with pytest.raises(InputError, match=r"no question"):
        bank.find(text)


def test_ids_sort_as_people_count() -> None:
    assert sorted(["3.10", "3.9", "3.4.Q2", "3.4"], key=bank.order) == ["3.4", "3.4.Q2", "3.9", "3.10"]
