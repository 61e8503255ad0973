"""RESHAPE, TRANSPOSE, SQUEEZE, EXPAND_DIMS, RANK, FILL, TILE, REVERSE: the same elements in another arrangement."""

from __future__ import annotations

import math

import numpy as np

from nnapi.ops.integers import SINCE_1, SINCE_2, SINCE_3, bounded, empty_needs, integers
from nnapi.ops.op import Call, Op, Param, Result, Signature, Types, same
from nnapi.ops.shape import axis_of
from nnapi.ops.types import (
    B8,
    BEYOND,
    F16,
    F32,
    FLOAT16,
    FLOAT32,
    I32,
    INT32,
    Q8,
    Q8PC,
    Q8S,
    Q8SYMM,
    Q16,
    Q16SYMM,
    Array,
    Shape,
)
from nnapi.ops.unary import ANY_RANK

MAX_RANK = 4
INPUT = Param("input", "T", rank=(1, MAX_RANK))
UNLIMITED = Param("input", "T", rank=ANY_RANK)
RESULT = (Result("output", "T", quant="input"),)


def _reshaped(call: Call) -> list[Shape]:
    sizes = integers(call, "shape")
    if sizes is None:
        length = (call.shape("shape") or (None,))[0]
        return [(None,) * length if length else None]
    call.require(1 <= len(sizes) <= MAX_RANK, f"shape has {len(sizes)} dimensions, must have 1 to {MAX_RANK}")
    call.require(min(sizes) >= -1, f"shape holds {min(sizes)}, must be a size or -1")
    call.require(sizes.count(-1) <= 1, f"shape {tuple(sizes)} has {sizes.count(-1)} times -1, must have at most one")
    total, rest = call["input"].elements, math.prod(s for s in sizes if s != -1)
    if total is None:
        return [bounded(call, tuple(None if s == -1 else s for s in sizes))]
    fits = total == rest if -1 not in sizes else rest > 0 and total % rest == 0
    call.require(fits, f"shape {tuple(sizes)} does not hold the input's {total} elements")
    return [bounded(call, tuple(total // rest if s == -1 else s for s in sizes))]


def _reshape(call: Call) -> list[Array]:
    (shape,) = _reshaped(call)
    assert shape is not None
    return [call["input"].value.reshape(shape).copy()]


RESHAPE = Op(
    "RESHAPE", 22, 1, (Signature((INPUT, Param("shape", I32, rank=1))),), RESULT, same({**SINCE_1, I32: 6}),
    infer=_reshaped, reference=_reshape, rules=empty_needs,
    formula="the elements of input, in order, in another shape; one size of -1 takes what is left",
)  # fmt: skip


def _permutation(call: Call, rank: int) -> list[int] | None:
    if "perm" not in call:
        return list(range(rank))[::-1]
    perm = integers(call, "perm", rank)
    if perm is not None:
        call.require(sorted(perm) == list(range(rank)), f"perm {tuple(perm)} is no permutation of 0 to {rank - 1}")
    return perm


def _transposed(call: Call) -> list[Shape]:
    shape = call.shape("input")
    if shape is None:
        return [None]
    perm = _permutation(call, len(shape))
    return [(None,) * len(shape) if perm is None else tuple(shape[p] for p in perm)]


def _transpose(call: Call) -> list[Array]:
    x = call["input"].value
    return [x.transpose(_permutation(call, x.ndim)).copy()]


TRANSPOSE = Op(
    "TRANSPOSE", 37, 2, (Signature((INPUT, Param("perm", I32, rank=1, omissible=True))),), RESULT, same(SINCE_2),
    infer=_transposed, reference=_transpose, rules=empty_needs,
    formula="dimension i of the output is dimension perm[i] of input; perm omitted reverses them",
)  # fmt: skip


def _squeezed(call: Call) -> list[Shape]:
    shape = call.shape("input")
    axes = integers(call, "axes") if "axes" in call else None
    if shape is None or ("axes" in call and axes is None):
        return [None]
    if axes is None:
        if None in shape:
            return [None]
        return [tuple(d for d in shape if d != 1) or (1,)]
    dropped = {axis_of(call, axis, len(shape), "axes") for axis in axes}
    for axis in dropped:
        call.require(shape[axis] in (1, None), f"axes hold {axis}, where the size is {shape[axis]}, must be 1")
    return [tuple(d for i, d in enumerate(shape) if i not in dropped) or (1,)]


def _squeeze(call: Call) -> list[Array]:
    (shape,) = _squeezed(call)
    assert shape is not None
    return [call["input"].value.reshape(shape).copy()]


SQUEEZE = Op(
    "SQUEEZE", 34, 2, (Signature((INPUT, Param("axes", I32, rank=1, omissible=True))),), RESULT, same(SINCE_2),
    infer=_squeezed, reference=_squeeze, rules=empty_needs,
    formula="input without its dimensions of size 1, or without those that axes lists; [1] when none is left",
)  # fmt: skip


def _expanded(call: Call) -> list[Shape]:
    shape, axis = call.shape("input"), call.scalar("axis")
    if shape is None:
        return [None]
    if axis is None:
        return [(None,) * (len(shape) + 1)]
    at = axis_of(call, axis, len(shape) + 1)
    return [(*shape[:at], 1, *shape[at:])]


def _expand_dims(call: Call) -> list[Array]:
    return [np.expand_dims(call["input"].value, call.scalar("axis")).copy()]


EXPAND_DIMS = Op(
    "EXPAND_DIMS", 50, 3, (Signature((Param("input", "T", rank=(1, 7)), Param("axis", INT32))),), RESULT,
    same(SINCE_3), infer=_expanded, reference=_expand_dims, formula="input with a dimension of size 1 inserted at axis",
)  # fmt: skip


def _rank_shape(call: Call) -> list[Shape]:
    return [()]


def _rank(call: Call) -> list[Array]:
    return [np.array(call["input"].value.ndim, np.int32)]


RANK = Op(
    "RANK", 101, 4, (Signature((Param("input", "T"),)),), (Result("output", INT32),),
    same(dict.fromkeys((F32, F16, I32, Q8, Q16SYMM, B8, Q8PC, Q16, Q8SYMM, Q8S), 4)),
    infer=_rank_shape, reference=_rank, formula="how many dimensions input has",
)  # fmt: skip


def _filled(call: Call) -> list[Shape]:
    sizes = integers(call, "dims")
    if sizes is None:
        length = (call.shape("dims") or (None,))[0]
        return [(None,) * length if length else None]
    call.require(1 <= len(sizes) <= 8, f"dims has {len(sizes)} dimensions, must have 1 to 8")
    call.require(min(sizes) >= 0, f"dims holds {min(sizes)}, must not be negative")
    return [bounded(call, tuple(sizes))]


def _fill(call: Call) -> list[Array]:
    return [np.full(call.array("dims").tolist(), call["value"].value, call.output.type.dtype)]


FILL = Op(
    "FILL", 100, 4, (Signature((Param("dims", I32, rank=1), Param("value", "V"))),), (Result("output", "T"),),
    (Types(4, V=FLOAT32, T=F32), Types(4, V=FLOAT16, T=F16), Types(4, V=INT32, T=I32)),
    infer=_filled, reference=_fill, formula="value everywhere, in the shape dims",
)  # fmt: skip


def _tiled(call: Call) -> list[Shape]:
    shape = call.shape("input")
    multiples = integers(call, "multiples", None if shape is None else len(shape))
    if multiples is not None:
        call.require(
            min(multiples, default=0) >= 0, f"multiples hold {min(multiples, default=0)}, must not be negative"
        )
    if shape is None or multiples is None:
        return [None if shape is None else (None,) * len(shape)]
    return [bounded(call, tuple(None if d is None else d * m for d, m in zip(shape, multiples, strict=True)))]


def _tile(call: Call) -> list[Array]:
    return [np.tile(call["input"].value, call.array("multiples").tolist())]


TILE = Op(
    "TILE", 89, 3, (Signature((UNLIMITED, Param("multiples", I32, rank=1))),), RESULT, same(SINCE_3),
    infer=_tiled, reference=_tile, formula="input repeated multiples[i] times along dimension i",
)  # fmt: skip


def _reversed(call: Call) -> list[Shape]:
    shape, axis = call.shape("input"), integers(call, "axis", 1)
    if shape is not None and axis is not None:
        call.require(0 <= axis[0] < len(shape), f"axis {axis[0]} is outside 0 to {len(shape) - 1}")
    return [shape]


def _reverse(call: Call) -> list[Array]:
    return [np.flip(call["input"].value, int(call.array("axis")[0])).copy()]


REVERSE = Op(
    "REVERSE", 105, 7, (Signature((UNLIMITED, Param("axis", I32, rank=1))),), RESULT,
    same({**dict.fromkeys((F32, F16, Q8, Q8S, I32), 7), Q16SYMM: BEYOND}),
    infer=_reversed, reference=_reverse, formula="input back to front along dimension axis",
)  # fmt: skip

OPERATIONS = (RESHAPE, TRANSPOSE, SQUEEZE, EXPAND_DIMS, RANK, FILL, TILE, REVERSE)
