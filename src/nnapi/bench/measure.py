"""Measure a session: initialization, first run, steady latency, per-partition times, peak memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence

import numpy as np

from nnapi.bench.record import Latency, Record
from nnapi.drivers import registry
from nnapi.ops.types import Array
from nnapi.partitioning.candidate import engine_name
from nnapi.partitioning.samples import random_inputs as random_inputs
from nnapi.runtime.session import Session

PARTITION_REPEATS = 10


def measure(
    session: Session,
    inputs: Sequence[Array],
    *,
    warmup: float = 0.5,
    seconds: float = 1.0,
    repeats: int = 50,
    threads: int = 1,
    precision: str = "fp32",
    load: float = 0.0,
    progress: Callable[[float], None] | None = None,
) -> Record:
    """Run `session` on `inputs` for at least `seconds` and `repeats` times, after `warmup` seconds of warm-up.

    `progress` is told the share done, 0 to 1.
    """
    first = time_of(lambda: session(*inputs))
    repeat(lambda: session(*inputs), warmup, 1)
    times = repeat(lambda: session(*inputs), seconds, repeats, progress)
    built = session.built
    profiles = [session.profile(*inputs) for _ in range(PARTITION_REPEATS)] if len(built) > 1 else []
    p50 = [float(np.median(column)) for column in zip(*profiles)] if profiles else [Latency.of(times).p50]
    return Record(
        model=session.plan.model.name,
        devices=session.plan.devices,
        versions={
            name: registry.get(engine_name(name)).version
            for name in session.plan.devices
            if engine_name(name) in registry.names()
        },
        threads=threads,
        precision=precision,
        load=load,
        initialization=session.build_seconds,
        first=first,
        latency=Latency.of(times),
        partitions=tuple(
            {"device": b.partition.device, "operations": len(b.partition.operations), "seconds": s}
            for b, s in zip(built, p50)
        ),
        peak_memory=peak_memory(),
    )


def repeat(
    function: Callable[[], object], seconds: float, repeats: int, progress: Callable[[float], None] | None = None
) -> list[float]:
    """Seconds of each call, for at least `seconds` in all and `repeats` calls."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    started = time.perf_counter()
    while len(times) < repeats or time.perf_counter() < end:
        times.append(time_of(function))
        if progress is not None:
            spent = (time.perf_counter() - started) / seconds if seconds else 1.0
            progress(min(len(times) / repeats, spent, 1.0))
    return times


def time_of(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def peak_memory() -> int:
    """The most memory this process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
