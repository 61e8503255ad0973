"""A measurement as a record: what ran, on what, how often, and how long it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nnapi.partitioning.machine import machine as machine


@dataclass(frozen=True)
class Latency:
    """Seconds of repeated runs: percentiles and how many there were.

    >>> Latency.of([3.0, 1.0, 2.0]).p50
    2.0
    """

    p10: float
    p50: float
    p90: float
    mean: float
    repeats: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        p10, p50, p90 = (float(p) for p in np.percentile(seconds, (10, 50, 90)))
        return cls(p10, p50, p90, float(np.mean(seconds)), len(seconds))


@dataclass(frozen=True)
class Record:
    """One measured session; times in seconds, memory in bytes."""

    model: str
    devices: tuple[str, ...]
    versions: Mapping[str, str]
    threads: int
    precision: str
    load: float
    """Reading and optimizing the model."""
    initialization: float
    """Preparing every partition on its device."""
    first: float
    latency: Latency
    partitions: tuple[Mapping[str, Any], ...]
    """Per partition: device, operations, p50 seconds."""
    peak_memory: int
    machine: str = field(default_factory=machine)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
