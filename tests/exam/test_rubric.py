"""The rubric on answers whose points can be told by reading them."""

import pytest

from vivace.base.errors import InputError
from vivace.exam import bank
from vivace.exam.rubric import marked

FIVE = bank.find("1.5")


def made(answer: str) -> list[bool]:
    return [is_made for _, is_made in marked(FIVE, answer)]


def test_there_are_five_points_and_a_full_answer_makes_them_all() -> None:
    assert made(FIVE.answer) == [True] * 5
    assert made("I don't know") == [False] * 5


@pytest.mark.parametrize(
    ("answer", "points"),
    [
        ("We MINIMISE\nthe squared   error.", [True, False, False, False, False]),
        ("The bias is a column of ones", [False, True, False, False, False]),
        ("梯度下降与正规方程", [False, False, True, False, False]),
        ("with collinear features a sign may turn", [False, False, False, True, False]),
    ],
)
def test_a_point_is_made_by_its_words(answer: str, points: list[bool]) -> None:
    assert made(answer) == points


def test_a_word_counts_where_it_begins_not_inside_another() -> None:
    """A mutant that looks for plain substrings finds 'ones' in 'stones' and 'scale' in 'escalate'."""
    assert made("Stones escalate.") == [False] * 5
    assert any(word in "stones escalate." for point in FIVE.points for word in point.accept)


def test_no_answer_is_said() -> None:
    with pytest.raises(InputError, match="empty"):
        marked(FIVE, "  \n")
