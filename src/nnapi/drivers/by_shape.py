"""Models in engines that want to know every dimension: one engine, or one for each choice of the unknown dimensions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from nnapi.drivers.arrays import are_stored, check_inputs
from nnapi.errors import CompileError, ExecutionError, NnapiError, UnsupportedOperation
from nnapi.ir.model import Model
from nnapi.ir.specialize import specialize
from nnapi.ops.types import Array, Dimensions, Operand

MAX_SHAPES: Final = 4
"""How many engines a model keeps: each has its weights packed for itself."""


class Engine(Protocol):
    """A model that an engine has compiled."""

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array] | None) -> list[Array]:
        """Arrays that belong to the caller; ExecutionError for inputs that the engine does not take as they are."""
        ...


Build = Callable[[Model], Engine]
"""CompileError where the engine fails, UnsupportedOperation where it must know more dimensions."""


def prepare(model: Model, build: Build, *, name: str, open: bool = False) -> PreparedOnce | PreparedByShape:
    """`model` in the engine called `name`; `open`: this takes unknown dimensions, where the model can be written so."""
    known = all(operand.elements is not None for operand in model.input_operands)
    if known or open:
        try:
            return PreparedOnce(_built(build, model, name), model.input_operands, name)
        except UnsupportedOperation as error:
            if known:
                raise CompileError(error.message, operation=error.operation, hint=error.hint) from error
    return PreparedByShape(model, build, name)


class PreparedOnce:
    """A model in one engine."""

    def __init__(self, engine: Engine, operands: Sequence[Operand], name: str) -> None:
        self.engine = engine
        self._operands = operands
        self._name = name

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        """One array per output; ExecutionError for inputs that the model does not take."""
        if are_stored(self._operands, inputs):
            try:
                return _run(self.engine, inputs, outputs, self._name)  # type: ignore[arg-type]
            except ExecutionError:  # what the engine refuses may be put right, or better explained
                pass
        return _run(self.engine, check_inputs(self._operands, inputs, self._name), outputs, self._name)


class PreparedByShape:
    """A model in one engine for each choice of unknown dimensions, built when that first comes; the last few kept."""

    def __init__(self, model: Model, build: Build, name: str) -> None:
        self._model = model
        self._build = build
        self._name = name
        self._lock = threading.Lock()
        self._engines: OrderedDict[tuple[Dimensions, ...], Engine] = OrderedDict()

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        """One array per output; ExecutionError for inputs that the model does not take."""
        arrays = check_inputs(self._model.input_operands, inputs, self._name)
        engine = self._engine_for(tuple(array.shape for array in arrays))
        return _run(engine, arrays, outputs, self._name)

    def _engine_for(self, shapes: tuple[Dimensions, ...]) -> Engine:
        with self._lock:
            if shapes not in self._engines:
                try:
                    self._engines[shapes] = _built(self._build, specialize(self._model, shapes), self._name)
                except NnapiError as error:  # the model as such was accepted: it is these shapes
                    raise ExecutionError(error.message, operation=error.operation) from error
                if len(self._engines) > MAX_SHAPES:
                    self._engines.popitem(last=False)
            self._engines.move_to_end(shapes)
            return self._engines[shapes]


def _built(build: Build, model: Model, name: str) -> Engine:
    """`build`, whatever its engine raises a CompileError."""
    try:
        return build(model)
    except NnapiError:
        raise
    except Exception as error:
        raise CompileError(f"{name}: {type(error).__name__}: {error}") from error


def _run(engine: Engine, inputs: Sequence[Array], outputs: Sequence[Array] | None, name: str) -> list[Array]:
    """The engine's run, whatever it raises an ExecutionError."""
    try:
        return engine.run(inputs, outputs)
    except NnapiError:
        raise
    except Exception as error:
        raise ExecutionError(f"{name}: {type(error).__name__}: {error}") from error
