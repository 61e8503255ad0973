"""64-bit integers of PyTorch's that are computed in NNAPI's 32 bits, which some results may leave: they wrap."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.types import I32

Range = tuple[int, int]
"""The least and the largest value that an operand may have."""
ALL: Final[Range] = (-(2**31), 2**31 - 1)


def leaving(model: Model, wide: Collection[int]) -> list[str]:
    """Labels of those of the operations `wide`, which PyTorch computes in 64 bits, whose results may leave 32."""
    known: dict[int, Range] = {}
    found = []
    for n, operation in enumerate(model.operations):
        low, high = _result(model, operation, known)
        is_beyond = low < ALL[0] or high > ALL[1]
        if is_beyond and n in wide:
            found.append(operation.label)
        if operation.outputs:
            known[operation.outputs[0]] = ALL if is_beyond else (low, high)
    return found


def _result(model: Model, operation: Operation, known: dict[int, Range]) -> Range:
    """The range of an operation's first output, as exact integers would have it."""
    if operation.is_extension or model.operands[operation.outputs[0]].type != I32:
        return ALL
    call = model.call(operation)
    given = [_range(model, i, known) for i in operation.inputs if model.operands[i].type == I32]
    match operation.type, given:
        case "ARGMAX" | "ARGMIN", _:
            sizes = call["input"].dimensions
            axis = call.scalar("axis")
            size = sizes[axis] if sizes and axis is not None else 0
            return (0, size - 1) if size else ALL
        case "ADD", [(a, b), (c, d)]:
            return a + c, b + d
        case "SUB", [(a, b), (c, d)]:
            return a - d, b - c
        case "MUL", [(a, b), (c, d)]:
            ends = (a * c, a * d, b * c, b * d)
            return min(ends), max(ends)
        case "BATCH_MATMUL", [(a, b), (c, d)]:
            ends, inner = (a * c, a * d, b * c, b * d), call["input0"].dimensions[-2 if call.scalar("adj_x") else -1]
            return min(ends) * (inner or 2), max(ends) * (inner or 2)
        case "ABS" | "NEG", [(a, b)]:
            return -b, max(-a, b)
        case "MAXIMUM", [(a, b), (c, d)]:
            return max(a, c), max(b, d)
        case "MINIMUM", [(a, b), (c, d)]:
            return min(a, c), min(b, d)
        case "SELECT", [(a, b), (c, d)]:
            return min(a, c), max(b, d)
        case "CONCATENATION", [_, *_]:
            return min(low for low, _ in given), max(high for _, high in given)
        case "GATHER" | "RESHAPE" | "SLICE" | "STRIDED_SLICE" | "SPLIT" | "TILE" | "TRANSPOSE", [moved, *_]:
            return moved
    return ALL


def _range(model: Model, i: int, known: dict[int, Range]) -> Range:
    value = model.operands[i].value
    if isinstance(value, np.ndarray) and value.size:
        return int(value.min()), int(value.max())
    return known.get(i, ALL)
