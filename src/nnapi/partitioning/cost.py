"""What a plan costs: operations on their devices, launches, and tensors moved. One price, used by all who choose.

price = sum of operations + a launch for each partition + each tensor moved once to each device that reads it

An operation costs its share of the longest sequence around it that was measured, else what the driver estimates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from nnapi.drivers.driver import DeviceType, Driver, Estimate, Preference
from nnapi.drivers.roofline import Roofline
from nnapi.ir.model import Model
from nnapi.ir.subgraph import extract
from nnapi.ops.types import Array
from nnapi.partitioning.digest import described, signature
from nnapi.partitioning.plan import Alternative, Partition
from nnapi.partitioning.schedule import Groups, split

TRANSFER_SECONDS: Final = 5e-6
"""Handing one tensor from an engine to another, whatever its size."""
TRANSFER_BYTES_PER_SECOND: Final = 8e9
TRANSFER_JOULES_PER_BYTE: Final = 1e-10
UNBELIEVABLE: Final = Roofline(5e9, 2e9, operation_seconds=50e-6, launch_seconds=50e-6)
"""For devices that claim to cost nothing, or no number: slow, until they are measured."""


class Measured(NamedTuple):
    """Operations that were measured together, as one launch."""

    operations: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class Rates:
    """One device's costs of one model, by operation: seconds [N], joules [N]; whether measured [N]; of a launch."""

    seconds: Array
    joules: Array
    measured: Array
    launch: Estimate
    transfer_seconds_per_byte: float
    resource: str
    """What a device keeps busy: all engines on the CPU share it."""


class CostModel:
    """Costs of one model on some devices.

    `measured` are sequences by device, shorter ones first: the last word is the longest one's. `launches` are measured
    seconds of a launch, `transfers` seconds a byte takes to a device.
    """

    def __init__(
        self,
        model: Model,
        drivers: Mapping[str, Driver],
        measured: Mapping[str, Sequence[Measured]] | None = None,
        launches: Mapping[str, float] | None = None,
        transfers: Mapping[str, float] | None = None,
    ) -> None:
        self.model = model
        self.drivers = drivers
        self.names = list(drivers)
        self._number = {name: d for d, name in enumerate(self.names)}
        known = dict(enumerate(described(operand) for operand in model.operands))
        classes: dict[object, int] = {}
        kinds = [classes.setdefault(signature(model, o, known), len(classes)) for o in model.operations]
        first = {kind: n for n, kind in reversed(list(enumerate(kinds)))}
        singles = [extract(model, (first[kind],)).model for kind in range(len(classes))]
        empty = Model((), (), (), (), model.name, model.relaxed)
        self.rates = {
            name: _rates(
                driver, empty, singles, np.array(kinds, int), (measured or {}).get(name, ()),
                (launches or {}).get(name), (transfers or {}).get(name),
            )
            for name, driver in drivers.items()
        }  # fmt: skip
        self.seconds = np.array([self.rates[name].seconds for name in self.names]).reshape(len(self.names), -1)
        """[D, N]"""
        self.joules = np.array([self.rates[name].joules for name in self.names]).reshape(len(self.names), -1)
        edges = [(o, n, c) for o, n in model.producers.items() for c in model.consumers.get(o, ())]
        self.edges = np.array(edges, int).reshape(-1, 3)
        """[E, 3]: tensor, who writes it, who reads it."""
        self.bytes = np.array([0 if o.is_constant else o.bytes or 0 for o in model.operands], float)

    def launch(self, device: str, preference: Preference) -> float:
        """What a launch costs under a preference."""
        launch = self.rates[device].launch
        return launch.joules if preference == "low_power" else launch.seconds

    def transfer_seconds(self, device: str) -> Array:
        """Seconds of moving each operand to a device: [operands]."""
        moved: Array = TRANSFER_SECONDS + self.bytes * self.rates[device].transfer_seconds_per_byte
        return moved

    def transfer_joules(self) -> Array:
        """Joules of moving each operand anywhere: [operands]."""
        return self.bytes * TRANSFER_JOULES_PER_BYTE

    def groups(self, assignment: Sequence[str], preference: Preference = "fast_single_answer") -> Groups:
        """The partitions of an assignment, in the cheapest schedule that is found."""
        return split(
            self.model, assignment, {name: self.launch(name, preference) for name in dict.fromkeys(assignment)}
        )

    def evaluate(self, name: str, assignment: Sequence[str], groups: Groups) -> Alternative:
        """The price of an assignment whose partitions are `groups`."""
        chosen = np.array([self._number[d] for d in assignment], int)
        everything = np.arange(len(chosen))
        seconds, joules = self.seconds[chosen, everything], self.joules[chosen, everything]
        busy: dict[str, float] = {}
        for d in np.unique(chosen):
            resource = self.rates[self.names[d]].resource
            busy[resource] = busy.get(resource, 0.0) + float(seconds[chosen == d].sum())
        total, energy = float(seconds.sum()), float(joules.sum())
        launches = [self.rates[device].launch for device, _ in groups]
        moved_seconds, moved_joules = self._moved(chosen, busy)
        for (device, _), launch in zip(groups, launches):
            busy[self.rates[device].resource] += launch.seconds
        return Alternative(
            name,
            math.fsum((total, *(x.seconds for x in launches), moved_seconds)),
            math.fsum((energy, *(x.joules for x in launches), moved_joules)),
            len(groups),
            max(busy.values(), default=0.0),
        )

    def burden(self, assignment: Sequence[str], last: str | None) -> tuple[float, float]:
        """Seconds of the operations on the device of last resort: there, and where each is cheapest besides."""
        members = [n for n, device in enumerate(assignment) if device == last]
        others = [d for d, name in enumerate(self.names) if name != last]
        if last is None or not members or not others:
            return 0.0, 0.0
        there, elsewhere = self.seconds[self._number[last], members], self.seconds[np.ix_(others, members)]
        return float(there.sum()), float(elsewhere.min(axis=0).sum())

    def _moved(self, chosen: Array, busy: dict[str, float]) -> tuple[float, float]:
        """Seconds and joules of all transfers: one per tensor and device that reads it from another."""
        tensor, writer, reader = self.edges.T
        crossing = chosen[writer] != chosen[reader]
        pairs = np.unique(np.stack([tensor[crossing], chosen[reader[crossing]]], axis=1), axis=0)
        seconds = joules = 0.0
        for d in np.unique(pairs[:, 1]):
            device = self.names[d]
            tensors = pairs[pairs[:, 1] == d, 0]
            spent = float(self.transfer_seconds(device)[tensors].sum())
            seconds += spent
            joules += float(self.transfer_joules()[tensors].sum())
            busy[self.rates[device].resource] += spent
        return seconds, joules

    def partition(self, device: str, operations: tuple[int, ...]) -> Partition:
        """The operations as a partition of `device`, with its cost."""
        whole = len(operations) == len(self.model.operations)
        subgraph = extract(self.model, operations, self.model.name if whole else f"{self.model.name}/{device}")
        rates, members = self.rates[device], list(operations)
        cost = Estimate(
            rates.launch.seconds + float(rates.seconds[members].sum()),
            rates.launch.joules + float(rates.joules[members].sum()),
            "measured" if bool(rates.measured[members].all()) else "modelled",
        )
        return Partition(device, operations, subgraph, cost)

    def partitions(self, assignment: Sequence[str]) -> tuple[Partition, ...]:
        """The partitions that an assignment of devices to operations makes."""
        return tuple(self.partition(device, operations) for device, operations in self.groups(assignment))

    def price(self, name: str, partitions: Sequence[Partition]) -> Alternative:
        """Seconds and joules of running these partitions one after the other."""
        placement = {n: p.device for p in partitions for n in p.operations}
        groups = [(p.device, p.operations) for p in partitions]
        return self.evaluate(name, [placement[n] for n in range(len(self.model.operations))], groups)


