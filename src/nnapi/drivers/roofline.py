"""The roofline: what a model costs at least, from its arithmetic and its traffic. For where nothing was measured."""

from __future__ import annotations

from dataclasses import dataclass

from nnapi.drivers.driver import Estimate
from nnapi.ir.model import Model
from nnapi.ir.work import macs, traffic


@dataclass(frozen=True)
class Roofline:
    """An engine in four numbers.

    >>> engine = Roofline(macs_per_second=40e9, bytes_per_second=10e9, operation_seconds=1e-6, launch_seconds=1e-5)
    """

    macs_per_second: float
    bytes_per_second: float
    operation_seconds: float
    """What every operation costs, however small."""
    launch_seconds: float
    """What every run costs, however small."""
    watts: float = 10.0

    def estimate(self, model: Model) -> Estimate:
        """Seconds and joules of one run: arithmetic or traffic, whichever is more, and the fixed costs."""
        compute = max(macs(model) / self.macs_per_second, traffic(model) / self.bytes_per_second)
        seconds = self.launch_seconds + len(model.operations) * self.operation_seconds + compute
        return Estimate(seconds, seconds * self.watts, "modelled")
