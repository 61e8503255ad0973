"""One value after the other: arithmetic, comparisons, selection, and functions of one input."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from nnapi.exporters.tflite.lowering import Node, Row, same_quantization, through_float
from nnapi.ops.types import B8, F32, I32, Q8, Q8S, Q16SYMM, Operand

QUANT8 = {Q8, Q8S}
FACTORS: Final[Mapping[tuple[str, int], tuple[float, float]]] = {
    ("ADD", 1): (2**-10, 2**8), ("MUL", 1): (2**-16, 2**8), ("ADD", 2): (0, 2**13), ("MUL", 2): (0, math.inf),
}  # fmt: skip
"""By what kernels scale quantized inputs of 1 or 2 bytes, or their product, to the output's scale.

Beyond, XNNPACK takes no 8 bits, and a sum of 16 ends TFLite's process at twice its limit.
"""


def _arithmetic(builtin: str, options: Callable[..., Any]) -> Callable[[Node], None]:
    """Sums of scales too far apart do not fit the kernels' fixed point: these go through float32."""

    def lower(node: Node) -> None:
        fused = options(fusedActivationFunction=node.scalar("activation"))
        if node.output.type == Q16SYMM and builtin != "MUL":
            fused.potScaleInt16 = False  # any scales, not powers of two alone
        if node.output.type.is_quantized and not _fits(builtin, node.inputs[:2], node.output):
            through_float(node, lambda tensors, outputs: node.emit(builtin, tensors[:2], outputs, fused))
        else:
            node.emit(builtin, [node.tensor("input0"), node.tensor("input1")], options=fused)

    return lower


def _fits(builtin: str, inputs: Sequence[Operand], output: Operand) -> bool:
    """Whether the kernel can scale its inputs to the output's scale."""
    scales = [o.scale for o in inputs]
    kind, factors = ("MUL", [math.prod(scales)]) if builtin == "MUL" else ("ADD", scales)
    low, high = FACTORS[kind, output.type.dtype.itemsize]
    return all(low <= factor / output.scale < high for factor in factors)


def _div(node: Node) -> None:
    if node["input0"].type == F32:
        _arithmetic("DIV", schema.DivOptionsT)(node)
    else:  # DIV truncates integers, NNAPI floors
        node.emit("FLOOR_DIV", [node.tensor("input0"), node.tensor("input1")], options=schema.FloorDivOptionsT())


def _nonzero_divisor(node: Node) -> str | None:
    if node["input0"].type == I32 and not np.all(node.array("input1")):
        return "input1 has a zero, FLOOR_DIV of integers stops there"
    return None


def _plain(builtin: str, options: Callable[[], Any] | None = None) -> Callable[[Node], None]:
    """Every input as it is, in order."""

    def lower(node: Node) -> None:
        inputs = [node.lowering.tensor(i) for i in node.operation.inputs]
        node.emit(builtin, inputs, options=options() if options else None)

    return lower


def _as_stored(builtin: str, options: Callable[[], Any]) -> Callable[[Node], None]:
    """MAXIMUM, MINIMUM and SELECT take quantized values as they are stored: right where all are stored alike."""

    def lower(node: Node) -> None:
        stored = [o for o in (*node.inputs, node.output) if o.type.is_quantized]
        if stored and not same_quantization(*stored):
            through_float(node, lambda tensors, outputs: node.emit(builtin, tensors, outputs, options()))
        else:
            _plain(builtin, options)(node)

    return lower


def _comparison(builtin: str) -> Callable[[Node], None]:
    """TFLite compares quantized values after rounding them to multiples of 1/256, so they go through float32."""

    def lower(node: Node) -> None:
        if node["input0"].type.is_quantized:
            through_float(node, lambda tensors, outputs: node.emit(builtin, tensors, outputs))
        else:
            _plain(builtin)(node)

    return lower


def _rank_survives(node: Node) -> str | None:
    """XNNPACK takes a constant of one element for a scalar, and gives the rank of the other input."""
    operands = node.inputs[:2]
    ranks = [len(o.dimensions) for o in operands]
    for operand, rank, other in zip(operands, ranks, ranks[::-1]):
        if operand.is_constant and operand.elements == 1 and rank > other:
            return f"a constant of one element has rank {rank} > {other} of the other input, and loses it"
    return None


BINARY = (_rank_survives,)
NUMBERS = {F32, I32} | QUANT8
FLOAT = {F32}
ROWS = {
    "ADD": Row(_arithmetic("ADD", schema.AddOptionsT), NUMBERS, BINARY),
    "SUB": Row(_arithmetic("SUB", schema.SubOptionsT), NUMBERS, BINARY),
    "MUL": Row(_arithmetic("MUL", schema.MulOptionsT), NUMBERS, BINARY),
    "DIV": Row(_div, {F32, I32}, (*BINARY, _nonzero_divisor)),
    "POW": Row(_plain("POW", schema.PowOptionsT), FLOAT, BINARY),
    "MAXIMUM": Row(_as_stored("MAXIMUM", schema.MaximumMinimumOptionsT), NUMBERS, BINARY),
    "MINIMUM": Row(_as_stored("MINIMUM", schema.MaximumMinimumOptionsT), NUMBERS, BINARY),
    "EQUAL": Row(_comparison("EQUAL"), NUMBERS | {B8}, BINARY),
    "NOT_EQUAL": Row(_comparison("NOT_EQUAL"), NUMBERS | {B8}, BINARY),
    "GREATER": Row(_comparison("GREATER"), NUMBERS, BINARY),
    "GREATER_EQUAL": Row(_comparison("GREATER_EQUAL"), NUMBERS, BINARY),
    "LESS": Row(_comparison("LESS"), NUMBERS, BINARY),
    "LESS_EQUAL": Row(_comparison("LESS_EQUAL"), NUMBERS, BINARY),
    "LOGICAL_AND": Row(_plain("LOGICAL_AND", schema.LogicalAndOptionsT), {B8}, BINARY),
    "LOGICAL_OR": Row(_plain("LOGICAL_OR", schema.LogicalOrOptionsT), {B8}, BINARY),
    "LOGICAL_NOT": Row(_plain("LOGICAL_NOT", schema.LogicalNotOptionsT), {B8}),
    "SELECT": Row(_as_stored("SELECT", schema.SelectOptionsT), {B8}),
    "ABS": Row(_plain("ABS", schema.AbsOptionsT), {F32, I32}),
    "EXP": Row(_plain("EXP", schema.ExpOptionsT), FLOAT),
    "FLOOR": Row(_plain("FLOOR"), FLOAT),
    "LOG": Row(_plain("LOG"), FLOAT),
    "NEG": Row(_plain("NEG", schema.NegOptionsT), {F32, I32}),
    "RSQRT": Row(_plain("RSQRT"), FLOAT),
    "SIN": Row(_plain("SIN"), FLOAT),
    "SQRT": Row(_plain("SQRT"), FLOAT),
}