def _rates(
    driver: Driver,
    empty: Model,
    singles: Sequence[Model],
    kinds: Array,
    measured: Sequence[Measured],
    launch_seconds: float | None,
    transfer: float | None,
) -> Rates:
    launch, costs = _estimates(driver, empty, singles)
    watts = launch.joules / launch.seconds if launch.seconds > 0 else 0.0
    if launch_seconds is not None:
        launch = Estimate(launch_seconds, launch_seconds * watts, "measured")
    seconds = np.array([c.seconds for c in costs])[kinds] if len(kinds) else np.zeros(0)
    joules = np.array([c.joules for c in costs])[kinds] if len(kinds) else np.zeros(0)
    known = np.zeros(len(kinds), bool)
    for sequence in measured:
        members = list(sequence.operations)
        spent = max(sequence.seconds - launch.seconds, sequence.seconds * 0.01)
        before = float(seconds[members].sum())
        scale = spent / before if before > 0 else 0.0
        seconds[members] = seconds[members] * scale if before > 0 else spent / len(members)
        joules[members] = joules[members] * scale
        known[members] = True
    on_cpu = driver.device_type == DeviceType.CPU
    per_byte = 1 / TRANSFER_BYTES_PER_SECOND if transfer is None else transfer
    return Rates(seconds, joules, known, launch, per_byte, "cpu" if on_cpu else driver.name.partition(":")[0])


def _estimates(driver: Driver, empty: Model, singles: Sequence[Model]) -> tuple[Estimate, list[Estimate]]:
    """A launch, and each operation without it; of a device that claims to cost nothing, what is believable."""
    try:
        launch, wholes = driver.estimate(empty), [driver.estimate(model) for model in singles]
    except Exception:  # a driver that fails to answer here is slow until it is measured
        launch, wholes = UNBELIEVABLE.estimate(empty), [UNBELIEVABLE.estimate(model) for model in singles]
    if not (_is_cost(launch) and all(_is_cost(x) and x.seconds > 0 for x in wholes)):
        launch, wholes = UNBELIEVABLE.estimate(empty), [UNBELIEVABLE.estimate(model) for model in singles]
    return launch, [
        Estimate(max(x.seconds - launch.seconds, 0.0), max(x.joules - launch.joules, 0.0), x.source) for x in wholes
    ]


def _is_cost(estimate: Estimate) -> bool:
    return all(math.isfinite(x) and x >= 0 for x in (estimate.seconds, estimate.joules))


def objective(alternative: Alternative, preference: Preference) -> tuple[float, float]:
    """What is made small: energy for low power; the time of the busiest for many answers; else time."""
    if preference == "low_power":
        return alternative.joules, alternative.seconds
    if preference == "sustained_speed":
        return alternative.busiest, alternative.seconds
    return alternative.seconds, alternative.joules
