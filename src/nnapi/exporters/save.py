"""Write a model: the suffix says in which format."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from nnapi.errors import UsageError
from nnapi.ir import file
from nnapi.ir.model import Model


def _save_tflite(model: Model, path: str | os.PathLike[str]) -> None:
    from nnapi.exporters.tflite import save_tflite

    save_tflite(model, path)


def _save_onnx(model: Model, path: str | os.PathLike[str]) -> None:
    from nnapi.exporters.onnx import save_onnx

    save_onnx(model, path)


def _save_ncnn(model: Model, path: str | os.PathLike[str]) -> None:
    from nnapi.exporters.ncnn import save_ncnn

    save_ncnn(model, path)


FORMATS: Final[Mapping[str, Callable[[Model, str | os.PathLike[str]], None]]] = {
    ".nnapi": file.save,
    ".tflite": _save_tflite,
    ".onnx": _save_onnx,
    ".param": _save_ncnn,
}


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Write `model` to a `.nnapi`, `.tflite`, `.onnx` or `.param` file: beside it first, then renamed.

    Raises UsageError for another suffix or a path that cannot be written, UnsupportedOperation for what the format
    has no operation for.
    """
    check_suffix(path)
    FORMATS[Path(path).suffix](model, path)


def check_suffix(path: str | os.PathLike[str]) -> None:
    """UsageError where no format has the path's suffix."""
    if Path(path).suffix not in FORMATS:
        raise UsageError(f"cannot write {path}: suffix must be {' or '.join(FORMATS)}")
