"""The question bank: `questions/<room>.toml`, read once, and found again by id or by free text."""

import math
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from vivace.base.errors import InputError, unknown

FOLDER = Path(__file__).parent / "questions"


@dataclass(frozen=True)
class Text:
    """The same sentence in English and Chinese."""

    en: str
    zh: str


@dataclass(frozen=True)
class Point:
    """A key point of a good answer, and the words that show it was made."""

    text: str
    accept: tuple[str, ...]


@dataclass(frozen=True)
class Statement:
    """A claim as taught: which experiment measures it and what it is expected to find, or why none can."""

    id: str
    text: Text
    experiment: str = ""
    expect: Literal["holds", "refuted", "inconclusive", ""] = ""
    unmeasured: str = ""


@dataclass(frozen=True)
class Erratum:
    """What is commonly taught, what is right, and the claim that shows it (where one does)."""

    id: str
    taught: str
    correct: str
    claim: str = ""


@dataclass(frozen=True)
class Question:
    """One question of the course, with a model answer and what it claims."""

    id: str
    room: str
    title: Text
    ask: Text
    answer: str
    points: tuple[Point, ...]
    followups: tuple[str, ...]
    experiments: tuple[str, ...]
    claims: tuple[Statement, ...]
    errata: tuple[Erratum, ...]

    @property
    def chapter(self) -> int:
        return int(self.id.split(".")[0])


@cache
def questions() -> Mapping[str, Question]:
    """All questions by id, in the course's order."""
    found = [
        _question(entry, path.stem)
        for path in sorted(FOLDER.glob("*.toml"))
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["question"]
    ]
    by_id = {question.id: question for question in sorted(found, key=lambda question: order(question.id))}
    if len(by_id) < len(found):
        raise ValueError(f"a question id stands twice: {Counter(q.id for q in found).most_common(1)}")
    return by_id


def statements() -> Mapping[str, Statement]:
    """All claims by id."""
    return {claim.id: claim for question in questions().values() for claim in question.claims}


def leading_to(experiment: str) -> list[Question]:
    """The questions that an experiment ("room.name") answers."""
    return [question for question in questions().values() if experiment in question.experiments]


def find(text: str) -> Question:
    """The question of that id, or the one that free text (English or Chinese) asks for; else InputError."""
    known = questions()
    if text.strip() in known:
        return known[text.strip()]
    if re.fullmatch(r"\d+(\.\w+)*", text.strip()):
        raise unknown("question", text.strip(), known)
    ranked = search(text)
    if not ranked:
        raise InputError(f"no question is about '{text}'; `vivace list` shows them all")
    return ranked[0]


def search(text: str) -> list[Question]:
    """Questions that share words with the text, best first: rare words count more, words of the title most."""
    documents = {question.id: _words_of(question) for question in questions().values()}
    seen_in = Counter(word for words in documents.values() for word in words)
    scores = {}
    for key, words in documents.items():
        terms = [word for word in _words(text) if word in words]
        scores[key] = sum(math.log1p(len(documents) / seen_in[word]) * math.log1p(words[word]) for word in terms)
    ranked = sorted((key for key in scores if scores[key] > 0), key=lambda key: -scores[key])
    return [questions()[key] for key in ranked]


def order(id: str) -> tuple[tuple[int, str], ...]:
    """Sort key for ids: 3.9 before 3.10, 3.4 before 3.4.Q1."""
    return tuple((int(part), "") if part.isdigit() else (10**6, part) for part in id.split("."))


def _question(entry: dict[str, Any], room: str) -> Question:
    try:
        return Question(
            room=room,
            title=Text(**entry.pop("title")),
            ask=Text(**entry.pop("ask")),
            answer=entry.pop("answer").strip(),
            points=tuple(Point(point["text"], tuple(point["accept"])) for point in entry.pop("points")),
            followups=tuple(entry.pop("followups", ())),
            experiments=tuple(entry.pop("experiments", ())),
            claims=tuple(Statement(text=Text(**claim.pop("text")), **claim) for claim in entry.pop("claims", ())),
            errata=tuple(Erratum(**erratum) for erratum in entry.pop("errata", ())),
            **entry,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{room}.toml, question {entry.get('id')}: {error}") from error


_PLAIN = frozenset(
    re.findall(
        r"[\w']+",
        """a an and are as be between by can describe do does explain for from how in is it
    it's its me of on or than that the their to versus vs what when which why with you your""",
    )
)


def _words(text: str) -> list[str]:
    """English words without their endings, and Chinese as pairs of characters."""
    english = [word for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in _PLAIN]
    chinese = [run[i : i + 2] for run in re.findall(r"[一-鿿]+", text) for i in range(max(1, len(run) - 1))]
    return [re.sub(r"(ing|ed|es|s)$", "", word) if len(word) > 4 else word for word in english] + chinese


def _words_of(question: Question) -> Counter[str]:
    weighted = (
        (6, f"{question.title.en} {question.title.zh}"),
        (3, f"{question.ask.en} {question.ask.zh}"),
        (2, " ".join(point.text + " " + " ".join(point.accept) for point in question.points)),
        (1, question.answer + " " + " ".join(claim.text.en for claim in question.claims)),
    )
    counts: Counter[str] = Counter()
    for weight, text in weighted:
        for word in _words(text):
            counts[word] += weight
    return counts
