"""Sums of products, which convolutions and matrix products share: exact accumulation, bias, requantization."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from nnapi.ops.numeric import activation_range, dequantize, fuse, quantize, requantize
from nnapi.ops.op import Call, Need, Types
from nnapi.ops.types import BEYOND, F16, F32, I32, Q8, Q8PC, Q8S, Q16SYMM, Array, Operand
from nnapi.ops.window import Size, check_equal, sizes

UNIFORM_TYPES = (
    Types(1, T=F32, W=F32, B=F32), Types(3, T=F16, W=F16, B=F16),
    Types(1, T=Q8, W=Q8, B=I32), Types(4, T=Q8S, W=Q8S, B=I32),
)  # fmt: skip
INT16X8_TYPES = Types(BEYOND, T=Q16SYMM, W=Q8PC, B=I32)
PER_CHANNEL_TYPES = (Types(3, T=Q8, W=Q8PC, B=I32), Types(4, T=Q8S, W=Q8PC, B=I32), INT16X8_TYPES)
"""Input T, weights W, bias B."""

_FLOAT32_EXACT = 2**24
_SCALE_TOLERANCE = 1e-6


def check_bias(call: Call, channels: Size) -> None:
    """ModelError where the bias has another length than there are output channels."""
    check_equal(call, "bias length", sizes(call, "bias", 1)[0], "the output channels", channels)


def check_scales(call: Call, channel_axis: int) -> Iterable[Need]:
    """Quantization rules of input, filter, bias and output; per-channel scales run along `channel_axis` of the filter.

    Before level 3, input scale x filter scale had to be below the output scale.
    """
    x, w, bias = call["input"], call["filter"], call["bias"]
    if not x.type.is_quantized:
        return
    call.require(bias.zero_point == 0, f"bias zero point is {bias.zero_point}, must be 0")
    if w.channel_quant is not None:
        axis = w.channel_quant.axis
        call.require(axis == channel_axis, f"filter's channel dimension is {axis}, must be {channel_axis}")
        call.require(bias.scale == 0, f"bias scale is {bias.scale}, must be 0 beside per-channel scales")
        return
    product = x.scale * w.scale
    call.require(
        math.isclose(bias.scale, product, rel_tol=_SCALE_TOLERANCE),
        f"bias scale is {bias.scale}, must be input scale x filter scale = {product}",
    )
    if x.type == Q8 and call.outputs and not np.float32(x.scale) * np.float32(w.scale) < np.float32(call.output.scale):
        yield Need(3, f"{call.op.name} with input scale x filter scale not below the output scale")


def exact_factors(x: Operand, w: Operand, terms: tuple[int, ...]) -> tuple[Array, Array]:
    """Values of x and w to multiply and add: float32 of reals, or stored integers less their zero point.

    Integers come in the narrowest floating-point type in which every sum of products over the axes `terms` of w is
    exact: float32 to 2**24, else float64 (exact to 2**53).
    """
    if not x.type.is_quantized:
        return dequantize(x.value, x), dequantize(w.value, w)
    weights = w.value.astype(np.int32) - w.zero_point
    info = np.iinfo(x.type.dtype)
    largest = max(x.zero_point - info.min, info.max - x.zero_point)
    bound = largest * int(np.abs(weights).sum(axis=terms, dtype=np.int64).max(initial=0))
    dtype = np.float32 if bound <= _FLOAT32_EXACT else np.float64
    return np.subtract(x.value, x.zero_point, dtype=dtype), weights.astype(dtype)


def finish(call: Call, total: Array, x: Operand, w: Operand, activation: int, bias: Array | None = None) -> Array:
    """total [..., channels] of products of x and w -> stored output, with bias added and the activation fused."""
    output = call.output
    if not x.type.is_quantized:
        if bias is not None:
            total += bias.astype(np.float32, copy=False)
        return quantize(fuse(total, activation), output)
    if bias is not None:
        total = total.astype(np.float64, copy=False) + bias
    scales = w.channel_quant.scales if w.channel_quant is not None else (w.scale,)
    factors = np.float32(x.scale) * np.array(scales, np.float32) / np.float32(output.scale)
    return store(call, requantize(total, factors), activation)


def store(call: Call, integers: Array, activation: int) -> Array:
    """Quantized results, less their zero point, as the output stores them: moved, clamped to the activation's range."""
    output = call.output
    integers += integers.dtype.type(output.zero_point)
    return np.clip(integers, *activation_range(output, activation), out=integers).astype(output.type.dtype)
