"""A prepared model of unknown dimensions: an engine compiles it anew for each choice of them, when that first comes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from nnapi.drivers.driver import Prepared
from nnapi.errors import ExecutionError, NnapiError
from nnapi.ir.model import Model
from nnapi.ir.specialize import specialize
from nnapi.ops.types import Array, Dimensions

MOST: Final = 4096
"""Shapes that are remembered."""

Lost = Callable[[Model, Sequence[Array]], str | None]
"""The fate of an engine on a model of known dimensions and its inputs; None where it survives."""


class Guarded:
    """A prepared model that runs apart first on shapes that no process of the engine survived yet."""

    def __init__(self, prepared: Prepared, model: Model, lost: Lost) -> None:
        self.prepared = prepared
        self.checks_inputs = getattr(prepared, "checks_inputs", False)
        self._model = model
        self._lost = lost
        self._lock = threading.Lock()
        self._known: dict[tuple[Dimensions, ...], str | None] = {}

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        """As `Prepared.run`; ExecutionError for shapes that the engine does not survive."""
        shapes = tuple(x.shape if isinstance(x, np.ndarray) else () for x in inputs)
        reason = self._known[shapes] if shapes in self._known else self._tried(shapes, inputs)
        if reason is not None:
            raise ExecutionError(f"on inputs of shapes {', '.join(map(str, shapes))}: {reason}")
        return self.prepared.run(inputs, outputs)

    def _tried(self, shapes: tuple[Dimensions, ...], inputs: Sequence[Array | None]) -> str | None:
        arrays = [x for x in inputs if isinstance(x, np.ndarray)]
        if len(arrays) != len(self._model.inputs):  # the engine says what it makes of others
            return None
        with self._lock:
            if shapes not in self._known:
                try:
                    reason = self._lost(specialize(self._model, shapes), arrays)
                except NnapiError:  # they do not fit, as the engine is about to say
                    return None
                if len(self._known) < MOST:
                    self._known[shapes] = reason
                return reason
            return self._known[shapes]
