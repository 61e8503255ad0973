"""Who runs next: executions share as many slots as there are processors, and wait in order of priority.

A synchronous execution runs on its caller's thread once it has a slot, so that it costs no change of threads; an
asynchronous one gets a thread together with its slot.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable

from nnapi.errors import MissedDeadline

Job = Callable[[], None]
"""Does not raise."""


class _Waiter:
    """Somebody in line: a thread that waits, or a job that needs one."""

    __slots__ = ("granted", "job", "left", "turn")

    def __init__(self, job: Job | None) -> None:
        self.job = job
        self.granted = False
        self.left = False
        self.turn = threading.Lock()
        self.turn.acquire()


class Queue:
    """`slots` executions at once; among those that wait, the highest priority, then the longest wait, goes first."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._lock = threading.Lock()
        self._free = slots
        self._line: list[tuple[int, int, _Waiter]] = []
        self._arrivals = itertools.count()

    def enter(self, priority: int, deadline: float | None = None) -> None:
        """Take a slot; MissedDeadline if none is free before `deadline` (of time.monotonic)."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            waiter = self._join(priority, None)
        timeout = -1.0 if deadline is None else max(deadline - time.monotonic(), 0.0)
        if waiter.turn.acquire(timeout=timeout):
            return
        with self._lock:
            if waiter.granted:
                return
            waiter.left = True
        raise MissedDeadline("the execution waited for others until its deadline")

    def leave(self) -> None:
        """Give the slot back."""
        job = self._next()
        if job is not None:
            self._start(job)

    def submit(self, priority: int, job: Job) -> None:
        """Run `job` on a thread of its own as soon as there is a slot for it."""
        with self._lock:
            if not self._free:
                self._join(priority, job)
                return
            self._free -= 1
        self._start(job)

    def _join(self, priority: int, job: Job | None) -> _Waiter:
        waiter = _Waiter(job)
        heapq.heappush(self._line, (-priority, next(self._arrivals), waiter))
        return waiter

    def _next(self) -> Job | None:
        """Pass a slot on: to a thread that waits, or to a job, which is returned."""
        with self._lock:
            while self._line:
                waiter = heapq.heappop(self._line)[2]
                if waiter.left:
                    continue
                if waiter.job is not None:
                    return waiter.job
                waiter.granted = True
                waiter.turn.release()
                return None
            self._free += 1
            return None

    def _start(self, job: Job) -> None:
        try:
            threading.Thread(target=self._work, args=(job,), name="nnapi").start()
        except RuntimeError:  # there are no more threads, or the interpreter ends: do it here
            self._work(job)

    def _work(self, job: Job) -> None:
        following: Job | None = job
        while following is not None:
            following()
            following = self._next()


def _new() -> Queue:
    return Queue(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


QUEUE = _new()
"""The executions of this process."""


def _after_fork() -> None:
    """Threads do not survive a fork, and with them nobody would give back the slots they had."""
    QUEUE.__dict__.update(_new().__dict__)


os.register_at_fork(after_in_child=_after_fork)
