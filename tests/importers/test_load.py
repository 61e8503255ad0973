"""Paths: what is no model file is refused in words, and a model stays what it was when its file changes."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import nnapi
from nnapi.errors import ModelError
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import F32


def large_enough() -> Model:
    """A model of more than a page."""
    b = Builder("m")
    x = b.input("x", F32, (1, 64))
    weights = b.constant(np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32))
    bias = b.constant(np.zeros(64, np.float32))
    b.output(b.add("FULLY_CONNECTED", {"input": x, "filter": weights, "bias": bias, "activation": 0}))
    return b.finish()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def piped(path: Path) -> Path:
    os.mkfifo(path)
    return path


def keras(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", "")
    return path


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (lambda d: piped(d / "x.nnapi"), "is a pipe, not a regular file; write it to a file first"),
    "a piped archive": (lambda d: piped(d / "x.pt2"), "is a pipe"),
    "a device": (lambda d: "/dev/zero", "is a device"),
    "a folder": (lambda d: d, "is a directory"),
    "a null character": (lambda d: "a\0b", "its name holds a null character"),
    "a name too long": (lambda d: "x" * 5000, "File name too long"),
    "nothing": (lambda d: d / "none.nnapi", "No such file"),
    "an empty file": (lambda d: written(d / "x", b""), "is empty"),
    "a short file": (lambda d: written(d / "x", b"\x02\0\0\0\0\0\0\0{"), "is no model"),
    "text": (lambda d: written(d / "x", b"hello world" * 9), "is no model"),
    "an archive's end only": (lambda d: written(d / "x", b"PK\x03\x04" + bytes(50)), "damaged or truncated archive"),
    "Keras": (lambda d: keras(d / "x"), "is a Keras model"),
}


@pytest.mark.parametrize(("source", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_model_is_refused(tmp_path: Path, source: Callable[[Path], object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        nnapi.load(source(tmp_path))


def overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))


CHANGES: dict[str, Callable[[Path], object]] = {
    "overwritten in place": overwritten,
    "cut": lambda p: os.truncate(p, 8),
    "cut and written anew": lambda p: p.write_bytes(b"other"),
    "removed": Path.unlink,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_session_does_not_notice_what_becomes_of_its_file(tmp_path: Path, change: Callable[[Path], object]) -> None:
    path = tmp_path / "model.nnapi"
    nnapi.save(large_enough(), path)
    session = nnapi.compile(nnapi.load(path), devices=["reference"])
    x = np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32)
    before = session(x)[0]
    change(path)
    np.testing.assert_array_equal(session(x)[0], before)
