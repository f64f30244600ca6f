"""Every kind of picture file becomes THE convention; what is no picture is said in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vivace.base.errors import InputError
from vivace.base.images import (
    SHIPPED,
    check_image,
    crop_center,
    grid,
    heat_colors,
    overlay,
    read_image,
    reduce_to,
    resize,
    to_uint8,
    total_variation,
    write_image,
)

RED_LEFT = np.zeros((20, 30, 3), np.uint8)  # red left half, blue right half, 30 wide and 20 high
RED_LEFT[:, :15] = (255, 0, 0)
RED_LEFT[:, 15:] = (0, 0, 255)


def is_red_then_blue(image: torch.Tensor, tolerance: float = 0.02) -> bool:
    """Shape (3, 20, 30), left red, right blue, as colours near enough for JPEG."""
    if tuple(image.shape) != (3, 20, 30) or image.dtype != torch.float32:
        return False
    left, right = image[:, :, 4:11].mean((1, 2)), image[:, :, 19:26].mean((1, 2))
    return bool(
        (left - torch.tensor([1.0, 0, 0])).abs().max() < tolerance
        and (right - torch.tensor([0, 0, 1.0])).abs().max() < tolerance
    )


def rotated(path: Path) -> None:
    """Stored lying on its side, with the EXIF note that says so."""
    picture = Image.fromarray(RED_LEFT).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(path, exif=exif, quality=95, subsampling=0)


def animated(path: Path) -> None:
    first, second = Image.fromarray(RED_LEFT), Image.fromarray(RED_LEFT[:, ::-1].copy())
    first.save(path, save_all=True, append_images=[second])


KINDS = {
    "plain.png": lambda path: Image.fromarray(RED_LEFT).save(path),
    "plain.webp": lambda path: Image.fromarray(RED_LEFT).save(path, lossless=True),
    "plain.bmp": lambda path: Image.fromarray(RED_LEFT).save(path),
    "rotated.jpg": rotated,
    "palette.png": lambda path: Image.fromarray(RED_LEFT).quantize(4).save(path),
    "palette.gif": lambda path: Image.fromarray(RED_LEFT).quantize(4).save(path),
    "animated.gif": animated,
    "cmyk.jpg": lambda path: Image.fromarray(RED_LEFT).convert("CMYK").save(path, quality=95, subsampling=0),
    "cmyk.tif": lambda path: Image.fromarray(RED_LEFT).convert("CMYK").save(path),
    "opaque.png": lambda path: Image.fromarray(RED_LEFT).convert("RGBA").save(path),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_is_read(name: str, tmp_path: Path) -> None:
    KINDS[name](tmp_path / name)
    image = read_image(tmp_path / name)
    assert is_red_then_blue(image)
    assert not is_red_then_blue(image.flip(2)) and not is_red_then_blue(image.flip(0))  # mutants: mirrored, BGR
    assert not is_red_then_blue(image.transpose(1, 2)) and not is_red_then_blue(image * 255)  # mutants: rotation, bytes


def test_transparent_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.dstack([RED_LEFT, np.full((20, 30), 255, np.uint8)])
    rgba[:, 15:, 3] = 0
    Image.fromarray(rgba, "RGBA").save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert torch.equal(image[:, 0, 0], torch.tensor([1.0, 0, 0])) and torch.equal(image[:, 0, 29], torch.ones(3))


def test_a_transparent_palette_is_laid_on_white(tmp_path: Path) -> None:
    Image.fromarray(RED_LEFT).quantize(4).save(tmp_path / "p.png", transparency=0)
    image = read_image(tmp_path / "p.png")
    assert {tuple(c) for c in image.permute(1, 2, 0).reshape(-1, 3).tolist()} in (
        {(1, 1, 1), (0, 0, 1)},
        {(1, 0, 0), (1, 1, 1)},
    )


def test_sixteen_bits_keep_their_steps(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 512).astype(np.uint16).reshape(16, 32)
    Image.fromarray(values).save(tmp_path / "deep.png")
    image = read_image(tmp_path / "deep.png")
    assert (
        torch.allclose(image[0], torch.from_numpy(values.astype(np.float32) / 65535))
        and image[0].unique().numel() == 512
    )


def test_floating_tiff_and_its_nan(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    Image.fromarray(values).save(tmp_path / "f.tif")
    assert torch.allclose(read_image(tmp_path / "f.tif")[1], torch.from_numpy(values))
    values[1, 1] = np.nan
    Image.fromarray(values).save(tmp_path / "nan.tif")
    with pytest.raises(InputError, match="NaN"):
        read_image(tmp_path / "nan.tif")


def test_one_bit_and_one_pixel(tmp_path: Path) -> None:
    Image.new("1", (1, 1), 1).save(tmp_path / "one.png")
    assert torch.equal(read_image(tmp_path / "one.png"), torch.ones(3, 1, 1))


def test_a_hundred_megapixels_are_reduced_while_reading(tmp_path: Path) -> None:
    Image.new("RGB", (12_500, 8_000), (0, 128, 255)).save(tmp_path / "huge.jpg")
    image = read_image(tmp_path / "huge.jpg", max_side=500)
    assert tuple(image.shape) == (3, 320, 500) and abs(image[2].mean() - 1) < 0.02


def test_two_hundred_megapixels_are_refused(tmp_path: Path) -> None:
    Image.new("1", (20_000, 10_000)).save(tmp_path / "huge.png")
    with pytest.raises(InputError, match="too many pixels"):
        read_image(tmp_path / "huge.png")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_pictures_are_there(name: str) -> None:
    image = read_image(name, max_side=64)
    assert max(image.shape) == 64 and 0 <= image.min() and image.max() <= 1 and image.std() > 0.02


def test_a_file_of_that_name_comes_before_the_shipped_one(elsewhere: Path) -> None:
    Image.fromarray(RED_LEFT).save(elsewhere / "astronaut", format="PNG")
    assert is_red_then_blue(read_image("astronaut"))


def test_written_and_read_again(tmp_path: Path) -> None:
    image = torch.rand(3, 7, 5, generator=torch.Generator().manual_seed(0))
    for name in ("a.png", "a.tif", "a.bmp"):
        assert (read_image(write_image(tmp_path / name, image)) - image).abs().max() <= 0.5 / 255 + 1e-6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bmp", "a.png", "a.tif"]


def test_bytes_are_rounded_and_clipped() -> None:
    values = torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 7.0]).reshape(1, 1, 6)
    assert to_uint8(values)[0, :, 2].tolist() == [0, 0, 0, 1, 255, 255]


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(4, 8, 8),
        torch.zeros(8, 8),
        torch.zeros(3, 0, 4),
        torch.zeros(3, 4, 4).byte(),
        torch.full((3, 2, 2), float("nan")),
    ],
)
def test_what_is_no_picture_is_said(image: torch.Tensor) -> None:
    with pytest.raises(InputError):
        check_image(image)


def test_resize_keeps_the_mean_and_the_shorter_side() -> None:
    image = read_image("coffee")
    small = resize(image, 100)
    assert tuple(small.shape) == (3, 100, 150) and (small.mean((1, 2)) - image.mean((1, 2))).abs().max() < 0.005
    assert resize(image, (400, 600)) is image
    assert tuple(reduce_to(image, 60).shape) == (3, 40, 60) and reduce_to(image, 1000) is image


def test_crop_and_grid() -> None:
    image = torch.arange(25.0).reshape(1, 5, 5) / 25
    assert torch.equal(crop_center(image, 3), image[:, 1:4, 1:4])
    with pytest.raises(InputError):
        crop_center(image, 6)
    sheet = grid([torch.zeros(3, 2, 2)] * 3, columns=2, gap=1)
    assert tuple(sheet.shape) == (3, 5, 5) and sheet[0].sum() == 25 - 12


def test_heat_is_red_high_and_blue_low() -> None:
    colors = heat_colors(torch.tensor([[0.15, 0.9]]))
    assert colors[2, 0, 0] > colors[0, 0, 0] and colors[0, 0, 1] > colors[2, 0, 1]
    image = torch.zeros(3, 8, 8)
    assert torch.equal(overlay(image, torch.rand(2, 2), opacity=0.0), image)


def test_total_variation_by_hand() -> None:
    image = torch.tensor([[[[0.0, 1.0], [3.0, 3.0]]]])
    assert total_variation(image) == (9 + 4) / 2 + (1 + 0) / 2
