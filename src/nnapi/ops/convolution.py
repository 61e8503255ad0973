"""CONV_2D, DEPTHWISE_CONV_2D, GROUPED_CONV_2D, TRANSPOSE_CONV_2D."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from nnapi.ops.accumulate import PER_CHANNEL_TYPES, UNIFORM_TYPES, check_bias, check_scales, exact_factors, finish
from nnapi.ops.op import Call, Need, Op, Param, Result, Signature, Types
from nnapi.ops.shape import elements
from nnapi.ops.types import I32, INT32, Array, Shape
from nnapi.ops.window import (
    ACTIVATION,
    LAYOUT,
    OPTIONAL_LAYOUT,
    PADDING,
    PADDINGS,
    SAME,
    STRIDES,
    Axis,
    Size,
    at_least,
    channels_last,
    check_activation,
    check_equal,
    check_padding,
    image_shape,
    image_sizes,
    in_layout,
    sizes,
    window,
    zero_batch_needs,
)  # fmt: skip

TENSORS = (Param("input", "T", rank=4), Param("filter", "W", rank=4), Param("bias", "B", rank=1))
DILATIONS = tuple(Param(f"dilation_{side}", INT32, since=3, default=1) for side in ("width", "height"))
RESULT = (Result("output", "T"),)
CHUNK = 1 << 21
"""Elements of unfolded input that one matrix product takes: 8 MiB of float32 stay near the cache."""


def _signatures(*tail: Param) -> tuple[Signature, Signature]:
    """Explicit and implicit padding."""
    return (
        Signature((*TENSORS, *PADDINGS, *STRIDES, *tail), "explicit padding"),
        Signature((*TENSORS, PADDING, *STRIDES, *tail), "implicit padding"),
    )


def _types(since: int = 1) -> tuple[Types, ...]:
    return tuple(Types(max(t.since, since), **t.bind) for t in (*UNIFORM_TYPES, *PER_CHANNEL_TYPES))


def _rules(channel_axis: int) -> Callable[[Call], Iterable[Need]]:
    def rules(call: Call) -> Iterable[Need]:
        yield from zero_batch_needs(call)
        yield from check_scales(call, channel_axis)

    return rules


def _filter_sizes(call: Call) -> tuple[Size, ...]:
    dimensions = sizes(call, "filter", 4)
    call.require(0 not in dimensions, f"filter has dimensions {dimensions}, each must be at least 1")
    return dimensions


def _output(call: Call, n: Size, axes: tuple[Axis | None, Axis | None], channels: Size) -> list[Shape]:
    h, w = (axis.output if axis else None for axis in axes)
    shape = image_shape(call, n, h, w, channels)
    elements(call, shape)
    return [shape]


def _axes(call: Call) -> tuple[Axis, Axis]:
    """The window's axes, everything about them known."""
    _, h, w, _ = image_sizes(call)
    axes = window(call, (h, w), sizes(call, "filter", 4)[1:3])  # type: ignore[arg-type]
    assert axes[0] is not None and axes[1] is not None
    return axes[0], axes[1]


def _conv_shape(call: Call) -> list[Shape]:
    """CONV_2D and GROUPED_CONV_2D: filter [channels, filter height, filter width, input channels / groups]."""
    check_activation(call)
    n, h, w, c = image_sizes(call)
    channels, fh, fw, depth = _filter_sizes(call)
    groups = at_least(call, "num_groups", 1, default=1)
    if groups is not None and groups > 1:
        for name, size in (("input channels", c), ("filter's output channels", channels)):
            call.require(size is None or size % groups == 0, f"{name} {size} do not divide into {groups} groups")
    if groups is not None and depth is not None:
        check_equal(call, "input channels", c, "filter depth x groups", depth * groups)
    check_bias(call, channels)
    return _output(call, n, window(call, (h, w), (fh, fw)), channels)


def _conv(call: Call) -> list[Array]:
    groups = at_least(call, "num_groups", 1, default=1) or 1
    x, w = exact_factors(call["input"], call["filter"], (1, 2, 3))
    total = _correlate(np.ascontiguousarray(channels_last(call, x)), w, groups, *_axes(call))
    stored = finish(call, total, call["input"], call["filter"], call.scalar("activation"), call.array("bias"))
    return [in_layout(call, stored)]


