"""MEAN and REDUCE_SUM, PROD, MAX, MIN, ALL, ANY: one value per remaining position."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nnapi.ops.numeric import dequantize, quantize, saturate
from nnapi.ops.op import Call, Op, Param, Result, Signature, same
from nnapi.ops.shape import axis_of
from nnapi.ops.types import B8, BEYOND, BOOL, F16, F32, I32, INT32, Q8, Q8S, Q16SYMM, Array, Operand, OperandType, Shape


def _axes(call: Call, rank: int) -> frozenset[int]:
    return frozenset(axis_of(call, int(axis), rank, "axes") for axis in call.array("axes"))


def _keeps(call: Call) -> bool | None:
    """Whether reduced dimensions stay, as 1; None where unknown. MEAN has an INT32 here: positive is yes."""
    keep = call.scalar("keep_dims")
    return None if keep is None else keep > 0


def _shape(call: Call) -> list[Shape]:
    shape, keep = call.shape("input"), _keeps(call)
    if shape is None or not (call.known("axes") and keep is not None):
        return [(None,) * len(shape) if shape is not None and keep else None]
    axes = _axes(call, len(shape))
    if call.op in (MEAN, REDUCE_MAX, REDUCE_MIN):
        empty = [axis for axis in sorted(axes) if shape[axis] == 0]
        call.require(not empty, f"axes {empty} of input {shape} have no elements to reduce")
    if keep:
        return [tuple(1 if i in axes else d for i, d in enumerate(shape))]
    # NNAPI has no rank 0: the value of a full reduction has one dimension.
    return [tuple(d for i, d in enumerate(shape) if i not in axes) or (1,)]


def _reduction(
    name: str, code: int, formula: str, function: Callable[..., Array], types: Mapping[OperandType, int],
    keep_dims: OperandType = BOOL,
) -> Op:  # fmt: skip
    def reference(call: Call) -> list[Array]:
        x = call["input"]
        how = {"axis": tuple(sorted(_axes(call, x.value.ndim))), "keepdims": bool(_keeps(call))}
        if x.type.is_quantized and function is _mean:
            return [np.atleast_1d(_quantized_mean(x, **how))]
        value = x.value if x.type == B8 else dequantize(x.value, x)
        return [quantize(np.atleast_1d(function(value, **how)), call.output)]

    signature = Signature((Param("input", "T", rank=(1, 4)), Param("axes", I32, rank=1), Param("keep_dims", keep_dims)))
    return Op(
        name, code, min(types.values()), (signature,), (Result("output", "T", "input"),), types=same(types),
        infer=_shape, reference=reference, formula=formula,
    )  # fmt: skip


def _mean(x: Array, **how: object) -> Array:
    return np.mean(x, dtype=np.float64, **how)  # type: ignore[call-overload]


def _quantized_mean(x: Operand, **how: Any) -> Array:
    """Of stored values, in float32: how the zero point cancels out decides which way a mean of k + 1/2 is rounded."""
    count = np.float32(math.prod(x.value.shape[i] for i in how["axis"]))
    scale = np.float32(1) / count
    rest = np.float32(x.zero_point) - np.float32(x.zero_point) * count * scale
    total = np.sum(x.value, dtype=np.int64, **how).astype(np.float32)
    return saturate(np.rint(total * scale + rest), x.type.dtype)


def _sum(x: Array, **how: object) -> Array:
    return np.sum(x, dtype=np.float64, **how)  # type: ignore[call-overload]


def _prod(x: Array, **how: object) -> Array:
    # A factor of zero makes the product zero, also beside an infinity or after an overflow.
    zero = np.any(x == 0, **how)  # type: ignore[call-overload]
    return np.where(zero, 0.0, np.prod(x, dtype=np.float64, **how))  # type: ignore[call-overload]


_FLOAT = {F32: 3, F16: 3}
_ORDERED = _FLOAT | {Q8: 3, Q8S: 4, Q16SYMM: BEYOND}

MEAN = _reduction(
    "MEAN", 31, "mean over axes(input)", _mean, {F32: 2, Q8: 2, F16: 3, Q8S: 4, Q16SYMM: BEYOND}, keep_dims=INT32
)
REDUCE_ALL = _reduction("REDUCE_ALL", 75, "all over axes(input)", np.all, {B8: 3})
REDUCE_ANY = _reduction("REDUCE_ANY", 76, "any over axes(input)", np.any, {B8: 3})
REDUCE_MAX = _reduction("REDUCE_MAX", 77, "max over axes(input)", np.max, _ORDERED)
REDUCE_MIN = _reduction("REDUCE_MIN", 78, "min over axes(input)", np.min, _ORDERED)
REDUCE_PROD = _reduction("REDUCE_PROD", 79, "product over axes(input)", _prod, _FLOAT)
REDUCE_SUM = _reduction("REDUCE_SUM", 80, "sum over axes(input)", _sum, _FLOAT)

OPERATIONS = (MEAN, REDUCE_ALL, REDUCE_ANY, REDUCE_MAX, REDUCE_MIN, REDUCE_PROD, REDUCE_SUM)
