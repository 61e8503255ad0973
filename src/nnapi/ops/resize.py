"""RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nnapi.ops.op import Call, Op, Param, Result, Signature, Types
from nnapi.ops.shape import elements
from nnapi.ops.types import (
    BEYOND,
    BOOL,
    F16,
    F32,
    FLOAT16,
    FLOAT32,
    INT32,
    MAX_ELEMENTS,
    Q8,
    Q8S,
    Q16SYMM,
    Array,
    Shape,
)  # fmt: skip
from nnapi.ops.window import (
    LAYOUT,
    OPTIONAL_LAYOUT,
    Size,
    channels_last,
    image_shape,
    image_sizes,
    in_layout,
    zero_batch_needs,
)  # fmt: skip

CENTERS = (
    Param("align_corners", BOOL, since=4, default=False),
    Param("half_pixel_centers", BOOL, since=4, default=False),
)
"""Which source pixel is meant: corners on corners, or centers on centers; neither: the asymmetric form."""


WEIGHT_BITS = 11
"""In which engines weigh the pixels of quantized images; twice these and 8 for the pixel fit into 32."""


def _signatures(layout: Param) -> tuple[Signature, Signature]:
    """By size, or by scale: size = floor(input size * scale)."""
    x = Param("input", "T", rank=4)
    by_scale = (Param("width_scale", "S", since=3), Param("height_scale", "S", since=3))
    return (
        Signature((x, Param("width", INT32), Param("height", INT32), layout, *CENTERS), "by size"),
        Signature((x, *by_scale, layout, *CENTERS), "by scale"),
    )


def _types(float32_since: int) -> tuple[Types, ...]:
    return (
        Types(float32_since, T=F32, S=FLOAT32), Types(3, T=F16, S=FLOAT16), Types(3, T=Q8, S=FLOAT32),
        Types(4, T=Q8S, S=FLOAT32), Types(BEYOND, T=Q16SYMM, S=FLOAT32),
    )  # fmt: skip


def _target(call: Call, side: str, size: Size) -> Size:
    """The output's size along one side."""
    if side in call:
        value: Size = call.scalar(side)
        call.require(value is None or value > 0, f"{side} is {value}, must be at least 1")
        return value
    scale = call.scalar(f"{side}_scale")
    if scale is None:
        return None
    call.require(math.isfinite(scale) and scale > 0, f"{side}_scale is {scale}, must be positive and finite")
    if size is None:
        return None
    call.require(size * scale <= MAX_ELEMENTS, f"{side}_scale {scale} makes {size * scale} pixels of {size}")
    value = math.floor(np.float32(size) * np.float32(scale))
    call.require(value > 0, f"{side}_scale {scale} leaves {value} of {size} pixels, must be at least 1")
    return value


def _resized_shape(call: Call) -> list[Shape]:
    n, h, w, c = image_sizes(call)
    call.require(
        not (call.scalar("align_corners") and call.scalar("half_pixel_centers")),
        "align_corners and half_pixel_centers are both true, must be at most one",
    )
    shape = image_shape(call, n, _target(call, "height", h), _target(call, "width", w), c)
    elements(call, shape)
    return [shape]


def _positions(call: Call, size: int, target: int) -> Array:
    """Where each of `target` pixels lies among `size` source pixels; float32 as in the specification's kernels."""
    aligned, half = call.scalar("align_corners"), np.float32(0.5 if call.scalar("half_pixel_centers") else 0.0)
    scale = np.float32((size - 1) / (target - 1) if aligned and target > 1 else size / target)
    return (np.arange(target, dtype=np.float32) + half) * scale


def _resampled(call: Call, x: Array, along: Callable[[Call, Array, int, int], Array]) -> Array:
    """x [N, H, W, C] -> [N, H', W', C]: height, then width."""
    for axis, side in ((1, "height"), (2, "width")):
        target = _target(call, side, x.shape[axis])
        assert target is not None
        x = along(call, x, axis, target)
    return x


def _nearest_neighbor(call: Call) -> list[Array]:
    return [in_layout(call, _resampled(call, channels_last(call, call.array("input")), _nearest))]


def _bilinear(call: Call) -> list[Array]:
    x = channels_last(call, call.array("input"))
    if x.dtype.itemsize > 1:  # of 16 bits the products do not fit into 32
        real = _resampled(call, x.astype(np.float32, copy=False), _linear)
        return [in_layout(call, np.rint(real) if x.dtype.kind == "i" else real).astype(call.output.type.dtype)]
    # Half is rounded up, so that unsigned and signed 8-bit images give the same pixels.
    twice = _resampled(call, x.astype(np.int32), _linear) + (1 << 2 * WEIGHT_BITS - 1) >> 2 * WEIGHT_BITS
    return [in_layout(call, twice).astype(x.dtype)]


def _nearest(call: Call, x: Array, axis: int, target: int) -> Array:
    size = x.shape[axis]
    at = _positions(call, size, target)
    index = np.floor(at + np.float32(0.5)) if call.scalar("align_corners") else np.floor(at)
    return x.take(np.minimum(index.astype(np.int64), size - 1), axis)


def _linear(call: Call, x: Array, axis: int, target: int) -> Array:
    """Of integers: times 2**WEIGHT_BITS."""
    size = x.shape[axis]
    at = _positions(call, size, target) - np.float32(0.5 if call.scalar("half_pixel_centers") else 0.0)
    low = np.clip(np.floor(at).astype(np.int64), 0, size - 1)
    high = np.minimum(low + 1, size - 1)
    shape = [1] * x.ndim
    shape[axis] = target
    weight = np.clip(at - low.astype(np.float32), 0, 1).reshape(shape)
    if x.dtype.kind == "i":
        left, weight = x.take(low, axis), np.rint(weight * (1 << WEIGHT_BITS)).astype(x.dtype)
        return (left << WEIGHT_BITS) + (x.take(high, axis) - left) * weight
    return x.take(low, axis) * (1 - weight) + x.take(high, axis) * weight


def _macs(call: Call) -> int:
    """Four source pixels make one of the output."""
    return 4 * (elements(call, call.op.infer(call)[0]) or 0)


RESULT = (Result("output", "T", quant="input"),)
RESIZE_BILINEAR = Op(
    "RESIZE_BILINEAR", 23, 1, _signatures(OPTIONAL_LAYOUT), RESULT, _types(1), infer=_resized_shape,
    reference=_bilinear, macs=_macs, rules=zero_batch_needs,
    formula="each output pixel is interpolated linearly between the four input pixels around its place in the input",
)  # fmt: skip
RESIZE_NEAREST_NEIGHBOR = Op(
    "RESIZE_NEAREST_NEIGHBOR", 94, 3, _signatures(LAYOUT), RESULT, _types(3), infer=_resized_shape,
    reference=_nearest_neighbor, rules=zero_batch_needs,
    formula="each output pixel is the input pixel at its place, rounded down (align_corners: to the nearest)",
)  # fmt: skip

OPERATIONS = (RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR)
