"""What a layer puts out as a spatial map (B, K, h, w): maps with channels last, a transformer's tokens, tuples.

Everything is read off the shapes: the output's and the picture's, whose proportions the grid of patches has.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from vivace.base.errors import InputError

# tokens before those of the patches: none; a class token; one for distillation too; four registers; these and a class
EXTRA_TOKENS = (0, 1, 2, 4, 5)


def as_map(A: Tensor, images: Tensor) -> Float[Tensor, "b k mh mw"]:
    """A layer's output as a map (B, K, h, w); InputError if it isn't one."""
    found = find_map(A, images)
    if found is None:
        raise InputError(f"an output {tuple(A.shape)} is not a spatial map (B, K, h, w)")
    return found


def find_map(A: Tensor, images: Tensor) -> Tensor | None:
    """A layer's output as a map (B, K, h, w) of several positions, if it is one; a view, nothing is copied.

    (B, K, h, w) stays; (B, h, w, K), told by the pictures' proportions, is turned round; so are tokens (B, N, K) or
    (N, B, K), if their number less that of tokens which are no patches (`EXTRA_TOKENS`, at the beginning) makes up a
    grid of the pictures' proportions.
    """
    if A.ndim not in (3, 4):
        return None
    height, width = images.shape[2:]
    if A.ndim == 3 and len(A) != len(images) and A.shape[1] == len(images):
        A = A.transpose(0, 1)
    if len(A) != len(images):
        return None  # windows, or patches as a batch
    if A.ndim == 3:
        for extra in EXTRA_TOKENS:
            grid = _grid(A.shape[1] - extra, height, width)
            if grid is not None:
                return A[:, extra:].transpose(1, 2).unflatten(2, grid)
        return None
    _, first, second, last = A.shape
    if last > first and abs(first * width - second * height) < abs(second * width - last * height):
        A = A.permute(0, 3, 1, 2)
    return A if A.shape[2:].numel() > 1 else None


def first_tensor(output: object) -> Tensor | None:
    """The tensor that a layer puts out, or the first of several: attention gives its weights too."""
    first = output[0] if isinstance(output, tuple | list) and output else output
    return first if isinstance(first, Tensor) else None


def with_first(output: Any, tensor: Tensor) -> Any:
    """The same output with this tensor in the first one's place."""
    if hasattr(output, "_make"):  # a named tuple
        return output._make([tensor, *output[1:]])
    return type(output)([tensor, *output[1:]]) if isinstance(output, tuple | list) else tensor


def _grid(count: int, height: int, width: int) -> tuple[int, int] | None:
    """Rows and columns of so many square patches that the picture is cut into, what is left over at its ends lost."""
    if count < 2:
        return None
    h = max(1, round((count * height / width) ** 0.5))
    w = count // h
    smallest, largest = max(height // (h + 1), width // (w + 1)) + 1, min(height // h, width // w)
    return (h, w) if h * w == count and smallest <= largest else None
