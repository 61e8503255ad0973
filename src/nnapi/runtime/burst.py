"""NNAPI's burst: executions of one compilation, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from nnapi.runtime.codes import bad_data, bad_state
from nnapi.runtime.compilation import Compilation


class Burst:
    """At most one execution at a time of a finished compilation."""

    def __init__(self, compilation: Compilation) -> None:
        compilation.require_program()
        self.compilation = compilation
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, compilation: Compilation) -> Iterator[None]:
        """Around an execution of `compilation`; BAD_DATA for another's, BAD_STATE while one runs."""
        if compilation is not self.compilation:
            bad_data("the burst is of another compilation")
        if not self._lock.acquire(blocking=False):
            bad_state("the burst runs another execution")
        try:
            yield
        finally:
            self._lock.release()
