"""Arithmetic shared by the reference kernels: quantization, fixed point, fused activations."""

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
    """`array` of real values stored as `operand` says: rounded half away from zero, saturated; NaN becomes zero.

    >>> from nnapi.ops.types import Q8S, Operand
    >>> quantize(np.array([-0.25, 0.25, 99.0]), Operand(Q8S, (3,), 0.5, 0))
    array([ -1,   1, 127], dtype=int8)
    """
    dtype = operand.type.dtype
    if operand.type.is_quantized:
        scaled = np.asarray(array, np.float32) / np.float32(operand.scale)
        scaled = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)) + np.float32(operand.zero_point)
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


def multiplier(real: float) -> tuple[int, int]:
    """`real` as a 31-bit fixed-point mantissa and a left shift: real = mantissa / 2**31 * 2**shift.

    >>> multiplier(0.25)
    (1073741824, -1)
    """
    if real == 0.0:
        return 0, 0
    fraction, shift = np.frexp(real)
    mantissa = int(np.floor(float(fraction) * 2**31 + 0.5))
    if mantissa == 2**31:
        mantissa, shift = mantissa // 2, shift + 1
    return (mantissa, int(shift)) if shift >= -31 else (0, 0)


def requantize(accumulator: Array, mantissa: Array | int, shift: Array | int) -> Array:
    """accumulator [...] of 32 bits times mantissa / 2**31 * 2**shift -> int64, rounded once, half away from zero.

    One rounding of the exact product: two in a row, as gemmlowp's kernels do, are off by one in 0.2 % of values from
    engines that multiply in floating point, and a deep network amplifies that.

    >>> requantize(np.array([5, -5, 6]), *multiplier(0.5))
    array([ 3, -3,  3])
    """
    product = accumulator.astype(np.int64) * np.asarray(mantissa, np.int64)
    right = 31 - np.asarray(shift, np.int64)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    size = (np.abs(product) + half) >> np.clip(right, 0, 62)
    return np.sign(product) * (size << np.maximum(-right, 0))


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
