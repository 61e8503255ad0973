"""Candidates for a place: an engine at a precision, each a driver of its own to whoever chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from nnapi.drivers.driver import Driver, Estimate, Precision, Prepared, PrepareOptions, Verdict
from nnapi.ir.model import Model

EXACT: Final = ":fp32"
"""What the name of an engine that is to compute in float32, though less is allowed, ends with."""


@dataclass
class Exact:
    """An engine in float32, where the session allows 16-bit floats; NAME:fp32."""

    driver: Driver

    def __post_init__(self) -> None:
        self.name = self.driver.name + EXACT
        self.device_type = self.driver.device_type
        self.feature_level = self.driver.feature_level
        self.version = self.driver.version
        self.layout = self.driver.layout

    def supported(self, model: Model) -> Sequence[Verdict]:
        return self.driver.supported(model)

    def estimate(self, model: Model) -> Estimate:
        return self.driver.estimate(model)

    def prepare(self, model: Model, options: PrepareOptions) -> Prepared:
        return self.driver.prepare(replace(model, relaxed=False), replace(options, precision="fp32"))


def candidates(drivers: Sequence[Driver], precision: Precision) -> list[Driver]:
    """Each engine as it is; where less precision is allowed, those that make use of it in float32 too.

    An engine says that it does by `precisions`, which holds "relaxed".
    """
    found = list(drivers)
    if precision == "relaxed":
        found += [Exact(d) for d in drivers if "relaxed" in getattr(d, "precisions", ())]
    return found


def precision_of(driver: Driver, options: PrepareOptions) -> Precision:
    """What a candidate computes in."""
    return "fp32" if isinstance(driver, Exact) else options.precision
