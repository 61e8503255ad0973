"""Compare by ratio: everything in one run, interleaved."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nnapi.bench.record import Latency
from nnapi.partitioning.timing import interleaved


def interleave(
    functions: Mapping[str, Callable[[], object]], *, repeats: int = 50, warmup: int = 5
) -> dict[str, Latency]:
    """Seconds of each function, called in turn `repeats` times after `warmup` rounds.

    >>> latencies = interleave({"a": lambda: sum(range(10)), "b": lambda: None}, repeats=3)
    >>> [latency.repeats for latency in latencies.values()]
    [3, 3]
    """
    return {name: Latency.of(seconds) for name, seconds in interleaved(functions, repeats, warmup).items()}
