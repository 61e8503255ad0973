"""An accelerator that does not exist: computes with the reference, at the costs of a table. For tests and research.

Partitioners are tried out on it, and clients that must cope with a device that takes little, is slow, or fails.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from nnapi.drivers.driver import ACCEPT, DeviceType, Estimate, Layout, Prepared, PrepareOptions, Reject, Verdict
from nnapi.drivers.reference import PreparedReference
from nnapi.errors import CompileError, ExecutionError
from nnapi.ir.model import Model
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import MAX_FEATURE_LEVEL, Array


@dataclass
class FakeDriver:
    """A device that takes the operations of `costs` (seconds each), or all where `default_cost` is given.

    >>> FakeDriver("tpu", costs={"ADD": 1e-6}, default_cost=None).name
    'tpu'
    """

    name: str = "fake"
    costs: Mapping[str, float] = field(default_factory=dict)
    default_cost: float | None = 1e-6
    launch_cost: float = 5e-6
    watts: float = 1.0
    fails_to_compile: Collection[str] = ()
    """Operations accepted at first, and refused by `prepare`."""
    fails_to_run: bool = False
    device_type: DeviceType = DeviceType.ACCELERATOR
    feature_level: int = MAX_FEATURE_LEVEL
    version: str = "1"
    layout: Layout | None = None

    def supported(self, model: Model) -> list[Verdict]:
        return [self._verdict(operation.type) for operation in model.operations]

    def _verdict(self, type: str) -> Verdict:
        if type not in OPERATIONS:
            return Reject(f"{type}: no NNAPI operation")
        if type in self.costs or self.default_cost is not None:
            return ACCEPT
        return Reject(f"{type}: takes {', '.join(sorted(self.costs)) or 'nothing'} only")

    def estimate(self, model: Model) -> Estimate:
        seconds = self.launch_cost
        seconds += sum(self.costs.get(operation.type, self.default_cost or 0.0) for operation in model.operations)
        return Estimate(seconds, seconds * self.watts, "modelled")

    def prepare(self, model: Model, options: PrepareOptions) -> Prepared:
        for operation in model.operations:
            if operation.type in self.fails_to_compile:
                raise CompileError(f"{self.name} fails on purpose", operation=operation.label)
        return _Failing(self.name) if self.fails_to_run else PreparedReference(model)


@dataclass(frozen=True)
class _Failing:
    name: str

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        raise ExecutionError(f"{self.name} fails on purpose")
