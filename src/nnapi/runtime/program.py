"""What a compilation runs: steps on devices, one after the other, each with a way out to the reference CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from nnapi.drivers.driver import LOOP_TIMEOUT, NO_DEADLINE, Deadline, Interruptible, Prepared
from nnapi.drivers.reference import PreparedReference
from nnapi.errors import ModelError
from nnapi.ir.model import Model
from nnapi.ops.types import Array
from nnapi.runtime import log
from nnapi.runtime.codes import ResultCode, ResultError, code_of

Arrays = Sequence[Array | None]
FINAL: Final = frozenset((
    ResultCode.BAD_DATA, ResultCode.UNEXPECTED_NULL,
    ResultCode.MISSED_DEADLINE_TRANSIENT, ResultCode.MISSED_DEADLINE_PERSISTENT,
))  # fmt: skip
"""What another device would not make good: the client's own mistakes, and time that is over."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one execution, and each WHILE in it, may take."""

    deadline: Deadline = NO_DEADLINE
    loop_timeout: float = LOOP_TIMEOUT


class Step:
    """One device's part of a program; `inputs` and `outputs` are operand indexes in the whole model."""

    def __init__(
        self,
        device: str,
        prepared: Prepared,
        inputs: Sequence[int],
        outputs: Sequence[int],
        operations: Sequence[int],
        source: Callable[[], Model],
        *,
        falls_back: bool,
    ) -> None:
        """`source` gives the part as a model; with `falls_back` the reference runs it where the device fails."""
        self.device = device
        self.prepared = prepared
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.operations = tuple(operations)
        self.source = source
        self.falls_back = falls_back
        self._run = prepared.run
        self._run_until = prepared.run_until if isinstance(prepared, Interruptible) else None
        self._reference: PreparedReference | None = None

    def run(self, inputs: Arrays, outputs: Sequence[Array] | None = None, limits: Limits | None = None) -> list[Array]:
        """One array per output, as `Prepared.run`; MissedDeadline when the time is over."""
        try:
            if limits is None:
                return self._run(inputs, outputs)
            return self._run_within(inputs, outputs, limits)
        except Exception as error:  # whatever an engine raises
            if not self.falls_back or code_of(error) in FINAL:
                raise
            self._report(error)
        return self.reference().run_until(inputs, outputs, *_of(limits))

    def _run_within(self, inputs: Arrays, outputs: Sequence[Array] | None, limits: Limits) -> list[Array]:
        limits.deadline.check(self.device)
        if self._run_until is not None:
            return self._run_until(inputs, outputs, limits.deadline, limits.loop_timeout)
        results = self._run(inputs, outputs)
        limits.deadline.check(self.device)
        return results

    def reference(self) -> PreparedReference:
        """The part on the reference CPU."""
        if self._reference is None:
            self._reference = PreparedReference(self.source())
        return self._reference

    def _report(self, error: Exception) -> None:
        log.info(f"{len(self.operations)} operations fall back from {self.device} to the reference: {error}")


def _of(limits: Limits | None) -> tuple[Deadline, float]:
    return (NO_DEADLINE, LOOP_TIMEOUT) if limits is None else (limits.deadline, limits.loop_timeout)


class Program:
    """The steps of one model; `inputs` and `outputs` are its operand indexes."""

    def __init__(
        self,
        steps: Sequence[Step],
        inputs: Sequence[int],
        outputs: Sequence[int],
        accepted: int,
        *,
        is_optimized: bool,
        is_planned: bool = True,
    ) -> None:
        """`accepted` operations are on the devices that were asked for; operand and operation indexes are those of the
        optimized model, if `is_optimized`; `is_planned` unless an engine failed and something else took its part.
        """
        self.steps = tuple(steps)
        self.is_optimized = is_optimized
        self.is_planned = is_planned
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.accepted = accepted
        only = self.steps[0]
        is_whole = len(self.steps) == 1 and (only.inputs, only.outputs) == (self.inputs, self.outputs)
        self.whole = only if is_whole else None
        """The only step, where its inputs and outputs are the program's."""

    @property
    def operations(self) -> int:
        """How many operations there are."""
        return sum(len(step.operations) for step in self.steps)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that take part, in order of their first step."""
        return tuple(dict.fromkeys(step.device for step in self.steps))

    def run(self, inputs: Arrays, limits: Limits | None = None) -> list[Array]:
        """One array per output for one per input; None for an omitted one."""
        if self.whole is not None:
            return self.whole.run(inputs, None, limits)
        values: dict[int, Array | None] = dict(zip(self.inputs, inputs))
        for step in self.steps:
            values.update(zip(step.outputs, step.run([values[i] for i in step.inputs], None, limits)))
        return [values[i] for i in self.outputs]  # type: ignore[misc]


class _Refused:
    """Operations that cannot run: every run says why."""

    def __init__(self, why: ModelError) -> None:
        self._why = why

    def run(self, inputs: Arrays, outputs: Sequence[Array] | None = None) -> NoReturn:
        why = self._why
        raise ResultError(ResultCode.OP_FAILED, why.message, operation=why.operation, hint=why.hint)


def refused_program(model: Model, why: ModelError) -> Program:
    """The program of a model with an operation whose operands do not go together: OP_FAILED whenever it runs."""
    operations = tuple(range(len(model.operations)))
    step = Step("reference", _Refused(why), model.inputs, model.outputs, operations, lambda: model, falls_back=False)
    return Program([step], model.inputs, model.outputs, 0, is_optimized=False, is_planned=False)
