"""Time that is over: timeouts of compilations and executions, deadlines between partitions, loops without end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from clients import TENSOR_FLOAT32, bound, compiled, device, elementwise, refused
from gated import Gated
from nnapi.drivers.driver import Prepared, PrepareOptions
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import PreparedReference
from nnapi.ir.model import Model as IrModel
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import MODEL, Array, OperandType
from nnapi.runtime import Burst, Compilation, Device, Event, Execution, Model, execution
from nnapi.runtime import build as build_module
from nnapi.runtime import compile as compile_module
from nnapi.runtime.codes import DEFAULT_LOOP_TIMEOUT, MAXIMUM_LOOP_TIMEOUT
from nnapi.runtime.queue import Queue

X, Y = np.arange(4, dtype=np.float32), np.full(4, 2, np.float32)
WHILE, GREATER, ADD, MUL = (OPERATIONS[name].code for name in ("WHILE", "GREATER", "ADD", "MUL"))
MILLISECOND = 10**6
LATE = 20.0
"""Seconds after which a test that should have stopped at a deadline has hung."""


@dataclass
class Slow(FakeDriver):
    """A device that takes its time, and cannot be interrupted."""

    name: str = "slow"
    seconds: float = 0.05
    runs: int = 0

    def prepare(self, model: IrModel, options: PrepareOptions) -> Prepared:
        return _Prepared(self, PreparedReference(model))


@dataclass
class _Prepared:
    driver: Slow
    inner: PreparedReference

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        self.driver.runs += 1
        time.sleep(self.driver.seconds)
        return self.inner.run(inputs, outputs)


RUNS: dict[str, Callable[[Execution], object]] = {
    "compute": lambda e: e.compute(),
    "burst_compute": lambda e: e.burst_compute(Burst(e.compilation)),
    "start_compute": lambda e: e.start_compute().wait(),
    "start_compute_with_dependencies": lambda e: e.start_compute_with_dependencies([]).wait(),
}
Run = Callable[[Execution], object]


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_an_execution_that_takes_too_long(run: Run) -> None:
    execution = bound(compiled(elementwise(), [device(Slow())]), [X, Y], [X.copy()])
    execution.set_timeout(10 * MILLISECOND)
    with refused("MISSED_DEADLINE_TRANSIENT"):
        run(execution)
    with refused("BAD_STATE"):
        execution.get_output_operand_rank(0)


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_an_execution_without_time_does_not_begin(run: Run) -> None:
    driver = Slow()
    execution = bound(compiled(elementwise(), [device(driver)]), [X, Y], [X.copy()])
    execution.set_timeout(1)
    with refused("MISSED_DEADLINE_TRANSIENT"):
        run(execution)
    assert driver.runs == 0


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_an_execution_in_time(run: Run) -> None:
    z = np.zeros(4, np.float32)
    execution = bound(compiled(elementwise(), [device(Slow(seconds=0.0))]), [X, Y], [z])
    execution.set_timeout(int(LATE * 1e9))
    run(execution)
    np.testing.assert_array_equal(z, X + Y)


def test_a_timeout_of_0_is_none() -> None:
    execution = bound(compiled(elementwise(), [device(Slow())]), [X, Y], [X.copy()])
    execution.set_timeout(1)
    execution.set_timeout(0)
    execution.compute()


def test_a_reusable_execution_has_its_time_each_time() -> None:
    driver = Slow(seconds=0.0)
    execution = bound(compiled(elementwise(), [device(driver)]), [X, Y], [X.copy()])
    execution.set_reusable(True)
    execution.set_timeout(500 * MILLISECOND)
    for seconds, is_late in ((0.0, False), (0.6, True), (0.0, False)):
        driver.seconds = seconds
        if is_late:
            with refused("MISSED_DEADLINE_TRANSIENT"):
                execution.compute()
        else:
            execution.compute()


def test_deadlines_are_checked_between_partitions() -> None:
    """Of three partitions the first takes all the time: the others do not begin."""
    adds = Slow("adds", {"ADD": 1e-9}, None, 1e-9, seconds=0.6)
    muls = Slow("muls", {"MUL": 1e-9}, None, 1e-9, seconds=0.0)
    model = elementwise(finish=False)
    for _ in range(2):
        model.add_operand(TENSOR_FLOAT32, [4])
    model.add_operation(MUL, [3, 1, 2], [4])
    model.add_operation(ADD, [4, 0, 2], [5])
    model._outputs = (5,)
    model.finish()
    compilation = compiled(model, [device(adds), device(muls)])
    assert [step.device for step in compilation.require_program().steps] == ["adds", "muls", "adds"]
    execution = bound(compilation, [X, Y], [X.copy()])
    execution._timeout = 0.5  # what only executions for one device may set
    with refused("MISSED_DEADLINE_TRANSIENT", "adds did not finish"):
        execution.compute()
    assert (adds.runs, muls.runs) == (1, 0)


def test_missed_deadlines_do_not_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from nnapi.runtime import compilation as compilation_module

    monkeypatch.setattr(compilation_module, "devices", lambda: [device(Slow())])
    execution = bound(compiled(elementwise(), None), [X, Y], [X.copy()])
    execution._timeout = 0.01
    started = time.monotonic()
    with refused("MISSED_DEADLINE_TRANSIENT"):
        execution.compute()
    assert time.monotonic() - started < LATE


# Waiting counts


def test_waiting_for_a_turn_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "QUEUE", Queue(1))
    driver = Gated()
    first = bound(compiled(elementwise(), [device(driver)]), [X, Y], [X.copy()]).start_compute()
    assert driver.running.acquire(timeout=LATE)
    for run in RUNS.values():
        late = bound(compiled(elementwise()), [X, Y], [X.copy()])
        late.set_timeout(10 * MILLISECOND)
        with refused("MISSED_DEADLINE_TRANSIENT"):
            run(late)
    driver.gate.set()
    first.wait()


def test_an_event_that_nobody_waits_for_still_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(1)
    monkeypatch.setattr(execution, "QUEUE", queue)
    driver = Gated()
    first = bound(compiled(elementwise(), [device(driver)]), [X, Y], [X.copy()]).start_compute()
    z = np.zeros(4, np.float32)
    late = bound(compiled(elementwise()), [X, Y], [z])
    late.set_timeout(MILLISECOND)
    event = late.start_compute()
    time.sleep(0.01)
    driver.gate.set()
    first.wait()
    with refused("MISSED_DEADLINE_TRANSIENT"):
        event.wait()
    assert z.tolist() == [0] * 4


def test_waiting_for_dependencies_counts_for_the_timeout_but_not_for_the_duration() -> None:
    never = Event(None, lambda: None)  # type: ignore[arg-type,return-value]
    with_timeout = bound(compiled(elementwise()), [X, Y], [X.copy()])
    with_timeout.set_timeout(10 * MILLISECOND)
    event = with_timeout.start_compute_with_dependencies([never])
    with refused("MISSED_DEADLINE_TRANSIENT", "did not begin before its deadline"):
        event.wait()
    with_duration = bound(compiled(elementwise()), [X, Y], [X.copy()])
    event = with_duration.start_compute_with_dependencies([never], int(LATE * 1e9))
    time.sleep(0.02)
    never.finish(None)
    event.wait()
    assert not with_timeout.is_running


def test_a_duration_that_is_too_short() -> None:
    execution = bound(compiled(elementwise(), [device(Slow())]), [X, Y], [X.copy()])
    event = execution.start_compute_with_dependencies([], 10 * MILLISECOND)
    with refused("MISSED_DEADLINE_TRANSIENT"):
        event.wait()


# Loops


def endless() -> Model:
    """while x > x - 1: x = x + 0."""
    condition = Model()
    for type_code, dimensions in ((TENSOR_FLOAT32, [1]), (TENSOR_FLOAT32, [1]), (OperandType.TENSOR_BOOL8, [1])):
        condition.add_operand(type_code, dimensions)
    condition.set_operand_value(1, np.array([-1], np.float32))
    condition.add_operation(GREATER, [0, 1], [2])
    condition.identify_inputs_and_outputs([0], [2])
    condition.finish()
    body = Model()
    for type_code, dimensions in ((TENSOR_FLOAT32, [1]), (TENSOR_FLOAT32, [1]), (1, []), (TENSOR_FLOAT32, [1])):
        body.add_operand(type_code, dimensions)
    body.set_operand_value(1, np.array([0], np.float32))
    body.set_operand_value(2, np.int32(0))
    body.add_operation(ADD, [0, 1, 2], [3])
    body.identify_inputs_and_outputs([0], [3])
    body.finish()
    model = Model()
    for type_code, dimensions in ((MODEL, []), (MODEL, []), (TENSOR_FLOAT32, [1]), (TENSOR_FLOAT32, [1])):
        model.add_operand(type_code, dimensions)
    model.set_operand_value_from_model(0, condition)
    model.set_operand_value_from_model(1, body)
    model.add_operation(WHILE, [0, 1, 2], [3])
    model.identify_inputs_and_outputs([2], [3])
    model.finish()
    return model


ONE = np.ones(1, np.float32)


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
@pytest.mark.parametrize("named", [True, False], ids=["reference", "all"])
def test_a_loop_without_end_stops(run: Run, named: bool) -> None:
    compilation = compiled(endless()) if named else compiled(endless(), None)
    execution = bound(compilation, [ONE], [ONE.copy()])
    execution.set_loop_timeout(20 * MILLISECOND)
    threads = threading.active_count()
    started = time.monotonic()
    with refused("MISSED_DEADLINE_TRANSIENT"):
        run(execution)
    assert time.monotonic() - started < LATE
    while threading.active_count() > threads:
        assert time.monotonic() - started < LATE
        time.sleep(0.001)


def test_a_timeout_stops_a_loop_too() -> None:
    execution = bound(compiled(endless()), [ONE], [ONE.copy()])
    execution.set_timeout(20 * MILLISECOND)
    execution.set_loop_timeout(MAXIMUM_LOOP_TIMEOUT)
    started = time.monotonic()
    with refused("MISSED_DEADLINE_TRANSIENT"):
        execution.compute()
    assert time.monotonic() - started < MAXIMUM_LOOP_TIMEOUT / 1e9  # before the loop's own time is over


@pytest.mark.slow
def test_a_loop_has_2_seconds_by_default() -> None:
    execution = bound(compiled(endless()), [ONE], [ONE.copy()])
    started = time.monotonic()
    with refused("MISSED_DEADLINE_TRANSIENT"):
        execution.compute()
    assert DEFAULT_LOOP_TIMEOUT / 1e9 <= time.monotonic() - started < LATE


def test_a_loop_has_15_seconds_at_most() -> None:
    execution = bound(compiled(endless()), [ONE], [ONE.copy()])
    execution.set_loop_timeout(10**18)
    assert execution._loop_timeout == MAXIMUM_LOOP_TIMEOUT / 1e9 == 15


# Compilations


def test_a_compilation_without_time() -> None:
    compilation = Compilation(elementwise(), [device(Slow())])
    compilation.set_timeout(1)
    with refused("MISSED_DEADLINE_TRANSIENT"):
        compilation.finish()
    with refused("BAD_STATE", "the compilation failed"):
        Execution(compilation)


STAGES = {"run_passes": compile_module, "assign": compile_module, "build_partition": build_module}


@pytest.mark.parametrize("stage", STAGES)
def test_a_compilation_that_takes_too_long_stops_after_each_stage(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(STAGES[stage], stage)

    def slow(*args: object, **kwargs: object) -> object:
        time.sleep(0.05)
        return real(*args, **kwargs)

    monkeypatch.setattr(STAGES[stage], stage, slow)
    compilation = Compilation(elementwise(), [device(Slow())])
    compilation.set_timeout(30 * MILLISECOND)
    with refused("MISSED_DEADLINE_TRANSIENT"):
        compilation.finish()


def test_a_compilation_in_time() -> None:
    slow: Device = device(Slow())
    for nanoseconds in (0, int(LATE * 1e9)):
        compilation = Compilation(elementwise(), [slow])
        compilation.set_timeout(nanoseconds)
        compilation.finish()
