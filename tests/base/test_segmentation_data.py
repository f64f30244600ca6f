"""CamVid: pictures with their labels, at any size, and what a user is told; the reference is a folder made by hand."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vivace.base.errors import InputError
from vivace.base.segmentation_data import CAMVID_CLASSES, camvid, camvid_at_hand


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of ours with two validation scenes of 8 x 6, whose left half is sky, the right half unlabelled."""
    monkeypatch.setenv("VIVACE_DATA", str(tmp_path))
    monkeypatch.setenv("VIVACE_CACHE", str(tmp_path / "cache"))
    for name in ("train", "val", "valannot"):
        (tmp_path / "camvid" / name).mkdir(parents=True)
    labels = np.full((6, 8), 11, np.uint8)
    labels[:, :4] = 0
    for name, brightness in (("b", 255), ("a", 0)):
        Image.new("RGB", (8, 6), (brightness,) * 3).save(tmp_path / "camvid" / "val" / f"{name}.jpg")
        Image.fromarray(labels).save(tmp_path / "camvid" / "valannot" / f"{name}.png")
    return tmp_path / "camvid"


def test_scenes_by_hand(own: Path) -> None:
    images, labels, classes = camvid("val", size=6)
    assert camvid_at_hand() and classes == CAMVID_CLASSES
    assert images.shape == (2, 3, 6, 8) and images[0].max() < 0.1 and images[1].min() > 0.9  # in the order of the names
    assert labels[0, 0].tolist() == [0] * 4 + [len(classes)] * 4


@pytest.mark.parametrize("size", [3, 12])
def test_another_size_mixes_no_labels(own: Path, size: int) -> None:
    """The mutant would be a mean of labels: sky and unlabelled are not fence."""
    images, labels, _ = camvid("val", size=size)
    assert images.shape[-2:] == labels.shape[-2:] == (size, size * 4 // 3)
    assert set(labels.unique().tolist()) == {0, 11}
    averaged = Image.open(own / "valannot" / "a.png").resize((size * 4 // 3, size), Image.Resampling.BILINEAR)
    assert len(np.unique(np.asarray(averaged))) > 2


def test_what_is_missing_or_wrong_is_told(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="size=0"):
        camvid("val", size=0)
    with pytest.raises(InputError, match=r"no \.jpg"):
        camvid("train")
    Image.new("L", (8, 6), 12).save(own / "valannot" / "a.png")
    with pytest.raises(InputError, match="values 0 to 11"):
        camvid("val")
    (own / "valannot" / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png is no label image"):
        camvid("val")
    monkeypatch.setenv("VIVACE_DATA", str(own))
    assert not camvid_at_hand()
    with pytest.raises(InputError, match="put its folders"):
        camvid("val")


@pytest.mark.skipif("VIVACE_DATA" not in os.environ or not camvid_at_hand(), reason="needs VIVACE_DATA with camvid/")
def test_camvid_is_the_published_one() -> None:
    images, labels, classes = camvid("val", size=90)
    assert images.shape == (101, 3, 90, 120) and labels.shape == (101, 90, 120)
    share = torch.bincount(labels.flatten(), minlength=12) / labels.numel()
    road, sky, pole = (float(share[classes.index(name)]) for name in ("road", "sky", "pole"))
    assert road > sky > 10 * pole > 0 and labels.max() == 11
    road_rows = (labels == classes.index("road")).nonzero()[:, 1].float().mean()
    sky_rows = (labels == classes.index("sky")).nonzero()[:, 1].float().mean()
    assert road_rows > 60 > 30 > sky_rows
