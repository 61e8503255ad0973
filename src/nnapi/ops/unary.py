"""ABS, EXP, LOG, SQRT, RSQRT, NEG, SIN, FLOOR, LOGICAL_NOT: one input, one value after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nnapi.ops.numeric import dequantize, quantize
from nnapi.ops.op import Call, Kernel, Op, Param, Result, Signature, same
from nnapi.ops.shape import same_shape
from nnapi.ops.types import B8, F16, F32, I32, MAX_RANK, Q8, Q8S, Array, OperandType

ANY_RANK = (1, MAX_RANK)
"""The specification's "from 1": no more dimensions than a model may have."""


def pointwise(function: Callable[[Array], Array]) -> Kernel:
    """The kernel of `function` on real values (float32), or on integers and booleans as they are stored."""

    def reference(call: Call) -> list[Array]:
        x = call["input"]
        if x.type.is_float or x.type.is_quantized:
            return [quantize(function(dequantize(x.value, x)), call.output)]
        return [function(x.value)]

    return reference


def _unary(
    name: str, code: int, formula: str, function: Callable[[Array], Array], types: Mapping[OperandType, int],
    rank: tuple[int, int] = ANY_RANK,
) -> Op:  # fmt: skip
    return Op(
        name, code, min(types.values()), (Signature((Param("input", "T", rank=rank),)),), (Result("output", "T"),),
        types=same(types), infer=same_shape(), reference=pointwise(function), formula=formula,
    )  # fmt: skip


def _rsqrt(x: Array) -> Array:
    return np.float32(1) / np.sqrt(x)


_FLOAT = {F32: 3, F16: 3}

FLOOR = _unary("FLOOR", 8, "floor(input)", np.floor, {F32: 1, F16: 3}, rank=(1, 4))
ABS = _unary("ABS", 38, "|input|", np.abs, _FLOAT | {I32: 4})
EXP = _unary("EXP", 49, "e^input", np.exp, _FLOAT)
LOG = _unary("LOG", 60, "ln(input)", np.log, _FLOAT)
LOGICAL_NOT = _unary("LOGICAL_NOT", 62, "not input", np.logical_not, {B8: 3})
NEG = _unary("NEG", 67, "-input", np.negative, _FLOAT | {I32: 3})
RSQRT = _unary("RSQRT", 83, "1 / sqrt(input)", _rsqrt, _FLOAT | {Q8: 7, Q8S: 7})
SIN = _unary("SIN", 85, "sin(input)", np.sin, _FLOAT)
SQRT = _unary("SQRT", 88, "sqrt(input)", np.sqrt, _FLOAT)

OPERATIONS = (FLOOR, ABS, EXP, LOG, LOGICAL_NOT, NEG, RSQRT, SIN, SQRT)
