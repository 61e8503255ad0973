"""ARGMAX, ARGMIN, TOPK_V2: where the largest and smallest values are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nnapi.ops.op import Call, Op, Param, Result, Signature, same
from nnapi.ops.shape import axis_of
from nnapi.ops.types import F16, F32, I32, INT32, Q8, Q8S, Array, Shape
from nnapi.ops.unary import ANY_RANK

_TYPES = same({F32: 3, F16: 3, I32: 3, Q8: 3, Q8S: 4})


def _arg_shape(call: Call) -> list[Shape]:
    shape, axis = call.shape("input"), call.scalar("axis")
    if shape is None:
        return [None]
    if axis is None:
        return [(None,) * max(len(shape) - 1, 1)]
    axis = axis_of(call, axis, len(shape))
    call.require(shape[axis] != 0, f"axis {axis} of input {shape} has no elements")
    return [shape[:axis] + shape[axis + 1 :] or (1,)]


def _arg(name: str, code: int, formula: str, function: Callable[..., Array]) -> Op:
    def reference(call: Call) -> list[Array]:
        return [np.atleast_1d(function(call.array("input"), axis=call.scalar("axis"))).astype(np.int32)]

    return Op(
        name, code, 3, (Signature((Param("input", "T", rank=ANY_RANK), Param("axis", INT32))),),
        (Result("output", I32),), types=_TYPES, infer=_arg_shape, reference=reference, formula=formula,
    )  # fmt: skip


def _topk_shape(call: Call) -> list[Shape]:
    shape, k = call.shape("input"), call.scalar("k")
    size = None if shape is None else shape[-1]
    call.require(k is None or k > 0, f"k is {k}, must be positive")
    call.require(k is None or size is None or k <= size, f"k is {k}, the last dimension has {size}")
    return [None if shape is None else (*shape[:-1], k)] * 2


def _topk(call: Call) -> list[Array]:
    x, k = call.array("input"), call.scalar("k")
    # Ascending and stable, read backwards: among equals the larger index comes first, as the specification has it.
    indices = np.argsort(x, axis=-1, kind="stable")[..., ::-1][..., :k]
    return [np.take_along_axis(x, indices, -1), indices.astype(np.int32)]


ARGMAX = _arg("ARGMAX", 39, "index of the first largest value along axis", np.argmax)
ARGMIN = _arg("ARGMIN", 40, "index of the first smallest value along axis", np.argmin)
TOPK_V2 = Op(
    "TOPK_V2", 90, 3, (Signature((Param("input", "T", rank=ANY_RANK), Param("k", INT32))),),
    (Result("values", "T", "input"), Result("indices", I32)), types=_TYPES, infer=_topk_shape, reference=_topk,
    formula="the k largest values of the last dimension, descending, and where they are",
)  # fmt: skip

OPERATIONS = (ARGMAX, ARGMIN, TOPK_V2)
