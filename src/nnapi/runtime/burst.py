"""NNAPI's burst: executions of one compilation, one after the other."""

from __future__ import annotations

from nnapi.runtime.compilation import Compilation


class Burst:
    """At most one execution at a time of a finished compilation."""

    def __init__(self, compilation: Compilation) -> None:
        self.compilation = compilation
