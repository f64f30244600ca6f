"""A file is written whole or not at all."""

from pathlib import Path

import pytest

from vivace.base.errors import InputError, unknown
from vivace.base.files import written_whole


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), written_whole(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_ctrl_c_leaves_nothing_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), written_whole(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "part").write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_folder_takes_the_old_ones_place(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with written_whole(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / text).touch()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["two"]


@pytest.mark.parametrize("place", ["/proc/vivace/x", "/dev/null/x"])
def test_where_nothing_can_be_written_is_said(place: str) -> None:
    with pytest.raises(InputError, match="cannot be written"), written_whole(place) as temporary:
        temporary.touch()


def test_unknown_names_list_the_nearest() -> None:
    assert "try conv1, conv2" in str(unknown("layer", "conv", ["conv1", "conv2", "head"]))
    assert "try head" in str(unknown("layer", "haed", ["conv1", "conv2", "head"]))
    assert "try a, b (of 2)" not in str(unknown("layer", "zzz", ["a", "b"])) and "try a, b" in str(
        unknown("layer", "zzz", "ab")
    )
    assert str(unknown("layer", "x", [])) == "no layer named 'x'"
