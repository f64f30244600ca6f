"""Hand-made kernels against SciPy's filters, sums by hand and the taught answers; mutants fail the same check."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.images import read_image, resize
from vivace.cnn import KERNELS, apply_kernel, box_blur, gaussian, kernel

MODES = {"zero": "constant", "reflect": "mirror", "replicate": "nearest", "circular": "wrap"}  # as SciPy calls them
TAUGHT = torch.tensor([[1.0, 2, 1, 0, 2, 1], [3, 1, 0, 2, 1, 0], [1, 2, 1, 1, 0, 2],
                       [0, 1, 2, 1, 1, 0], [2, 0, 1, 0, 2, 1], [1, 1, 0, 2, 1, 0]])  # fmt: skip


def photo() -> Tensor:
    return resize(read_image("astronaut"), (40, 50)).double()


def is_filter(apply: Callable[..., Tensor]) -> bool:
    """SciPy's correlation, channel by channel, for each border, small kernels and large ones, square or not."""
    picture = photo()
    g = torch.Generator().manual_seed(0)
    for shape in ((3, 3), (5, 3), (1, 7), (13, 11), (21, 21)):
        k = torch.randn(shape, generator=g, dtype=torch.float64)
        for border, mode in MODES.items():
            theirs = torch.from_numpy(np.stack([ndimage.correlate(c, k.numpy(), mode=mode) for c in picture.numpy()]))
            ours = apply(picture, k, border)
            if ours.shape != theirs.shape or not torch.allclose(ours, theirs, atol=1e-10):
                return False
    return True


def test_filters_are_scipys() -> None:
    assert is_filter(apply_kernel)


MUTANTS: dict[str, Callable[..., Tensor]] = {
    "flipped": lambda x, k, border: apply_kernel(x, k.flip(0, 1), border),
    "always zero": lambda x, k, border: apply_kernel(x, k, "zero"),
    "the border replicated for reflected": lambda x, k, border: apply_kernel(
        x, k, "replicate" if border == "reflect" else border
    ),
    "channels mixed": lambda x, k, border: apply_kernel(x.mean(0, keepdim=True), k, border).expand(3, -1, -1),
    "across for down": lambda x, k, border: apply_kernel(x.mT, k, border).mT,
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_rejects_the_mutant(mutant: Callable[..., Tensor]) -> None:
    assert not is_filter(mutant)


def test_a_batch_is_its_pictures() -> None:
    pictures = torch.stack([photo(), photo().flip(1)])
    together = apply_kernel(pictures, kernel("emboss"), "valid")
    assert together.shape == (2, 3, 38, 48)
    for one, picture in zip(together, pictures, strict=True):
        torch.testing.assert_close(one, apply_kernel(picture, kernel("emboss"))[:, 1:-1, 1:-1])


def test_the_taught_answers() -> None:
    def answer(name: str) -> list[list[float]]:
        return apply_kernel(TAUGHT[None], kernel(name), "valid")[0].tolist()

    assert answer("edge") == [[-3, -10, 10, 0], [7, -2, 0, -8], [-1, 9, 0, 1], [-8, 1, -10, 10]]
    assert answer("sharpen") == [[-2, -5, 8, 1], [6, 0, 1, -5], [1, 6, 1, 2], [-5, 3, -6, 7]]
    sums = [[12, 10, 8, 9], [11, 11, 9, 8], [10, 9, 9, 8], [8, 8, 10, 8]]
    assert np.allclose(9 * np.array(answer("box blur")), sums)


def test_sums_and_symmetries() -> None:
    for name in KERNELS:
        keeps = name in ("identity", "sharpen", "box blur", "gaussian", "emboss")
        assert kernel(name).sum().item() == pytest.approx(1 if keeps else 0, abs=1e-6), name
    for name in ("sobel", "prewitt", "scharr"):
        assert torch.equal(kernel(f"{name} x").T, kernel(f"{name} y"))


def test_edge_is_nine_times_what_the_blur_takes_away() -> None:
    picture = photo()
    blurred = apply_kernel(picture, box_blur(3).double())
    torch.testing.assert_close(apply_kernel(picture, kernel("edge").double()), 9 * (picture - blurred))
    assert torch.allclose(kernel("sharpen"), kernel("identity") - kernel("laplacian"))


def test_gaussian_is_scipys() -> None:
    for sigma in (0.8, 2.0, 3.3):
        point = np.zeros((41, 41))
        point[20, 20] = 1
        theirs = ndimage.gaussian_filter(point, sigma)
        ours = F.pad(gaussian(sigma).double(), [20 - len(gaussian(sigma)) // 2] * 4)
        assert np.allclose(ours, theirs, atol=1e-7)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="sobel x"):
        kernel("sobel_x")
    with pytest.raises(InputError, match="reflect border"):
        apply_kernel(torch.rand(1, 3, 3), box_blur(7))
    with pytest.raises(InputError, match="does not fit"):
        apply_kernel(torch.rand(1, 3, 3), box_blur(5), "valid")
    for wrong in (lambda: box_blur(0), lambda: gaussian(0.0), lambda: gaussian(float("nan"))):
        with pytest.raises(InputError):
            wrong()
