"""A session: a plan, prepared and ready to run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nnapi.drivers.driver import Driver, PrepareOptions
from nnapi.drivers.reference import ReferenceDriver
from nnapi.errors import CompileError, ExecutionError, NnapiError
from nnapi.ir.names import names_of
from nnapi.ir.verify import compatible
from nnapi.ops.types import Array
from nnapi.partitioning.assign import assign
from nnapi.partitioning.gate import Gate, Refusal
from nnapi.partitioning.plan import Plan
from nnapi.partitioning.profile import Profile
from nnapi.runtime.build import Built, build_partition, legalize


@dataclass(frozen=True)
class Fallback:
    """Something that went elsewhere than planned or asked, and why."""

    what: str
    device: str
    reason: str


class Session:
    """A model ready to run: arrays in, arrays out.

    `plan` says what runs where and why, `fallbacks` what did not go as asked, `build_seconds` what preparing took. One
    call runs the partitions one after the other; calls of several threads keep several devices busy at the same time.
    """

    def __init__(self, plan: Plan, built: Sequence[Built], fallbacks: Sequence[Fallback] = ()) -> None:
        self.plan = plan
        self.built = tuple(built)
        self.fallbacks = tuple(fallbacks)
        self.build_seconds = sum(b.seconds for b in built)
        model = plan.model
        self.input_names = names_of(model.input_operands, "input")
        self.output_names = names_of(model.output_operands, "output")
        self._inputs = model.input_operands
        self._expected = tuple((o.type.dtype, o.dimensions) for o in self._inputs)
        only = self.built[0] if len(self.built) == 1 else None
        whole = only is not None and (only.partition.subgraph.inputs, only.partition.subgraph.outputs) == (
            model.inputs,
            model.outputs,
        )
        self._whole = only.prepared.run if only is not None and whole else None
        self._exact = self._whole if only is not None and getattr(only.prepared, "checks_inputs", False) else None

    def __call__(self, *inputs: Any) -> list[Array]:
        """One array per output, in order, for one array per input; ExecutionError where they do not fit."""
        if self._exact is not None:
            try:
                return self._exact(inputs)
            except ExecutionError:  # perhaps of inputs that can be converted, or that are better explained below
                pass
        if len(inputs) != len(self._expected):
            names = ", ".join(self.input_names)
            raise ExecutionError(f"{len(inputs)} inputs given, the model takes {len(self._expected)}: {names}")
        arrays: Sequence[Any] = inputs
        for x, (dtype, dimensions) in zip(inputs, self._expected):
            if type(x) is not np.ndarray or x.dtype is not dtype or x.shape != dimensions:
                arrays = [self._convert(i, x) for i, x in enumerate(inputs)]
                break
        return self._run_partitions(arrays, None) if self._whole is None else self._whole(arrays)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Outputs by name for inputs by name."""
        unknown = inputs.keys() - set(self.input_names)
        missing = set(self.input_names) - inputs.keys()
        if unknown or missing:
            given = f"unknown {sorted(unknown)}" if unknown else f"missing {sorted(missing)}"
            raise ExecutionError(f"inputs: {given}; the model takes {', '.join(self.input_names)}")
        return dict(zip(self.output_names, self(*(inputs[name] for name in self.input_names))))

    def profile(self, *inputs: Any) -> list[float]:
        """Seconds of each partition in one run, in the plan's order."""
        arrays = [self._convert(i, x) for i, x in enumerate(inputs)]
        seconds: list[float] = []
        self._run_partitions(arrays, seconds)
        return seconds

    def _run_partitions(self, inputs: Sequence[Array], seconds: list[float] | None) -> list[Array]:
        model = self.plan.model
        values = dict(zip(model.inputs, inputs))
        for built in self.built:
            subgraph = built.partition.subgraph
            started = time.perf_counter()
            results = built.prepared.run([values[i] for i in subgraph.inputs])
            if seconds is not None:
                seconds.append(time.perf_counter() - started)
            values.update(zip(subgraph.outputs, results))
        return [values[i] for i in model.outputs]

    def _convert(self, i: int, given: Any) -> Array:
        """The i-th input as an array of the type the model wants; only changes that lose nothing are made."""
        operand = self._inputs[i]
        try:
            array = np.asarray(given)
        except Exception as error:  # whatever a foreign object's conversion raises
            raise ExecutionError(f"input {self.input_names[i]!r} is no array: {error}") from error
        dtype = operand.type.dtype
        if array.dtype != dtype:
            if not np.can_cast(array.dtype, dtype, "same_kind") or (array.dtype.kind in "iu" and dtype.itemsize == 1):
                raise ExecutionError(
                    f"input {self.input_names[i]!r} is {array.dtype}, must be {dtype} for {operand.type.name}"
                )
            array = array.astype(dtype)
        if operand.type.is_tensor and not compatible(operand.dimensions, array.shape):
            wanted = tuple(d or "any" for d in operand.dimensions)
            raise ExecutionError(f"input {self.input_names[i]!r} has shape {array.shape}, must have {wanted}")
        return array


