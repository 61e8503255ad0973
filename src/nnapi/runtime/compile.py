"""From a model to a program: optimized, partitioned, built; what fails on a device goes to the reference CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from nnapi.drivers.driver import Deadline, Driver, Preference, PrepareOptions
from nnapi.drivers.reference import ReferenceDriver
from nnapi.errors import CompileError, MissedDeadline, UnsupportedOperation, UsageError
from nnapi.ir.model import Model
from nnapi.ir.subgraph import Subgraph, extract
from nnapi.partitioning.assign import assign
from nnapi.partitioning.database import database
from nnapi.partitioning.deny import DenyList
from nnapi.partitioning.detours import Detours
from nnapi.partitioning.gate import Gate
from nnapi.partitioning.plan import Plan
from nnapi.partitioning.profile import Profile
from nnapi.partitioning.samples import random_inputs
from nnapi.passes.layout import to_layout
from nnapi.passes.run import run_passes
from nnapi.runtime import log
from nnapi.runtime.build import Built, build_plan
from nnapi.runtime.codes import ResultError, code_of
from nnapi.runtime.program import FINAL, Program, Step

REFERENCE_SECONDS: Final = 2.0
"""How long the reference may take to check a partition; what is longer goes unchecked."""


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
    denied = DenyList(database(), target.options(model))
    gate = _gate(model, denied, compares=not target.is_named)
    try:
        return _Compiler(target, denied, gate, {d.name: d for d in target.asked}).program(small, model, deadline)
    finally:
        gate.close()


def _gate(model: Model, denied: DenyList, *, compares: bool) -> Gate:
    """The gate for placements of `model`; engines only have to survive where no sample inputs can be made."""
    try:
        samples = random_inputs(model.input_operands) if compares else []
    except UsageError:
        samples, compares = [], False
    return Gate(samples, denied, reference_seconds=REFERENCE_SECONDS, compares=compares)


@dataclass
class _Compiler:
    """Makes programs of plans at measured costs, without what is denied, and of placements that pass `gate`."""

    target: Target
    denied: DenyList
    gate: Gate | None
    drivers: dict[str, Driver]

    def program(self, small: Model, model: Model, deadline: Deadline) -> Program:
        """A program of `small`, which is `model` optimized."""
        first = self._plan_either(small, model)
        deadline.check("partitioning the model")

        def replan(detours: Detours) -> Plan:
            deadline.check("partitioning the model")
            return self._plan(first.model, detours)

        def check(device: str) -> None:
            deadline.check(f"preparing {device}")

        try:
            plan, built = build_plan(
                first, self.drivers, self.denied.options, self.gate, None if self.target.is_named else replan,
                is_final=_is_final, after=check,
            )  # fmt: skip
        except CompileError as error:
            raise ResultError(
                code_of(error.__cause__ or error), error.message, operation=error.operation, hint=error.hint
            ) from error
        for fallback in plan.deviations():
            where = "is left to the" if fallback.device == plan.fallback else "kept off"
            log.info(f"{fallback.what} {where} {fallback.device}: {fallback.reason}")
        unchecked = {} if self.gate is None else self.gate.unchecked
        for p in plan.partitions:
            if p.operations in unchecked:
                reason = unchecked[p.operations]
                log.info(f"{len(p.operations)} operations are not compared with the reference: {reason}")
        steps = [self._step(b) for b in built]
        return Program(
            steps,
            plan.model.inputs,
            plan.model.outputs,
            sum(len(step.operations) for step in steps if step.device in self.drivers),
            is_optimized=plan.model is small,
            is_planned=plan is first,
        )

    def _plan_either(self, small: Model, model: Model) -> Plan:
        """Devices said what they take of the model as it was given: where the optimized one does not suit, it holds."""
        try:
            return self._plan(small)
        except UnsupportedOperation:
            if small is model:
                raise
            return self._plan(model)

    def _plan(self, model: Model, detours: Detours | None = None) -> Plan:
        """Partitions of everything keep the model's inputs and outputs."""
        is_measured = self.denied.database.query("SELECT 1 FROM times LIMIT 1")
        plan = assign(
            model,
            list(self.drivers.values()) or [ReferenceDriver()],
            preference=self.target.preference,
            fallback=None if self.target.is_named else ReferenceDriver(),
            profile=Profile(self.denied.database, self.denied.options) if is_measured else None,
            denied=self.denied,
            detours=detours,
        )
        partitions = tuple(replace(p, subgraph=part_of(model, p.operations)) for p in plan.partitions)
        return replace(plan, partitions=partitions)

    def _step(self, built: Built) -> Step:
        partition = built.partition
        subgraph = partition.subgraph
        return Step(
            partition.device,
            built.prepared,
            subgraph.inputs,
            subgraph.outputs,
            partition.operations,
            _always(subgraph.model),
            falls_back=not self.target.is_named and partition.device != ReferenceDriver.name,
        )


def _is_final(error: CompileError) -> bool:
    """Whether another device would not make it good."""
    cause = error.__cause__ or error
    return code_of(cause) in FINAL and not isinstance(cause, UnsupportedOperation)


def _on_reference(model: Model, target: Target) -> Program:
    operations = tuple(range(len(model.operations)))
    prepared = ReferenceDriver().prepare(model, target.options(model))
    step = Step(
        ReferenceDriver.name, prepared, model.inputs, model.outputs, operations, _always(model), falls_back=False
    )
    return Program([step], model.inputs, model.outputs, 0, is_optimized=False, is_planned=False)


def _always(model: Model) -> Callable[[], Model]:
    return lambda: model
