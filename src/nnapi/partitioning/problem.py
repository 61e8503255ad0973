"""The problem of placement: who may run what, at which price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from nnapi.drivers.driver import DeviceType, Precision, Preference
from nnapi.ir.model import Model
from nnapi.ops.types import Array
from nnapi.partitioning.cost import CostModel, objective
from nnapi.partitioning.detours import Detours
from nnapi.partitioning.plan import Alternative
from nnapi.partitioning.schedule import Groups
from nnapi.partitioning.verdict import Verdicts

Assignment = tuple[str, ...]
"""Each operation's device."""


class Priced(NamedTuple):
    """An assignment, its partitions, and what they cost."""

    alternative: Alternative
    assignment: Assignment
    groups: Groups


@dataclass
class Problem:
    """A model, what each device says of its operations, and what they cost."""

    model: Model
    verdicts: Mapping[str, Verdicts]
    costs: CostModel
    preference: Preference = "fast_single_answer"
    last: str | None = None
    """The device of last resort, where it was added to those asked for."""
    precision: Precision = "fp32"
    detours: Detours = field(default_factory=Detours)
    priced: dict[Assignment, Priced] = field(default_factory=dict, repr=False)

    @cached_property
    def allowed(self) -> list[tuple[str, ...]]:
        """The devices that take each operation."""
        return [tuple(d for d, v in self.verdicts.items() if v.accepts(n)) for n in range(len(self.model.operations))]

    @cached_property
    def unit_costs(self) -> Mapping[str, Array]:
        """What each operation costs on each device under the preference: device -> [N]."""
        table = self.costs.joules if self.preference == "low_power" else self.costs.seconds
        return {name: table[d] for d, name in enumerate(self.costs.names)}

    @cached_property
    def launches(self) -> Mapping[str, float]:
        """What a launch costs on each device under the preference."""
        return {name: self.costs.launch(name, self.preference) for name in self.costs.names}

    @cached_property
    def transfers(self) -> Mapping[str, Array]:
        """What moving each operand to each device costs under the preference: device -> [operands]."""
        if self.preference == "low_power":
            return dict.fromkeys(self.costs.names, self.costs.transfer_joules())
        return {name: self.costs.transfer_seconds(name) for name in self.costs.names}

    @cached_property
    def host(self) -> str:
        """The device that what accelerators leave goes to: a CPU that takes everything, else what takes most."""
        return max(
            self.verdicts,
            key=lambda d: (self.verdicts[d].accepted, self.costs.drivers[d].device_type == DeviceType.CPU),
        )

    def price(self, name: str, assignment: Sequence[str], groups: Groups | None = None) -> Priced:
        """THE price: that of the partitions the assignment makes, in the cheapest schedule known."""
        key = tuple(assignment)
        if key not in self.priced or groups is not None:
            made = self.detours.cut(self.costs.groups(key, self.preference) if groups is None else groups)
            found = Priced(self.costs.evaluate(name, key, made), key, made)
            if key not in self.priced or self.cost(found) < self.cost(self.priced[key]):
                self.priced[key] = found
        return self.priced[key]

    def cost(self, priced: Priced) -> tuple[float, float]:
        """What is made small."""
        return objective(priced.alternative, self.preference)

    @property
    def best(self) -> Priced:
        """The cheapest of all that were priced."""
        return min(self.priced.values(), key=self.cost)
