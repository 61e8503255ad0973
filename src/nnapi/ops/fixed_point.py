"""Fixed-point arithmetic, in int64 arrays: in 16 bits products, powers of two, tanh and the logistic function.

A number with `integer_bits` n is raw / 2**(15 - n), from -2**n to just below 2**n; products round half away from zero.
Source: gemmlowp's fixed-point functions, which NNAPI's quantized LSTMs are specified by.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from nnapi.ops.types import Array

LOW, HIGH = -(2**15), 2**15 - 1
ONE: Final = HIGH
"""1.0 without integer bits, as near as it gets."""


def saturate16(x: Array) -> Array:
    """x clamped to 16 bits."""
    return np.clip(x, LOW, HIGH)


def shift_right(x: Array, bits: int) -> Array:
    """x / 2**bits, rounded half away from zero.

    >>> shift_right(np.array([-3, -2, 2, 3]), 2)
    array([-1, -1,  1,  1])
    """
    if bits <= 0:
        return x << -bits
    mask = (1 << bits) - 1
    return (x >> bits) + ((x & mask) > (mask >> 1) + (x < 0))


def product(a: Array | int, b: Array | int) -> Array:
    """a * b of numbers one of which has no integer bits; the result has the other's."""
    raw = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    nudged = raw + np.where(raw >= 0, 1 << 14, 1 - (1 << 14))
    # Division truncates towards zero; a shift alone would floor.
    return saturate16((nudged >> 15) + ((nudged < 0) & ((nudged & 0x7FFF) != 0)))


def _fixed(value: float, integer_bits: int = 0) -> int:
    return round(value * 2 ** (15 - integer_bits))


def exp_of_negative(x: Array, integer_bits: int) -> Array:
    """x <= 0 -> e^x without integer bits."""
    quarter = 1 << (13 - integer_bits)
    # x = part - rest, with part in [-1/4, 0) and rest a multiple of 1/4 whose bits each stand for a factor.
    part = (x & (quarter - 1)) - quarter
    rest = part - x
    result = _exp_near_zero(saturate16(part << integer_bits))
    for exponent in range(-2, integer_bits):
        bit = 1 << (15 - integer_bits + exponent)
        factor = _fixed(math.exp(-(2.0**exponent)))
        result = np.where(rest & bit, product(result, factor), result)
    if integer_bits > 5:
        result = np.where(x < -32 << (15 - integer_bits), 0, result)
    return np.where(x == 0, ONE, result)


def _exp_near_zero(x: Array) -> Array:
    """x in [-1/4, 0), no integer bits -> e^x: four terms of the series around -1/8."""
    x = x + _fixed(1 / 8)
    square = product(x, x)
    cube, fourth = product(square, x), product(square, square)
    terms = shift_right(product(shift_right(fourth, 2) + cube, _fixed(1 / 3)) + square, 1)
    factor = _fixed(math.exp(-1 / 8))
    return saturate16(factor + product(factor, x + terms))


def _reciprocal(x: Array) -> Array:
    """x in [0, 1], no integer bits -> 2 / (1 + x) with 2 integer bits: three steps of Newton's method."""
    total = x + ONE
    half = (total + 1) >> 1
    y = _fixed(48 / 17, 2) + product(half, _fixed(-32 / 17, 2))
    for _ in range(3):
        y = y + saturate16(product(y, _fixed(1, 2) - product(half, y)) << 2)
    return y


def logistic(x: Array, integer_bits: int) -> Array:
    """1 / (1 + e^-x), without integer bits.

    >>> np.round(logistic(np.array([-(2**15), 0, 2**12]), 3) / 2**15, 3)
    array([0.   , 0.5  , 0.731])
    """
    positive = saturate16(_reciprocal(exp_of_negative(-np.abs(x), integer_bits)) << 1)
    return np.where(x == 0, _fixed(1 / 2), np.where(x > 0, positive, ONE - positive))


def tanh(x: Array, integer_bits: int) -> Array:
    """The hyperbolic tangent, without integer bits.

    >>> np.round(tanh(np.array([-(2**12), 0, 2**15 - 1]), 3) / 2**15, 3)
    array([-0.762,  0.   ,  1.   ])
    """
    # e^-2|x|: the same raw number with one integer bit more.
    power = exp_of_negative(-np.abs(x), integer_bits + 1)
    positive = saturate16((_reciprocal(power) - _fixed(1, 2)) << 2)
    return np.where(x == 0, 0, np.where(x > 0, positive, -positive))


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


def requantize_twice(accumulator: Array, mantissa: Array | int, shift: Array | int) -> Array:
    """accumulator [...] of 32 bits times mantissa / 2**31 * 2**shift -> int64, rounded half away from zero twice.

    Source: gemmlowp's saturating rounding doubling high multiply, then its rounding right shift. The 16-bit recurrent
    operations are specified with it to the bit, and engines have no other kernels of PRELU and BATCH_MATMUL; everything
    else rounds once (`numeric.requantize`).
    """
    shift = np.asarray(shift, np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    product = (accumulator.astype(np.int64) << left) * np.asarray(mantissa, np.int64)
    nudge = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    # Division truncates towards zero, as the specification's does; a shift alone would floor.
    high = (product + nudge) >> 31
    high += ((product + nudge) < 0) & (((product + nudge) & 0x7FFFFFFF) != 0)
    mask = (np.int64(1) << right) - 1
    threshold = (mask >> 1) + (high < 0)
    return (high >> right) + ((high & mask) > threshold)


def scale_twice(accumulator: Array, factor: float) -> Array:
    """accumulator [...] * factor by `requantize_twice`; whatever comes near 32 bits is as large as it is anyway.

    >>> scale_twice(np.array([3, -5, 2**40]), 0.25)
    array([        1,        -1, 536870912])
    """
    mantissa, shift = multiplier(min(factor, 2.0**20))
    limit = (2**31 - 1) >> max(shift, 0)
    return requantize_twice(np.clip(accumulator, -limit, limit), mantissa, shift)
