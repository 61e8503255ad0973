"""Calls of engines that may never return."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from nnapi.errors import MissedDeadline

T = TypeVar("T")


def within(seconds: float | None, what: str, function: Callable[[], T]) -> T:
    """What `function` returns or raises; MissedDeadline if it does neither in time (None: no limit).

    A call that does not return keeps its thread, which does not keep the process from ending. Where no thread is to be
    had there is no limit.
    """
    if seconds is None:
        return function()
    results: list[T] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function())
        except BaseException as error:  # raised again where it is waited for
            errors.append(error)

    worker = threading.Thread(target=call, name=f"nnapi: {what}", daemon=True)
    try:
        worker.start()
    except RuntimeError:  # the machine, or the process, has no more of them
        return function()
    worker.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise MissedDeadline(f"{what} did not return within {seconds:g} s")
    return results[0]
