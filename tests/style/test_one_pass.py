"""Training a decoder: it gets better, and goes on after Ctrl-C as if nothing had happened."""

from functools import partial
from pathlib import Path

import pytest
import torch

from vivace.base.errors import InputError
from vivace.base.images import read_image, resize, write_image
from vivace.base.report import Step, ignore
from vivace.cnn import efficientnet_lite0
from vivace.experiments.one_pass import CHANNELS, Task, adain_decoder, learned
from vivace.experiments.style_pictures import Pairs, photographs, random_glass, random_oil, random_print
from vivace.style import StyleDecoder, adain_maps


def decoder() -> StyleDecoder:
    torch.manual_seed(0)
    return StyleDecoder(CHANNELS, (4, 4, 8, 8))


def test_a_training_that_was_stopped_goes_on(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("coffee", "waves"):
        write_image(pictures / f"{name}.png", resize(read_image(name, max_side=200), 130))
    judge = efficientnet_lite0(weights="imagenet").requires_grad_(False)
    task = Task(judge, lambda net, c, s: net(adain_maps(c, s)), content=0.1, style=1.0, smoothness=1.0)
    train = partial(learned, task=task, steps=3, data=pictures, styles=pictures, batch_size=1, rate=1e-3, seed=0,
                    precision="32-true", devices=1)  # fmt: skip
    whole, stopped, resumed = decoder(), decoder(), decoder()
    train(whole, folder=None, resume=None, tell=ignore)

    def stop(step: Step) -> None:
        if step.done >= 1 and step.values:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(stopped, folder=tmp_path / "run", resume=None, tell=stop)
    train(resumed, folder=tmp_path / "run", resume=tmp_path / "run", tell=ignore)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert not torch.equal(whole.paint.weight, decoder().paint.weight)


def test_pairs_are_the_same_at_every_visit() -> None:
    pictures = [(read_image("coffee", max_side=160) * 255).byte()]
    pairs, other = (Pairs(pictures, pictures, 5, side=32, seed=seed) for seed in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(pairs[3], pairs[3], strict=True))
    assert not torch.equal(pairs[3][0], pairs[2][0]) and not torch.equal(pairs[3][0], other[3][0])
    assert pairs[0][1].shape == (3, 32, 32) and 0 <= float(pairs[0][1].min()) and float(pairs[0][1].max()) <= 1


@pytest.mark.parametrize("painter", [random_oil, random_glass, random_print])
def test_random_styles_are_pictures_of_their_seed(painter: partial[torch.Tensor]) -> None:
    one, again, other = (painter(40, 48, seed=seed) for seed in (3, 3, 4))
    assert one.shape == (3, 40, 48) and torch.equal(one, again) and not torch.equal(one, other)
    assert 0 <= float(one.min()) and float(one.max()) <= 1 and float(one.std()) > 0.01


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder with pictures"):
        photographs(tmp_path)
    with pytest.raises(InputError, match="no folder with pictures"):
        photographs(tmp_path / "nowhere")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no weights of a StyleDecoder"):
        adain_decoder(tmp_path / "other.safetensors")
