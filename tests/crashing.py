"""An engine that another process can load; on it an operation (MUL) goes wrong as the variable CRASHING says."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nnapi.drivers.driver import Prepared, PrepareOptions
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import PreparedReference
from nnapi.errors import CompileError
from nnapi.ir.model import Model
from nnapi.ops.types import Array

VARIABLE: Final = "CRASHING"
OPERATION: Final = "CRASHING_ON"
"""The variable that names another operation, or RESIDUAL."""
RESIDUAL: Final = "RESIDUAL"
"""A computed tensor of up to SMALL columns that is added to what two layers make of it: no operation dies alone."""
SMALL: Final = 64
NAME: Final = "crashing"
GIGABYTE: Final = 1 << 30


def _refuse() -> None:
    raise CompileError("the engine refuses")


PREPARING: Final[Mapping[str, Callable[[], object]]] = {
    "aborts": os.abort,
    "exits": lambda: os._exit(3),
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "refuses": _refuse,
    "hangs preparing": lambda: time.sleep(600),
    "eats memory": lambda: np.ones(3 * GIGABYTE, np.uint8),
}
RUNNING: Final[Mapping[str, Callable[[], object]]] = {
    "reads nothing": lambda: ctypes.string_at(0),
    "hangs": lambda: time.sleep(600),
    "talks": lambda: os.write(1, b"{\n"),
    "dies in words": lambda: (os.write(2, b"what(): no more\n"), os.abort()),
}


@dataclass
class Crashing(FakeDriver):
    """Fast, and takes everything."""

    name: str = NAME
    default_cost: float | None = 1e-9
    launch_cost: float = 1e-9

    def __post_init__(self) -> None:
        if os.environ.get(VARIABLE) == "does not load" and "nnapi.partitioning.trial" in sys.orig_argv:
            os.abort()

    def prepare(self, model: Model, options: PrepareOptions) -> Prepared:
        how = os.environ.get(VARIABLE, "")
        if not _is_wrong(model, os.environ.get(OPERATION, "MUL")):
            return PreparedReference(model)
        PREPARING.get(how, lambda: None)()
        return _Crashing(model, how=how)


def _is_wrong(model: Model, wrong: str) -> bool:
    if wrong != RESIDUAL:
        return any(operation.type == wrong for operation in model.operations)
    writers = {o: operation for operation in model.operations for o in operation.outputs}
    for last in model.operations:
        after = writers.get(last.inputs[1]) if last.type == "ADD" else None
        before = writers.get(after.inputs[0]) if after is not None else None
        if after is None or before is None or {after.type, before.type} != {"FULLY_CONNECTED"}:
            continue
        if before.inputs[0] == last.inputs[0] and last.inputs[0] in writers:
            return model.operands[last.inputs[0]].dimensions[-1] <= SMALL
    return False


@dataclass(frozen=True)
class _Crashing(PreparedReference):
    how: str = ""

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        RUNNING.get(self.how, lambda: None)()
        results = super().run(inputs, outputs)
        return [r + np.float32(1) for r in results] if self.how == "lies" else results
