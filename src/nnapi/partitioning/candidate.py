"""Candidates for a place: an engine at a precision or with some threads, each a driver of its own to who chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from nnapi.drivers.driver import DeviceType, Driver, Estimate, Nan, Precision, Prepared, PrepareOptions, Reject, Verdict
from nnapi.drivers.nan import loses_nan
from nnapi.ir.model import Model
from nnapi.ir.work import macs, traffic

EXACT: Final = ":fp32"
"""What the name of an engine that is to compute in float32, though less is allowed, ends with."""
SINGLE: Final = ":1thread"
"""What the name of an engine that is to use one thread, though more are allowed, ends with."""
SMALL: Final = 4_000_000
"""Multiply-accumulates and bytes moved by a model up to which waking a thread may take longer than it saves."""


@dataclass
class Variant:
    """An engine with less than the session allows: in float32, on one thread, or where NaN passes through."""

    driver: Driver
    suffix: str
    precision: Precision | None = None
    num_threads: int | None = None
    nan: Nan = "ignore"

    def __post_init__(self) -> None:
        self.name = self.driver.name + self.suffix
        self.device_type = self.driver.device_type
        self.feature_level = self.driver.feature_level
        self.version = self.driver.version
        self.layout = self.driver.layout

    def supported(self, model: Model) -> Sequence[Verdict]:
        verdicts = self.driver.supported(model)
        if self.nan == "ignore":
            return verdicts
        losses = (loses_nan(self.driver.name, model, operation) for operation in model.operations)
        return [verdict if loss is None else Reject(loss) for verdict, loss in zip(verdicts, losses)]

    def estimate(self, model: Model) -> Estimate:
        return self.driver.estimate(model)

    def prepare(self, model: Model, options: PrepareOptions) -> Prepared:
        return self.driver.prepare(*self.adapted(model, options))

    def adapted(self, model: Model, options: PrepareOptions) -> tuple[Model, PrepareOptions]:
        """What the engine itself is given."""
        precision, threads = self.precision or options.precision, self.num_threads or options.num_threads
        model = replace(model, relaxed=False) if self.precision == "fp32" else model
        return model, replace(options, precision=precision, num_threads=threads)


def exact(driver: Driver) -> Variant:
    """`driver` in float32, whatever else is allowed."""
    return Variant(driver, EXACT, precision="fp32")


def single(driver: Driver) -> Variant:
    """`driver` on one thread, however many are allowed."""
    return Variant(driver, SINGLE, num_threads=1)


def careful(driver: Driver) -> Variant:
    """`driver` for what carries NaN through, under its own name."""
    return replace(driver, nan="check") if isinstance(driver, Variant) else Variant(driver, "", nan="check")


def candidates(drivers: Sequence[Driver], model: Model, options: PrepareOptions) -> list[Driver]:
    """Each engine as it is; where less precision is allowed, those that make use of it in float32 too.

    An engine says that it does by `precisions`, which holds "relaxed". Where several threads are allowed for a small
    model, each engine on the CPU is there with one thread too. Where NaN counts, each takes what carries it through.
    """
    found = list(drivers)
    if options.precision == "relaxed":
        found += [exact(d) for d in drivers if "relaxed" in getattr(d, "precisions", ())]
    if options.num_threads > 1 and macs(model) + traffic(model) <= SMALL:
        found += [single(d) for d in drivers if d.device_type == DeviceType.CPU]
    return [careful(d) for d in found] if options.nan == "check" else found


def engine_name(name: str) -> str:
    """The name of a candidate's engine.

    >>> engine_name("openvino:fp32"), engine_name("litert")
    ('openvino', 'litert')
    """
    return name.removesuffix(EXACT).removesuffix(SINGLE)


def precision_of(driver: Driver, options: PrepareOptions) -> Precision:
    """What a candidate computes in."""
    return (driver.precision if isinstance(driver, Variant) else None) or options.precision


def threads_of(driver: Driver, options: PrepareOptions) -> int:
    """The number of threads a candidate is given."""
    return (driver.num_threads if isinstance(driver, Variant) else None) or options.num_threads
