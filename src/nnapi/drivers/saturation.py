"""Which processors sum two products of 8 bits in 16 bits, where they may not fit."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def saturates() -> bool:
    """Whether this is an x86 without VNNI: 255 * 127 + 255 * 127 becomes 32767 in kernels made for speed."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx2" in flags and "vnni" not in flags
