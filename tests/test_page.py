"""A run's folder: whole or not at all, self-contained, and a page that holds up in a real browser."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from vivace.base.errors import InputError
from vivace.base.images import read_image
from vivace.base.report import Report
from vivace.exam import bank
from vivace.page import Run, _markdown, check_folder, write_run, write_tour


def everything() -> Report:
    """A report with one artefact of each kind, and text that tries to break out of the page."""
    report = Report(
        "A <b>test</b> of the page",
        "We fit $\\hat y = w^T x$ by\n\n$$w = (X^T X)^{-1} X^T y$$\n\n<script>alert(1)</script>",
    )
    report.image("cat", read_image("chelsea", max_side=200), "A cat, $x$ & <i>y</i>")
    report.images("pair", {"a <label>": read_image("coffee", max_side=64), "tiny": torch.rand(1, 8, 8)}, columns=2)
    report.curve("loss", {"train": ([1, 10], [1, 0.1]), "test": ([1, 10], [1, 0.5])}, x="step", y="loss", log_y=True)
    report.table("numbers", ["name", "value"], [["a, b", 0.123456], ['say "c"', 3]])
    report.video("film", torch.rand(3, 3, 16, 16))
    report.mesh("shape", torch.eye(3), torch.tensor([[0, 1, 2]]))
    report.page("inner", "<!doctype html><p id='said'></p><script>said.textContent = 'it runs'</script>")
    report.claim("6.2.c1", measured=0.03, high=0.05, detail="as <measured>")
    report.claim("6.2.x9", measured=3, low=4, unit="s")
    return report


def written(folder: Path) -> Run:
    return write_run(
        everything(), folder, key="style.gram", command="vivace run gram", parameters={"size": 3}, facts={"time": "3 s"}
    )


def test_the_folder_holds_everything(tmp_path: Path) -> None:
    check_folder(tmp_path / "run")
    written(tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"report.json", "index.html", "cat.png", "pair-00-a-label.png", "pair-01-tiny.png", "loss.png",
                     "numbers.csv", "film.webp", "shape.obj", "shape.png", "inner.html"}  # fmt: skip
    told = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [claim["verdict"] for claim in told["claims"]] == ["holds", "refuted"] and told["claims"][0]["low"] is None
    assert (tmp_path / "run" / "numbers.csv").read_text() == 'name,value\n"a, b",0.123456\n"say ""c""",3\n'
    assert (tmp_path / "run" / "shape.obj").read_text().endswith("f 1 2 3\n")


def test_the_page_is_self_contained_and_nothing_breaks_out(tmp_path: Path) -> None:
    check_folder(tmp_path)
    written(tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert (
        not re.search(r'(src|href)="(?!data:|#)', page)
        and "<script" not in page
        and "<b>test" not in page
        and "<i>y" not in page
    )
    assert '<div class="strip" style="grid-template-columns: repeat(2, minmax(0, 1fr))">' in page
    assert page.count("<math") >= 3 and "url(http" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_a_failure_leaves_the_last_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_folder(tmp_path)
    written(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match="No space left"):
        written(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_other_files_in_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    written(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("kind", ["run", "tour"])
def test_the_page_in_a_browser(browser: Any, tmp_path: Path, kind: str, width: int, scheme: str) -> None:
    run = written(tmp_path)
    if kind == "tour":
        asked = [question for question in bank.questions().values() if "style.gram" in question.experiments]
        write_tour({"style.gram": run}, asked, tmp_path / "index.html", facts={"time": "1 s"})
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    asked_for, said = [], []
    page.on("request", lambda request: asked_for.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((tmp_path / "index.html").as_uri())
    assert not said and all(url.startswith(("file:", "data:")) for url in asked_for)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    page.locator("iframe").scroll_into_view_if_needed()
    assert page.frame_locator("iframe").locator("#said").inner_text() == "it runs"
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert page.evaluate("[...document.querySelectorAll('math')].every(m => m.getBoundingClientRect().height > 5)")
    assert (
        contrast(
            page.evaluate("getComputedStyle(document.body).color"),
            page.evaluate("getComputedStyle(document.body).backgroundColor"),
        )
        > 7
    )
    assert page.evaluate("getComputedStyle(document.querySelector('.plot svg')).color") == page.evaluate(
        "getComputedStyle(document.body).color"
    )
    page.close()


def contrast(ink: str, ground: str) -> float:
    """WCAG contrast ratio of two `rgb(r, g, b)` colours."""

    def luminance(color: str) -> float:
        channels = [int(c) / 255 for c in re.findall(r"\d+", color)[:3]]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_a_norms_power_is_raised_over_the_whole_norm() -> None:
    """Hung on the right bar alone, as LaTeX is read literally, Chromium lowers that bar."""
    for text in (r"$\lVert x - y \rVert^2$", r"$\lVert w\rVert_2^2 + \lVert v\rVert_1$"):
        html = _markdown()(text)
        assert "&#x02016;</mo></mrow><mn>2</mn>" in html and not re.search(r"<msu[bp]+><mo>&#x02016;", html)