def build_session(
    plan: Plan,
    drivers: Mapping[str, Driver],
    options: PrepareOptions,
    *,
    fallback: bool,
    gate: Gate | None = None,
    profile: Profile | None = None,
) -> Session:
    """Prepare every partition of `plan`.

    Where an engine fails, or fails `gate`, the plan is made again without it, at the costs of `profile`.

    Raises CompileError where `fallback` is not allowed or nothing is left to fall back to.
    """
    try:
        return _build_session(plan, dict(drivers), options, fallback, gate, profile)
    finally:
        if gate is not None:
            gate.close()


def _build_session(
    plan: Plan,
    remaining: dict[str, Driver],
    options: PrepareOptions,
    fallback: bool,
    gate: Gate | None,
    profile: Profile | None,
) -> Session:
    fallbacks = [Fallback(plan.model.operations[n].label, plan.fallback or "", why) for n, why in plan.fallbacks()]
    while True:
        built: list[Built] = []
        refused: tuple[int, ...] = ()
        cause: CompileError | None = None
        for number, partition in enumerate(plan.partitions):
            driver = _driver(partition.device, remaining)
            try:
                made = _build(plan, number, driver, options, gate)
            except CompileError as error:
                cause = error
                break
            if isinstance(made, Refusal):
                refused = made.operations
                hint = "allow a fallback" + (", or accept_inaccurate=True" if made.is_inaccurate else "")
                cause = CompileError(f"device {partition.device!r} {made}", hint=hint)
                break
            built.append(made)
        if cause is None:
            return Session(_noted(plan, gate), built, fallbacks)
        failed = plan.partitions[len(built)]
        if not fallback or failed.device == ReferenceDriver.name:
            raise cause
        what = f"{len(failed.operations)} operations"
        if refused:
            what = f"{len(refused)} of {what}"
        else:
            remaining.pop(failed.device, None)
        fallbacks.append(Fallback(what, failed.device, cause.message))
        plan = _replan(plan, remaining, cause, gate, profile)


def _build(plan: Plan, number: int, driver: Driver, options: PrepareOptions, gate: Gate | None) -> Built | Refusal:
    def build() -> Built:
        return build_partition(plan.partitions[number], driver, options)

    return build() if gate is None else gate.admit(plan, number, driver, build, legalize)


def _noted(plan: Plan, gate: Gate | None) -> Plan:
    """`plan` with what the gate could not check."""
    unchecked = {} if gate is None else gate.unchecked
    numbers = {n: unchecked[p.operations] for n, p in enumerate(plan.partitions) if p.operations in unchecked}
    return replace(plan, unchecked=numbers)


def _driver(name: str, drivers: Mapping[str, Driver]) -> Driver:
    return drivers[name] if name in drivers else ReferenceDriver()


def _replan(
    plan: Plan, drivers: Mapping[str, Driver], error: CompileError, gate: Gate | None, profile: Profile | None
) -> Plan:
    denied = None if gate is None else gate.denied
    try:
        return assign(
            plan.model,
            list(drivers.values()) or [ReferenceDriver()],
            preference=plan.preference,
            fallback=ReferenceDriver(),
            profile=profile,
            denied=denied,
        )
    except NnapiError as second:
        raise CompileError(f"{error}; and without that device: {second}") from error
