"""Inputs from files: arrays, archives, images, and what is refused."""

from __future__ import annotations

import math
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nnapi.errors import ExecutionError, ModelError, NnapiError, UsageError
from nnapi.ir.builder import Builder
from nnapi.ir.file import load, save
from nnapi.ir.model import Model
from nnapi.ops.types import F32, Q8, Operand
from nnapi.runtime.images import ASSUMED, GIVEN, KEPT, KEY, ImageOptions, image_tensor, options_for
from nnapi.runtime.inputs import read_inputs

X = Operand(F32, (1, 2), name="x")
Y = Operand(F32, (1, 3), name="y")
PLAIN = ImageOptions(mean=(0.0,), std=(1.0,))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.ones((1, 2), np.float32))
    np.savez(tmp_path / "both.npz", x=np.ones((1, 2), np.float32), y=np.zeros((1, 3), np.float32))
    np.savez(tmp_path / "numbered.npz", np.ones((1, 2), np.float32), np.zeros((1, 3), np.float32))
    np.savez(tmp_path / "other.npz", z=np.ones(1))
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    (tmp_path / "short.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:90])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (tmp_path / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    (tmp_path / "large.png").write_bytes(png(9000, 9000))
    (tmp_path / "larger.png").write_bytes(png(20_000, 20_000))
    for suffix in ("png", "npy", "npz"):
        os.mkfifo(tmp_path / f"pipe.{suffix}")
    np.savez_compressed(tmp_path / "damaged.npz", x=np.arange(99))
    content = bytearray((tmp_path / "damaged.npz").read_bytes())
    content[50:60] = b"\xff" * 10
    (tmp_path / "damaged.npz").write_bytes(content)
    (tmp_path / "text.txt").write_text("1 2")
    return tmp_path


GOOD = {
    "in order": (["x.npy"], {0}),
    "by name": (["x=x.npy"], {0}),
    "an archive by name": (["both.npz"], {0, 1}),
    "an archive by number": (["numbered.npz"], {0, 1}),
}


@pytest.mark.parametrize(("paths", "positions"), GOOD.values(), ids=GOOD.keys())
def test_arrays(files: Path, paths: list[str], positions: set[int]) -> None:
    given = [f"{p.partition('=')[0]}={files / p.partition('=')[2]}" if "=" in p else str(files / p) for p in paths]
    found = read_inputs(given, (X, Y), PLAIN)
    assert found.keys() == positions
    np.testing.assert_array_equal(found[0], [[1, 1]])


def png(width: int, height: int) -> bytes:
    """An image that says how large it is, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


BAD: dict[str, tuple[list[str], type[NnapiError], str]] = {
    "a missing file": (["none.npy"], ExecutionError, "cannot read .*none.npy: No such file or directory"),
    "a truncated array": (["short.npy"], ExecutionError, "cannot read .*short.npy"),
    "pickled objects": (["objects.npy"], ExecutionError, "cannot read .*objects.npy"),
    "a broken image": (["broken.png"], ExecutionError, "cannot read image .*broken.png"),
    "another kind of image": (["program.png"], ExecutionError, "cannot identify image"),
    "an image of any size": (["large.png"], ExecutionError, "has 9000 x 9000 pixels, may have 80000000"),
    "a larger one": (["larger.png"], ExecutionError, "decompression bomb"),
    "a piped image": (["pipe.png"], ExecutionError, "is a pipe, not a regular file"),
    "a piped array": (["pipe.npy"], ExecutionError, "is a pipe, not a regular file"),
    "a piped archive": (["pipe.npz"], ExecutionError, "is a pipe, not a regular file"),
    "a damaged compressed archive": (["damaged.npz"], ExecutionError, "member 'x.npy' is damaged: Error -3"),
    "another format": (["text.txt"], UsageError, "not .npy, .npz or an image"),
    "an unknown name": (["other.npz"], UsageError, "the model has no input 'z'; it has x, y"),
    "too many": (["x.npy", "x.npy", "x.npy"], UsageError, "the model takes 2 inputs, more are given"),
}


@pytest.mark.parametrize(("paths", "kind", "message"), BAD.values(), ids=BAD.keys())
def test_refusals(files: Path, paths: list[str], kind: type[NnapiError], message: str) -> None:
    with pytest.raises(kind, match=message):
        read_inputs([str(files / p) for p in paths], (X, Y), PLAIN)


PIXELS = np.full((4, 8, 3), (255, 0, 51), np.uint8)
IMAGES = {
    "nchw": (Operand(F32, (1, 3, 2, 2)), (1, 3, 2, 2), [1.0, 0.0, 0.2]),
    "nhwc": (Operand(F32, (1, 2, 2, 3)), (1, 2, 2, 3), [1.0, 0.0, 0.2]),
    "gray": (Operand(F32, (1, 1, 2, 2)), (1, 1, 2, 2), [82 / 255]),
    "quantized": (Operand(Q8, (1, 2, 2, 3), 1 / 255, 0), (1, 2, 2, 3), [255, 0, 51]),
    "any size": (Operand(F32, (1, 3, 0, 0)), (1, 3, 4, 8), [1.0, 0.0, 0.2]),
}


@pytest.mark.parametrize(("operand", "shape", "channels"), IMAGES.values(), ids=IMAGES.keys())
def test_images(operand: Operand, shape: tuple[int, ...], channels: list[float]) -> None:
    x = image_tensor(PIXELS, operand, PLAIN)
    assert x.shape == shape
    assert x.dtype == operand.type.dtype
    axis = 1 if shape[1] in (1, 3) else 3
    np.testing.assert_allclose(np.moveaxis(x, axis, -1).reshape(-1, len(channels))[0], channels, atol=2e-3)


def test_a_crop_keeps_the_aspect_ratio() -> None:
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = 255
    cropped = image_tensor(Image.fromarray(wide), Operand(F32, (1, 3, 4, 4)), ImageOptions((0.0,), (1.0,), crop=True))
    np.testing.assert_array_equal(cropped, 1.0)


@pytest.mark.parametrize(
    ("operand", "options", "message"),
    [
        pytest.param(X, PLAIN, "is no image", id="not an image"),
    ],
)
def test_images_refused(operand: Operand, options: ImageOptions, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        image_tensor(PIXELS, operand, options)


def model_of_one_add() -> Model:
    b = Builder("add")
    x = b.input("x", F32, (1, 3, 2, 2))
    b.output(b.add("ADD", {"input0": x, "input1": x, "activation": 0}))
    return b.finish()


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    """A photograph that says that it was taken on its side is turned."""
    pixels = np.zeros((4, 2, 3), np.uint8)
    pixels[0] = 255  # the upper edge
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(pixels)))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(tmp_path / "x.png", exif=exif)
    (x,) = read_inputs([str(tmp_path / "x.png")], (Operand(F32, (1, 3, 4, 2)),), PLAIN).values()
    np.testing.assert_array_equal(x[0, 0], pixels[:, :, 0] / 255)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_kept(channels: int, tmp_path: Path) -> None:
    values = np.array([[0, 257], [1000, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    operand = Operand(F32, (1, channels, 2, 2))
    (x,) = read_inputs([str(tmp_path / "x.png")], (operand,), PLAIN).values()
    np.testing.assert_allclose(x[0], np.broadcast_to(values / 65535, (channels, 2, 2)), rtol=1e-6)  # float32


def test_floats_without_a_white_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(ExecutionError, match="does not say what is white"):
        read_inputs([str(tmp_path / "x.tif")], (Operand(F32, (1, 1, 2, 2)),), PLAIN)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"mean": (0.5, 0.5)}, "mean has 2 numbers, must have 1, or one of each of 3", id="two"),
        pytest.param({"mean": ()}, "mean has 0 numbers", id="none"),
        pytest.param({"std": (1.0,) * 4}, "std has 4 numbers", id="four"),
        pytest.param({"mean": (math.nan,)}, "mean is nan, must be finite", id="nan"),
        pytest.param({"std": (math.inf,)}, "std is inf, must be finite and positive", id="inf"),
        pytest.param({"std": (1.0, 0.0, 1.0)}, "std is 1, 0, 1, must be finite and positive", id="zero"),
        pytest.param({"std": (-1.0,)}, "std is -1, must be finite and positive", id="negative"),
        pytest.param({"scale": 0.0}, "scale is 0, must be finite and positive", id="scale"),
    ],
)
def test_options_that_are_no_numbers(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ImageOptions(**given)


def test_three_means_do_not_fit_one_channel() -> None:
    with pytest.raises(UsageError, match="mean has 3 numbers, the input has 1 channel"):
        image_tensor(PIXELS, Operand(F32, (1, 1, 2, 2)), ImageOptions((0.1, 0.2, 0.3), (1.0,)))


def test_options_survive_in_a_file(tmp_path: Path) -> None:
    options = ImageOptions((1.5,), (2.0, 3.0, 4.0), crop=True, scale=255.0)
    save(options.kept_by(model_of_one_add()), tmp_path / "m.nnapi")
    found = options_for(load(tmp_path / "m.nnapi"))
    assert (found, found.source) == (options, KEPT)
    other = options_for(load(tmp_path / "m.nnapi"), {"mean": (2.5,)})
    assert (other.mean, other.std, other.scale, other.source) == ((2.5,), options.std, 255.0, GIVEN)
    assert options_for(model_of_one_add()).source == ASSUMED


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"mean": [NaN], "std": [1], "scale": 1, "crop": false}',
     '{"mean": "x", "std": [1], "scale": 1, "crop": false}', '{"mean": [0], "std": [true], "scale": 1, "crop": 0}',
     '{"mean": [0], "std": [1], "scale": 1e999, "crop": false}', "[" * 5000],
    ids=range(8),
)  # fmt: skip
def test_damaged_metadata_is_explained(text: str) -> None:
    with pytest.raises(ModelError, match="metadata 'images' is damaged"):
        options_for(replace(model_of_one_add(), metadata={KEY: text}))
