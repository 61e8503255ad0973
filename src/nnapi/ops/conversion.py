"""CAST, QUANTIZE, DEQUANTIZE: the same values in another type."""

from __future__ import annotations

import numpy as np

from nnapi.ops.numeric import dequantize, quantize, saturate
from nnapi.ops.op import Call, Kernel, Op, Param, Result, Signature, Types
from nnapi.ops.shape import same_shape
from nnapi.ops.types import B8, BEYOND, F16, F32, I32, Q8, Q8PC, Q8S, Q8SYMM, Q16, Q16SYMM, Array
from nnapi.ops.unary import ANY_RANK


def _conversion(
    name: str, code: int, formula: str, types: tuple[Types, ...], reference: Kernel, rank: tuple[int, int] = ANY_RANK
) -> Op:
    return Op(
        name, code, min(row.since for row in types), (Signature((Param("input", "T", rank=rank),)),),
        (Result("output", "O"),), types, infer=same_shape(), reference=reference, formula=formula,
    )  # fmt: skip


def _cast(call: Call) -> list[Array]:
    x, dtype = call.array("input"), call.output.type.dtype
    if dtype.kind in "iu" and x.dtype.kind == "f":
        x = np.nan_to_num(np.trunc(x, dtype=np.float64), nan=0.0)
    return [saturate(x, dtype) if dtype.kind in "iu" else x.astype(dtype)]


def _requantize(call: Call) -> list[Array]:
    return [quantize(dequantize(call.array("input"), call["input"]), call.output)]


_CASTS = (F32, F16, I32, Q8)

DEQUANTIZE = _conversion(
    "DEQUANTIZE", 6, "(input - zero point) * scale",
    (
        Types(1, T=Q8, O=F32), Types(3, T=Q8, O=F16), Types(3, T=Q8SYMM, O=F32), Types(3, T=Q8SYMM, O=F16),
        Types(3, T=Q8PC, O=F32), Types(3, T=Q8PC, O=F16), Types(4, T=Q8S, O=F32), Types(4, T=Q8S, O=F16),
        Types(BEYOND, T=Q16SYMM, O=F32),
    ),
    _requantize, rank=(1, 4),
)  # fmt: skip
CAST = _conversion(
    "CAST", 45, "input as another type; scales and zero points are ignored",
    (
        *(Types(3, T=t, O=o) for t in _CASTS for o in _CASTS),
        *(Types(4, T=t, O=t) for t in (B8, Q8S, Q8SYMM, Q16, Q16SYMM)),
    ),
    _cast,
)  # fmt: skip
QUANTIZE = _conversion(
    "QUANTIZE", 72, "round(input / scale) + zero point, saturated",
    (Types(3, T=F32, O=Q8), Types(3, T=F16, O=Q8), Types(4, T=F32, O=Q8S), Types(4, T=F16, O=Q8S),
     Types(BEYOND, T=F32, O=Q16SYMM)),
    _requantize,
)  # fmt: skip

OPERATIONS = (DEQUANTIZE, CAST, QUANTIZE)
