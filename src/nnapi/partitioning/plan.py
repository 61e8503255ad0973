"""The plan: which device runs which operations, why, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Final

from nnapi.drivers.driver import Accept, Estimate, Precision, Preference, Reject
from nnapi.ir.model import Model
from nnapi.ir.subgraph import Subgraph
from nnapi.ir.work import macs
from nnapi.partitioning.candidate import EXACT
from nnapi.partitioning.detours import Detour
from nnapi.partitioning.schedule import split as split
from nnapi.partitioning.verdict import Denied, Verdicts

FELT_SECONDS: Final = 0.005
"""Seconds lost in a run before anyone is warned of it."""


@dataclass(frozen=True)
class Partition:
    """Operations that one device runs in one launch."""

    device: str
    operations: tuple[int, ...]
    """Indexes in the plan's model."""
    subgraph: Subgraph
    estimate: Estimate


@dataclass(frozen=True)
class Alternative:
    """A plan that was considered: what it is, and what it would cost."""

    name: str
    seconds: float
    joules: float
    partitions: int
    busiest: float = 0.0
    """Seconds that the busiest of the resources works for one answer: what limits many, asked for at the same time."""
    measured_seconds: float | None = None


@dataclass(frozen=True)
class Fallback:
    """Something that goes elsewhere than planned or asked, and why."""

    what: str
    device: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """A model split across devices, in an order the partitions can run in."""

    model: Model
    partitions: tuple[Partition, ...]
    verdicts: Mapping[str, Verdicts]
    """What each device said of each operation."""
    preference: Preference
    chosen: Alternative
    alternatives: tuple[Alternative, ...]
    """Everything considered, cheapest first; the chosen one among them."""
    fallback: str | None = None
    """The device of last resort, where it was added to those asked for."""
    precision: Precision = "fp32"
    """What float32 may be computed in; on a device named NAME:fp32, nothing less."""
    is_optimal: bool = False
    """No placement is cheaper under these costs: it was solved exactly, or a bound shows it."""
    unchecked: Mapping[int, str] = field(default_factory=dict)
    """Why partitions, by number, are not compared with the reference."""
    refused: tuple[Detour, ...] = ()
    """Partitions that were refused as a whole, which the plan goes round."""
    last_seconds: float = 0.0
    """Seconds spent on the device of last resort."""
    engine_seconds: float = 0.0
    """Seconds that the fastest of the devices asked for would take for that, by their estimates."""

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that take part, in order of their first partition."""
        return tuple(dict.fromkeys(p.device for p in self.partitions))

    @cached_property
    def placement(self) -> Mapping[int, str]:
        """Operation index -> device."""
        return {n: p.device for p in self.partitions for n in p.operations}

    def reason(self, operation: int) -> str:
        """Why the operation is where it is: what kept it off each device that was preferred."""
        device = self.placement[operation]
        refused: list[str] = []
        for name, verdicts in self.verdicts.items():
            verdict = verdicts[operation]
            if name == device:
                note = verdict.note if isinstance(verdict, Accept) else ""
                if not refused:
                    return note or "cheapest plan"
                return "; ".join(refused)
            if isinstance(verdict, Reject):
                refused.append(f"{name}: {verdict.reason}")
        return "; ".join(refused) or "cheapest plan"

    def fallbacks(self) -> list[tuple[int, str]]:
        """Operations on the device of last resort, and what kept them off the devices asked for."""
        return [
            (n, self.reason(n)) for p in self.partitions if p.device == self.fallback for n in p.operations
        ]  # fmt: skip

    def deviations(self) -> list[Fallback]:
        """Deviations from what was asked, or would be cheapest: what devices were refused, and what is left."""
        found = [Fallback(f"{len(d.operations)} operations", d.device, d.reason) for d in self.refused]
        for device, verdicts in self.verdicts.items():
            for n, verdict in enumerate(verdicts):
                if isinstance(verdict, Denied):
                    found.append(Fallback(self.model.operations[n].label, device, verdict.reason))
        found += [Fallback(self.model.operations[n].label, self.fallback or "", why) for n, why in self.fallbacks()]
        return list(dict.fromkeys(found))

    @property
    def burden(self) -> str:
        """The cost of the device of last resort, in words, where it is most of a run and can be felt; else empty."""
        lost = self.last_seconds - self.engine_seconds
        if lost < FELT_SECONDS or self.last_seconds < self.chosen.seconds / 2:
            return ""
        count = sum(device == self.fallback for device in self.placement.values())
        times = self.last_seconds / self.engine_seconds if self.engine_seconds > 0 else math.inf
        slower = f"some {times:.0f} times slower than an engine" if times < 1e6 else "much slower than an engine"
        return (
            f"{count} of {len(self.model.operations)} operations run on the {self.fallback}, {slower}: an estimate of "
            f"{self.last_seconds:.2g} s for each run, where {self.engine_seconds:.2g} s would do"
        )

    def precision_of(self, partition: Partition) -> Precision:
        """What a partition computes float32 in."""
        return "fp32" if partition.device.endswith(EXACT) else self.precision

    def to_json(self) -> dict[str, Any]:
        """Everything the plan says, as JSON values; times in seconds."""
        return {
            "model": self.model.name,
            "operations": len(self.model.operations),
            "preference": self.preference,
            "precision": self.precision,
            "predicted_seconds": self.chosen.seconds,
            "measured_seconds": self.chosen.measured_seconds,
            "busiest_seconds": self.chosen.busiest,
            "predicted_joules": self.chosen.joules,
            "is_optimal": self.is_optimal,
            "chosen": self.chosen.name,
            "burden": self.burden,
            "deviations": [asdict(deviation) for deviation in self.deviations()],
            "partitions": [
                {
                    "device": p.device,
                    "precision": self.precision_of(p),
                    "operations": len(p.operations),
                    "macs": macs(p.subgraph.model),
                    "bytes_in": sum(o.bytes or 0 for o in p.subgraph.model.input_operands),
                    "bytes_out": sum(o.bytes or 0 for o in p.subgraph.model.output_operands),
                    "predicted_seconds": p.estimate.seconds,
                    "source": p.estimate.source,
                    "unchecked": self.unchecked.get(k),
                }
                for k, p in enumerate(self.partitions)
            ],
            "placements": [
                {
                    "operation": operation.type,
                    "name": operation.name,
                    "device": self.placement[n],
                    "reason": self.reason(n),
                }
                for n, operation in enumerate(self.model.operations)
            ],
            "alternatives": [
                {
                    "name": a.name,
                    "seconds": a.seconds,
                    "measured_seconds": a.measured_seconds,
                    "partitions": a.partitions,
                }
                for a in self.alternatives
            ],
        }
