"""A session: a plan, prepared and ready to run."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np

from nnapi.drivers.driver import Driver, Prepared, PrepareOptions
from nnapi.drivers.reference import ReferenceDriver
from nnapi.errors import ExecutionError, NnapiError, ReferenceWarning, UsageError
from nnapi.ir.model import RANKLESS
from nnapi.ir.names import names_of
from nnapi.ir.verify import compatible
from nnapi.ops.given import stored
from nnapi.ops.numeric import dequantize, quantize
from nnapi.ops.types import F32, Array, Operand
from nnapi.partitioning.assign import assign
from nnapi.partitioning.candidate import engine_name
from nnapi.partitioning.detours import Detours
from nnapi.partitioning.gate import Gate
from nnapi.partitioning.plan import Fallback, Plan
from nnapi.partitioning.profile import Profile
from nnapi.partitioning.samples import random_inputs
from nnapi.runtime.build import Built, build_plan
from nnapi.runtime.standby import Standby


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
        rankless = model.metadata.get(RANKLESS, "").split()
        self._rankless = {k for k, o in enumerate(model.output_operands) if str(k) in rankless and o.elements == 1}
        self._exact = self._whole if only is not None and getattr(only.prepared, "checks_inputs", False) else None

    def __call__(self, *inputs: Any) -> list[Array]:
        """One array per output, in order, for one array per input; ExecutionError where they do not fit."""
        if self._exact is not None:
            for x in inputs:
                if type(x) is not np.ndarray or not x.dtype.isnative:  # engines see bytes: their order, their masks
                    break
            else:
                try:
                    return self._shaped(self._exact(inputs))
                except ExecutionError:  # perhaps of inputs that can be converted, or that are better explained below
                    pass
        arrays: Sequence[Any] = inputs
        if len(inputs) != len(self._expected):
            arrays = self._converted(inputs)
        for x, (dtype, dimensions) in zip(inputs, self._expected):
            if type(x) is not np.ndarray or x.dtype is not dtype or x.shape != dimensions:
                arrays = self._converted(inputs)
                break
        return self._shaped(self._run_partitions(arrays, None) if self._whole is None else self._whole(arrays))

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Outputs by name for inputs by name."""
        if not isinstance(inputs, Mapping):
            raise UsageError(
                f"run takes a mapping of names to arrays, not a {type(inputs).__name__}",
                hint=f"session({', '.join(self.input_names)}) takes arrays in order",
            )
        unknown = inputs.keys() - set(self.input_names)
        missing = set(self.input_names) - inputs.keys()
        if unknown or missing:
            given = f"unknown {sorted(map(str, unknown))}" if unknown else f"missing {sorted(missing)}"
            raise ExecutionError(f"inputs: {given}; the model takes {', '.join(self.input_names)}")
        return dict(zip(self.output_names, self(*(inputs[name] for name in self.input_names))))

    def quantize_inputs(self, *inputs: Any) -> list[Array]:
        """Real numbers as the model stores its inputs, for a call; what the model takes in no integers stays as it is.

        >>> from nnapi.ir.builder import Builder
        >>> from nnapi.ops.types import Q8S
        >>> from nnapi.pipeline import compile
        >>> b = Builder("rectify")
        >>> b.output(b.add("RELU", {"input": b.input("x", Q8S, (3,), 0.5, 1)}))
        >>> session = compile(b.finish(), devices="reference")
        >>> (x,) = session.quantize_inputs([-1.0, 2.0, 99.0])
        >>> x, session.dequantize_outputs(session(x))
        (array([ -1,   5, 127], dtype=int8), [array([ 0.,  2., 63.], dtype=float32)])
        """
        real = [_real(o) if o.type.is_quantized else o for o in self._inputs]
        arrays = self._converted(inputs, real)
        return [quantize(x, o) if o.type.is_quantized else x for x, o in zip(arrays, self._inputs)]

    def dequantize_outputs(self, outputs: Sequence[Array]) -> list[Array]:
        """Outputs of a call as real numbers, float32 for integers that stand for them."""
        operands = self.plan.model.output_operands
        if len(outputs) != len(operands):
            raise ExecutionError(f"{len(outputs)} outputs given, the model has {len(operands)}")
        return [dequantize(np.asarray(y), o) if o.type.is_quantized else y for y, o in zip(outputs, operands)]

    def profile(self, *inputs: Any) -> list[float]:
        """Seconds of each partition in one run, in the plan's order."""
        seconds: list[float] = []
        self._run_partitions(self._converted(inputs), seconds)
        return seconds

    def __copy__(self) -> Session:
        """The session itself: threads may share it, and so may whoever copies."""
        return self

    def __deepcopy__(self, memo: object) -> Session:
        return self

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "a session cannot be pickled: it holds engines of this process",
            hint="nnapi.save its session.plan.model, and load and compile that in the other process",
        )

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

    def _converted(self, inputs: Sequence[Any], operands: Sequence[Operand] | None = None) -> list[Array]:
        """The inputs as arrays of the types that the model wants, or other `operands`; `ops.given.stored` converts."""
        if len(inputs) != len(self._inputs):
            names = ", ".join(self.input_names)
            raise ExecutionError(f"{len(inputs)} inputs given, the model takes {len(self._inputs)}: {names}")
        return list(map(self._convert, self.input_names, operands or self._inputs, inputs))

    def _convert(self, name: str, operand: Operand, given: Any) -> Array:
        try:
            array = stored(given, operand)
        except ValueError as error:
            raise ExecutionError(f"input {name!r} {error}") from error
        if not operand.type.is_tensor:
            if array.size != 1:
                raise ExecutionError(f"input {name!r} has {array.size} values, must have 1")
            return array.reshape(())
        if array.shape == () and operand.dimensions == (1,):  # NNAPI has no rank 0
            return array.reshape(1)
        if not compatible(operand.dimensions, array.shape):
            wanted = tuple(d or "any" for d in operand.dimensions)
            raise ExecutionError(f"input {name!r} has shape {array.shape}, must have {wanted}")
        return array

    def _shaped(self, outputs: list[Array]) -> list[Array]:
        """The outputs; what has no dimensions in the model that was loaded has none here."""
        if self._rankless:
            return [y.reshape(()) if k in self._rankless else y for k, y in enumerate(outputs)]
        return outputs


