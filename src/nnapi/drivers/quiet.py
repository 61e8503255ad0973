"""Engines that print from C++, where no Python redirection reaches."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

_STDERR: Final = 2
_lock = threading.RLock()


@contextmanager
def quiet(noise: tuple[bytes, ...]) -> Iterator[None]:
    """Keep lines that start with one of `noise` off standard error; what else is written there is passed on afterwards.

    It is the process's file descriptor that is replaced, so this holds for all threads.
    """
    with _lock, ExitStack() as stack:
        try:
            if sys.stderr is not None:
                sys.stderr.flush()
            terminal = os.dup(_STDERR)
            stack.callback(os.close, terminal)
            caught = stack.enter_context(tempfile.TemporaryFile())
        except (OSError, ValueError):  # there is no standard error, or nowhere to keep it
            yield
            return
        os.dup2(caught.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(terminal, _STDERR)
            caught.seek(0)
            for line in caught:
                if not line.startswith(noise):
                    os.write(_STDERR, line)
