"""Maps of pictures: a page that works alone in a real browser, and thumbnails that never cover each other."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vivace.experiments.labelled_pictures import patches
from vivace.experiments.picture_map import in_unit_square, interactive_map, map_of_thumbnails

RANDOM = np.random.default_rng(0)


def page(count: int = 4) -> str:
    given = patches(count, side=64, seed=0)
    n = len(given.labels)
    maps = {"first": RANDOM.normal(size=(n, 2)), "second": RANDOM.normal(size=(n, 2))}
    near = np.stack([(np.arange(n) + step) % n for step in (1, 2, 3)], 1)
    names = ["</script><b>", *(f"picture {i}" for i in range(1, n))]
    return interactive_map(given.images, maps, names=names, groups={"class": (given.classes, given.labels.numpy())},
                           scores={"score": RANDOM.random(n)}, near=near)  # fmt: skip


def test_the_page_is_whole_small_and_nothing_breaks_out() -> None:
    text = page(20)
    assert len(text) < 3000 * 200, "a thousand pictures in 3 MB"
    assert not re.search(r'(src|href)="(?!data:)|url\(|https?:', text) and text.count("</script>") == 2
    told = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text)[1])  # type: ignore[index]
    assert told["names"][0] == "</script><b>" and len(told["maps"]["second"]) == 200
    assert sorted(told["colors"]) == ["class", "score"] and max(told["colors"]["score"]["of"]) == 1


@pytest.mark.browser
@pytest.mark.parametrize("width", [380, 1200])
def test_the_map_in_a_browser(browser: Any, tmp_path: Path, width: int) -> None:
    (tmp_path / "map.html").write_text(page(), encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 800})
    asked_for, said = [], []
    tab.on("request", lambda request: asked_for.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto((tmp_path / "map.html").as_uri())
    tab.wait_for_selector("body[data-ready=yes]")
    assert all(url.startswith(("file:", "data:")) for url in asked_for)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def point(i: int) -> None:
        x, y = tab.evaluate(f"(() => {{ const r = canvas.getBoundingClientRect(), p = shown(at[{i}]); "
                            "return [r.left + p[0], r.top + p[1]]; })()")  # fmt: skip
        tab.mouse.move(x, y)

    tab.wait_for_function("at.length === 40")
    last = 39  # nothing lies on top of the last one
    point(last)
    tab.wait_for_function("document.getElementById('near').children.length === 3")
    assert tab.locator("#name").inner_text().startswith("picture 39 · class: coins")
    before = tab.evaluate(f"at[{last}]")
    tab.get_by_role("button", name="second").click()
    tab.wait_for_function(f"from === null && at[{last}][0] === D.maps.second[{last}][0]")
    assert tab.evaluate(f"at[{last}]") != before
    tab.get_by_role("button", name="larger").click()
    assert tab.evaluate("view.zoom") > 1
    tab.get_by_role("button", name="whole map").click()
    tab.get_by_role("button", name="coins").click()
    assert tab.evaluate("only") == 9
    tab.select_option("#by", "score")
    assert tab.evaluate("only") is None and "unusual" in tab.locator("#legend").inner_text()
    assert not said
    tab.close()


def whole(sheet: Tensor, images: Tensor) -> list[bool]:
    """Of each picture (of one colour) that can be seen at all: can all of it be seen?"""
    counts = [int((sheet - image[:, :1, :1]).abs().amax(0).lt(1e-3).sum()) for image in images]
    return [count == 36 * 36 for count in counts if count]


def test_thumbnails_do_not_cover_each_other() -> None:
    images = torch.rand(60, 3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 36, 36)
    where, of = RANDOM.normal(size=(60, 2)), np.arange(60) % 3
    sheet = map_of_thumbnails(images, where, of, side=300)
    seen = whole(sheet, images)
    assert sheet.shape == (3, 300, 300) and all(seen) and len(seen) > 5
    corner = (in_unit_square(where) * (300 - 42)).round().astype(int)
    mutant = torch.ones(3, 300, 300)
    for (x, y), image in zip(corner, images, strict=True):
        mutant[:, y + 3 : y + 39, x + 3 : x + 39] = image
    assert not all(whole(mutant, images))


def test_the_unit_square_keeps_proportions() -> None:
    found = in_unit_square(np.array([[0.0, 0], [4, 0], [0, 2]]))
    assert found.tolist() == [[0, 0.25], [1, 0.25], [0, 0.75]]
    assert in_unit_square(np.ones((2, 2))).tolist() == [[0.5, 0.5]] * 2
