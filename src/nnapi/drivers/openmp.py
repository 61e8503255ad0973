"""OpenMP's threads: PyTorch leaves them spinning for milliseconds after an operator, on cores that others want.

A child that was forked believes in its parent's, and waits for them for ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from functools import cache, partial
from typing import Final

SOFTLY: Final = 1
"""`omp_pause_soft`: threads end, what they hold is kept."""


def let_threads_go(library: str | None = None) -> None:
    """End the threads that this one's operators have used; the next operator starts them again, in some 50 us.

    `library`: the file of whoever has an OpenMP of its own; else it is the one that is loaded for all to use, as
    PyTorch loads its own. Nothing happens where it is none of 5.0 or later.
    """
    with contextlib.suppress(AttributeError):
        _loaded(library).omp_pause_resource_all(SOFTLY)


def rest_before_forks(library: str) -> None:
    """Let the threads of `library`'s OpenMP go before this process is forked: the child starts its own."""
    os.register_at_fork(before=partial(let_threads_go, library))


@cache
def _loaded(library: str | None) -> ctypes.CDLL:
    """A library and what it depends on; for None what is loaded for all to use."""
    return ctypes.CDLL(library)
