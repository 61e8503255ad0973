"""`.nnapi` files: what is damaged or hostile is a ModelError, and what is read is as it was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnapi.errors import ModelError
from nnapi.ir.builder import Builder
from nnapi.ir.file import load, loads, save
from nnapi.ir.model import Model
from nnapi.ir.text import print_model
from nnapi.ops.types import F32

Header = dict[str, Any]


def small() -> Model:
    """`y = x + constant`"""
    b = Builder("m")
    x, c = b.input("x", F32, (5,)), b.constant(np.arange(5, dtype=np.float32))
    b.output(b.add("ADD", {"input0": x, "input1": c, "activation": 0}))
    return b.finish()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(small(), tmp_path / "m.nnapi")
    return tmp_path / "m.nnapi"


def graph(change: Callable[[Any], object]) -> Callable[[Header], object]:
    def changed(header: Header) -> None:
        value = json.loads(header["__metadata__"]["graph"])
        change(value)
        header["__metadata__"]["graph"] = json.dumps(value)

    return changed


def metadata(**values: Any) -> Callable[[Header], object]:
    return lambda header: header["__metadata__"].update(values)


FAR = {"dtype": "F32", "shape": [1 << 30], "data_offsets": [0, 1 << 32]}
HOSTILE: dict[str, tuple[Callable[[Header], object], str]] = {
    "no metadata": (lambda h: h.pop("__metadata__"), "without an NNAPI graph"),
    "a version without end": (metadata(version=float("inf")), "without an NNAPI graph"),
    "a version that is none": (metadata(version="x"), "without an NNAPI graph"),
    "another version": (metadata(version="99"), "version 99"),
    "another format": (metadata(format="pt"), "format 'pt'"),
    "a graph that nests": (metadata(graph="[" * 100_000), "nests too deeply"),
    "a graph that is a number": (metadata(graph=3), "without an NNAPI graph"),
    "a tensor beyond the file": (lambda h: h.update(t=FAR), "the file holds"),
    "a tensor that is a number": (lambda h: h.update(t=3), "its entry is damaged"),
    "a tensor of less than nothing": (lambda h: h.update(t=FAR | {"shape": [-1]}), "its entry is damaged"),
    "an operation that is none": (graph(lambda g: g["operations"][0].update(type="NO_SUCH")), "NO_SUCH"),
    "an operand far away": (graph(lambda g: g["operations"][0].update(inputs=[10**9] * 3)), "1000000000"),
    "a type that is none": (graph(lambda g: g["operands"][0].update(type="TENSOR_INT3")), "graph is damaged"),
    "a scale without end": (graph(lambda g: g["operands"][0].update(scale=float("inf"))), "scale"),
    "a zero point without end": (graph(lambda g: g["operands"][0].update(zero_point=float("inf"))), "is damaged"),
    "operands that are a number": (graph(lambda g: g.update(operands=3)), "graph is damaged"),
}


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header(saved: Path, change: Callable[[Header], object], message: str) -> None:
    data = saved.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    saved.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    with pytest.raises(ModelError, match=message):
        load(saved)


SIZES = [0, 7, 8, 9, 100]


@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_was_cut(saved: Path, size: int) -> None:
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"m\.nnapi"):
        load(saved)


def test_mapped_or_read_it_is_the_same_and_read_only(saved: Path) -> None:
    for model in (load(saved), load(saved, is_ours=True), loads(saved.read_bytes(), "memory")):
        assert print_model(model) == print_model(small())
        values = [o.value for o in model.operands if isinstance(o.value, np.ndarray) and o.type.is_tensor]
        assert values
        assert not any(v.flags.writeable for v in values)
