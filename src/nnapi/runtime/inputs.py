"""Model inputs from files: .npy, .npz, and images resized and normalized."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnapi.errors import ExecutionError, MissingExtra, UsageError
from nnapi.ops.numeric import quantize
from nnapi.ops.types import Array, Operand

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")


@dataclass(frozen=True)
class ImageOptions:
    """How an image becomes a tensor: resized to the input, scaled to 0..1, then (x - mean) / std per channel."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop: bool = False
    """Cut the largest centered part of the input's aspect ratio first, instead of stretching."""


def read_inputs(paths: Sequence[str], operands: Sequence[Operand], images: ImageOptions) -> dict[int, Array]:
    """Arrays by input position from files: `name=path` or paths in the order of the inputs; one .npz may hold all.

    Raises UsageError for names and counts that do not fit, ExecutionError for files that cannot be read.
    """
    positions = {o.name: i for i, o in enumerate(operands) if o.name}
    found: dict[int, Array] = {}
    for given in paths:
        name, separator, path = given.partition("=")
        if not separator or name not in positions:
            name, path = "", given
        if Path(path).suffix == ".npz" and not name:
            for key, array in _read_npz(Path(path)).items():
                found[_position(key, positions, len(found), operands)] = array
            continue
        i = positions[name] if name else _next(found, operands, path)
        found[i] = _read(Path(path), operands[i], images)
    return found


def _position(key: str, positions: dict[str, int], taken: int, operands: Sequence[Operand]) -> int:
    if key in positions:
        return positions[key]
    if key.startswith("arr_") and key[4:].isdigit() and int(key[4:]) < len(operands):
        return int(key[4:])
    raise UsageError(f"the model has no input {key!r}", hint=f"it has {', '.join(positions) or len(operands)}")


def _next(found: dict[int, Array], operands: Sequence[Operand], path: str) -> int:
    free = [i for i in range(len(operands)) if i not in found]
    if not free:
        raise UsageError(f"{path}: the model takes {len(operands)} inputs, more are given")
    return free[0]


def _read(path: Path, operand: Operand, images: ImageOptions) -> Array:
    if path.suffix.lower() in IMAGES:
        return _read_image(path, operand, images)
    if path.suffix == ".npy":
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ExecutionError(f"cannot read {path}: {_reason(error)}") from error
    raise UsageError(f"{path}: not .npy, .npz or an image ({' '.join(IMAGES)})")


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ExecutionError(f"cannot read {path}: {_reason(error)}") from error


def _read_image(path: Path, operand: Operand, options: ImageOptions) -> Array:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise MissingExtra("reading an image", extra="image") from error
    try:
        with Image.open(path) as image:
            image.load()
            pixels = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ExecutionError(f"cannot read image {path}: {_reason(error)}") from error
    return image_tensor(pixels, operand, options)


def image_tensor(image: object, operand: Operand, options: ImageOptions) -> Array:
    """A PIL image, or an array [H, W, 3] of uint8, as `operand`: [1, 3, H, W] or [1, H, W, 3], or of one channel."""
    from PIL import Image

    picture = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image, np.uint8))
    dims = operand.dimensions
    first = len(dims) == 4 and dims[1] in (1, 3)
    if len(dims) != 4 or not (first or dims[3] in (1, 3)):
        raise UsageError(f"input {operand.name!r} of dimensions {dims} is no image", hint="give it as a .npy file")
    channels, (height, width) = (dims[1], dims[2:]) if first else (dims[3], dims[1:3])
    height, width = height or picture.height, width or picture.width
    if options.crop:
        picture = _center_crop(picture, height / width)
    picture = picture.convert("RGB" if channels == 3 else "L").resize((width, height), Image.Resampling.BILINEAR)
    x = np.asarray(picture, np.float32).reshape(height, width, channels) / np.float32(255)
    mean, std = (
        np.array(v[:channels] if len(v) >= channels else v[:1], np.float32) for v in (options.mean, options.std)
    )
    if not np.all(std > 0):
        raise UsageError(f"std is {options.std}, must be positive")
    x = (x - mean) / std
    x = x.transpose(2, 0, 1)[None] if first else x[None]
    return quantize(np.ascontiguousarray(x), operand)


def _center_crop(picture, ratio: float):  # type: ignore[no-untyped-def]
    width, height = picture.size
    new_width, new_height = min(width, round(height / ratio)), min(height, round(width * ratio))
    left, top = (width - new_width) // 2, (height - new_height) // 2
    return picture.crop((left, top, left + new_width, top + new_height))


def _reason(error: Exception) -> str:
    """What went wrong, without the number and the path that OSError writes around it."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
