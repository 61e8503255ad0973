"""READ FIRST: the stages in order. Each takes what the one before gives; every boundary can be saved.

load -> optimize -> quantize -> partition -> build -> run
source  Model       Model       Plan         Session  outputs
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nnapi.drivers import registry
from nnapi.drivers.driver import Driver, Layout, Precision, Preference, PrepareOptions
from nnapi.drivers.reference import ReferenceDriver
from nnapi.errors import UsageError
from nnapi.importers.load import load
from nnapi.ir.model import Model
from nnapi.ops.types import Array
from nnapi.partitioning.assign import assign
from nnapi.partitioning.plan import Plan
from nnapi.partitioning.verdict import Verdicts, judge
from nnapi.passes.run import run_passes
from nnapi.runtime.session import Session, build_session

Devices = str | Iterable[str | Driver] | None


def optimize(model: Model, *, layout: Layout | None = "nhwc") -> Model:
    """The same function with fewer operations: folded, fused, in one layout (None: as it is). Model -> Model."""
    return run_passes(model, layout=layout)


def partition(
    model: Model,
    devices: Devices = None,
    *,
    preference: Preference = "fast_single_answer",
    fallback: bool = True,
) -> Plan:
    """Which device runs what, and why. Model -> Plan.

    `devices` are names or drivers (None: every one that is here); what none of them takes goes to the reference,
    unless `fallback` is False: then it is a PartitionError.
    """
    _choice("preference", preference, ("low_power", "fast_single_answer", "sustained_speed"))
    drivers = registry.choose(devices)
    if devices is None:
        drivers = [d for d in drivers if d.name != ReferenceDriver.name]
    return assign(model, drivers, preference=preference, fallback=ReferenceDriver() if fallback else None)


def build(
    plan: Plan,
    devices: Devices = None,
    *,
    precision: Precision = "fp32",
    num_threads: int = 1,
    cache_dir: str | os.PathLike[str] | None = None,
    fallback: bool = True,
) -> Session:
    """Every partition prepared on its device. Plan -> Session."""
    _choice("precision", precision, ("fp32", "relaxed"))
    if num_threads < 1:
        raise UsageError(f"num_threads is {num_threads}, must be 1 or more")
    options = PrepareOptions(precision, num_threads, plan.preference, Path(cache_dir) if cache_dir else None)
    drivers = {d.name: d for d in registry.choose(list(plan.devices) if devices is None else devices)}
    return build_session(plan, drivers, options, fallback=fallback)


def run(session: Session, *inputs: Any) -> list[Array]:
    """One array per output. Session -> outputs."""
    return session(*inputs)


STAGES = (load, optimize, partition, build, run)


def compile(
    model: Model,
    devices: Devices = None,
    *,
    precision: Precision = "fp32",
    num_threads: int = 1,
    preference: Preference = "fast_single_answer",
    cache_dir: str | os.PathLike[str] | None = None,
    fallback: bool = True,
) -> Session:
    """Optimize, partition and build `model`: ready to run.

    >>> import numpy as np
    >>> from nnapi.ir.builder import Builder
    >>> from nnapi.ops.types import F32
    >>> b = Builder("double")
    >>> x = b.input("x", F32, (2,))
    >>> b.output(b.add("ADD", {"input0": x, "input1": x, "activation": 0}))
    >>> compile(b.finish(), devices="reference")(np.array([1, 2], np.float32))
    [array([2., 4.], dtype=float32)]
    """
    plan = partition(optimize(model), devices, preference=preference, fallback=fallback)
    return build(plan, devices, precision=precision, num_threads=num_threads, cache_dir=cache_dir, fallback=fallback)


def check(model: Model, target: Devices = None) -> list[Verdicts]:
    """What each target device says of each operation of the optimized model; reasons where it refuses.

    The verdicts refer to `optimize(model)`.
    """
    optimized = optimize(model)
    return [judge(driver, optimized) for driver in registry.choose(target)]


def devices() -> list[Driver]:
    """The devices that are here, in order of preference."""
    return registry.available()


def _choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}, must be {' or '.join(allowed)}")


__all__ = ["STAGES", "build", "check", "compile", "devices", "load", "optimize", "partition", "run"]
