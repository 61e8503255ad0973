"""A prepared partition, and where else it runs when its engine fails at it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from nnapi.drivers.arrays import check_input
from nnapi.drivers.driver import Prepared
from nnapi.errors import ExecutionError, NnapiError
from nnapi.ir.model import Model
from nnapi.ops.types import Array
from nnapi.runtime.codes import code_of
from nnapi.runtime.program import FINAL

OFTEN: Final = 3
"""Failures one after the other, after which the engine is not asked again."""


class Standby:
    """A partition on its engine; on another device for what the engine fails at, though it is given what it takes."""

    def __init__(
        self,
        prepared: Prepared,
        model: Model,
        elsewhere: Callable[[], Prepared] | None,
        note: Callable[[NnapiError], None],
    ) -> None:
        """`elsewhere` prepares `model` on another device (None: nowhere), `note` is told why that was done."""
        self.prepared = prepared
        self.checks_inputs = getattr(prepared, "checks_inputs", False)
        self._run = prepared.run
        self._model = model
        self._elsewhere = elsewhere
        self._note = note
        self._other: Prepared | None = None
        self._failures = 0
        self._lock = threading.Lock()

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        """As `Prepared.run`; nothing but our own errors is raised."""
        if self._failures >= OFTEN and self._other is not None:
            return self._other.run(inputs, outputs)
        try:
            results = self._run(inputs, outputs)
        except Exception as error:  # whatever an engine raises
            failure = error if isinstance(error, NnapiError) else ExecutionError(f"{type(error).__name__}: {error}")
            return self._run_elsewhere(inputs, outputs, failure, error)
        if self._failures:
            self._failures = 0
        return results

    def _run_elsewhere(
        self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None, failure: NnapiError, cause: Exception
    ) -> list[Array]:
        if self._elsewhere is None or code_of(failure) in FINAL or not self._fits(inputs):
            raise failure from (None if failure is cause else cause)
        with self._lock:
            if self._other is None:
                try:
                    self._other = self._elsewhere()
                except NnapiError:
                    raise failure from cause
        try:
            results = self._other.run(inputs, outputs)
        except NnapiError:  # these values are not to be computed on
            raise failure from cause
        self._failures += 1
        self._note(failure)
        return results

    def _fits(self, inputs: Sequence[Array | None]) -> bool:
        """Whether the inputs are what the model takes: else the engine is right to refuse them."""
        if len(inputs) != len(self._model.inputs):
            return False
        try:
            for operand, array in zip(self._model.input_operands, inputs):
                check_input(operand, array)
        except ExecutionError:
            return False
        return True
