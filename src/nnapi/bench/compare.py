"""Compare by ratio: everything in one run, interleaved, so that a busy machine slows all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nnapi.bench.measure import repeat, time_of
from nnapi.bench.record import Latency


def interleave(
    functions: Mapping[str, Callable[[], object]], *, repeats: int = 50, warmup: int = 5
) -> dict[str, Latency]:
    """Seconds of each function, called in turn `repeats` times after `warmup` rounds.

    >>> latencies = interleave({"a": lambda: sum(range(10)), "b": lambda: None}, repeats=3)
    >>> [latency.repeats for latency in latencies.values()]
    [3, 3]
    """
    for function in functions.values():
        repeat(function, 0.0, warmup)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            times[name].append(time_of(function))
    return {name: Latency.of(values) for name, values in times.items()}
