"""Time functions beside each other: in turn, in another order each round, so that a busy machine slows all alike.

What one leaves behind must not be another's price: threads that spin are let go, and a quick function runs for a while
before the call that counts, as its threads may sleep, and another's data have taken the place of its own in the caches.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Final, TypeVar

from nnapi.drivers.openmp import let_threads_go

K = TypeVar("K")
QUICK: Final = 0.02
"""Seconds below which what lies in the caches matters."""
WARM: Final = 0.002
"""Seconds for which a quick function runs before a call that counts."""
SURE: Final = 2.0
"""Standard errors by which one must be slower than another not to be taken for as fast."""


def interleaved(functions: Mapping[K, Callable[[], object]], repeats: int, warmup: int = 2) -> dict[K, list[float]]:
    """Seconds of one call of each function in each round, `repeats` rounds after `warmup` more.

    >>> {name: len(seconds) for name, seconds in interleaved({"a": int, "b": str}, repeats=3).items()}
    {'a': 3, 'b': 3}
    """
    times: dict[K, list[float]] = {name: [] for name in functions}
    order = list(functions)
    shuffle = random.Random(0).shuffle
    for _ in range(warmup + repeats):
        shuffle(order)
        for name in order:
            function = functions[name]
            if min(times[name], default=QUICK) < QUICK:
                _warm(function)
            started = perf_counter()
            function()
            times[name].append(perf_counter() - started)
            let_threads_go()
    return {name: seconds[warmup:] for name, seconds in times.items()}


def _warm(function: Callable[[], object]) -> None:
    until = perf_counter() + WARM
    while perf_counter() < until:
        function()


def race(functions: Mapping[K, Callable[[], object]], repeats: int, *, most: int) -> dict[K, float]:
    """Seconds of each function; those that may be the fastest run on until one is, `most` times `repeats` at most.

    They are compared by the ratios within each round, which a machine that is slower for a while leaves as they are.

    >>> times = race({"a": lambda: sum(range(9)), "b": lambda: sum(range(999))}, 9, most=3)
    >>> times["a"] < times["b"]
    True
    """
    times = interleaved(functions, repeats, warmup=1)
    leader = min(times, key=lambda name: median(times[name]))
    ratios: dict[K, float] = {}
    for _ in range(most):
        ratios |= {name: _ratio(seconds, times[leader]) for name, seconds in times.items()}
        close = {name: seconds for name, seconds in times.items() if not _is_slower(seconds, times[leader])}
        if len(close) < 2:
            break
        more = interleaved({name: functions[name] for name in close}, repeats, warmup=0)
        times = {name: close[name] + more[name] for name in close}
        best = min(times, key=lambda name: _ratio(times[name], times[leader]))
        shift = _ratio(times[best], times[leader])
        ratios = {name: ratio / shift for name, ratio in ratios.items()}
        leader = best
    ratios |= {name: _ratio(seconds, times[leader]) for name, seconds in times.items()}
    return {name: ratios[name] * median(times[leader]) for name in functions}


def _ratio(seconds: Sequence[float], others: Sequence[float]) -> float:
    """How many times longer than the other, round by round, in the middle."""
    return median(a / b for a, b in zip(seconds, others, strict=True))


def _is_slower(seconds: Sequence[float], others: Sequence[float]) -> bool:
    """Whether the difference is beyond what noise explains."""
    ratios = [a / b for a, b in zip(seconds, others, strict=True)]
    middle = median(ratios)
    spread = 1.4826 * median(abs(r - middle) for r in ratios)  # a normal distribution's deviation
    return middle - SURE * 1.2533 * spread / math.sqrt(len(ratios)) > 1.0
