"""Pictures in and out. THE convention: float32 (3, H, W) or (B, 3, H, W), RGB, in [0, 1].

Every kind of file that a user may have (EXIF-rotated, alpha, 16-bit, palette, CMYK, animated) becomes that on reading.
"""

import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from vivace.base.errors import InputError, unknown
from vivace.base.files import written_whole

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")

# name: (package that ships it, file inside the package)
SHIPPED = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "brick": ("skimage", "data/brick.png"),
    "camera": ("skimage", "data/camera.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "coffee": ("skimage", "data/coffee.png"),
    "coins": ("skimage", "data/coins.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "grass": ("skimage", "data/grass.png"),
    "gravel": ("skimage", "data/gravel.png"),
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "hubble": ("skimage", "data/hubble_deep_field.jpg"),
    "ihc": ("skimage", "data/ihc.png"),
    "moon": ("skimage", "data/moon.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "page": ("skimage", "data/page.png"),
    "retina": ("skimage", "data/retina.jpg"),
    "rocket": ("skimage", "data/rocket.jpg"),
}

PAINTED = ("mosaic", "poppies", "stained_glass", "swirls", "waves")  # by formula: vivace.base.paintings


def picture_path(source: str | Path) -> Path:
    """The file behind a path or the name of a shipped picture; InputError if there is none."""
    path = Path(source).expanduser()
    if str(source) in SHIPPED and not path.exists():
        package, inside = SHIPPED[str(source)]
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None, f"{package} is a dependency"
        return Path(spec.origin).parent / inside
    if path.is_dir():
        raise InputError(f"{path} is a folder; a picture file is needed")
    if not path.exists():
        if path.suffix or path.parent != Path():
            raise InputError(f"no file {path}")
        raise unknown("picture file or shipped picture", source, [*SHIPPED, *PAINTED])
    return path


def read_image(source: str | Path, *, max_side: int | None = None) -> Float[Tensor, "3 h w"]:
    """Read a picture: a file of any common kind, or by name a shipped one ("astronaut") or a painted one ("swirls").

    EXIF rotation is applied, transparency laid on white, 16-bit scaled by 65535, the first frame of an animation taken.
    `max_side`: pictures larger than this are reduced to it (with antialiasing) while reading.
    InputError: missing, empty, truncated, not a picture, more than 178 megapixels, NaN.
    """
    if str(source) in PAINTED and not Path(source).expanduser().exists():
        return _painted(str(source), max_side)
    path = picture_path(source)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                if max_side:
                    file.draft("RGB", (max_side, max_side))  # JPEG only: decodes at 1/2, 1/4 or 1/8
                picture = ImageOps.exif_transpose(file)
                if max_side and max(picture.size) > max_side and picture.mode[:1] not in "IFP1":
                    picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
                pixels = _to_array(picture)
    except Image.DecompressionBombError:
        raise InputError(f"{path} has too many pixels (178 million at most); make it smaller first") from None
    except Image.UnidentifiedImageError:
        raise InputError(f"{path} is not a picture that can be read ({', '.join(s[1:] for s in SUFFIXES)})") from None
    except PermissionError:
        raise InputError(f"{path} may not be read (permission denied)") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path} is truncated or damaged: {error}") from None
    if not np.isfinite(pixels).all():
        raise InputError(f"{path} has NaN or infinite pixels")
    image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    return reduce_to(image, max_side) if max_side else image


def _painted(name: str, max_side: int | None) -> Float[Tensor, "3 h w"]:
    """The painting of that name: 640 x 512, or with a longer side of `max_side` (at most 1024)."""
    side = min(max(max_side or 640, 64), 1024)
    paint = getattr(import_module("vivace.base.paintings"), name)  # imported when asked for: it needs SciPy
    image: Tensor = paint(round(0.8 * side), side)
    return reduce_to(image, max_side) if max_side else image


def _to_array(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) float32 in [0, 1] from any of Pillow's modes."""
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow may hold as 32-bit
        grey = np.asarray(picture).astype(np.float32) / 65535
        return np.repeat(grey[..., None].clip(0, 1), 3, axis=2)
    if picture.mode == "F":  # floating-point TIFF: taken as [0, 1], or as [0, 255] where larger
        grey = np.asarray(picture).astype(np.float32)
        return np.repeat((grey / (255 if grey.max() > 1 else 1))[..., None].clip(0, 1), 3, axis=2)
    if picture.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(picture.convert("RGB")).astype(np.float32) / 255


def write_image(path: str | Path, image: Float[Tensor, "c h w"]) -> Path:
    """Write a picture whole or not at all; the suffix says the format. InputError where it can't be written."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise unknown("picture format", path.suffix or path.name, SUFFIXES)
    with written_whole(path) as temporary:
        Image.fromarray(to_uint8(image)).save(temporary, quality=92)
    return path


def to_uint8(image: Float[Tensor, "c h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """(3, H, W) or grey (1, H, W) in [0, 1] as bytes (H, W, 3); values outside are clipped."""
    check_image(image[None] if image.ndim == 2 else image)
    pixels = (image.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()


def check_image(image: Tensor) -> None:
    """InputError unless the tensor is a picture or a batch of pictures by the convention (range is not checked)."""
    if image.ndim not in (3, 4) or image.shape[-3] not in (1, 3):
        raise InputError(f"a picture is (3, H, W), or (B, 3, H, W); this tensor is {tuple(image.shape)}")
    if not image.is_floating_point():
        raise InputError(f"a picture is float32 in [0, 1]; this tensor is {image.dtype} (divide bytes by 255)")
    if 0 in image.shape:
        raise InputError(f"this picture has no pixels: {tuple(image.shape)}")
    if not bool(image.sum().isfinite()) and not bool(torch.isfinite(image).all()):  # a sum is ten times as fast
        raise InputError("this picture has NaN or infinite pixels")


def resize(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Bicubic with antialiasing, clipped to [0, 1]: to (height, width), or so that the shorter side is `size`."""
    height, width = images.shape[-2:]
    if isinstance(size, int):
        scale = size / min(height, width)
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
    if (height, width) == size:
        return images
    batch = images.unsqueeze(0) if images.ndim == 3 else images
    resized = F.interpolate(batch, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    return resized.squeeze(0) if images.ndim == 3 else resized


def reduce_to(images: Tensor, max_side: int) -> Tensor:
    """The same picture with no side longer than `max_side`; small ones stay as they are."""
    height, width = images.shape[-2:]
    scale = max_side / max(height, width)
    if scale >= 1:
        return images
    return resize(images, (max(1, round(height * scale)), max(1, round(width * scale))))


def crop_center(images: Tensor, size: int) -> Tensor:
    """The middle square of side `size`; the pictures must be at least that large."""
    height, width = images.shape[-2:]
    if min(height, width) < size:
        raise InputError(f"cannot cut {size} x {size} from a picture of {height} x {width}")
    top, left = (height - size) // 2, (width - size) // 2
    return images[..., top : top + size, left : left + size]


def middle_square(images: Tensor, size: int) -> Tensor:
    """The largest square in the middle, at `size` x `size`."""
    return resize(crop_center(images, min(images.shape[-2:])), (size, size))


def grid(images: Sequence[Tensor] | Tensor, *, columns: int | None = None, gap: int = 4) -> Float[Tensor, "3 h w"]:
    """Pictures of one size laid out in rows on white, as one picture."""
    batch = torch.stack([image.expand(3, -1, -1) for image in images])
    count, _, height, width = batch.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    sheet = torch.ones(3, rows * (height + gap) - gap, columns * (width + gap) - gap)
    for index, image in enumerate(batch):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet


def heat_colors(values: Float[Tensor, "h w"]) -> Float[Tensor, "3 h w"]:
    """Values in [0, 1] as colours, blue low and red high (matplotlib's turbo)."""
    from matplotlib import colormaps

    colors = colormaps["turbo"](values.detach().float().cpu().clamp(0, 1).numpy())[..., :3]
    return torch.from_numpy(colors).float().permute(2, 0, 1).contiguous().to(values.device)


def overlay(image: Float[Tensor, "3 h w"], heat: Float[Tensor, "_ _"], *, opacity: float = 0.5) -> Tensor:
    """A heat map in [0, 1] of any size, enlarged to the picture (3, H, W), laid over it in colour."""
    values = F.interpolate(heat[None, None], size=image.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
    return (1 - opacity) * image + opacity * heat_colors(values).to(image)


def total_variation(images: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Mean square of the steps between neighbours, down and across: what a smooth picture has little of."""
    return images.diff(dim=2).square().mean() + images.diff(dim=3).square().mean()
