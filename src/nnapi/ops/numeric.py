"""Arithmetic shared by the reference kernels: quantization, requantization, fused activations."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnapi.ops.types import Array, Operand

NONE, RELU, RELU1, RELU6 = range(4)
"""NNAPI's FuseCode."""
_CLAMPS = {RELU: (0.0, np.inf), RELU1: (-1.0, 1.0), RELU6: (0.0, 6.0)}


def dequantize(array: Array, operand: Operand) -> Array:
    """Real values, float32, of an array stored as `operand` says; float arrays only change type.

    >>> from nnapi.ops.types import Q8, Operand
    >>> dequantize(np.array([127, 129], np.uint8), Operand(Q8, (2,), 0.5, 128))
    array([-0.5,  0.5], dtype=float32)
    """
    if operand.channel_quant is not None:
        shape = [1] * array.ndim
        shape[operand.channel_quant.axis] = -1
        return array.astype(np.float32) * np.array(operand.channel_quant.scales, np.float32).reshape(shape)
    if not operand.type.is_quantized:
        return array.astype(np.float32, copy=False)
    return (array.astype(np.float32) - np.float32(operand.zero_point)) * np.float32(operand.scale)


def quantize(array: Array, operand: Operand) -> Array:
    """`array` of real values stored as `operand` says: rounded half to even, saturated; NaN becomes zero.

    >>> from nnapi.ops.types import Q8S, Operand
    >>> quantize(np.array([-0.25, 0.25, 99.0]), Operand(Q8S, (3,), 0.5, 0))
    array([  0,   0, 127], dtype=int8)
    """
    dtype = operand.type.dtype
    if operand.type.is_quantized:
        scaled = np.rint(np.asarray(array, np.float32) * (np.float32(1) / np.float32(operand.scale)))
        scaled += np.float32(operand.zero_point)
        return saturate(np.nan_to_num(scaled, nan=operand.zero_point), dtype)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.asarray(array).astype(dtype, copy=False)
    return saturate(array, dtype) if dtype.kind in "iu" else np.asarray(array).astype(dtype)


def saturate(array: Array, dtype: np.dtype[Any]) -> Array:
    """`array` clamped to what the integer type can hold."""
    info = np.iinfo(dtype)
    if array.dtype == np.float32 and info.max > 2**24:  # 2**31 - 1 is no float32
        array = array.astype(np.float64)
    return np.clip(array, info.min, info.max).astype(dtype)


def requantize(accumulator: Array, factor: Array | float) -> Array:
    """accumulator [...] of integers times factor, in float32 -> float32 integers, rounded once, half to even.

    >>> requantize(np.array([5, -5, 6]), 0.5)
    array([ 2., -2.,  3.], dtype=float32)
    """
    scaled = accumulator.astype(np.float32) * np.asarray(factor, np.float32)
    return np.rint(scaled, out=scaled)


def activation_range(operand: Operand, fuse_code: int) -> tuple[float, float]:
    """Lowest and highest stored value of `operand` (quantized: integers) under a fused activation.

    >>> from nnapi.ops.types import Q8, Operand
    >>> activation_range(Operand(Q8, (1,), 0.1, 10), RELU6)
    (10, 70)
    """
    low, high = _CLAMPS.get(fuse_code, (-np.inf, np.inf))
    if not operand.type.is_quantized:
        return low, high
    info = np.iinfo(operand.type.dtype)

    def stored(real: float, otherwise: int) -> int:
        scaled = real / np.float32(operand.scale)
        return otherwise if np.isinf(scaled) else int(np.floor(scaled + 0.5)) + operand.zero_point

    return max(stored(low, info.min), info.min), min(stored(high, info.max), info.max)


def fuse(array: Array, fuse_code: int) -> Array:
    """array [...] of real values after the fused activation (FuseCode)."""
    if fuse_code == NONE:
        return array
    low, high = _CLAMPS[fuse_code]
    return np.clip(array, array.dtype.type(low), array.dtype.type(high))
