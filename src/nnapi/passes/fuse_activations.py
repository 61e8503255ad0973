"""Fuse RELU, RELU1 and RELU6 into the operation before them."""

from __future__ import annotations

import math

from nnapi.ir.model import Model, Operation
from nnapi.ops.numeric import NONE, RELU, RELU1, RELU6
from nnapi.ops.types import INT32
from nnapi.passes.rewrite import Graph, rewrite

RANGES = {NONE: (-math.inf, math.inf), RELU: (0.0, math.inf), RELU1: (-1.0, 1.0), RELU6: (0.0, 6.0)}
CODES = {"RELU": RELU, "RELU1": RELU1, "RELU6": RELU6}
FUSING = frozenset((
    "ADD", "SUB", "MUL", "DIV", "CONV_2D", "DEPTHWISE_CONV_2D", "GROUPED_CONV_2D", "TRANSPOSE_CONV_2D",
    "FULLY_CONNECTED", "AVERAGE_POOL_2D", "L2_POOL_2D", "MAX_POOL_2D",
))  # fmt: skip
"""What takes a fused activation that applies to its one output."""


def fuse_activations(model: Model) -> Model:
    """RELU, RELU1 and RELU6 become the `activation` of what they alone read, combined with the one it has.

    before: `t = ADD(a, b, activation=NONE); y = RELU6(t)`
    after:  `y = ADD(a, b, activation=RELU6)`
    """
    return rewrite(model, _fuse, CODES)


def _fuse(graph: Graph, operation: Operation) -> bool:
    (source,), (result,) = operation.inputs, operation.outputs
    producer = graph.producer(source, FUSING)
    if producer is None or graph.uses[source]:
        return False
    before, after = graph.operands[source], graph.operands[result]
    if (before.scale, before.zero_point) != (after.scale, after.zero_point):
        return False
    activation = graph.call(producer).scalar("activation")
    fused = combined(activation, CODES[operation.type]) if activation is not None else None
    if fused is None:
        return False
    inputs = graph.inputs(producer, activation=graph.scalar(INT32, fused))
    graph.swap(producer, Operation(producer.type, inputs, operation.outputs, producer.name))
    return True


def combined(first: int, second: int) -> int | None:
    """The fused activation (FuseCode) that equals `first` and then `second`; None where there is none.

    >>> combined(RELU, RELU6) == RELU6, combined(RELU6, RELU1)
    (True, None)
    """
    low, high = RANGES[second]
    clamped = tuple(min(max(bound, low), high) for bound in RANGES[first])
    return next((code for code, bounds in RANGES.items() if bounds == clamped), None)
