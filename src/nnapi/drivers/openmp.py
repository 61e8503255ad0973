"""OpenMP's threads, which PyTorch leaves spinning for milliseconds after an operator, on cores that others want."""

from __future__ import annotations

import contextlib
import ctypes
from functools import cache
from typing import Final

SOFTLY: Final = 1
"""`omp_pause_soft`: threads end, what they hold is kept."""


def let_threads_go() -> None:
    """End the threads that this one's operators have used; the next operator starts them again, in some 50 us.

    Nothing happens where no OpenMP of 5.0 or later is loaded for all to use, as PyTorch loads its own.
    """
    with contextlib.suppress(AttributeError):
        _process().omp_pause_resource_all(SOFTLY)


@cache
def _process() -> ctypes.CDLL:
    """What is loaded for all to use."""
    return ctypes.CDLL(None)