def _real(operand: Operand) -> Operand:
    """The real numbers that an operand stands for, in float32."""
    return replace(operand, type=F32, scale=0.0, zero_point=0)


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

    def replan(detours: Detours) -> Plan:
        return assign(
            plan.model,
            list(drivers.values()),
            preference=plan.preference,
            fallback=ReferenceDriver(),
            profile=profile,
            denied=None if gate is None else gate.denied,
            detours=detours,
        )

    def note(fallback: Fallback) -> None:
        session.fallbacks = tuple(dict.fromkeys((*session.fallbacks, fallback)))

    try:
        final, built = build_plan(plan, drivers, options, gate, replan if fallback else None)
    finally:
        if gate is not None:
            gate.close()
    if final.burden:
        warnings.warn(f"{final.burden}; session.fallbacks says why", ReferenceWarning, stacklevel=2)
    others = [d for d in drivers.values() if d.name != ReferenceDriver.name] if fallback else None
    standing = [_standby(b, others, options, gate, note) for b in built]
    session = Session(_noted(final, gate), standing, final.deviations())
    return session


def _standby(
    built: Built,
    drivers: Sequence[Driver] | None,
    options: PrepareOptions,
    gate: Gate | None,
    note: Callable[[Fallback], None],
) -> Built:
    """`built`, with the other devices for what its own fails at; none without `drivers`."""
    model, name = built.partition.subgraph.model, built.partition.device
    if name == ReferenceDriver.name:
        return built
    others = {d.name: d for d in drivers or () if engine_name(d.name) != engine_name(name)}

    def elsewhere() -> Prepared:
        samples = [] if gate is None or not gate.compares else random_inputs(model.input_operands)
        checks = None if gate is None else replace(gate, samples=samples)
        denied = None if gate is None else gate.denied
        fallback = ReferenceDriver()
        plan = assign(model, [*others.values()] or [fallback], fallback=fallback, denied=denied)
        return _Whole(build_session(plan, others, options, fallback=True, gate=checks))

    def failed(error: NnapiError) -> None:
        note(Fallback(f"{len(built.partition.operations)} operations", name, f"fails to run: {error.message}"))

    return replace(built, prepared=Standby(built.prepared, model, None if drivers is None else elsewhere, failed))


@dataclass(frozen=True)
class _Whole:
    """A session as something prepared."""

    session: Session

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        results = self.session(*inputs)
        if outputs is None:
            return results
        for given, array in zip(outputs, results, strict=True):
            given[...] = array
        return list(outputs)


def _noted(plan: Plan, gate: Gate | None) -> Plan:
    """`plan` with what the gate could not check."""
    unchecked = {} if gate is None else gate.unchecked
    numbers = {n: unchecked[p.operations] for n, p in enumerate(plan.partitions) if p.operations in unchecked}
    return replace(plan, unchecked=numbers)
