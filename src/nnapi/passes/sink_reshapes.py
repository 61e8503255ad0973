"""Move RESHAPE behind elementwise operations, so that these stand next to what they can be fused with."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.types import I32, Dimensions, Operand
from nnapi.passes.fold_reshapes import RESHAPING, TYPES
from nnapi.passes.rewrite import Graph, rewrite

ELEMENTWISE = frozenset((
    "ABS", "ADD", "CAST", "DEQUANTIZE", "DIV", "ELU", "EXP", "FLOOR", "HARD_SWISH", "LOG", "LOGISTIC", "MAXIMUM",
    "MINIMUM", "MUL", "NEG", "POW", "PRELU", "QUANTIZE", "RELU", "RELU1", "RELU6", "RSQRT", "SIN", "SQRT", "SUB",
    "TANH",
))  # fmt: skip
LIMIT = 1 << 16
"""Elements that a constant may grow to, to fit the shape before."""


def sink_reshapes(model: Model) -> Model:
    """An elementwise operation that alone reads a RESHAPE, SQUEEZE or EXPAND_DIMS runs before it; what it broadcasts
    with must be a constant that fits, or reshaped alike.

    before: `t = CONV_2D(a, w, b); s = SQUEEZE(t, [2]); y = RELU(s)`
    after:  `t = CONV_2D(a, w, b); r = RELU(t); y = SQUEEZE(r, [2])`
    """
    return rewrite(model, _sink, ELEMENTWISE)


def _sink(graph: Graph, operation: Operation) -> bool:
    (output,) = operation.outputs
    result = graph.operands[output]
    reshapes = {
        i: p for i in operation.inputs if (p := graph.producer(i, RESHAPING)) is not None and not graph.uses[i]
    }  # fmt: skip
    shapes = {graph.operands[p.inputs[0]].dimensions for p in reshapes.values()}
    if len(shapes) != 1 or result.type not in TYPES or 0 in (result.dimensions or (0,)):
        return False
    (shape,) = shapes
    if 0 in (shape or (0,)) or any(graph.operands[i].dimensions != result.dimensions for i in reshapes):
        return False
    inputs: list[int] = []
    for i in operation.inputs:
        if i in reshapes:
            inputs.append(reshapes[i].inputs[0])
            continue
        other = _fitting(graph, i, result.dimensions, shape)
        if other is None:
            return False
        inputs.append(other)
    early = graph.operand(replace(result, dimensions=shape, name=""))
    sunk = replace(operation, inputs=tuple(inputs), outputs=(early,))
    if not graph.is_valid(sunk):
        return False
    for reshape in reshapes.values():
        graph.drop(reshape)
    graph.emit(sunk)
    target = graph.constant(result.dimensions, Operand(I32))
    graph.emit(Operation("RESHAPE", (early, target), (output,), reshape.name))
    return True


def _fitting(graph: Graph, i: int, before: Dimensions, after: Dimensions) -> int | None:
    """Operand i so that it broadcasts with `after` as it did with `before`; None where it cannot."""
    operand = graph.operands[i]
    value = operand.value
    if not operand.type.is_tensor:
        return i
    if not isinstance(value, np.ndarray):
        return None
    if value.size == 1:
        return i if value.ndim <= len(after) else graph.constant(value.reshape(1), operand)
    wide = value.reshape((1,) * (len(before) - value.ndim) + value.shape)
    kept = [d for d, size in enumerate(before) if size != 1]
    if [before[d] for d in kept] == [size for size in after if size != 1]:
        sizes = iter(wide.shape[d] for d in kept)
        shape = tuple(1 if size == 1 else next(sizes) for size in after)
    elif before[0] == after[0] and wide.shape[0] == 1 and math.prod(before[1:]) <= LIMIT:
        wide, shape = np.broadcast_to(wide, (1, *before[1:])), (1, *after[1:])
    else:
        return None
    if math.prod(shape) != wide.size:
        return None
    leading = next(d for d, size in enumerate(shape) if size != 1)
    return graph.constant(wide.reshape(shape[leading:]), operand)
