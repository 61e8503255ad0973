"""What a plan costs: the devices' estimates of its partitions, and moving tensors between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nnapi.drivers.driver import Driver, Estimate, Preference
from nnapi.ir.model import Model
from nnapi.ir.subgraph import extract
from nnapi.partitioning.plan import Alternative, Partition, split

TRANSFER_SECONDS = 5e-6
"""Handing one tensor from an engine to another, whatever its size."""
TRANSFER_BYTES_PER_SECOND = 8e9
TRANSFER_JOULES_PER_BYTE = 1e-10


@dataclass
class CostModel:
    """Costs of one model on some devices. Measured costs enter here: a driver's `estimate` says where it is from."""

    model: Model
    drivers: Mapping[str, Driver]
    _estimates: dict[tuple[str, tuple[int, ...]], Partition] = field(default_factory=dict, repr=False)

    def partition(self, device: str, operations: tuple[int, ...]) -> Partition:
        """The operations as a partition of `device`, with its estimate; asked once."""
        key = (device, operations)
        if key not in self._estimates:
            name = f"{self.model.name}/{device}" if len(operations) < len(self.model.operations) else self.model.name
            subgraph = extract(self.model, operations, name)
            self._estimates[key] = Partition(
                device, operations, subgraph, self.drivers[device].estimate(subgraph.model)
            )
        return self._estimates[key]

    def partitions(self, assignment: Sequence[str]) -> tuple[Partition, ...]:
        """The partitions that an assignment of devices to operations makes."""
        return tuple(self.partition(device, operations) for device, operations in split(self.model, assignment))

    def price(self, name: str, partitions: Sequence[Partition]) -> Alternative:
        """Seconds and joules of running these partitions one after the other."""
        seconds = sum(p.estimate.seconds for p in partitions)
        joules = sum(p.estimate.joules for p in partitions)
        for transfer in self._transfers(partitions):
            seconds += transfer.seconds
            joules += transfer.joules
        return Alternative(name, seconds, joules, len(partitions))

    def _transfers(self, partitions: Sequence[Partition]) -> list[Estimate]:
        """One per tensor and device that reads it from another; several readers on one device share it."""
        written = {o: p.device for p in partitions for o in p.subgraph.outputs}
        crossing = {
            (i, p.device) for p in partitions for i in p.subgraph.inputs if written.get(i, p.device) != p.device
        }
        sizes = [self.model.operands[i].bytes or 0 for i, _ in crossing]
        return [
            Estimate(TRANSFER_SECONDS + size / TRANSFER_BYTES_PER_SECOND, size * TRANSFER_JOULES_PER_BYTE, "modelled")
            for size in sizes
        ]


def objective(alternative: Alternative, preference: Preference) -> tuple[float, float]:
    """What is made small: energy for low power, else time."""
    if preference == "low_power":
        return alternative.joules, alternative.seconds
    return alternative.seconds, alternative.joules
