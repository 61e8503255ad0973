"""Processes that are kept for a while after a trial: the next one need not wait until an engine is loaded."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Final

from nnapi.drivers.driver import Driver
from nnapi.partitioning.isolated import Isolated, engine_of

IDLE_SECONDS: Final = 20.0
"""Seconds that a process waits for the next trial."""
BROKEN_SECONDS: Final = 60.0
"""Seconds that an engine is left alone that did not load."""

Circumstances = tuple[object, ...]
_lock = threading.Lock()
_watched = threading.Event()
"""Set while a thread watches the processes that wait."""
_idle: Final[dict[Circumstances, tuple[Isolated, float]]] = {}
"""Processes, and since when they wait."""
_broken: Final[dict[Circumstances, tuple[str, float]]] = {}
"""Engines that did not load: what became of them, and when."""


def borrow(driver: Driver) -> Isolated:
    """A process for the engine of `driver`: one that waits, where it was started in the same circumstances."""
    with _lock:
        process, _ = _idle.pop(_circumstances(driver), (None, 0.0))
    if process is not None and process.is_alive:
        process.driver = driver
        return process
    if process is not None:
        process.close()
    return Isolated(driver)


def give_back(process: Isolated) -> None:
    """Keep a process for a while, at the longest until this one ends."""
    key, now = _circumstances(process.driver), time.monotonic()
    with _lock:
        if process.failure:
            _broken[key] = process.failure, now
        is_kept = key not in _idle and process.has_loaded and process.is_idle and process.is_alive
        if is_kept:
            _idle[key] = process, now
        is_watched = _watched.is_set()
        if is_kept:
            _watched.set()
    if not is_kept:
        process.close()
    elif not is_watched:
        try:
            threading.Thread(target=_watch, name="nnapi: ends processes", daemon=True).start()
        except RuntimeError:  # no more threads
            _watched.clear()
            close()


def failure(driver: Driver) -> str:
    """The fate of the engine, a short while ago, when it was to be loaded in such a process; empty if it was."""
    reason, at = _broken.get(_circumstances(driver), ("", 0.0))
    return reason if time.monotonic() - at < BROKEN_SECONDS else ""


def close() -> None:
    """End all processes that wait."""
    _end_those_that_wait(0.0)


def _watch() -> None:
    """End processes that waited for too long, until there are none."""
    while _watched.is_set():
        time.sleep(IDLE_SECONDS / 4)
        _end_those_that_wait(IDLE_SECONDS)


def _end_those_that_wait(seconds: float) -> None:
    """End the processes that wait for at least so many seconds."""
    until = time.monotonic() - seconds
    with _lock:
        over = [(key, process) for key, (process, since) in _idle.items() if since <= until]
        for key, _ in over:
            del _idle[key]
        if not _idle:
            _watched.clear()
    for _, process in over:
        process.close()


def _circumstances(driver: Driver) -> Circumstances:
    """Everything that a process takes over when it is started."""
    environment = tuple(sorted(os.environ.items()))
    return engine_of(driver).name, sys.executable, Path.cwd(), tuple(sys.path), environment


def _forget() -> None:
    """In a fork: the processes are its parent's."""
    global _lock, _watched
    _lock, _watched = threading.Lock(), threading.Event()
    close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
