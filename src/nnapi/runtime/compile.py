"""From a model to a program: optimized, partitioned, built; what fails on a device goes to the reference CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nnapi.drivers.driver import Deadline, Driver, Preference, PrepareOptions
from nnapi.drivers.reference import ReferenceDriver
from nnapi.errors import CompileError, MissedDeadline, UnsupportedOperation
from nnapi.ir.model import Model
from nnapi.ir.subgraph import Subgraph, extract
from nnapi.partitioning.assign import assign
from nnapi.partitioning.plan import Partition, Plan
from nnapi.passes.layout import to_layout
from nnapi.passes.run import run_passes
from nnapi.runtime import log
from nnapi.runtime.build import build_partition
from nnapi.runtime.codes import ResultError, code_of
from nnapi.runtime.program import FINAL, Program, Step


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how a model is to run."""

    drivers: tuple[Driver, ...]
    is_named: bool = False
    """The client named the devices: nothing else may be used."""
    preference: Preference = "fast_single_answer"

    @property
    def asked(self) -> tuple[Driver, ...]:
        """The drivers to place operations on; the reference only where it is named, or alone."""
        others = tuple(d for d in self.drivers if d.name != ReferenceDriver.name)
        return self.drivers if self.is_named else others or (ReferenceDriver(),)

    def options(self, model: Model) -> PrepareOptions:
        """How its parts are prepared."""
        return PrepareOptions("relaxed" if model.relaxed else "fp32", preference=self.preference)


def compile_model(model: Model, target: Target, deadline: Deadline) -> Program:
    """`model` ready to run.

    Raises UnsupportedOperation where no device takes an operation, ResultError where a named device fails,
    MissedDeadline when the time is over.
    """
    try:
        program = _compile(model, target, deadline)
    except Exception as error:
        if target.is_named or isinstance(error, (MissedDeadline, UnsupportedOperation)) or code_of(error) in FINAL:
            raise
        log.info(f"{len(model.operations)} operations fall back to the reference: {error}")
        program = _on_reference(model, target)
    report(program)
    return program


def optimized(model: Model) -> Model:
    """`model` with fewer operations; as it is, and reported, where a pass fails on it."""
    try:
        return run_passes(to_layout(run_passes(model), "nhwc"))
    except Exception as error:  # whatever a pass raises: without it the model is as good, only slower
        log.info(f"the model stays as it is: {error}")
        return model


def report(program: Program) -> None:
    """Say what became of a compilation."""
    log.info(f"compiled {program.accepted} of {program.operations} operations: {', '.join(program.devices)}")
    for n, step in enumerate(program.steps):
        log.info(f"partition {n}: {len(step.operations)} operations on {step.device}")


def part_of(model: Model, operations: tuple[int, ...]) -> Subgraph:
    """Some operations of a model; all of them keep its inputs and outputs, in their order."""
    if len(operations) == len(model.operations):
        return Subgraph(model, model.inputs, model.outputs)
    return extract(model, operations, model.name)


def _compile(model: Model, target: Target, deadline: Deadline) -> Program:
    small = optimized(model)
    deadline.check("optimizing the model")
    plan = _plan(small, target) if small is model else _plan_either(small, model, target)
    for n, reason in plan.fallbacks():
        log.info(f"{plan.model.operations[n].label} is left to the reference: {reason}")
    deadline.check("partitioning the model")
    drivers = {d.name: d for d in target.asked}
    options = target.options(model)
    steps: list[Step] = []
    accepted = 0
    for partition in plan.partitions:
        step = _step(plan.model, partition, drivers, options, falls_back=not target.is_named)
        accepted += len(step.operations) if step.device in drivers else 0
        steps.append(step)
        deadline.check(f"preparing {step.device}")
    return Program(
        steps,
        plan.model.inputs,
        plan.model.outputs,
        accepted,
        is_optimized=plan.model is small,
        is_planned=[s.device for s in steps] == [p.device for p in plan.partitions],
    )


def _plan_either(small: Model, model: Model, target: Target) -> Plan:
    """Devices said what they take of the model as it was given: where the optimized one does not suit, that holds."""
    try:
        return _plan(small, target)
    except UnsupportedOperation:
        return _plan(model, target)


def _plan(model: Model, target: Target) -> Plan:
    fallback = None if target.is_named else ReferenceDriver()
    return assign(model, target.asked, preference=target.preference, fallback=fallback)


def _step(
    model: Model, partition: Partition, drivers: dict[str, Driver], options: PrepareOptions, *, falls_back: bool
) -> Step:
    subgraph = part_of(model, partition.operations)
    partition = Partition(partition.device, partition.operations, subgraph, partition.estimate)
    driver = drivers.get(partition.device) or ReferenceDriver()
    is_last = driver.name == ReferenceDriver.name
    try:
        built = build_partition(partition, driver, options)
    except CompileError as error:
        cause = error.__cause__ or error
        is_final = code_of(cause) in FINAL and not isinstance(cause, UnsupportedOperation)
        if is_final or is_last or not falls_back:
            raise ResultError(code_of(cause), error.message, operation=error.operation, hint=error.hint) from error
        log.info(f"{len(partition.operations)} operations fall back from {driver.name} to the reference: {error}")
        driver, is_last = ReferenceDriver(), True
        built = build_partition(partition, driver, options)
    return Step(
        driver.name,
        built.prepared,
        subgraph.inputs,
        subgraph.outputs,
        partition.operations,
        _always(subgraph.model),
        falls_back=falls_back and not is_last,
    )


def _on_reference(model: Model, target: Target) -> Program:
    operations = tuple(range(len(model.operations)))
    prepared = ReferenceDriver().prepare(model, target.options(model))
    step = Step(
        ReferenceDriver.name, prepared, model.inputs, model.outputs, operations, _always(model), falls_back=False
    )
    return Program([step], model.inputs, model.outputs, 0, is_optimized=False, is_planned=False)


def _always(model: Model) -> Callable[[], Model]:
    return lambda: model
