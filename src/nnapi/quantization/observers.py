"""Observers: what range of values a tensor has, from a stream of arrays, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import numpy as np

from nnapi.ops.types import Array

Range = tuple[float, float]
BINS: Final = 4096
SAMPLES: Final = 1 << 14
"""How many values of one array go into a histogram; its extremes count whatever they are."""
MOMENTUM: Final = 0.1
LEVELS: Final = 255
"""Steps of 8 bits."""
SMOOTHED: Final = 33
SHARES: Final = np.linspace(1.0, 0.2, 81)
"""How far a range is cut in search of the best one."""


class Observer(Protocol):
    """Sees arrays and says a range."""

    def update(self, array: Array, low: float, high: float) -> None:
        """See `array`, whose extremes are `low` and `high`."""
        ...

    def range(self) -> Range: ...


class MinMax:
    """The extremes of everything seen."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def update(self, array: Array, low: float, high: float) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)

    def range(self) -> Range:
        return self.low, self.high


class MovingAverage(MinMax):
    """Extremes, averaged over the arrays with a memory of about ten."""

    def update(self, array: Array, low: float, high: float) -> None:
        if self.low > self.high:
            self.low, self.high = low, high
        else:
            self.low += MOMENTUM * (low - self.low)
            self.high += MOMENTUM * (high - self.high)


class Histogram(MinMax):
    """Counts in bins around zero, whose width doubles as larger values come.

    >>> h = Histogram(percentile(50.0))
    >>> x = np.array([0.0, 1.0, 2.0, 3.0, 100.0])
    >>> h.update(x, 0.0, 100.0)
    >>> h.range()[1] < 50
    True
    """

    def __init__(self, choose: Callable[[Array, Array, Range], Range]) -> None:
        super().__init__()
        self._choose = choose
        self._counts = np.zeros(BINS)
        self._reach = 0.0

    def update(self, array: Array, low: float, high: float) -> None:
        super().update(array, low, high)
        reach = max(abs(low), abs(high))
        if reach == 0.0 and self._reach == 0.0:
            return
        if self._reach == 0.0:
            self._reach = 2.0 ** np.ceil(np.log2(reach))
        while self._reach < reach:
            # Each half shrinks towards the middle: bin k of the wider range holds two of the narrower.
            pairs = self._counts.reshape(-1, 2).sum(1)
            self._counts = np.concatenate([np.zeros(BINS // 4), pairs, np.zeros(BINS // 4)])
            self._reach *= 2
        # A step that shares no factor with common channel counts sees every channel.
        values = array.reshape(-1)[:: max(1, array.size // SAMPLES) | 1]
        at = ((values + np.float32(self._reach)) * np.float32(BINS / 2 / self._reach)).astype(np.int32)
        self._counts += np.bincount(np.minimum(at, BINS - 1), minlength=BINS)

    def range(self) -> Range:
        if not self._counts.any():
            return self.low, self.high
        centers = (np.arange(BINS) + 0.5) * (2 * self._reach / BINS) - self._reach
        used = np.flatnonzero(self._counts)
        centers, counts = np.clip(centers[used], self.low, self.high), self._counts[used]
        low, high = self._choose(centers, counts, (self.low, self.high))
        return max(low, self.low), min(high, self.high)


def percentile(percent: float) -> Callable[[Array, Array, Range], Range]:
    """Cut off what is beyond `percent` of the values on either side."""

    def choose(centers: Array, counts: Array, whole: Range) -> Range:
        share = np.cumsum(counts) / counts.sum()
        rest = 1 - percent / 100
        low = centers[np.searchsorted(share, rest)]
        high = centers[min(int(np.searchsorted(share, 1 - rest)), len(centers) - 1)]
        return min(float(low), whole[1]), max(float(high), whole[0])

    return choose


def least_squares(centers: Array, counts: Array, whole: Range) -> Range:
    """The range whose 256 levels leave the least mean squared error, clipping included."""

    def error(low: float, high: float) -> float:
        step = (high - low) / LEVELS
        clipped = np.clip(centers, low, high)
        inside = counts[(centers >= low) & (centers <= high)].sum() * step * step / 12
        return float(inside + (counts * (centers - clipped) ** 2).sum())

    return _cut(whole, error)


def least_divergence(centers: Array, counts: Array, whole: Range) -> Range:
    """The range whose 256 levels keep most of the distribution's information (Kullback-Leibler)."""
    # Of few samples the tails are all gaps, which would look like information lost.
    width = min(SMOOTHED, len(counts))
    counts = np.convolve(counts, np.ones(width) / width, "same")
    total = counts.sum()

    def divergence(low: float, high: float) -> float:
        step = (high - low) / LEVELS
        level = np.rint((np.clip(centers, low, high) - low) / step).astype(np.int64)
        mass = np.bincount(level, counts, LEVELS + 1)
        bins = np.bincount(level, minlength=LEVELS + 1)
        # What a level holds is spread evenly over its bins; clipped mass sits where it does not belong.
        inside = (centers >= low) & (centers <= high)
        spread = np.where(inside, (mass / np.maximum(bins, 1))[level], 1e-9 * total)
        return float((counts * np.log(counts / np.maximum(spread, 1e-30))).sum() / total)

    return _cut(whole, divergence)


def _cut(whole: Range, loss: Callable[[float, float], float]) -> Range:
    """The best cut of either end, one after the other, twice."""
    low, high = min(whole[0], 0.0), max(whole[1], 0.0)
    best_low, best_high = low, high
    for _ in range(2):
        if high > 0:
            best_high = min((high * float(s) for s in SHARES), key=lambda h: loss(best_low, h))
        if low < 0:
            best_low = min((low * float(s) for s in SHARES), key=lambda v: loss(v, best_high))
    return float(best_low), float(best_high)


def observer(kind: str, percent: float) -> Observer:
    """A new observer of one of the kinds that recipes know."""
    table: Mapping[str, Callable[[], Observer]] = {
        "min_max": MinMax,
        "moving_average": MovingAverage,
        "percentile": lambda: Histogram(percentile(percent)),
        "mse": lambda: Histogram(least_squares),
        "entropy": lambda: Histogram(least_divergence),
    }
    return table[kind]()
