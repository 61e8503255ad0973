"""Write a model: the suffix says in which format."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from nnapi.errors import UsageError
from nnapi.ir import file
from nnapi.ir.model import Model
from nnapi.ir.writing import check_writable


def _save_tflite(model: Model, path: str | os.PathLike[str]) -> None:
    from nnapi.exporters.tflite import save_tflite

    save_tflite(model, path)


def _save_onnx(model: Model, path: str | os.PathLike[str]) -> None:
    from nnapi.exporters.onnx import save_onnx

    save_onnx(model, path)


def _save_ncnn(model: Model, path: str | os.PathLike[str]) -> None:
    from nnapi.exporters.ncnn import save_ncnn

    save_ncnn(model, path)


class Format(NamedTuple):
    """Writer of the files of a suffix."""

    write: Callable[[Model, str | os.PathLike[str]], None]
    layout: str | None = None
    """The only one that its readers have; None: as the model is."""
    device: str | None = None
    """The device that reads such files, and shows what others make of them."""
    beside: str = ""
    """The suffix of a second file."""


FORMATS: Final[Mapping[str, Format]] = {
    ".nnapi": Format(file.save),
    ".tflite": Format(_save_tflite, "nhwc", "litert"),
    ".onnx": Format(_save_onnx, "nchw", "onnxruntime"),
    ".param": Format(_save_ncnn, "nchw", "ncnn", beside=".bin"),
}


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Write `model` to a `.nnapi`, `.tflite`, `.onnx` or `.param` file: beside it first, then renamed.

    Inside, the layout is that of the format's readers, whatever the model's; inputs and outputs keep their dimensions.
    Raises UsageError for another suffix or a path that cannot be written, UnsupportedOperation for what the format
    has no operation for.
    """
    check_suffix(path)
    if not isinstance(model, Model):
        raise UsageError(f"a {type(model).__name__} is no model", hint="nnapi.load gives one")
    FORMATS[Path(path).suffix].write(for_readers(model, path), path)


def for_readers(model: Model, path: str | os.PathLike[str]) -> Model:
    """`model` in the layout that the readers of the path's format have."""
    from nnapi.passes.layout import to_layout  # passes run the reference, a driver: above the exporters

    layout = FORMATS[Path(path).suffix].layout
    return model if layout is None else to_layout(model, layout)


def check_suffix(path: str | os.PathLike[str]) -> None:
    """UsageError where no format has the path's suffix."""
    if not isinstance(path, (str, os.PathLike)):
        raise UsageError(f"cannot write to a {type(path).__name__}: it is no path")
    if Path(path).suffix not in FORMATS:
        raise UsageError(f"cannot write {path}: suffix must be {' or '.join(FORMATS)}")


def check_output(path: str | os.PathLike[str]) -> None:
    """UsageError where `save` cannot write there, whatever the model: asked before it is made."""
    check_suffix(path)
    check_writable(path)
    beside = FORMATS[Path(path).suffix].beside
    if beside:
        check_writable(Path(path).with_suffix(beside))
