"""Build a plan: each partition put into the form its device wants, prepared there, and checked.

A partition that a device fails to prepare, or gets wrong, is gone round: the plan is made again without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nnapi.drivers.driver import Driver, Prepared, PrepareOptions, Reject
from nnapi.drivers.reference import ReferenceDriver
from nnapi.errors import CompileError, NnapiError
from nnapi.ir.model import Model
from nnapi.partitioning.detours import Detour, Detours, halves, pieces
from nnapi.partitioning.gate import Gate, Refusal
from nnapi.partitioning.plan import Partition, Plan
from nnapi.passes.inline_composites import inline_composites
from nnapi.passes.layout import to_layout
from nnapi.passes.run import run_passes


@dataclass(frozen=True)
class Built:
    """A partition prepared on its device, and how long that took."""

    partition: Partition
    prepared: Prepared
    seconds: float


def legalize(model: Model, driver: Driver) -> Model:
    """`model` as `driver` wants it: its layout, and no composite but those it knows."""
    if driver.layout is not None:
        model = to_layout(model, driver.layout)
    if any(operation.is_extension for operation in model.operations):
        verdicts = driver.supported(model)
        unknown = {n for n, v in enumerate(verdicts) if isinstance(v, Reject) and model.body(model.operations[n])}
        if unknown:
            model = inline_composites(model, which=lambda n: n in unknown)
            model = run_passes(model)
            if driver.layout is not None:
                model = to_layout(model, driver.layout)
    return model


def build_partition(partition: Partition, driver: Driver, options: PrepareOptions) -> Built:
    """Legalize and prepare one partition; CompileError, naming the device, whatever its engine raises."""
    started = time.perf_counter()
    try:
        model = legalize(partition.subgraph.model, driver)
        for operation, verdict in zip(model.operations, driver.supported(model), strict=True):
            if isinstance(verdict, Reject):
                raise CompileError(f"accepted at first, then refused: {verdict.reason}", operation=operation.label)
        prepared = driver.prepare(model, options)
    except NnapiError as error:
        raise CompileError(f"device {driver.name!r}: {error.message}", operation=error.operation) from error
    except Exception as error:  # an engine's own exception must not take the session down
        raise CompileError(f"device {driver.name!r} failed: {type(error).__name__}: {error}") from error
    return Built(partition, prepared, time.perf_counter() - started)


def build_plan(
    plan: Plan,
    drivers: Mapping[str, Driver],
    options: PrepareOptions,
    gate: Gate | None,
    replan: Callable[[Detours], Plan] | None,
    *,
    is_final: Callable[[CompileError], bool] = lambda error: False,
    after: Callable[[str], None] = lambda device: None,
) -> tuple[Plan, list[Built]]:
    """Every partition of `plan` prepared, or of another one by `replan` where a partition is refused; and that plan.

    `after` is told each device that has prepared a partition. Raises CompileError where a partition is refused and
    there is no `replan`, where it is the reference's, or the error `is_final`.
    """
    detours = Detours()
    while True:
        built: list[Built] = []
        for number, partition in enumerate(plan.partitions):
            driver = drivers.get(partition.device) or ReferenceDriver()
            made = _build(plan, number, driver, options, gate)
            if not isinstance(made, Built):
                break
            built.append(made)
            after(partition.device)
        else:
            return plan, built
        error = made if isinstance(made, CompileError) else _error(driver, made)
        if replan is None or driver.name == ReferenceDriver.name or is_final(error):
            raise error
        if isinstance(made, CompileError) or not made.operations:  # else these are denied, and that is enough
            denied = gate.denied if gate is not None and isinstance(made, Refusal) else None
            operations = partition.operations
            parts = halves(operations) if denied is None else pieces(plan.model, operations, driver, denied)
            detours.meet(Detour(driver.name, operations, error.message), plan.verdicts, parts)
        try:
            plan = replan(detours)
        except NnapiError as second:
            raise CompileError(f"{error}; and without that device: {second}") from error


def _build(
    plan: Plan, number: int, driver: Driver, options: PrepareOptions, gate: Gate | None
) -> Built | Refusal | CompileError:
    def build() -> Built:
        return build_partition(plan.partitions[number], driver, options)

    try:
        return build() if gate is None else gate.admit(plan, number, driver, build, legalize)
    except CompileError as error:
        return error


def _error(driver: Driver, refusal: Refusal) -> CompileError:
    hint = "allow a fallback" + (", or accept_inaccurate=True" if refusal.is_inaccurate else "")
    return CompileError(f"device {driver.name!r} {refusal}", hint=hint)
