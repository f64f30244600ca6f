"""What tests of several architectures need."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from vivace.base.weights import CARDS, Card

Publish = Callable[..., None]


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """`publish("vgg19", shapes)`: a published file of zeros, that costs no disk: storages of one number, expanded."""

    def put(name: str, shapes: Mapping[str, tuple[int, ...]], *, digits: int = 64) -> None:
        path = tmp_path / "weights" / f"{name}-zeros.pth"
        path.parent.mkdir()
        torch.save({key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}, path)
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()[:digits]
        card = Card(path.name, sha256, len(content), "", "", "", "", "", url="http://127.0.0.1:9")
        monkeypatch.setenv("VIVACE_DATA", str(tmp_path))
        monkeypatch.setitem(CARDS, name, card)

    return put
