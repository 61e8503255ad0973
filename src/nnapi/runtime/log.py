"""What the runtime says on standard error: NNAPI_LOG=info or debug; nothing but its own mistakes by default."""

from __future__ import annotations

import os
import sys
from typing import Final

from nnapi.errors import printable

VARIABLE: Final = "NNAPI_LOG"
LEVELS: Final = {"info": 1, "debug": 2}


def failure(message: str) -> None:
    """A mistake that is not the client's: said whatever NNAPI_LOG is."""
    _write(0, message)


def info(message: str) -> None:
    """What was compiled, where it runs, and what went elsewhere than asked."""
    _write(1, message)


def debug(message: str) -> None:
    """Details: calls that were refused, cache entries."""
    _write(2, message)


def _write(level: int, message: str) -> None:
    if LEVELS.get(os.environ.get(VARIABLE, ""), 0) >= level and sys.stderr is not None:
        # One write a line: lines of several threads do not mix.
        sys.stderr.write(f"nnapi: {printable(message)}\n")
