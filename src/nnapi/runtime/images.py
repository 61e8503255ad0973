"""Images as inputs: how pixels become numbers, as options say it or the model's metadata keeps it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nnapi.errors import ExecutionError, ModelError, UsageError
from nnapi.ir.model import Model
from nnapi.ops.numeric import quantize
from nnapi.ops.types import Array, Operand

if TYPE_CHECKING:
    from PIL.Image import Image

KEY: Final = "images"
"""Of a model's metadata."""
MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
"""ImageNet's, of images from 0 to 1."""
ASSUMED: Final = "ImageNet's, for neither options nor the model's metadata say otherwise"
KEPT: Final = "as the model's metadata says"
GIVEN: Final = "as the options say"
WIDE: Final = ("I", "I;16", "I;16B", "I;16L", "I;16N")
"""PIL's modes of one channel of 16 bits; conversions between them and others would clip to 8."""


@dataclass(frozen=True)
class ImageOptions:
    """Conversion of an image to a tensor: resized to the input, white is `scale`, then (x - mean) / std per channel.

    Raises UsageError for numbers that are none, and for other counts than 1 and 3.

    >>> ImageOptions(mean=(0.0,), std=(1.0,), scale=255.0).describe()
    'white is 255, mean 0, std 1'
    """

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    crop: bool = False
    """Cut the largest centered part of the input's aspect ratio first, instead of stretching."""
    scale: float = 1.0
    """Of white, before mean and std; black is 0."""
    source: str = field(default=GIVEN, compare=False)
    """The source of these options."""

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std), ("scale", (self.scale,))):
            if len(values) not in (1, 3):
                raise UsageError(f"{name} has {len(values)} numbers, must have 1, or one of each of 3 channels")
            if not all(math.isfinite(v) and (name == "mean" or v > 0) for v in values):
                must = "finite" if name == "mean" else "finite and positive"
                raise UsageError(f"{name} is {', '.join(f'{v:g}' for v in values)}, must be {must}")

    def describe(self) -> str:
        """In words, without who says so."""
        mean, std = (", ".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
        return f"white is {self.scale:g}, mean {mean}, std {std}" + (", cropped" if self.crop else "")

    def kept_by(self, model: Model) -> Model:
        """`model` with these options in its metadata, for whoever gives it images later."""
        content = {"mean": self.mean, "std": self.std, "crop": self.crop, "scale": self.scale}
        return replace(model, metadata={**model.metadata, KEY: json.dumps(content)})


def options_for(model: Model, given: Mapping[str, Any] | None = None) -> ImageOptions:
    """Image options of `model` as `given` (fields of ImageOptions) has them; the rest by its metadata, else ImageNet's.

    Raises ModelError where the metadata is damaged, UsageError for what ImageOptions does not take.

    >>> options_for(Model((), (), (), ())).source == ASSUMED
    True
    """
    text = model.metadata.get(KEY)
    kept = ImageOptions(source=ASSUMED) if text is None else _parsed(text)
    if not given:
        return kept
    if text is None and "scale" in given:  # of other numbers than 0 to 1 nobody knows the mean
        kept = ImageOptions((0.0,), (1.0,))
    return replace(kept, source=kept.source if given.keys() == {"crop"} else GIVEN, **given)


def _parsed(text: str) -> ImageOptions:
    try:
        content = json.loads(text)
        mean, std = (tuple(map(_number, content[name])) for name in ("mean", "std"))
        return ImageOptions(mean, std, content["crop"] is True, _number(content["scale"]), KEPT)
    except (ValueError, KeyError, TypeError, RecursionError, UsageError) as error:
        raise ModelError(f"the model's metadata {KEY!r} is damaged: {error}") from error


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def image_tensor(image: object, operand: Operand, options: ImageOptions) -> Array:
    """A PIL image, or an array [H, W, 3] of uint8, as `operand`: [1, 3, H, W] or [1, H, W, 3], or of one channel.

    It is turned as its EXIF orientation says. Raises UsageError where the operand is no image or has other channels
    than the options.
    """
    from PIL import Image, ImageOps

    picture = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image, np.uint8))
    picture = ImageOps.exif_transpose(picture)
    dims = operand.dimensions
    first = len(dims) == 4 and dims[1] in (1, 3)
    if len(dims) != 4 or not (first or dims[3] in (1, 3)):
        raise UsageError(f"input {operand.name!r} of dimensions {dims} is no image", hint="give it as a .npy file")
    channels, (height, width) = (dims[1], dims[2:]) if first else (dims[3], dims[1:3])
    height, width = height or picture.height, width or picture.width
    mean, std = (_of_channels(name, getattr(options, name), channels) for name in ("mean", "std"))
    if options.crop:
        picture = _center_crop(picture, height / width)
    picture = _in_8_bits_or_more(picture, channels).resize((width, height), Image.Resampling.BILINEAR)
    x = np.asarray(picture, np.float32).reshape(height, width, -1) / np.float32(255 / options.scale)
    x = (x - mean) / std
    x = x.transpose(2, 0, 1)[None] if first else x[None]
    return quantize(np.ascontiguousarray(np.broadcast_to(x, _shape(x, channels, first))), operand)


def _shape(x: Array, channels: int, first: bool) -> tuple[int, ...]:
    return (1, channels, *x.shape[2:]) if first else (*x.shape[:3], channels)


def _of_channels(name: str, values: tuple[float, ...], channels: int) -> Array:
    if len(values) not in (1, channels):
        if values not in (MEAN, STD):
            raise UsageError(f"{name} has {len(values)} numbers, the input has {channels} channel")
        values = values[:1]
    return np.array(values, np.float32)


def _in_8_bits_or_more(picture: Image, channels: int) -> Image:
    """The picture with as many channels, from 0 to 255; of 16 bits, one channel of floats that loses nothing."""
    from PIL import Image

    if picture.mode in WIDE:
        return Image.fromarray(np.asarray(picture).astype(np.float32) * np.float32(255 / 65535))
    if picture.mode == "F":
        raise ExecutionError("an image of floats does not say what is white", hint="give it as a .npy file")
    return picture.convert("RGB").convert("RGB" if channels == 3 else "L")


def _center_crop(picture: Image, ratio: float) -> Image:
    width, height = picture.size
    new_width, new_height = min(width, round(height / ratio)), min(height, round(width * ratio))
    left, top = (width - new_width) // 2, (height - new_height) // 2
    return picture.crop((left, top, left + new_width, top + new_height))
