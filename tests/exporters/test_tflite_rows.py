"""Every row of the TFLite table computes what the reference does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from nnapi.drivers.reference import execute
from nnapi.exporters.tflite import check_tflite, export_tflite
from nnapi.exporters.tflite.lowering import Row
from nnapi.exporters.tflite.table import ROWS
from nnapi.ir import composites
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import COMPOSITE, Model
from nnapi.ir.verdict import Accept, Reject
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import B8, F32, FLOAT32, I32, Q8, Q8S, Operand, OperandType
from tflite_cases import BOTH, CASES, CONV, SCALE, ZERO, assert_close, interpret, one, variable, window


@pytest.mark.parametrize(
    ("operation", "given", "type"),
    [
        pytest.param(operation, given, type, id=f"{operation} {name} {type.name.removeprefix('TENSOR_')}")
        for name, operation, given, types in CASES
        for type in types
    ],
)
def test_round_trip(operation: str, given: dict[str, Any], type: OperandType) -> None:
    model, inputs = one(operation, given, type)
    assert check_tflite(model) == [Accept()]
    assert_close(model, interpret(export_tflite(model), inputs), execute(model, inputs))


WITHOUT_CASE = {
    "CAST": "conversions below",
    "QUANTIZE": "conversions below",
    "DEQUANTIZE": "conversions below",
    "CONCATENATION": "joins below",
    "PACK": "joins below",
    "IF": "control flow below",
    "FILL": "constants below",
    "RANK": "constants below",
    "HASHTABLE_LOOKUP": "lookups below",
    "LSH_PROJECTION": "lookups below",
    COMPOSITE + "GELU": "composites below",
}


def test_every_row_is_tried() -> None:
    rows = {name for name, row in ROWS.items() if isinstance(row, Row)}
    assert {operation for _, operation, _, _ in CASES} | WITHOUT_CASE.keys() == rows
    assert {name for name in ROWS if not name.startswith(COMPOSITE)} <= OPERATIONS.keys()


CONVERSIONS = [
    ("QUANTIZE", F32, Q8), ("QUANTIZE", F32, Q8S), ("DEQUANTIZE", Q8, F32), ("DEQUANTIZE", Q8S, F32),
    *(("CAST", a, b) for a in (F32, I32, Q8) for b in (F32, I32, Q8)), ("CAST", Q8S, Q8S), ("CAST", B8, B8),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "source", "target"), CONVERSIONS, ids=lambda v: str(getattr(v, "name", v)))
def test_conversions(operation: str, source: OperandType, target: OperandType) -> None:
    b = Builder()
    x = b.input("x", source, (3, 40), SCALE.get(source, 0.0), ZERO.get(source, 0))
    b.output(b.add(operation, {"input": x}, Operand(target, (), SCALE.get(target, 0.0), ZERO.get(target, 0))))
    model = b.finish()
    values = np.random.default_rng(0).standard_normal((3, 40)) * (3 if source == F32 else 400)
    array = values.astype(np.float32) if source == F32 else values.astype(np.int64).astype(source.dtype)
    assert_close(model, interpret(export_tflite(model), [array]), execute(model, [array]))


def test_integers_saturate_when_they_become_bytes() -> None:
    b = Builder()
    b.output(b.add("CAST", {"input": b.input("x", I32, (4,))}, Operand(Q8, (), 1.0)))
    (result,) = interpret(export_tflite(b.finish()), [np.array([-1, 255, 256, 2**30], np.int32)])
    assert result.tolist() == [0, 255, 255, 255]


@pytest.mark.parametrize("type", BOTH, ids=lambda t: t.name)
def test_joins(type: OperandType) -> None:
    b = Builder()
    scales = (SCALE[type], SCALE[type] / 3)
    x, y = (b.input(n, type, (2, 7), s, ZERO[type]) for n, s in zip("xy", scales))
    like = Operand(type, (), SCALE[type], ZERO[type])
    b.output(
        b.add("CONCATENATION", {"inputs": [x, y], "axis": 1}, like), b.add("PACK", {"axis": 1, "inputs": [x, x]}, like)
    )
    model = b.finish()
    rng = np.random.default_rng(0)
    inputs = [rng.integers(0, 100, (2, 7)).astype(type.dtype) for _ in range(2)]
    assert_close(model, interpret(export_tflite(model), inputs), execute(model, inputs))


def test_lookups() -> None:
    b = Builder()
    wanted = b.input("wanted", I32, (3,))
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    keys = np.array([-5, 0, 7, 9], np.int32)
    table = {"lookups": wanted, "keys": keys, "values": values}
    b.output(*b.add_many("HASHTABLE_LOOKUP", table, [Operand(F32), Operand(Q8, (), 1.0)]))
    hashes = np.array([[0.1, -0.5], [0.3, 0.7]], np.float32)
    b.output(b.add("LSH_PROJECTION", {"hash": hashes, "input": wanted, "weight": None, "type": 2}))
    model = b.finish()
    inputs = [np.array([7, 8, -5], np.int32)]
    assert_close(model, interpret(export_tflite(model), inputs), execute(model, inputs))


def test_constants() -> None:
    b = Builder()
    x = b.input("x", F32, (2, 3, 4))
    filled = b.add("FILL", {"dims": [4], "value": b.scalar(FLOAT32, 2.5)}, Operand(F32))
    b.output(b.add("ADD", {"input0": x, "input1": filled, "activation": 0}), b.add("RANK", {"input": x}))
    sums, rank = interpret(export_tflite(b.finish()), [np.zeros((2, 3, 4), np.float32)])
    assert sums.ravel().tolist() == [2.5] * 24
    assert rank.tolist() == 3


def branching() -> Model:
    def branch(operation: str) -> Model:
        b = Builder(operation)
        x = b.input("x", F32, (0, 3))
        b.output(b.add(operation, {"input0": x, "input1": np.full((1,), 3, np.float32), "activation": 0}))
        return b.finish()

    b = Builder("branching")
    condition, x = b.input("condition", B8, (1,)), b.input("x", F32, (2, 3))
    given = {"condition": condition, "then_model": branch("ADD"), "else_model": branch("MUL"), "inputs": [x]}
    b.output(*b.add_many("IF", given, [Operand(F32)]))
    return b.finish()


@pytest.mark.parametrize("condition", [True, False])
def test_control_flow(condition: bool) -> None:
    model = branching()
    inputs = [np.array([condition]), np.ones((2, 3), np.float32)]
    assert_close(model, interpret(export_tflite(model), inputs), execute(model, inputs))


COMPOSITES: dict[str, tuple[Callable[[Builder, Ref], Ref], bool]] = {
    "GELU": (composites.gelu, True),
    "GELU tanh": (lambda b, x: composites.gelu(b, x, tanh=True), True),
    "SILU": (composites.silu, False),
    "MISH": (composites.mish, False),
    "SOFTPLUS": (composites.softplus, False),
    "attention": (lambda b, x: composites.attention(b, x, x, x, scale=0.3, causal=True), False),
}


@pytest.mark.parametrize("name", COMPOSITES)
def test_composites_go_whole_or_as_their_bodies(name: str) -> None:
    build, native = COMPOSITES[name]
    b = Builder(name)
    b.output(build(b, b.input("x", F32, (2, 5, 8))))
    model = b.finish()
    assert isinstance(check_tflite(model)[0], Accept if native else Reject)
    inputs = [np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32) * 3]
    assert_close(model, interpret(export_tflite(model), inputs), execute(model, inputs))


def operators(content: bytes) -> list[str]:
    """The builtin operators of a file's first subgraph, in order."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    return [names[model.operatorCodes[o.opcodeIndex].builtinCode] for o in model.subgraphs[0].operators]


