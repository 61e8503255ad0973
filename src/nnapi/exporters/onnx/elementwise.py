"""One value after the other: arithmetic, comparisons, selection, functions of one input, changes of type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnapi.exporters.onnx.lowering import FLOAT, QUANT8, REAL, Node, Row
from nnapi.exporters.onnx.writer import Value
from nnapi.ops.types import B8, F16, I32, Q8PC, Q8SYMM, Q16, Q16SYMM

LOWEST, LARGEST = -(2**31), 2**31 - 1


def unary(type: str, **attributes: Any) -> Callable[[Node], None]:
    """One ONNX node of the real values of `input`."""

    def lower(node: Node) -> None:
        node.write(node.emit(type, [node.real("input")], **attributes))

    return lower


def _binary(type: str, names: Sequence[str] = ("input0", "input1")) -> Callable[[Node], None]:
    """One ONNX node of real values, which broadcast, or of integers."""

    def lower(node: Node) -> None:
        node.write(node.emit(type, [node.real(name) for name in names]))

    return lower


def _arithmetic(type: str) -> Callable[[Node], None]:
    def lower(node: Node) -> None:
        node.write(node.fused(node.emit(type, [node.real("input0"), node.real("input1")])))

    return lower


def _div(node: Node) -> None:
    if node["input0"].type != I32:
        _arithmetic("Div")(node)
    else:
        node.write(_floor_divide(node, node.stored("input0"), node.stored("input1")))


def _floor_divide(node: Node, x: Value, y: Value) -> Value:
    """ONNX truncates, and leaves zero and -2**31 / -1 open; NNAPI floors, and gives 0 and 2**31 - 1."""
    zero, one, minus_one = (node.constant(i, np.int32) for i in (0, 1, -1))
    by_zero, by_minus_one = (node.emit("Equal", [y, divisor]) for divisor in (zero, minus_one))
    odd = node.emit("Or", [by_zero, by_minus_one])
    divisor = node.emit("Where", [odd, one, y])
    quotient = node.emit("Div", [x, divisor])
    rest = node.emit("Sub", [x, node.emit("Mul", [quotient, divisor])])
    inexact = node.emit("Not", [node.emit("Equal", [rest, zero])])
    apart = node.emit("Xor", [node.emit("Less", [rest, zero]), node.emit("Less", [divisor, zero])])
    floor = node.emit("Sub", [quotient, node.cast(node.emit("And", [inexact, apart]), np.int32)])
    negative = node.emit("Neg", [node.emit("Max", [x, node.constant(-LARGEST, np.int32)])])
    return node.emit("Where", [by_zero, zero, node.emit("Where", [by_minus_one, negative, floor])])


def _comparison(type: str, *then: str) -> Callable[[Node], None]:
    """Booleans are compared as integers, except for equality."""

    def lower(node: Node) -> None:
        pair = [node.real(name) for name in ("input0", "input1")]
        if node["input0"].type == B8:
            pair = [node.cast(value, np.int32) for value in pair]
        result = node.emit(type, pair)
        for following in then:
            result = node.emit(following, [result])
        node.write(result)

    return lower


def _select(node: Node) -> None:
    node.write(node.emit("Where", [node.stored("condition"), node.real("input0"), node.real("input1")]))


def _rsqrt(node: Node) -> None:
    """No number is stored as zero, which ONNX leaves open."""
    x = node.real("input")
    y = node.emit("Reciprocal", [node.emit("Sqrt", [x])])
    if node.output.type.is_quantized:
        zero = node.number(0)
        y = node.emit("Where", [node.emit("Less", [x, zero]), zero, y])
    node.write(y)


def _cast(node: Node) -> None:
    """Integers are saturated, as ONNX leaves open what happens to a float beyond them; NaN becomes 0."""
    x, y = node["input"], node.output
    value = node.stored("input")
    to = y.type.dtype
    if x.type == y.type:
        node.write_stored(node.emit("Identity", [value]))
        return
    if to.kind in "iu" and x.type.dtype.kind == "f":
        value = _as_integers(node, value, np.iinfo(to))
    elif to.kind in "iu" and to.itemsize < x.type.dtype.itemsize:
        info = np.iinfo(to)
        value = node.emit("Clip", [value, *(node.constant(limit, x.type.dtype) for limit in (info.min, info.max))])
    node.write_stored(node.cast(value, to))


def _as_integers(node: Node, value: Value, info: np.iinfo[Any]) -> Value:
    """Floats [...] as int32, NaN as 0 and the rest within the limits of a type."""
    value = node.cast(value, np.float32)
    number = node.emit("Where", [node.emit("IsNaN", [value]), node.constant(0, np.float32), value])
    # 2**31 - 1 is no float32: what reaches 2**31 is set afterwards.
    top = min(info.max, LARGEST - 127)
    within = [node.constant(limit, np.float32) for limit in (info.min, top)]
    integers = node.cast(node.emit("Clip", [number, *within]), np.int32)
    if info.max != LARGEST:
        return integers
    beyond = node.emit("Not", [node.emit("Less", [number, node.constant(2.0**31, np.float32)])])
    return node.emit("Where", [beyond, node.constant(LARGEST, np.int32), integers])


def _quantize(node: Node) -> None:
    node.write(node.cast(node.real("input"), np.float32) if node["input"].type == F16 else node.real("input"))


def _dequantize(node: Node) -> None:
    value = node.real("input")
    node.write(node.cast(value, np.float16) if node.output.type == F16 else value)


NUMBERS = REAL | {I32}
ROWS = {
    "ADD": Row(_arithmetic("Add"), NUMBERS),
    "SUB": Row(_arithmetic("Sub"), NUMBERS),
    "MUL": Row(_arithmetic("Mul"), NUMBERS),
    "DIV": Row(_div, FLOAT | {I32}),
    "POW": Row(_binary("Pow", ("input", "exponent")), FLOAT),
    "MAXIMUM": Row(_binary("Max"), NUMBERS),
    "MINIMUM": Row(_binary("Min"), NUMBERS),
    "EQUAL": Row(_comparison("Equal"), NUMBERS | {B8}),
    "NOT_EQUAL": Row(_comparison("Equal", "Not"), NUMBERS | {B8}),
    "GREATER": Row(_comparison("Greater"), NUMBERS | {B8}),
    "GREATER_EQUAL": Row(_comparison("GreaterOrEqual"), NUMBERS | {B8}),
    "LESS": Row(_comparison("Less"), NUMBERS | {B8}),
    "LESS_EQUAL": Row(_comparison("LessOrEqual"), NUMBERS | {B8}),
    "LOGICAL_AND": Row(_binary("And"), {B8}),
    "LOGICAL_OR": Row(_binary("Or"), {B8}),
    "LOGICAL_NOT": Row(unary("Not"), {B8}),
    "SELECT": Row(_select, {B8}),
    "ABS": Row(unary("Abs"), FLOAT | {I32}),
    "EXP": Row(unary("Exp"), FLOAT),
    "FLOOR": Row(unary("Floor"), FLOAT),
    "LOG": Row(unary("Log"), FLOAT),
    "NEG": Row(unary("Neg"), FLOAT | {I32}),
    "RSQRT": Row(_rsqrt, REAL),
    "SIN": Row(unary("Sin"), FLOAT),
    "SQRT": Row(unary("Sqrt"), FLOAT),
    "CAST": Row(_cast, NUMBERS | {B8, Q8SYMM, Q16, Q16SYMM}),
    "QUANTIZE": Row(_quantize, FLOAT),
    "DEQUANTIZE": Row(_dequantize, QUANT8 | {Q8SYMM, Q8PC}),
}
