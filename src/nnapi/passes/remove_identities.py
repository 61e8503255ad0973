"""Remove operations that change nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.numeric import NONE
from nnapi.ops.op import Call
from nnapi.ops.types import Operand
from nnapi.passes.fuse_activations import CODES, FUSING, RANGES
from nnapi.passes.rewrite import Graph, rewrite

VALUES = {
    "LOGISTIC": (0.0, 1.0), "SOFTMAX": (0.0, 1.0), "TANH": (-1.0, 1.0), "ABS": (0.0, math.inf), "EXP": (0.0, math.inf),
    "SQRT": (0.0, math.inf), **{name: RANGES[code] for name, code in CODES.items()},
}  # fmt: skip
"""Between what the values of an operation lie."""
COMMUTATIVE = frozenset(("ADD", "MUL"))


def remove_identities(model: Model) -> Model:
    """Operations that give their input as it is are removed: RESHAPE, SLICE, PAD, ... to the same shape, TRANSPOSE in
    the same order, CAST and QUANTIZE to the same type, ADD of 0, MUL by 1, RELU of what cannot be negative.

    before: `t = RESHAPE(x[2, 3], [2, 3]); y = EXP(t)`
    after:  `y = EXP(x)`
    """
    return rewrite(model, _remove, IDENTITIES)


def _remove(graph: Graph, operation: Operation) -> bool:
    if len(operation.outputs) != 1:
        return False
    call = graph.call(operation)
    if operation.type == "QUANTIZE" and (source := _stored(graph, operation)) is not None:
        return graph.merge(operation.outputs[0], source)
    source = operation.inputs[graph.operands[operation.inputs[0]].is_constant and operation.type in COMMUTATIVE]
    if graph.operands[source].is_constant or not _same(graph.operands[source], call.output):
        return False
    if operation.type in CODES:
        identity = _is_within(graph, source, RANGES[CODES[operation.type]])
    else:
        identity = IDENTITIES[operation.type](call)
    return identity and graph.merge(operation.outputs[0], source)


def _same(x: Operand, y: Operand) -> bool:
    """Whether the two have the same type, quantization and known shape."""
    if x.type != y.type or (x.scale, x.zero_point, x.channel_quant) != (y.scale, y.zero_point, y.channel_quant):
        return False
    return x.dimensions == y.dimensions and bool(x.dimensions) and 0 not in x.dimensions


def _stored(graph: Graph, operation: Operation) -> int | None:
    """The stored values that a QUANTIZE gives back: what a DEQUANTIZE in front of it read."""
    producer = graph.producer(operation.inputs[0], ("DEQUANTIZE",))
    if producer is None:
        return None
    source = producer.inputs[0]
    return source if _same(graph.operands[source], graph.operands[operation.outputs[0]]) else None


def _is_within(graph: Graph, i: int, bounds: tuple[float, float]) -> bool:
    """Whether the values of operand i lie between `bounds`, by what produces it."""
    producer = graph.producer(i)
    if producer is None:
        return False
    if producer.type in FUSING:
        low, high = RANGES.get(graph.call(producer).scalar("activation"), RANGES[NONE])
    else:
        low, high = VALUES.get(producer.type, RANGES[NONE])
    return bounds[0] <= low and high <= bounds[1]


def _always(call: Call) -> bool:
    """Its shape says it."""
    return True


def _is_ordered(call: Call) -> bool:
    """TRANSPOSE."""
    perm = call["perm"].value if "perm" in call else None
    return isinstance(perm, np.ndarray) and perm.tolist() == list(range(perm.size))


def _is_forward(call: Call) -> bool:
    """STRIDED_SLICE."""
    return call.known("strides") and bool((call.array("strides") == 1).all())


def _is_range(call: Call) -> bool:
    """GATHER."""
    indices = call["indices"].value
    return isinstance(indices, np.ndarray) and indices.ndim == 1 and indices.tolist() == list(range(indices.size))


def _is_pixelwise(call: Call) -> bool:
    """Pools."""
    scalars = ("filter_width", "filter_height", "stride_width", "stride_height")
    return call.scalar("activation") == NONE and all(call.scalar(name) == 1 for name in scalars)


def _is_alone(call: Call) -> bool:
    """CONCATENATION."""
    return len(call.inputs) == 2


def _is_neutral(neutral: float) -> Callable[[Call], bool]:
    """Arithmetic with a constant that changes nothing."""

    def check(call: Call) -> bool:
        constant = call["input1"].value
        if constant is None and call.op.name in COMMUTATIVE:
            constant = call["input0"].value
        real = call["input0"].type.is_float and isinstance(constant, np.ndarray)
        return real and call.scalar("activation") == NONE and bool((constant == neutral).all())

    return check


IDENTITIES: Mapping[str, Callable[[Call], bool]] = {
    **dict.fromkeys((
        "RESHAPE", "SLICE", "PAD", "PAD_V2", "MIRROR_PAD", "TILE", "CAST", "QUANTIZE", "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_SUM",
        "REDUCE_PROD", "REDUCE_ALL", "REDUCE_ANY", "SPLIT", *CODES,
    ), _always),
    "TRANSPOSE": _is_ordered, "STRIDED_SLICE": _is_forward, "GATHER": _is_range, "CONCATENATION": _is_alone,
    "AVERAGE_POOL_2D": _is_pixelwise, "MAX_POOL_2D": _is_pixelwise,
    "ADD": _is_neutral(0.0), "SUB": _is_neutral(0.0), "MUL": _is_neutral(1.0), "DIV": _is_neutral(1.0),
}  # fmt: skip
"""By type: when an operation whose output has its input's type and shape is an identity."""
