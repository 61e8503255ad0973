"""Executions that run on their own: events, dependencies, bursts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from clients import REFERENCE, RELU, TENSOR_FLOAT32, bound, compiled, device, elementwise, refused
from gated import Gated
from nnapi.drivers.fake import FakeDriver
from nnapi.runtime import Burst, Compilation, Event, Execution, Model

X, Y = np.arange(4, dtype=np.float32), np.full(4, 2, np.float32)


def gated() -> tuple[Gated, Compilation]:
    driver = Gated()
    return driver, compiled(elementwise(), [device(driver)])


def failing() -> Execution:
    return bound(compiled(elementwise(), [device(FakeDriver("dead", fails_to_run=True))]), [X, Y], [X.copy()])


def test_the_event_tells_the_end() -> None:
    driver, compilation = gated()
    z = np.zeros(4, np.float32)
    execution = bound(compilation, [X, Y], [z])
    event = execution.start_compute()
    assert driver.running.acquire(timeout=30)
    assert execution.is_running
    assert z.tolist() == [0] * 4
    driver.gate.set()
    event.wait()
    assert not execution.is_running
    np.testing.assert_array_equal(z, X + Y)
    event.wait()


def test_many_may_wait() -> None:
    driver, compilation = gated()
    event = bound(compilation, [X, Y], [X.copy()]).start_compute()
    threads = [threading.Thread(target=event.wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    driver.gate.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_the_event_raises_what_the_execution_failed_with_every_time() -> None:
    event = failing().start_compute()
    for _ in range(3):
        with refused("OP_FAILED", "dead fails on purpose"):
            event.wait()


@pytest.mark.parametrize("start", ["start_compute", "start_compute_with_dependencies"])
def test_what_is_not_set_is_said_at_once(start: str) -> None:
    execution = Execution(compiled(elementwise()))
    with refused("BAD_DATA", "input 0 is not set"):
        getattr(execution, start)(*([[]] if "dep" in start else []))


def doubling() -> Model:
    model = Model()
    for _ in range(2):
        model.add_operand(TENSOR_FLOAT32, [4])
    model.add_operation(RELU, [0], [1])
    model.identify_inputs_and_outputs([0], [1])
    model.finish()
    return model


def test_dependencies_are_waited_for() -> None:
    driver, compilation = gated()
    between, z = np.full(4, -1, np.float32), np.zeros(4, np.float32)
    first = bound(compilation, [X, Y], [between]).start_compute()
    second = bound(compiled(doubling()), [between], [z]).start_compute_with_dependencies([first])
    time.sleep(0.02)
    assert z.tolist() == [0] * 4
    driver.gate.set()
    second.wait()
    np.testing.assert_array_equal(z, X + Y)


def test_a_chain_and_a_join() -> None:
    compilation = compiled(elementwise())
    sums = [np.zeros(4, np.float32) for _ in range(20)]
    events: list[Event] = []
    for n, total in enumerate(sums):
        before = sums[n - 1] if n else Y
        execution = bound(compilation, [X, before], [total])
        events.append(execution.start_compute_with_dependencies(events))
    events[-1].wait()
    np.testing.assert_array_equal(sums[-1], X * 20 + Y)


def test_a_dependency_that_fails_fails_what_waits_for_it() -> None:
    driver, compilation = gated()
    never = compiled(elementwise(), [device(FakeDriver("dead", fails_to_run=True))])
    first = bound(compilation, [X, Y], [X.copy()]).start_compute()
    second = bound(never, [X, Y], [X.copy()]).start_compute_with_dependencies([first])
    execution = bound(compiled(elementwise()), [X, Y], [X.copy()])
    third = execution.start_compute_with_dependencies([first, second])
    driver.gate.set()
    with refused("OP_FAILED", "a dependency failed: OP_FAILED: dead fails on purpose"):
        third.wait()
    with refused("BAD_STATE", "the execution failed"):
        execution.get_output_operand_rank(0)


def test_a_dependency_that_has_failed_is_refused_at_once() -> None:
    event = failing().start_compute()
    with refused("OP_FAILED"):
        event.wait()
    execution = bound(compiled(elementwise()), [X, Y], [X.copy()])
    with refused("OP_FAILED", "a dependency has failed already"):
        execution.start_compute_with_dependencies([event])
    with refused("BAD_STATE", "is completed"):
        execution.compute()


def test_fenced_outputs_must_be_known() -> None:
    execution = Execution(compiled(elementwise(dimensions=[0])))
    for i in range(2):
        execution.set_input(i, (TENSOR_FLOAT32, [4], 0.0, 0), X)
    execution.set_output(0, None, np.zeros(9, np.float32))
    with refused("BAD_DATA", r"output 0 has dimensions \(0,\), all must be known"):
        execution.start_compute_with_dependencies([])


def test_fenced_outputs_may_become_known() -> None:
    execution = Execution(compiled(elementwise(dimensions=[0])))
    for i in range(2):
        execution.set_input(i, (TENSOR_FLOAT32, [4], 0.0, 0), X)
    z = np.zeros(4, np.float32)
    execution.set_output(0, (TENSOR_FLOAT32, [4], 0.0, 0), z)
    execution.start_compute_with_dependencies([]).wait()
    np.testing.assert_array_equal(z, X + X)


def test_fenced_durations_begin_with_the_dependencies() -> None:
    driver, compilation = gated()
    first = bound(compilation, [X, Y], [X.copy()]).start_compute()
    execution = bound(compiled(elementwise()), [X, Y], [X.copy()])
    execution.set_measure_timing(True)
    second = execution.start_compute_with_dependencies([first])
    time.sleep(0.5)
    driver.gate.set()
    second.wait()
    on_hardware, in_driver, fenced_on_hardware, fenced = (execution.get_duration(code) for code in range(4))
    assert on_hardware == fenced_on_hardware <= in_driver
    assert on_hardware <= fenced
    assert fenced < 0.4e9 or fenced < in_driver + 0.4e9  # not the 0.5 s that it waited


FENCES: dict[str, Callable[[], object]] = {
    "from_sync_fence_fd": lambda: Event.from_sync_fence_fd(1),
    "from a negative descriptor": lambda: Event.from_sync_fence_fd(-1),
    "get_sync_fence_fd": lambda: bound(compiled(elementwise()), [X, Y], [X.copy()]).start_compute().get_sync_fence_fd(),
}


@pytest.mark.parametrize("call", FENCES.values(), ids=FENCES.keys())
def test_there_are_no_sync_fences(call: Callable[[], object]) -> None:
    with refused("BAD_DATA", "sync fence"):
        call()


# Bursts


def test_a_burst_runs_executions_of_its_compilation() -> None:
    compilation = compiled(elementwise())
    burst = Burst(compilation)
    for n in range(3):
        z = np.zeros(4, np.float32)
        bound(compilation, [X * n, Y], [z]).burst_compute(burst)
        np.testing.assert_array_equal(z, X * n + Y)


def test_a_burst_runs_one_execution_at_a_time() -> None:
    driver, compilation = gated()
    burst = Burst(compilation)
    first = threading.Thread(target=bound(compilation, [X, Y], [X.copy()]).burst_compute, args=(burst,))
    first.start()
    assert driver.running.acquire(timeout=30)
    second = bound(compilation, [X, Y], [X.copy()])
    with refused("BAD_STATE", "the burst runs another execution"):
        second.burst_compute(burst)
    driver.gate.set()
    first.join(30)
    second.burst_compute(burst)


def test_a_burst_goes_on_after_a_failure() -> None:
    compilation = compiled(elementwise())
    burst = Burst(compilation)
    with refused("BAD_DATA"):
        Execution(compilation).burst_compute(burst)
    bound(compilation, [X, Y], [X.copy()]).burst_compute(burst)


def test_a_burst_needs_a_finished_compilation() -> None:
    with refused("BAD_STATE", "not finished"):
        Burst(Compilation(elementwise(), [REFERENCE]))
