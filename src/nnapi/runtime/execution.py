"""NNAPI's execution: buffers bound to a compilation's inputs and outputs, and run."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

from nnapi.drivers.driver import LOOP_TIMEOUT, Deadline
from nnapi.ops.types import Dimensions
from nnapi.runtime.binding import (
    Ends,
    forget_contents,
    plain_inputs,
    plain_outputs,
    read_inputs,
    short_outputs,
    write_outputs,
)  # fmt: skip
from nnapi.runtime.codes import (
    MAXIMUM_LOOP_TIMEOUT,
    DurationCode,
    OutputInsufficientSize,
    ResultCode,
    ResultError,
    bad_data,
    bad_state,
    result_of,
)  # fmt: skip
from nnapi.runtime.compilation import Compilation
from nnapi.runtime.event import Event, after_all
from nnapi.runtime.memory import DeviceMemory, Memory
from nnapi.runtime.program import Limits, Program
from nnapi.runtime.queue import QUEUE
from nnapi.runtime.slot import Slot, Type
from nnapi.runtime.view import Buffer, bytes_of

if TYPE_CHECKING:
    from nnapi.runtime.burst import Burst

Work = Callable[[Limits | None], None]
"""One run, on this thread and now; raises whatever goes wrong."""
clock: Final = time.monotonic_ns


class State(enum.Enum):
    """Where an execution is in its life."""

    PREPARATION = "in preparation"
    COMPUTATION = "running"
    COMPLETED = "completed"


class Execution:
    """One evaluation of a finished compilation, or several one after the other where it is reusable.

    >>> import numpy as np
    >>> from nnapi import runtime
    >>> model = runtime.Model()
    >>> for _ in range(2):
    ...     _ = model.add_operand(3, [2])
    >>> model.add_operation(19, [0], [1])
    >>> model.identify_inputs_and_outputs([0], [1])
    >>> model.finish()
    >>> compilation = runtime.Compilation(model, [d for d in runtime.devices() if d.name == "reference"])
    >>> compilation.finish()
    >>> execution = Execution(compilation)
    >>> x, y = np.array([-1, 2], np.float32), np.empty(2, np.float32)
    >>> execution.set_input(0, None, x)
    >>> execution.set_output(0, None, y)
    >>> execution.compute()
    >>> y
    array([0., 2.], dtype=float32)
    """

    __slots__ = (
        "__weakref__", "_attributes", "_durations", "_error", "_inputs", "_is_measured", "_is_padded", "_is_reusable",
        "_lock", "_loop_timeout", "_outputs", "_program", "_shapes", "_state", "_timeout", "_work", "compilation",
    )  # fmt: skip

    def __init__(self, compilation: Compilation) -> None:
        self._program: Program = compilation.require_program()
        self.compilation = compilation
        self._inputs = Ends(compilation.inputs)
        self._outputs = Ends(compilation.outputs)
        self._state = State.PREPARATION
        self._lock = threading.Lock()
        self._is_reusable = self._is_padded = self._is_measured = False
        self._timeout: float | None = None
        self._loop_timeout: float | None = None
        self._work: Work | None = None
        self._error: ResultError | None = None
        self._shapes: list[Dimensions] | None = None
        self._durations: tuple[int, int, int] | None = None
        self._attributes: dict[tuple[str, int], bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether its buffers are in use."""
        return self._state is State.COMPUTATION

    def set_input(self, index: int, type: Type | None, buffer: Buffer | None) -> None:
        """Read an input from a buffer; None omits it.

        `type` gives dimensions that the model leaves open, and may give another scale and zero point.
        """
        slot = self._free("set_input", self._inputs, index).narrowed(type)
        if buffer is None:
            self._inputs.bind(slot, None)
            return
        self._inputs.bind(slot, slot.known().fit(bytes_of(buffer), padding=self._is_padded))

    def set_input_from_memory(self, index: int, type: Type | None, memory: Memory, offset: int, length: int) -> None:
        """Read an input from a region of a memory; 0 and 0 for a memory of the device, which is used whole."""
        slot = self._free("set_input_from_memory", self._inputs, index).narrowed(type).known()
        if isinstance(memory, DeviceMemory):
            memory.require_role(self.compilation, "input", index, slot.operand.dimensions, offset, length)
            self._inputs.bind(slot, memory)
            return
        self._inputs.bind(slot, slot.fit(memory.region(offset, length), padding=self._is_padded), memory)

    def set_output(self, index: int, type: Type | None, buffer: Buffer | None) -> None:
        """Write an output to a buffer; None omits it."""
        slot = self._free("set_output", self._outputs, index).narrowed(type)
        if buffer is None:
            self._outputs.bind(slot, None)
            return
        data = slot.fit(bytes_of(buffer), padding=self._is_padded)
        if not data.flags.writeable:
            bad_data(f"output {index} is given a buffer that is read only")
        self._outputs.bind(slot, data)

    def set_output_from_memory(self, index: int, type: Type | None, memory: Memory, offset: int, length: int) -> None:
        """Write an output to a region of a memory; 0 and 0 for a memory of the device, which is used whole."""
        slot = self._free("set_output_from_memory", self._outputs, index).narrowed(type)
        if isinstance(memory, DeviceMemory):
            memory.require_role(self.compilation, "output", index, slot.operand.dimensions, offset, length)
            self._outputs.bind(slot, memory)
            return
        self._outputs.bind(slot, slot.fit(memory.region(offset, length), padding=self._is_padded), memory)

    def compute(self) -> None:
        """Run, and return when done.

        BAD_DATA where an input or output is not set, OUTPUT_INSUFFICIENT_SIZE where an output is too large for its
        buffer, MISSED_DEADLINE_TRANSIENT when the time is over, OP_FAILED where a device fails.
        """
        self._start("compute")
        self._run_in_turn()

    def burst_compute(self, burst: Burst) -> None:
        """Run as part of a burst, and return when done; BAD_STATE while another execution of the burst runs."""
        with burst.turn(self.compilation):
            self._start("burst_compute")
            self._run_in_turn()

    def start_compute(self) -> Event:
        """Run on its own; the event tells the end."""
        self._start("start_compute")
        self._prepare()
        return self._launch([], None)

    def start_compute_with_dependencies(self, dependencies: Sequence[Event], duration: int = 0) -> Event:
        """Run on its own once all dependencies have ended, within `duration` nanoseconds from then (0: no limit).

        OP_FAILED, at once or from the event, where a dependency did not end well.
        """
        self._start("start_compute_with_dependencies")
        self._prepare()
        if duration and not self.compilation.is_for_one_device:
            self._refuse(ResultCode.BAD_DATA, "a duration needs a compilation for one named device")
        for slot, value in zip(self._outputs.slots, self._outputs.bound):
            if slot.size is None and value is not None:
                dimensions = slot.operand.dimensions
                self._refuse(ResultCode.BAD_DATA, f"output {slot.index} has dimensions {dimensions}, all must be known")
        if any(event.has_failed for event in dependencies):
            self._refuse(ResultCode.OP_FAILED, "a dependency has failed already")
        return self._launch(list(dependencies), duration / 1e9 if duration else None)

    def set_timeout(self, nanoseconds: int) -> None:
        """Limit the time of the execution; 0 is no limit. One named device only."""
        self.compilation.require_one_device("set_timeout")
        self._require(State.PREPARATION, "set_timeout")
        self._timeout = nanoseconds / 1e9 if nanoseconds else None

    def set_loop_timeout(self, nanoseconds: int) -> None:
        """Limit the time of every WHILE, to 15 s at most."""
        self._require(State.PREPARATION, "set_loop_timeout")
        self._loop_timeout = min(nanoseconds, MAXIMUM_LOOP_TIMEOUT) / 1e9

    def set_measure_timing(self, measure: bool) -> None:
        """Measure durations. One named device only."""
        self.compilation.require_one_device("set_measure_timing")
        self._require(State.PREPARATION, "set_measure_timing")
        self._is_measured = bool(measure)

    def get_duration(self, code: int) -> int:
        """Nanoseconds of the last run, by DurationCode; BAD_STATE where none was measured."""
        if code not in set(DurationCode):
            bad_data(f"duration {code}, must be {' or '.join(str(c.value) for c in DurationCode)}")
        self._require(State.COMPLETED, "get_duration")
        if self._error is not None or self._durations is None:
            bad_state("get_duration: no duration was measured")
        on_hardware, in_driver, fenced = self._durations
        return {DurationCode.IN_DRIVER: in_driver, DurationCode.FENCED_IN_DRIVER: fenced}.get(
            DurationCode(code), on_hardware
        )

    def get_output_operand_rank(self, index: int) -> int:
        """The rank that an output had; OutputInsufficientSize, which has its dimensions, where its buffer is short."""
        return len(self._shape("get_output_operand_rank", index))

    def get_output_operand_dimensions(self, index: int) -> Dimensions:
        """The dimensions that an output had; OutputInsufficientSize, which has them too, where its buffer is short.

        BAD_DATA for a scalar.
        """
        shape = self._shape("get_output_operand_dimensions", index)
        if not shape:
            bad_data(f"output {index} is a scalar, it has no dimensions")
        return shape

    def set_reusable(self, reusable: bool) -> None:
        """Allow several runs, one after the other, on the same buffers."""
        self._require(State.PREPARATION, "set_reusable")
        self._is_reusable = bool(reusable)

    def enable_input_and_output_padding(self, enable: bool) -> None:
        """Allow buffers that are longer than their operands; before any is set."""
        self._require(State.PREPARATION, "enable_input_and_output_padding")
        if not (self._inputs.is_empty and self._outputs.is_empty):
            bad_state("enable_input_and_output_padding: an input or output is set already")
        self._is_padded = bool(enable)

    def add_extension_attribute(self, name: str, code: int, data: Buffer) -> None:
        """Set an attribute that an extension defines for executions; once each. One named device only."""
        self._require(State.PREPARATION, "add_extension_attribute")
        if self._attributes is None:
            self._attributes = {}
        self.compilation.add_attribute(self._attributes, name, code, data)

    def _free(self, call: str, ends: Ends, index: int) -> Slot:
        self._require(State.PREPARATION, call)
        return ends.free(call, index)

    def _require(self, state: State, call: str) -> None:
        if self._state is not state:
            bad_state(f"{call}: the execution is {self._state.value}")

    def _start(self, call: str) -> None:
        with self._lock:
            if self._state is State.COMPUTATION or (self._state is State.COMPLETED and not self._is_reusable):
                bad_state(f"{call}: the execution is {self._state.value}")
            self._state = State.COMPUTATION

    def _end(self, error: ResultError | None) -> None:
        self._error = error
        if error is not None:
            forget_contents(self._outputs)
        self._state = State.COMPLETED

    def _refuse(self, code: ResultCode, message: str) -> NoReturn:
        error = ResultError(code, message)
        self._end(error)
        raise error

    def _shape(self, call: str, index: int) -> Dimensions:
        self._require(State.COMPLETED, call)
        error = self._error
        if error is not None and not isinstance(error, OutputInsufficientSize):
            bad_state(f"{call}: the execution failed: {error}")
        if not 0 <= index < len(self._outputs.slots):
            bad_data(f"{call}: index {index}, the model has {len(self._outputs.slots)} outputs")
        if self._shapes is None:
            return self._outputs.slots[index].operand.dimensions
        shape = self._shapes[index]
        if error is not None and index in short_outputs(self._outputs, self._shapes):
            raise OutputInsufficientSize(f"output {index} has dimensions {shape}, its buffer is too small", shape)
        return shape

    def _deadline(self) -> float | None:
        return None if self._timeout is None else time.monotonic() + self._timeout

    def _limits(self, deadline: float | None) -> Limits | None:
        if deadline is None and self._loop_timeout is None:
            return None
        return Limits(Deadline(deadline), LOOP_TIMEOUT if self._loop_timeout is None else self._loop_timeout)

    def _prepare(self) -> Work:
        """What each run does, found out once; ends the execution where it cannot run."""
        if self._work is None:
            try:
                self._work = self._choose_work()
            except Exception as error:
                ended = result_of(error)
                self._end(ended)
                raise ended from error
        return self._work

    def _run_in_turn(self) -> None:
        """Run on this thread, when it is this execution's turn."""
        deadline = self._deadline()
        work = self._work or self._prepare()
        try:
            QUEUE.enter(self.compilation.priority, deadline)
            try:
                work(self._limits(deadline))
            finally:
                QUEUE.leave()
        except Exception as error:
            ended = result_of(error)
            self._end(ended)
            raise ended from error
        except BaseException:  # Ctrl-C: the caller gets it, and the execution is over
            self._end(ResultError(ResultCode.OP_FAILED, "the execution was interrupted"))
            raise
        self._error = None
        self._state = State.COMPLETED

    def _launch(self, dependencies: list[Event], duration: float | None) -> Event:
        """Run on a thread of the queue's, once the dependencies have ended."""
        deadline = self._deadline()
        event = Event(deadline, self._expire)

        def begin(failed: ResultError | None) -> None:
            if failed is None:
                job = partial(self._run_alone, event, deadline, duration, clock())
                QUEUE.submit(self.compilation.priority, job)
            elif event.begin():
                error = ResultError(ResultCode.OP_FAILED, f"a dependency failed: {failed}")
                self._end(error)
                event.finish(error)

        after_all(dependencies, begin)
        return event

    def _run_alone(self, event: Event, deadline: float | None, duration: float | None, began: int) -> None:
        """Run on a thread of the queue's; `duration` counts from `began`, when the dependencies had ended."""
        if not event.begin():  # it waited too long
            return
        if duration is not None:
            limit = began / 1e9 + duration
            deadline = limit if deadline is None else min(limit, deadline)
        error = None
        try:
            self._prepare()(self._limits(deadline))
            if self._durations is not None:
                self._durations = (*self._durations[:2], clock() - began)
        except Exception as failure:
            error = result_of(failure)
        self._end(error)
        event.finish(error)

    def _expire(self) -> ResultError:
        error = ResultError(ResultCode.MISSED_DEADLINE_TRANSIENT, "the execution did not begin before its deadline")
        self._end(error)
        return error

    def _choose_work(self) -> Work:
        inputs, outputs = self._inputs, self._outputs
        inputs.require_complete(writable=False)
        outputs.require_complete(writable=True)
        for slot, value in zip(inputs.slots, inputs.bound):
            if value is None and not self.compilation.may_omit(slot.index):
                bad_data(f"input {slot.index} is omitted, the model needs it")
        self._program, operands = self.compilation.program_for(inputs.operands, outputs.operands)
        whole = self._program.whole
        arrays, targets = plain_inputs(inputs), plain_outputs(outputs, operands)
        if whole is None or arrays is None or targets is None or self._is_measured:
            return self._work_generally
        run = whole.run

        def work(limits: Limits | None) -> None:
            run(arrays, targets, limits)

        return work

    def _work_generally(self, limits: Limits | None) -> None:
        began = clock()
        self._shapes = self._durations = None
        arrays = read_inputs(self._inputs)
        entered = clock()
        results = self._program.run(arrays, limits)
        on_hardware = clock() - entered
        self._shapes = write_outputs(self._outputs, results)
        short = short_outputs(self._outputs, self._shapes)
        if short:
            message = f"output {short[0]} has dimensions {self._shapes[short[0]]}, its buffer is too small"
            raise OutputInsufficientSize(message, self._shapes[short[0]])
        if self._is_measured:
            in_driver = clock() - began
            self._durations = (on_hardware, in_driver, in_driver)