@pytest.mark.parametrize(("activation", "pad"), [(0, "PADV2"), (1, "PAD"), (2, "PADV2"), (3, "PAD")])
@pytest.mark.parametrize("type", BOTH, ids=lambda t: t.name)
def test_a_pool_pads_with_what_cannot_win(type: OperandType, activation: int, pad: str) -> None:
    b = Builder()
    x = b.input("x", type, (1, 8, 8, 3), SCALE[type], ZERO[type])
    like = Operand(type, (), SCALE[type], ZERO[type])
    y = b.add("ADD", {"input0": x, "input1": x, "activation": activation}, like)
    b.output(
        b.add("MAX_POOL_2D", {"input": y, **window("none", [1, 1, 1, 1], (2, 2), filter_width=3, filter_height=3)})
    )
    model = b.finish()
    content = export_tflite(model)
    assert operators(content) == ["ADD", pad, "MAX_POOL_2D"]
    values = np.random.default_rng(0).standard_normal((1, 8, 8, 3)) - 3
    inputs = [(values if type == F32 else values * 20).astype(type.dtype)]
    assert_close(model, interpret(content, inputs), execute(model, inputs))


@pytest.mark.parametrize(
    ("operation", "given", "expected"),
    [
        ("SOFTMAX", {"input": variable(3, 5), "beta": 0.5}, ["MUL", "SOFTMAX"]),
        ("STRIDED_SLICE", {"input": variable(3, 5), "begin": [0, -3], "end": [9, 4], "strides": [1, 1], "begin_mask": 1,
                           "end_mask": 0, "shrink_axis_mask": 0}, ["SLICE"]),
        ("STRIDED_SLICE", {"input": variable(3, 5), "begin": [1, 1], "end": [2, 4], "strides": [1, 1], "begin_mask": 0,
                           "end_mask": 2, "shrink_axis_mask": 1}, ["SLICE", "RESHAPE"]),
        ("CONV_2D", CONV | window("none", [1, 1, 1, 1]), ["CONV_2D"]),
        ("CONV_2D", CONV | window("none", [1, 1, 1, 1], (2, 2)), ["PAD", "CONV_2D"]),
        ("TRANSPOSE_CONV_2D", CONV | window("none", [1, 0, 1, 0], (2, 2), layout=False), ["TRANSPOSE_CONV", "SLICE"]),
        ("TRANSPOSE_CONV_2D", CONV | window("none", [1, 1, 1, 1], (2, 2), layout=False), ["TRANSPOSE_CONV"]),
        ("TRANSPOSE_CONV_2D", CONV | window("none", [0, 0, 0, 0], (2, 2), layout=False), ["TRANSPOSE_CONV"]),
    ],
)  # fmt: skip
def test_lowered_to(operation: str, given: dict[str, Any], expected: list[str]) -> None:
    model, inputs = one(operation, given, F32)
    content = export_tflite(model)
    assert operators(content) == expected
    assert_close(model, interpret(content, inputs), execute(model, inputs))


