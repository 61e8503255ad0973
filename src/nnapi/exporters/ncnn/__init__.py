"""NNAPI models as ncnn's pair of files: float32, one sample at a time, every dimension fixed."""

from __future__ import annotations

import os
from pathlib import Path

from nnapi.exporters.ncnn.lowering import Lowering, lower_model
from nnapi.exporters.ncnn.table import ROWS
from nnapi.exporters.ncnn.writer import Net
from nnapi.ir.model import Model
from nnapi.ir.names import names_of
from nnapi.ir.verdict import Verdict
from nnapi.ir.writing import writing

__all__ = ["check_ncnn", "export_ncnn", "save_ncnn"]


def check_ncnn(model: Model) -> list[Verdict]:
    """One verdict per operation: whether ncnn can express it, and if not, which limit it meets.

    >>> from nnapi.ir.builder import Builder
    >>> from nnapi.ops.types import F32
    >>> b = Builder("double")
    >>> x = b.input("x", F32, (2,))
    >>> b.output(b.add("ADD", {"input0": x, "input1": x, "activation": 0}))
    >>> check_ncnn(b.finish())
    [Accept(note='')]
    """
    return Lowering(model, Net(), ROWS).run()


def export_ncnn(model: Model) -> Net:
    """`model` as a net: inputs `in0`, `in1`, ..., outputs `out0`, ..., each without its batch of 1.

    Raises UnsupportedOperation for the first operation that ncnn does not have.
    """
    return lower_model(model, ROWS)


def save_ncnn(model: Model, path: str | os.PathLike[str]) -> None:
    """Write `model` as `PATH`, which ends in `.param`, and its weights as the `.bin` file beside it; names are kept.

    Raises UnsupportedOperation for what ncnn does not have, UsageError where a file cannot be written.
    """
    net, path = export_ncnn(model), Path(path)
    beside = path.with_suffix(".bin")
    with writing(beside) as weights, writing(path) as text:  # neither takes its place before both are written
        for part in net.weights():
            weights.write(part)
        weights.flush()
        names = names_of(model.input_operands, "in"), names_of(model.output_operands, "out")
        text.write(net.text(names).encode())
