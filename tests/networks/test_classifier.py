"""The MLP's experiments: training goes on where it stopped, on pictures of one's own too, and the measures measure."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vivace.base.data import Labelled, digits
from vivace.base.errors import InputError
from vivace.base.report import Step
from vivace.experiments.classifier import shifted
from vivace.experiments.networks import mlp
from vivace.experiments.networks.mlp import edge_share
from vivace.experiments.networks.mlp_depth import trained_together, widest
from vivace.networks import count_parameters

TINY = {"dataset": "digits", "epochs": 3, "batch_size": 256}


def stop_after(epochs: int):
    """Ctrl-C once so many epochs are done."""

    def tell(step: Step) -> None:
        if step.text.startswith(f"epoch {epochs} ") and "test_accuracy" in step.values:
            raise KeyboardInterrupt

    return tell


def test_a_stopped_run_resumed_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = mlp.run(**TINY, folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        mlp.run(**TINY, folder=tmp_path / "stopped", tell=stop_after(2))
    assert not (tmp_path / "stopped" / "weights.safetensors").exists()
    resumed = mlp.run(**TINY, folder=tmp_path / "stopped", resume=tmp_path / "stopped")
    files = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert files[0] == files[1]
    assert whole.claims == resumed.claims and whole.title == resumed.title
    shapes = {
        name: tuple(tensor.shape) for name, tensor in load_file(tmp_path / "whole" / "weights.safetensors").items()
    }
    assert shapes["layers.0.weight"] == (128, 64) and shapes["layers.2.bias"] == (10,)


def test_pictures_of_ones_own(tmp_path: Path) -> None:
    for name, box in {"upper": (0, 0, 30, 14), "left": (0, 0, 14, 30)}.items():
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(10):
            picture = Image.new("RGB", (30, 30), (10 * i,) * 3)
            picture.paste((255, 255, 255 - i), box)
            picture.save(tmp_path / "mine" / name / f"{i}.png")
    report = mlp.run(data=tmp_path / "mine", epochs=10, batch_size=4)
    assert "reads mine: 100.00% of 4 test pictures" in report.title
    assert "3.4.c2" not in {claim.id for claim in report.claims}, "there is no 7 among them"
    with pytest.raises(InputError, match="at least two classes"):
        mlp.run(data=make_single(tmp_path))


def make_single(folder: Path) -> Path:
    (folder / "single" / "cats").mkdir(parents=True)
    Image.new("L", (9, 9)).save(folder / "single" / "cats" / "a.png")
    return folder / "single"


def test_shifted_moves_each_picture_by_whole_pixels() -> None:
    images = torch.rand(64, 1, 5, 6, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        moved = shifted(images, 1)
    wide = torch.nn.functional.pad(images, [1] * 4)
    places = []
    for i in range(64):
        fits = [(y, x) for y in range(3) for x in range(3) if torch.equal(moved[i], wide[i, :, y : y + 5, x : x + 6])]
        assert len(fits) == 1
        places += fits
    assert len(set(places)) == 9


def test_nets_trained_together_are_those_trained_alone() -> None:
    train = digits("train").taken(torch.arange(100))
    together = trained_together((64, 8, 10), train, [1, 2], epochs=2)
    (alone,) = trained_together((64, 8, 10), train, [2], epochs=2)
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(together[1].state_dict()[name], tensor)
    assert not torch.allclose(together[0].layers[0].weight, alone.layers[0].weight)


def test_edge_share_knows_an_edge_from_noise_and_a_blob_in_two_places() -> None:
    at = torch.arange(28) - 13.0
    y, x = at[:, None], at[None, :]
    bar = torch.exp(-(x**2 + y**2) / (2 * 3.2**2)) * torch.cos(2 * math.pi / 12 * (0.8 * x + 0.6 * y) + 1)
    noise = torch.randn(28, 28, generator=torch.Generator().manual_seed(0))
    shares = edge_share(torch.stack([bar, noise, bar.roll(9, 0) + bar.roll(-9, 0).T]))
    assert shares[0] > 0.8 and shares[1] < 0.05 and shares[2] < 0.6


@pytest.mark.parametrize("depth", [1, 3])
def test_widest_uses_the_budget(depth: int) -> None:
    hidden = widest(depth, 20_000)
    assert len(hidden) == depth
    assert count_parameters((64, *hidden, 10)) <= 20_000 < count_parameters((64, *[hidden[0] + 1] * depth, 10))


def test_taken_keeps_the_classes() -> None:
    some = Labelled(torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0]), ("a", "b")).taken(torch.tensor([2, 1]))
    assert some.labels.tolist() == [0, 1] and some.classes == ("a", "b")
