"""OpenMP's threads, which PyTorch leaves spinning for milliseconds after an operator, on cores that others want."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Final

SOFTLY: Final = 1
"""`omp_pause_soft`: threads end, what they hold is kept."""


def let_threads_go() -> None:
    """End the threads that this one's operators have used; the next operator starts them again, in some 50 us."""
    _pause()(SOFTLY)


@cache
def _pause() -> Callable[[int], int]:
    """`omp_pause_resource_all` (OpenMP 5.0) as PyTorch has loaded it; nothing where it has another OpenMP."""
    found: Callable[[int], int] = getattr(ctypes.CDLL(None), "omp_pause_resource_all", lambda kind: 0)
    return found
