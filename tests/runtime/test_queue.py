"""Who runs next: slots, priorities, deadlines."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from clients import bound, compiled, device, elementwise
from gated import Gated
from nnapi.errors import MissedDeadline
from nnapi.runtime import Compilation, PriorityCode, execution
from nnapi.runtime.queue import Queue


def test_as_many_at_once_as_there_are_slots() -> None:
    queue = Queue(2)
    queue.enter(0)
    queue.enter(0)
    with pytest.raises(MissedDeadline):
        queue.enter(0, time.monotonic() + 0.01)
    queue.leave()
    queue.enter(0)


def run_in_order(queue: Queue, waiting: list[tuple[str, int, bool]]) -> list[str]:
    """Names in the order in which they get the only slot; (name, priority, on a thread of its own)."""
    order: list[str] = []
    done = threading.Semaphore(0)

    def job(name: str) -> None:
        order.append(name)
        done.release()

    def synchronous(name: str, priority: int) -> None:
        queue.enter(priority)
        job(name)
        queue.leave()

    queue.enter(0)
    for n, (name, priority, on_its_own) in enumerate(waiting):
        if on_its_own:
            queue.submit(priority, lambda name=name: job(name))  # type: ignore[misc]
        else:
            threading.Thread(target=synchronous, args=(name, priority)).start()
        while len(queue._line) < n + 1:
            time.sleep(0.001)
    queue.leave()
    for _ in waiting:
        assert done.acquire(timeout=30)
    while queue._free != queue.slots:
        time.sleep(0.001)
    return order


@pytest.mark.parametrize("kinds", [(True, True), (False, False), (True, False), (False, True)], ids=str)
def test_the_highest_priority_goes_first_then_who_came_first(kinds: tuple[bool, bool]) -> None:
    waiting = [("low", 90), ("medium", 100), ("high", 110), ("high too", 110), ("medium too", 100)]
    order = run_in_order(Queue(1), [(name, priority, kinds[n % 2]) for n, (name, priority) in enumerate(waiting)])
    assert order == ["high", "high too", "medium", "medium too", "low"]


def test_who_gave_up_is_passed_over() -> None:
    queue = Queue(1)
    queue.enter(0)
    with pytest.raises(MissedDeadline, match="waited for others until its deadline"):
        queue.enter(200, time.monotonic() + 0.01)
    ran = threading.Event()
    queue.submit(0, ran.set)
    queue.leave()
    assert ran.wait(30)


def test_a_deadline_in_the_past_does_not_matter_where_nobody_waits() -> None:
    queue = Queue(1)
    queue.enter(0, time.monotonic() - 1)
    queue.leave()


def test_the_slots_come_back() -> None:
    queue = Queue(3)
    count = [0]
    lock = threading.Lock()
    done = threading.Semaphore(0)

    def job() -> None:
        with lock:
            count[0] += 1
        done.release()

    for n in range(300):
        queue.submit(n % 3, job)
    for _ in range(300):
        assert done.acquire(timeout=30)
    while queue._free != 3:
        time.sleep(0.001)
    assert count == [300]


def test_without_threads_jobs_run_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    queue, ran = Queue(1), []
    queue.submit(0, lambda: ran.append(1))
    assert ran == [1]
    assert queue._free == 1


def test_a_compilation_of_high_priority_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "QUEUE", Queue(1))
    driver = Gated()
    order: list[int] = []

    def of(priority: int) -> Compilation:
        compilation = Compilation(elementwise(), [device(driver)])
        compilation.set_priority(priority)
        compilation.finish()
        return compilation

    x = np.zeros(4, np.float32)
    first = bound(of(PriorityCode.LOW), [x, x], [x.copy()]).start_compute()
    assert driver.running.acquire(timeout=30)
    events = []
    for priority in (PriorityCode.LOW, PriorityCode.MEDIUM, PriorityCode.HIGH):
        event = bound(of(priority), [x, x], [x.copy()]).start_compute()
        event.then(lambda _, priority=priority: order.append(priority))  # type: ignore[misc]
        events.append(event)
    driver.gate.set()
    for event in (first, *events):
        event.wait()
    assert order == [PriorityCode.HIGH, PriorityCode.MEDIUM, PriorityCode.LOW]


def test_compiled_is_used() -> None:
    assert compiled(elementwise()).priority == PriorityCode.DEFAULT == PriorityCode.MEDIUM
