"""AVERAGE_POOL_2D, L2_POOL_2D, MAX_POOL_2D."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nnapi.ops.numeric import activation_range, dequantize, fuse, quantize
from nnapi.ops.op import Call, Op, Param, Result, Signature, same
from nnapi.ops.shape import elements
from nnapi.ops.types import BEYOND, F16, F32, INT32, Q8, Q8S, Q16SYMM, Array, Operand, OperandType, Shape
from nnapi.ops.window import (
    ACTIVATION,
    OPTIONAL_LAYOUT,
    PADDING,
    PADDINGS,
    STRIDES,
    Axis,
    at_least,
    channels_last,
    check_activation,
    image_shape,
    image_sizes,
    in_layout,
    window,
    zero_batch_needs,
)  # fmt: skip

INPUT = Param("input", "T", rank=4)
FILTER = (Param("filter_width", INT32), Param("filter_height", INT32))
SIGNATURES = (
    Signature((INPUT, *PADDINGS, *STRIDES, *FILTER, ACTIVATION, OPTIONAL_LAYOUT), "explicit padding"),
    Signature((INPUT, PADDING, *STRIDES, *FILTER, ACTIVATION, OPTIONAL_LAYOUT), "implicit padding"),
)
RESULT = (Result("output", "T", quant="input"),)
Pool = Callable[[Array, Operand, Axis, Axis], Array]
"""stored x [N, H, W, C], its operand, rows, columns -> [N, H', W', C]: real values, or stored ones of quantized x."""
FLOATS = {F32: 1, F16: 3}


def _pooled_shape(call: Call) -> list[Shape]:
    check_activation(call)
    n, _, _, c = image_sizes(call)
    rows, columns = _axes(call)
    shape = image_shape(call, n, rows.output if rows else None, columns.output if columns else None, c)
    elements(call, shape)
    return [shape]


def _axes(call: Call) -> tuple[Axis | None, Axis | None]:
    _, h, w, _ = image_sizes(call)
    return window(call, (h, w), (at_least(call, "filter_height", 1), at_least(call, "filter_width", 1)))


def _sweep(x: Array, combine: np.ufunc, start: float, rows: Axis, columns: Axis) -> Array:
    """x [N, H, W, C] -> [N, H', W', C]: `combine` over the pixels under the window, columns then rows."""
    across = np.full((*x.shape[:2], columns.output, x.shape[3]), start, x.dtype)
    for _, at, pixels in columns.taps():
        combine(across[:, :, at], x[:, :, pixels], out=across[:, :, at])
    result = np.full((x.shape[0], rows.output, *across.shape[2:]), start, x.dtype)
    for _, at, pixels in rows.taps():
        combine(result[:, at], across[:, pixels], out=result[:, at])
    return result


def _kernel(pool: Pool) -> Callable[[Call], list[Array]]:
    def reference(call: Call) -> list[Array]:
        x, activation = call["input"], call.scalar("activation")
        rows, columns = _axes(call)
        assert rows is not None and columns is not None
        pooled = pool(channels_last(call, x.value), x, rows, columns)
        if x.type.is_quantized:
            stored = np.clip(pooled, *activation_range(call.output, activation)).astype(x.type.dtype)
        else:
            stored = quantize(fuse(pooled, activation), call.output)
        return [in_layout(call, stored)]

    return reference


def _average(x: Array, operand: Operand, rows: Axis, columns: Axis) -> Array:
    counts = (rows.counts()[:, None] * columns.counts())[:, :, None]
    if not operand.type.is_quantized:
        return _sweep(dequantize(x, operand), np.add, 0, rows, columns) / counts.astype(np.float32)
    total = _sweep(x.astype(np.int64), np.add, 0, rows, columns)
    return np.sign(total) * ((np.abs(total) + counts // 2) // counts)  # rounded half away from zero


def _l2(x: Array, operand: Operand, rows: Axis, columns: Axis) -> Array:
    counts = (rows.counts()[:, None] * columns.counts())[:, :, None].astype(np.float32)
    return np.sqrt(_sweep(np.square(dequantize(x, operand)), np.add, 0, rows, columns) / counts)


def _max(x: Array, operand: Operand, rows: Axis, columns: Axis) -> Array:
    if operand.type.is_quantized:
        return _sweep(x, np.maximum, np.iinfo(x.dtype).min, rows, columns)
    return _sweep(dequantize(x, operand), np.maximum, -np.inf, rows, columns)


def _macs(call: Call) -> int:
    """One per pixel under the window."""
    count = elements(call, call.op.infer(call)[0])
    height, width = call.scalar("filter_height"), call.scalar("filter_width")
    return 0 if count is None or height is None or width is None else count * height * width


def _pool(name: str, code: int, formula: str, types: dict[OperandType, int], pool: Pool) -> Op:
    return Op(
        name, code, 1, SIGNATURES, RESULT, same(types), infer=_pooled_shape, reference=_kernel(pool), macs=_macs,
        rules=zero_batch_needs, formula=formula,
    )  # fmt: skip


QUANT = {Q8: 1, Q8S: 4, Q16SYMM: BEYOND}
AVERAGE_POOL_2D = _pool(
    "AVERAGE_POOL_2D", 1, "activation(mean of the input pixels under the window, padding not counted)",
    FLOATS | QUANT, _average,
)  # fmt: skip
L2_POOL_2D = _pool(
    "L2_POOL_2D", 12, "activation(square root of the mean of squares of the input pixels under the window)", FLOATS, _l2
)  # fmt: skip
MAX_POOL_2D = _pool(
    "MAX_POOL_2D", 17, "activation(largest input pixel under the window)", FLOATS | QUANT, _max
)  # fmt: skip

OPERATIONS = (AVERAGE_POOL_2D, L2_POOL_2D, MAX_POOL_2D)
