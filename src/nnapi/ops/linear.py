"""FULLY_CONNECTED, BATCH_MATMUL."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nnapi.ops.accumulate import INT16X8_TYPES, UNIFORM_TYPES, check_bias, check_scales, exact_factors, finish, store
from nnapi.ops.fixed_point import scale_twice
from nnapi.ops.numeric import NONE
from nnapi.ops.op import Call, Need, Op, Param, Result, Signature, same
from nnapi.ops.shape import elements
from nnapi.ops.types import BEYOND, BOOL, F16, F32, I32, Q8S, Q16SYMM, Array, Shape
from nnapi.ops.window import ACTIVATION, check_activation, check_equal, sizes, zero_batch_needs

RESULT = (Result("output", "T"),)


def _fully_connected_shape(call: Call) -> list[Shape]:
    check_activation(call)
    units, depth = sizes(call, "filter", 2)
    for name, size in (("units", units), ("input size", depth)):
        call.require(size is None or size > 0, f"filter has {name} 0, must be at least 1")
    check_bias(call, units)
    count = elements(call, call.shape("input"))
    batch = None
    if count is not None and depth is not None:
        call.require(count % depth == 0, f"{count} input elements are no multiple of the filter's input size {depth}")
        batch = count // depth
    shape = (batch, units)
    elements(call, shape)
    return [shape]


def _fully_connected_rules(call: Call) -> Iterable[Need]:
    yield from zero_batch_needs(call)
    yield from check_scales(call, channel_axis=0)


def _fully_connected(call: Call) -> list[Array]:
    x, w = exact_factors(call["input"], call["filter"], (1,))
    total = x.reshape(-1, w.shape[1]) @ w.T
    return [finish(call, total, call["input"], call["filter"], call.scalar("activation"), call.array("bias"))]


def _fully_connected_macs(call: Call) -> int:
    count, units = elements(call, call.shape("input")), sizes(call, "filter", 2)[0]
    return 0 if count is None or units is None else count * units


def _flag(call: Call, name: str) -> bool | None:
    """A BOOL that may be omitted, which means False; None where unknown."""
    value: bool | None = call.scalar(name) if name in call else False
    return value


def _matmul_shape(call: Call) -> list[Shape]:
    shapes = [call.shape("input0"), call.shape("input1")]
    x, y = shapes
    if x is None or y is None:
        return [None]
    call.require(len(x) == len(y), f"input0 has rank {len(x)} and input1 {len(y)}, must be equal")
    for i, (d0, d1) in enumerate(zip(x[:-2], y[:-2])):
        check_equal(call, f"input0's batch dimension {i}", d0, "input1's", d1)
    for name, shape in zip(("input0", "input1"), (x, y)):
        call.require(0 not in shape[-2:], f"{name} has shape {shape}, only batch dimensions may be 0")
    adj_x, adj_y = _flag(call, "adj_x"), _flag(call, "adj_y")
    rows, inner0 = (None, None) if adj_x is None else x[-2:][::-1] if adj_x else x[-2:]
    inner1, columns = (None, None) if adj_y is None else y[-2:][::-1] if adj_y else y[-2:]
    check_equal(call, "input0's inner dimension", inner0, "input1's", inner1)
    batch = tuple(d1 if d0 is None else d0 for d0, d1 in zip(x[:-2], y[:-2]))
    result = (*batch, rows, columns)
    elements(call, result)
    return [result]


def _matmul(call: Call) -> list[Array]:
    x, y = call["input0"], call["input1"]
    if x.type == I32:
        left, right = x.value.astype(np.int64), y.value.astype(np.int64)
    else:
        left, right = exact_factors(x, y, (-1,) if _flag(call, "adj_y") else (-2,))
    left = left.swapaxes(-1, -2) if _flag(call, "adj_x") else left
    right = right.swapaxes(-1, -2) if _flag(call, "adj_y") else right
    product = np.matmul(left, right)
    if x.type == I32:
        return [product.astype(np.int32)]  # wraps, as 32-bit integers do
    if x.type != Q8S:
        return [finish(call, product, x, y, NONE)]
    factor = float(np.float32(x.scale) * np.float32(y.scale)) / float(np.float32(call.output.scale))
    return [store(call, scale_twice(product, factor), NONE)]


def _matmul_macs(call: Call) -> int:
    x, result = call.shape("input0"), call.op.infer(call)[0]
    count, adj_x = elements(call, result), _flag(call, "adj_x")
    inner = None if x is None or adj_x is None else x[-2] if adj_x else x[-1]
    return 0 if count is None or inner is None else count * inner


FULLY_CONNECTED = Op(
    "FULLY_CONNECTED", 9, 1,
    (
        Signature((
            Param("input", "T", rank=(2, 4)), Param("filter", "W", rank=2), Param("bias", "B", rank=1), ACTIVATION,
        )),
    ),
    RESULT, (*UNIFORM_TYPES, INT16X8_TYPES), infer=_fully_connected_shape, reference=_fully_connected,
    macs=_fully_connected_macs, rules=_fully_connected_rules,
    formula="activation(bias[o] + sum over i of input[b, i] * filter[o, i]), input as [batch, input size]",
)  # fmt: skip
BATCH_MATMUL = Op(
    "BATCH_MATMUL", 102, 6,
    (
        Signature((
            Param("input0", "T", rank=(2, 4)), Param("input1", "T", rank=(2, 4)),
            Param("adj_x", BOOL, omissible=True), Param("adj_y", BOOL, omissible=True),
        )),
    ),
    RESULT, same({**dict.fromkeys((F32, F16, I32, Q8S), 6), Q16SYMM: BEYOND}), infer=_matmul_shape, reference=_matmul,
    macs=_matmul_macs,
    formula="matrix product of each pair of slices; adj_x and adj_y transpose input0's and input1's first",
)  # fmt: skip

OPERATIONS = (FULLY_CONNECTED, BATCH_MATMUL)
