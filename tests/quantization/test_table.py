"""Tables from files: what is damaged, of another shape or of another model is refused in words."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnapi.errors import QuantizeError
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import F32
from nnapi.quantization.apply import apply
from nnapi.quantization.decide import decide
from nnapi.quantization.params import read_table
from nnapi.quantization.recipe import read_recipe

Content = dict[str, Any]


@pytest.fixture(scope="module")
def model() -> Model:
    b = Builder("m")
    x = b.input("x", F32, (1, 4))
    weights = b.constant(np.eye(4, dtype=np.float32))
    y = b.add(
        "FULLY_CONNECTED", {"input": x, "filter": weights, "bias": b.constant(np.ones(4, np.float32)), "activation": 0}
    )
    b.output(y)
    return b.finish()


@pytest.fixture
def saved(model: Model, tmp_path: Path) -> Path:
    ranges = {i: (-1.0, 2.0) for i, o in enumerate(model.operands) if o.type == F32 and o.value is None}
    decide(model, ranges, read_recipe("int8")).save(tmp_path / "table.json", model)
    return tmp_path / "table.json"


def first(kind: str) -> Callable[[Content], Content]:
    def found(content: Content) -> Content:
        value = next(iter(content[kind].values()))
        assert isinstance(value, dict)
        return value

    return found


operation, operand = first("operations"), first("operands")
HOSTILE: dict[str, tuple[Callable[[Content], object], str]] = {
    "no precision": (lambda c: operation(c).pop("precision"), "lacks something"),
    "another precision": (lambda c: operation(c).update(precision="int3"), "precision 'int3'"),
    "a list for a precision": (lambda c: operation(c).update(precision=["int8"]), "precision \\['int8'\\]"),
    "a list for a reason": (lambda c: operation(c).update(reason=[]), "reason \\[\\]"),
    "a list of operations": (lambda c: c.update(operations=[]), "lacks something"),
    "no operations": (lambda c: c.update(operations={}), "of another model"),
    "an operation that is none": (lambda c: c["operations"].update({"0": 3}), "lacks something"),
    "an index that is none": (lambda c: c["operands"].update({"-1": operand(c)}), "'-1' is no index"),
    "an index written otherwise": (lambda c: c["operands"].update({" 1": operand(c)}), "' 1' is no index"),
    "an operand that is not there": (lambda c: c["operands"].update({"99": operand(c)}), "names operand 99"),
    "a scale that is a word": (lambda c: operand(c).update(scale="1"), "must be numbers"),
    "a scale that is a list": (lambda c: operand(c).update(scale=[1.0]), "must be numbers"),
    "a scale that is a truth": (lambda c: operand(c).update(scale=True), "must be numbers"),
    "no scale": (lambda c: operand(c).update(scale=0.0), "must be quantized and positive"),
    "a scale without end": (lambda c: operand(c).update(scale=float("inf")), "must be quantized and positive"),
    "a scale that is none": (lambda c: operand(c).update(scale=float("nan")), "must be quantized and positive"),
    "a scale beyond float32": (lambda c: operand(c).update(scale=10**400), "must be quantized and positive"),
    "a zero point that is half": (lambda c: operand(c).update(zero_point=0.5), "must be numbers"),
    "a zero point that is far": (lambda c: operand(c).update(zero_point=10**30), "must be -128 to 127"),
    "another type": (lambda c: operand(c).update(type="TENSOR_INT3"), "lacks something"),
    "a type of floats": (lambda c: operand(c).update(type="TENSOR_FLOAT32"), "must be quantized and positive"),
    "no filters": (lambda c: operation(c).update(filter=[]), "has 0 parameters"),
    "two for one filter": (lambda c: operation(c).update(filter=operation(c)["filter"] * 2), "has 2 parameters"),
    "another boundary": (lambda c: c.update(boundary="both"), "boundary is 'both'"),
    "no boundary": (lambda c: c.pop("boundary"), "lacks something"),
    "no operands": (lambda c: c.update(operands={}), "no parameters of operand"),
    "no filter where one is needed": (lambda c: operation(c).pop("filter"), "has 0 scales of the filter"),
}


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_table_of_another_shape(model: Model, saved: Path, change: Callable[[Content], object], message: str) -> None:
    assert apply(model, read_table(saved, model)).operations
    content = json.loads(saved.read_text())
    change(content)
    saved.write_text(json.dumps(content))
    with pytest.raises(QuantizeError, match=message):
        apply(model, read_table(saved, model))


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: p.write_bytes(b""), "cannot read table"),
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:-20]), "cannot read table"),
    "no text": (lambda p: p.write_bytes(b"\xff\xfe\xff"), "cannot read table"),
    "nested": (lambda p: p.write_bytes(b"[" * 100_000), "nests too deeply"),
    "a list": (lambda p: p.write_bytes(b"[]"), "is no table"),
    "a pipe": (lambda p: (p.unlink(), os.mkfifo(p)), "is a pipe"),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), "is a directory"),
    "missing": (lambda p: p.unlink(), "No such file"),
}


@pytest.mark.parametrize(("damage", "message"), FILES.values(), ids=FILES)
def test_a_file_that_is_no_table(model: Model, saved: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(saved)
    with pytest.raises(QuantizeError, match=message):
        read_table(saved, model)
