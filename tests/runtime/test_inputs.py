"""Inputs from files: arrays, archives, images, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnapi.errors import ExecutionError, NnapiError, UsageError
from nnapi.ops.types import F32, Q8, Operand
from nnapi.runtime.inputs import ImageOptions, image_tensor, read_inputs

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


BAD: dict[str, tuple[list[str], type[NnapiError], str]] = {
    "a missing file": (["none.npy"], ExecutionError, "cannot read .*none.npy: No such file or directory"),
    "a truncated array": (["short.npy"], ExecutionError, "cannot read .*short.npy"),
    "pickled objects": (["objects.npy"], ExecutionError, "cannot read .*objects.npy"),
    "a broken image": (["broken.png"], ExecutionError, "cannot read image .*broken.png"),
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
        pytest.param(Operand(F32, (1, 3, 2, 2)), ImageOptions((0.0,), (0.0,)), "std is", id="std of zero"),
    ],
)
def test_images_refused(operand: Operand, options: ImageOptions, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        image_tensor(PIXELS, operand, options)