def _correlate(x: Array, w: Array, groups: int, rows: Axis, columns: Axis) -> Array:
    """x [N, H, W, groups * D], w [groups * M, KH, KW, D] -> [N, H', W', groups * M]."""
    n, depth, taps = x.shape[0], w.shape[3], w.shape[1] * w.shape[2]
    per_group = w.shape[0] // groups
    weights = w.reshape(groups, per_group, taps * depth).transpose(0, 2, 1)
    result = np.empty((n, rows.output, columns.output, groups * per_group), x.dtype)
    step = max(1, CHUNK // max(1, n * columns.output * taps * depth * groups))
    for start in range(0, rows.output, step):
        chunk = rows.rows(start, min(start + step, rows.output))
        places = (n, chunk.output, columns.output)
        unfolded = _unfold(x, groups, chunk, columns).reshape(groups, math.prod(places), taps * depth)
        product = np.matmul(unfolded, weights).reshape(groups, *places, per_group)
        result[:, start : start + step] = np.moveaxis(product, 0, 3).reshape(*places, groups * per_group)
    return result


def _unfold(x: Array, groups: int, rows: Axis, columns: Axis) -> Array:
    """x [N, H, W, groups * D] -> [groups, N, H', W', KH, KW, D]: the pixels under the window, zero in the padding."""
    n, depth = x.shape[0], x.shape[3] // groups
    split = np.moveaxis(x.reshape(*x.shape[:3], groups, depth), 3, 0)
    unfolded = np.zeros((groups, n, rows.output, columns.output, rows.filter, columns.filter, depth), x.dtype)
    for i, at_row, row in rows.taps():
        for j, at_column, column in columns.taps():
            unfolded[:, :, at_row, at_column, i, j] = split[:, :, row, column]
    return unfolded


def _conv_macs(call: Call) -> int:
    shape = call.op.infer(call)[0]
    _, fh, fw, depth = sizes(call, "filter", 4)
    count = elements(call, shape)
    return 0 if count is None or fh is None or fw is None or depth is None else count * fh * fw * depth


def _depthwise_shape(call: Call) -> list[Shape]:
    """filter [1, filter height, filter width, input channels * depth multiplier]."""
    check_activation(call)
    n, h, w, c = image_sizes(call)
    one, fh, fw, channels = _filter_sizes(call)
    factor = at_least(call, "depth_multiplier", 1)
    call.require(one in (None, 1), f"filter's first dimension is {one}, must be 1")
    if c is not None and factor is not None:
        check_equal(call, "filter depth", channels, "input channels x depth_multiplier", c * factor)
    check_bias(call, channels)
    return _output(call, n, window(call, (h, w), (fh, fw)), channels)


def _depthwise(call: Call) -> list[Array]:
    x, w = exact_factors(call["input"], call["filter"], (0, 1, 2))
    x = np.ascontiguousarray(channels_last(call, x))
    rows, columns = _axes(call)
    factor = w.shape[3] // x.shape[3]
    if factor > 1:  # output channel c * factor + m comes from input channel c
        x = np.repeat(x, factor, axis=3)
    total = np.zeros((x.shape[0], rows.output, columns.output, w.shape[3]), x.dtype)
    for i, at_row, row in rows.taps():
        for j, at_column, column in columns.taps():
            total[:, at_row, at_column] += x[:, row, column] * w[0, i, j]
    stored = finish(call, total, call["input"], call["filter"], call.scalar("activation"), call.array("bias"))
    return [in_layout(call, stored)]


def _depthwise_macs(call: Call) -> int:
    count = elements(call, call.op.infer(call)[0])
    _, fh, fw, _ = sizes(call, "filter", 4)
    return 0 if count is None or fh is None or fw is None else count * fh * fw


def _transposed_axis(
    call: Call, side: str, ends: tuple[str, str], size: Size, filter: Size, wanted: Size
) -> Axis | None:
    """The window of the forward convolution that this one transposes: it slides over the output."""
    stride = at_least(call, f"stride_{side}", 1)
    if "padding" in call:
        scheme = call.scalar("padding")
        if size is None or filter is None or stride is None or scheme is None or wanted is None:
            return None
        call.require(wanted > 0, f"output_shape has {side} {wanted}, must be at least 1")
        full = (size - 1) * stride + filter
        positions = -(-wanted // stride) if scheme == SAME else (wanted - filter) // stride + 1
        other = f"the window's positions in output_shape's {side} {wanted}:"
        check_equal(call, f"input {side}", size, other, positions)
        return Axis(wanted, size, filter, stride, 1, max(full - wanted, 0) // 2 if scheme == SAME else 0)
    before = at_least(call, f"padding_{ends[0]}", 0)
    after: Size = call.scalar(f"padding_{ends[1]}")  # below 0 it chooses among the outputs that a stride leaves open
    if size is None or filter is None or stride is None or before is None or after is None:
        return None
    output = (size - 1) * stride + filter - before - after
    call.require(output > 0, f"paddings {before} and {after} leave an output {side} of {output}, must be at least 1")
    return Axis(output, size, filter, stride, 1, before)


def _transposed_axes(call: Call) -> tuple[Axis | None, Axis | None]:
    n, h, w, _ = image_sizes(call)
    channels, fh, fw, _ = _filter_sizes(call)
    wanted: tuple[Size, ...] = (None,) * 4
    if "padding" in call:
        check_padding(call)
        length = sizes(call, "output_shape", 1)[0]
        call.require(length in (None, 4), f"output_shape has {length} values, must have 4")
        layout = call.scalar("layout")
        if call.known("output_shape") and layout is not None:
            given = [int(d) for d in call.array("output_shape")]
            wanted = (given[0], given[2], given[3], given[1]) if layout else tuple(given)
            check_equal(call, "output_shape's batch", wanted[0], "the input's", n)
            check_equal(call, "output_shape's channels", wanted[3], "the filter's", channels)
    height = _transposed_axis(call, "height", ("top", "bottom"), h, fh, wanted[1])
    width = _transposed_axis(call, "width", ("left", "right"), w, fw, wanted[2])
    return height, width


def _transposed_shape(call: Call) -> list[Shape]:
    """filter [channels, filter height, filter width, input channels]."""
    check_activation(call)
    n, _, _, c = image_sizes(call)
    channels, _, _, depth = _filter_sizes(call)
    check_equal(call, "input channels", c, "filter depth", depth)
    check_bias(call, channels)
    rows, columns = _transposed_axes(call)
    shape = image_shape(call, n, rows.size if rows else None, columns.size if columns else None, channels)
    elements(call, shape)
    return [shape]


def _transposed(call: Call) -> list[Array]:
    x, w = exact_factors(call["input"], call["filter"], (1, 2, 3))
    x = np.ascontiguousarray(channels_last(call, x))
    rows, columns = _transposed_axes(call)
    assert rows is not None and columns is not None
    n, channels = x.shape[0], w.shape[0]
    # Each input pixel spreads over the output pixels that its window covers.
    spread = x.reshape(-1, x.shape[3]) @ w.transpose(3, 1, 2, 0).reshape(x.shape[3], -1)
    spread = spread.reshape(*x.shape[:3], rows.filter, columns.filter, channels)
    total = np.zeros((n, rows.size, columns.size, channels), x.dtype)
    for i, at_row, row in rows.taps():
        for j, at_column, column in columns.taps():
            total[:, row, column] += spread[:, at_row, at_column, i, j]
    stored = finish(call, total, call["input"], call["filter"], call.scalar("activation"), call.array("bias"))
    return [in_layout(call, stored)]


def _transposed_macs(call: Call) -> int:
    pixels, filter = call["input"].elements, call.shape("filter")
    return 0 if pixels is None or filter is None or None in filter else pixels * math.prod(filter[:3])  # type: ignore[arg-type]


CONV_2D = Op(
    "CONV_2D", 3, 1, _signatures(ACTIVATION, OPTIONAL_LAYOUT, *DILATIONS), RESULT, _types(),
    infer=_conv_shape, reference=_conv, macs=_conv_macs, rules=_rules(channel_axis=0),
    formula="activation(bias[o] + sum over i, j, c of input[y * sh + i * dh, x * sw + j * dw, c] * filter[o, i, j, c])",
)  # fmt: skip
DEPTHWISE_CONV_2D = Op(
    "DEPTHWISE_CONV_2D", 4, 1, _signatures(Param("depth_multiplier", INT32), ACTIVATION, OPTIONAL_LAYOUT, *DILATIONS),
    RESULT, _types(), infer=_depthwise_shape, reference=_depthwise, macs=_depthwise_macs, rules=_rules(channel_axis=3),
    formula="activation(bias[o] + sum over i, j of input[y * sh + i * dh, x * sw + j * dw, o // m] * filter[i, j, o])",
)  # fmt: skip
GROUPED_CONV_2D = Op(
    "GROUPED_CONV_2D", 55, 3, _signatures(Param("num_groups", INT32), ACTIVATION, LAYOUT), RESULT, _types(since=3),
    infer=_conv_shape, reference=_conv, macs=_conv_macs, rules=_rules(channel_axis=0),
    formula="CONV_2D of each group of input channels with its group of filters, concatenated",
)  # fmt: skip
TRANSPOSE_CONV_2D = Op(
    "TRANSPOSE_CONV_2D", 91, 3,
    (
        Signature((*TENSORS, *PADDINGS, *STRIDES, ACTIVATION, LAYOUT), "explicit padding"),
        Signature(
            (*TENSORS, Param("output_shape", I32, rank=1), PADDING, *STRIDES, ACTIVATION, LAYOUT), "implicit padding"
        ),
    ),
    RESULT, _types(since=3),
    infer=_transposed_shape, reference=_transposed, macs=_transposed_macs, rules=_rules(channel_axis=0),
    formula="activation(bias[o] + sum over y * sh + i = y', x * sw + j = x', c of input[y, x, c] * filter[o, i, j, c])",
)  # fmt: skip

OPERATIONS = (CONV_2D, DEPTHWISE_CONV_2D, GROUPED_CONV_2D, TRANSPOSE_CONV_2D)
