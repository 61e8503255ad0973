"""PyTorch's capture and loading warn, log and print at length; what matters of it comes back as one error.

They are not made for threads: one at a time is in `quiet`, which so puts back what it replaces of the process's.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, log records or dumps of graphs on stderr from what runs inside; other threads may print."""
    with _lock:
        disabled, stream = logging.root.manager.disable, sys.stderr
        silent = _SilentHere(stream)
        logging.disable(logging.CRITICAL)
        sys.stderr = silent
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            if sys.stderr is silent:  # nobody else replaced it meanwhile
                sys.stderr = stream
            logging.disable(disabled)


class _SilentHere:
    """A stream that takes nothing from the thread that made it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        """Text of another thread, passed on."""
        if self._stream is None or threading.get_ident() == self._thread:
            return len(text)
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