FLATTENED = [
    pytest.param((2, 3, 4), (6, 4), (2, 3, 5), ["FULLY_CONNECTED"], id="dimensions come back"),
    pytest.param((2, 3, 4), (6, 4), (6, 1, 5), ["FULLY_CONNECTED", "RESHAPE"], id="others come"),
    pytest.param((2, 3, 4), (2, 12), (2, 1, 5), ["FULLY_CONNECTED", "RESHAPE"], id="several dimensions are one"),
    pytest.param((6, 4), (6, 4), (2, 3, 5), ["FULLY_CONNECTED", "RESHAPE"], id="nothing is flattened"),
]


@pytest.mark.parametrize("is_read", [False, True], ids=["", "read elsewhere too"])
@pytest.mark.parametrize("type", BOTH, ids=lambda t: t.name)
@pytest.mark.parametrize(("shape", "flat", "after", "expected"), FLATTENED)
def test_what_fully_connected_flattens_is_not_reshaped(
    shape: tuple[int, ...], flat: tuple[int, int], after: tuple[int, ...], expected: list[str], type: OperandType,
    is_read: bool,
) -> None:  # fmt: skip
    b, generator = Builder(), np.random.default_rng(0)
    x = b.input("x", type, shape, SCALE[type], ZERO[type])
    like = Operand(type, (), SCALE[type], ZERO[type])
    first = x if shape == flat else b.add("RESHAPE", {"input": x, "shape": [*flat]}, like)
    scale = SCALE[type]
    codes = generator.integers(0, 255, (5, flat[1]))
    values = (codes / 50 - 2.5).astype(np.float32) if type == F32 else codes.astype(type.dtype)
    weights = Operand(type, values.shape, scale, 0 if type == Q8S else ZERO[type])
    zeros = np.zeros(5, np.float32 if type == F32 else np.int32)
    bias = Operand(F32 if type == F32 else I32, (5,), scale * scale)
    result = Operand(type, (), scale * scale * 100, ZERO[type])
    given = {"input": first, "filter": b.constant(values, weights), "bias": b.constant(zeros, bias), "activation": 0}
    y = b.add("FULLY_CONNECTED", given, result)
    b.output(b.add("RESHAPE", {"input": y, "shape": [*after]}, result))
    if is_read:
        if first is not x:
            b.output(first)
        b.output(y)
    model = b.finish()
    content = export_tflite(model)
    if is_read:
        expected = ["RESHAPE"] * (shape != flat) + ["FULLY_CONNECTED", "RESHAPE"]
    assert operators(content) == expected
    inputs = [(generator.standard_normal(shape) * 20).astype(np.int8).astype(type.dtype)]
    assert_close(model, interpret(content, inputs), execute(model, inputs))
