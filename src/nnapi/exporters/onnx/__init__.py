"""NNAPI models as ONNX files: opset 21 of the default domain, channels first, quantized operations as QDQ."""

from __future__ import annotations

import os
from pathlib import Path

from nnapi.errors import MissingExtra

try:
    import onnx  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtra("the ONNX format", extra="onnx") from error

from nnapi.exporters.onnx import writer
from nnapi.exporters.onnx.lowering import Lowering, lower_model
from nnapi.exporters.onnx.table import ROWS
from nnapi.exporters.onnx.writer import OPSET, File
from nnapi.ir.model import Model
from nnapi.ir.verdict import Verdict
from nnapi.ir.writing import writing

__all__ = ["OPSET", "check_onnx", "export_onnx", "save_onnx"]


def check_onnx(model: Model, *, shapes_follow: bool = False) -> list[Verdict]:
    """One verdict per operation: whether ONNX can express it, and if not, which limit it meets.

    `shapes_follow`: the model will be exported for the shapes of its inputs, once they are known.

    >>> from nnapi.ir.builder import Builder
    >>> from nnapi.ops.types import F32
    >>> b = Builder("double")
    >>> x = b.input("x", F32, (2,))
    >>> b.output(b.add("ADD", {"input0": x, "input1": x, "activation": 0}))
    >>> check_onnx(b.finish())
    [Accept(note='')]
    """
    return Lowering(model, File(), ROWS, shapes_follow=shapes_follow).run()


def export_onnx(model: Model) -> bytes:
    """`model` as the bytes of an ONNX file; its weights are copied once.

    Raises UnsupportedOperation for the first operation that ONNX does not have, ModelError beyond 2 GiB.
    """
    return b"".join(lower_model(model, ROWS).parts())


def save_onnx(model: Model, path: str | os.PathLike[str]) -> None:
    """Write `model` as an ONNX file, weights straight from where they lie; the file appears whole or not at all.

    Beyond 1 GiB the weights are in `PATH.data` beside it. Raises UnsupportedOperation for what ONNX does not have, and
    UsageError where a file cannot be written.
    """
    file, path = lower_model(model, ROWS), Path(path)
    external = f"{path.name}.data" if file.constant_bytes > writer.MAX_BYTES // 2 else ""
    if external:
        with writing(path.with_name(external)) as out:
            for part in file.weights():
                out.write(part)
    with writing(path) as out:
        for part in file.parts(external):
            out.write(part)
