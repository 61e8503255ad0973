"""Time functions beside each other: in turn, in another order each round, so that a busy machine slows all alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import TypeVar

K = TypeVar("K")


def interleaved(functions: Mapping[K, Callable[[], object]], repeats: int, warmup: int = 2) -> dict[K, list[float]]:
    """Seconds of each call of each function, `repeats` rounds after `warmup` more.

    What one leaves behind (threads that spin, a cold cache) falls on all the others in turn.

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
            started = perf_counter()
            function()
            times[name].append(perf_counter() - started)
    return {name: seconds[warmup:] for name, seconds in times.items()}
