"""Model inputs from files: .npy, .npz, and images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnapi.errors import ExecutionError, MissingExtra, UsageError
from nnapi.ir.arrays import read_npy, read_npz
from nnapi.ir.reading import open_file
from nnapi.ops.types import Array, Operand
from nnapi.runtime.images import ImageOptions, image_tensor

MAX_PIXELS = 80_000_000
"""Of an image: each takes up to four bytes, and a small file may say that it has any number."""
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")


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
            return read_npy(path)
        except (OSError, ValueError) as error:
            raise ExecutionError(f"cannot read {path}: {_reason(error)}") from error
    raise UsageError(f"{path}: not .npy, .npz or an image ({' '.join(IMAGES)})")


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        return read_npz(path)
    except (OSError, ValueError) as error:
        raise ExecutionError(f"cannot read {path}: {_reason(error)}") from error


def _read_image(path: Path, operand: Operand, options: ImageOptions) -> Array:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise MissingExtra("reading an image", extra="image") from error
    try:
        # The content decides what is decoded, and one kind of file would be given to another program.
        with open_file(path) as file, Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"has {image.width} x {image.height} pixels, may have {MAX_PIXELS}")
            image.load()
    except Exception as error:  # decoders raise whatever they like on a damaged file
        raise ExecutionError(f"cannot read image {path}: {_reason(error)}") from error
    return image_tensor(image, operand, options)


def _reason(error: Exception) -> str:
    """What went wrong, without the number and the path that OSError writes around it."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
