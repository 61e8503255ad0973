"""NNAPI's event: the end of an execution that runs on its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from nnapi.runtime.codes import ResultError, bad_data

Ending = Callable[[ResultError | None], None]


class Event:
    """Signaled when an execution has ended; any number of threads may wait."""

    __slots__ = ("_begun", "_callbacks", "_deadline", "_done", "_error", "_expire", "_lock")

    def __init__(self, deadline: float | None, expire: Callable[[], ResultError]) -> None:
        """`expire` ends an execution that has not begun by `deadline` (of time.monotonic), and says with what."""
        self._deadline = deadline
        self._expire = expire
        self._done = threading.Event()
        self._error: ResultError | None = None
        self._callbacks: list[Ending] = []
        self._lock = threading.Lock()
        self._begun = False

    def wait(self) -> None:
        """Wait for the end of the execution; ResultError with what it failed with."""
        if self._deadline is None:
            self._done.wait()
        elif not self._done.wait(max(self._deadline - time.monotonic(), 0.0)):
            # What still waits for its turn need not be waited for; what runs stops by itself.
            if self.begin():
                self.finish(self._expire())
            self._done.wait()
        if self._error is not None:
            raise ResultError(self._error.code, self._error.message, operation=self._error.operation)

    @property
    def has_failed(self) -> bool:
        """Whether the execution has ended, and not well."""
        return self._done.is_set() and self._error is not None

    def get_sync_fence_fd(self) -> int:
        """There are no sync fences here: always BAD_DATA."""
        bad_data("the event has no sync fence, this platform has none")

    @classmethod
    def from_sync_fence_fd(cls, fd: int) -> Event:
        """There are no sync fences here: always BAD_DATA."""
        bad_data(f"descriptor {fd} is no sync fence, this platform has none")

    def begin(self) -> bool:
        """Whether the execution may begin now: true once, for whoever asks first."""
        with self._lock:
            begun, self._begun = self._begun, True
        return not begun

    def finish(self, error: ResultError | None) -> None:
        """The execution has ended."""
        with self._lock:
            self._error = error
            self._done.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(error)

    def then(self, callback: Ending) -> None:
        """Call `callback` when the execution has ended; at once if it has."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback(self._error)


def after_all(events: list[Event], callback: Ending) -> None:
    """Call `callback` once all events have ended, with the first error among them."""
    lock = threading.Lock()
    remaining = len(events)
    failed: ResultError | None = None

    def ended(error: ResultError | None) -> None:
        nonlocal remaining, failed
        with lock:
            remaining -= 1
            failed = failed or error
            last = remaining == 0
        if last:
            callback(failed)

    if not events:
        callback(None)
    for event in events:
        event.then(ended)
