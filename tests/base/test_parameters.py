"""One signature, read once: kinds, bounds, choices, roles, help; and `run` itself held to them."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt

from vivace.base.errors import InputError
from vivace.base.parameters import FilePath, FolderPath, ImagePath, RunFolder, Seed, checked, parameters
from vivace.base.report import Report, Tell, ignore


@checked
def run(
    *,
    image: ImagePath = "astronaut",
    data: FolderPath = None,
    table: FilePath = None,
    steps: Annotated[int, Ge(1), Le(5000)] = 300,
    rate: Annotated[float, Gt(0), Lt(1)] = 0.1,
    kind: Literal["adam", "lbfgs"] = "adam",
    fast: bool = False,
    name: str | None = None,
    folder: RunFolder = None,
    seed: Seed = 0,
    tell: Tell = ignore,
) -> Report:
    """A sentence.

    vivace run it        1 s

    image: the picture,
      which may be long
    steps: how many
    """
    return Report("done", repr((image, steps, rate, kind, fast, name, seed)))


KNOWN = {parameter.name: parameter for parameter in parameters(run)}


def test_the_signature_is_read() -> None:
    assert list(KNOWN) == ["image", "data", "table", "steps", "rate", "kind", "fast", "name", "seed"]
    assert [p.role for p in KNOWN.values()] == ["picture", "folder", "file", *["value"] * 6]
    assert (KNOWN["steps"].kind, KNOWN["rate"].kind, KNOWN["fast"].kind, KNOWN["name"].kind) == (int, float, bool, str)
    assert KNOWN["steps"].range == "1 to 5000" and KNOWN["rate"].range == "above 0 and below 1"
    assert KNOWN["kind"].choices == ("adam", "lbfgs") and KNOWN["name"].optional and not KNOWN["image"].optional
    assert KNOWN["image"].help == "the picture, which may be long" and KNOWN["steps"].help == "how many"


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [("steps", "12", 12), ("steps", 1, 1), ("rate", "1e-3", 1e-3), ("kind", "lbfgs", "lbfgs"), ("fast", True, True),
     ("name", None, None), ("image", Path("a.png"), Path("a.png")), ("rate", "5e-1", 0.5)],
)  # fmt: skip
def test_right_values_pass(name: str, value: Any, right: Any) -> None:
    assert KNOWN[name].check(value) == right


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("steps", 0, "1 to 5000"), ("steps", "5001", "1 to 5000"), ("steps", "1.5", "whole number"),
     ("steps", "many", "whole"),
     ("steps", True, "whole"), ("rate", "nan", "a number"), ("rate", "inf", "a number"), ("rate", 0, "above 0"),
     ("rate", 1.0, "below 1"), ("kind", "adma", "adam"), ("image", "", "picture"), ("image", 3, "picture"),
     ("steps", None, "whole"), ("seed", -1, "0 to"), ("fast", "maybe", "true or false")],
)  # fmt: skip
def test_wrong_values_are_said_in_one_line(name: str, value: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        KNOWN[name].check(value)
    assert "\n" not in str(caught.value) and f"--{name}" in str(caught.value)


def test_a_caller_from_python_is_told_the_same() -> None:
    assert "12" in run(steps=12).summary
    with pytest.raises(InputError, match="1 to 5000"):
        run(steps=0)
    with pytest.raises(InputError, match="steps"):
        run(stepz=3)  # type: ignore[call-arg]


def test_a_positional_or_required_argument_is_a_bug() -> None:
    def wrong(image: str) -> None: ...

    with pytest.raises(TypeError, match="keyword-only"):
        parameters(wrong)
