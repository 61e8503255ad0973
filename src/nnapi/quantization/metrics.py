"""How far outputs are from what they should be."""

from __future__ import annotations

import math

import numpy as np

from nnapi.ops.types import Array


def sqnr(expected: Array, actual: Array) -> float:
    """Signal to quantization noise ratio in dB: infinite where both are equal, minus infinity where NaN is new.

    >>> round(sqnr(np.array([1.0, 2.0]), np.array([1.0, 2.002])), 1)
    61.0
    """
    signal = np.asarray(expected, np.float64)
    noise = np.asarray(actual, np.float64) - signal
    if not np.all(np.isfinite(noise)):
        return -math.inf
    power = float(np.sum(noise**2))
    if power == 0.0:
        return math.inf
    total = float(np.sum(signal**2))
    return 10 * math.log10(total / power) if total else -math.inf
