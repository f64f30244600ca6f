"""The rubric: which of a question's key points a typed answer makes, in English or Chinese."""

import re

from vivace.base.errors import InputError
from vivace.exam.bank import Point, Question


def marked(question: Question, answer: str) -> list[tuple[Point, bool]]:
    """Each key point, and whether the answer makes it: by one of the point's words, or the beginning of one."""
    if not answer.strip():
        raise InputError("the answer is empty; type a sentence or two")
    text = " ".join(answer.lower().split())
    return [(point, any(_says(text, word) for word in point.accept)) for point in question.points]


def _says(text: str, word: str) -> bool:
    begins_with_a_letter = re.match(r"[a-z0-9]", word) is not None
    return re.search((r"(?<![a-z0-9])" if begins_with_a_letter else "") + re.escape(word), text) is not None
