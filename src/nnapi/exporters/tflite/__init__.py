"""NNAPI models as TFLite files: the same operations, the same weights, channels last."""

from __future__ import annotations

import os

from nnapi.exporters.tflite.lowering import Lowering, lower_model
from nnapi.exporters.tflite.table import ROWS
from nnapi.exporters.tflite.writer import Flatbuffer
from nnapi.ir.model import Model
from nnapi.ir.verdict import Verdict
from nnapi.ir.writing import writing

__all__ = ["check_tflite", "export_tflite", "save_tflite"]


def check_tflite(model: Model, *, shapes_follow: bool = False) -> list[Verdict]:
    """One verdict per operation: whether TFLite can express it, and if not, which limit it meets.

    `shapes_follow`: the model will be exported for the shapes of its inputs, once they are known.

    >>> from nnapi.ir.builder import Builder
    >>> from nnapi.ops.types import F32
    >>> b = Builder("double")
    >>> x = b.input("x", F32, (2,))
    >>> b.output(b.add("ADD", {"input0": x, "input1": x, "activation": 0}))
    >>> check_tflite(b.finish())
    [Accept(note='')]
    """
    return Lowering(model, Flatbuffer(), ROWS, shapes_follow=shapes_follow).run()


def export_tflite(model: Model) -> bytes:
    """`model` as the bytes of a TFLite file; its weights are copied once.

    Raises UnsupportedOperation for the first operation that TFLite does not have, ModelError beyond 2 GiB.
    """
    return b"".join(lower_model(model, ROWS).parts())


def save_tflite(model: Model, path: str | os.PathLike[str]) -> None:
    """Write `model` as a TFLite file, weights straight from where they lie; the file appears whole or not at all.

    Raises what `export_tflite` raises, and UsageError where the file cannot be written.
    """
    file = lower_model(model, ROWS)
    with writing(path) as out:
        for part in file.parts():
            out.write(part)
