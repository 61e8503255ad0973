"""One value after the other: arithmetic with broadcasting, and functions of one input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nnapi.exporters.ncnn.lowering import FLOATS, Node, Row, blob_shape
from nnapi.exporters.ncnn.writer import Blob, Parameter

ADD, SUB, MUL, _, MAX, MIN, _, REVERSED_SUB = range(8)
"""BinaryOp's numbers."""
REVERSED = {ADD: ADD, MUL: MUL, MAX: MAX, MIN: MIN, SUB: REVERSED_SUB}
ABS, NEG, FLOOR, SQRT = 0, 1, 2, 5
"""UnaryOp's numbers."""


def unary(type: str, parameters: dict[int, Parameter] | None = None) -> Callable[[Node], None]:
    """One layer of `input`."""

    def lower(node: Node) -> None:
        x = node.blob("input")
        node.write(node.emit(type, [x], x.shape, parameters))

    return lower


def _function(number: int) -> Callable[[Node], None]:
    return unary("UnaryOp", {0: number})


def _binary(number: int) -> Callable[[Node], None]:
    def lower(node: Node) -> None:
        y = binary(node, number, *(node.indexes(name)[0] for name in ("input0", "input1")))
        node.write(node.fused(y) if "activation" in node else y)

    return lower


def binary(node: Node, number: int, left: int, right: int) -> Blob:
    """Two operands, broadcast to the operation's output; a constant number is a parameter."""
    dims = node.output.dimensions
    a, b = _number(node, left), _number(node, right)
    if b is not None and a is None:
        return _with_number(node, number, node.aligned(left, dims), b)
    if a is not None and b is None:
        return _with_number(node, REVERSED[number], node.aligned(right, dims), a)
    sides = [node.aligned(i, dims) for i in (left, right)]
    return node.emit("BinaryOp", sides, blob_shape(dims), {0: number})


def _div(node: Node) -> None:
    """Times the reciprocals of a constant: ncnn's own are NaN for 0 and infinity, and 0 for what is beyond 8.5e37."""
    left, right = (node.indexes(name)[0] for name in ("input0", "input1"))
    dims, divisor = node.output.dimensions, node["input1"].value
    if not isinstance(divisor, np.ndarray):
        node.refuse("input1 is not a constant, and by 0 ncnn's quotient is NaN")
    with np.errstate(all="ignore"):
        factor = np.float32(1) / divisor
    if not (np.isfinite(factor) & (np.abs(factor) >= np.finfo(np.float32).tiny)).all():
        node.refuse("input1 has numbers without a reciprocal, ncnn's quotients are products")
    x = node.aligned(left, dims)
    if factor.size == 1:
        y = _with_number(node, MUL, x, factor.item())
    else:
        y = node.emit("BinaryOp", [x, node.aligned(right, dims, factor)], blob_shape(dims), {0: MUL})
    node.write(node.fused(y))


def scaled(node: Node, blob: Blob, factor: float) -> Blob:
    """A blob times a number."""
    return blob if factor == 1.0 else _with_number(node, MUL, blob, factor)


def _with_number(node: Node, number: int, blob: Blob, value: float) -> Blob:
    return node.emit("BinaryOp", [blob], blob.shape, {0: number, 1: 1, 2: float(value)})


def _number(node: Node, index: int) -> float | None:
    """The value of a constant of one element that can be a parameter."""
    value = node.lowering.operands[index].value
    return float(value.item()) if isinstance(value, np.ndarray) and value.size == 1 and np.isfinite(value) else None


ROWS: dict[str, Row | str] = {
    "ADD": Row(_binary(ADD), FLOATS),
    "SUB": Row(_binary(SUB), FLOATS),
    "MUL": Row(_binary(MUL), FLOATS),
    "DIV": Row(_div, FLOATS),
    "MAXIMUM": Row(_binary(MAX), FLOATS),
    "MINIMUM": Row(_binary(MIN), FLOATS),
    "ABS": Row(_function(ABS), FLOATS),
    "FLOOR": Row(_function(FLOOR), FLOATS),
    "NEG": Row(_function(NEG), FLOATS),
    "SQRT": Row(_function(SQRT), FLOATS),
    "EXP": "ncnn's stops at 2.4e38, where infinity is right",
    "LOG": "of 0 ncnn's is NaN, where minus infinity is right",
    "POW": "ncnn's is wrong where the base is not positive",
    "RSQRT": "of 0 ncnn's is NaN, where infinity is right",
    "SIN": "ncnn's is infinite beyond 2**31",
}
