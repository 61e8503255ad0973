"""One operation at a time on the reference device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.errors import ExecutionError, ModelError
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ir.verify import verify
from nnapi.ops.types import Operand

Inputs = Mapping[str, Any]
"""Arrays and scalars by parameter name, or operands that hold their value."""
Outputs = Operand | Sequence[Operand] | None
"""The type and quantization of the one output, or of each; None where the inputs determine them."""


def _single(operation: str, inputs: Inputs, outputs: Outputs = None) -> Model:
    """A model of one operation on constants."""
    b = Builder(operation)
    given = {name: _refs(b, value) for name, value in inputs.items()}
    b.output(*b.add_many(operation, given, (outputs,) if isinstance(outputs, Operand) else outputs))
    return b.finish()


def _refs(b: Builder, value: Any) -> Any:
    """Operands, alone or in a list, as operands of the model."""
    if isinstance(value, list) and all(isinstance(v, Operand) for v in value):
        return [b.operand(v) for v in value]
    return b.operand(value) if isinstance(value, Operand) else value


def _on_inputs(model: Model) -> tuple[Model, list[np.ndarray]]:
    """The same model with every constant an input of unknown dimensions, and the values to run it on."""
    constants = tuple(i for i, operand in enumerate(model.operands) if isinstance(operand.value, np.ndarray))
    values = [model.operands[i].value for i in constants]
    operands = [
        o if o.is_omitted else replace(o, value=None, dimensions=(0,) * len(o.dimensions)) for o in model.operands
    ]
    return replace(model, operands=tuple(operands), inputs=constants), values


def _changed(model: Model, change: Inputs) -> Model:
    """The one operation of `model` with some of its inputs replaced, checked by nobody."""
    (operation,) = model.operations
    call = model.call(operation)
    operands, inputs = list(model.operands), list(operation.inputs)
    for param, at in call.slots:
        if param.name in change:
            value, old = change[param.name], operands[inputs[at.start]]
            inputs[at.start] = len(operands)
            new = value if isinstance(value, Operand) else old.with_value(np.array(value, old.type.dtype))
            operands.append(new)
    return replace(model, operands=tuple(operands), operations=(replace(operation, inputs=tuple(inputs)),))


@pytest.fixture(scope="session")
def single() -> Callable[..., Model]:
    """single(operation, inputs, outputs=None) -> a model of that one operation on constants."""
    return _single


def _apply_all(operation: str, inputs: Inputs, outputs: Outputs = None) -> list[np.ndarray]:
    model = _single(operation, inputs, outputs)
    results = execute(model, [])
    unknown, values = _on_inputs(model)
    verify(unknown)
    for late, early in zip(execute(unknown, values), results, strict=True):
        np.testing.assert_array_equal(late, early)
    return results


@pytest.fixture(scope="session")
def apply_all() -> Callable[..., list[np.ndarray]]:
    """apply_all(operation, inputs, outputs=None) -> its outputs; the same where nothing is known before execution."""
    return _apply_all


@pytest.fixture(scope="session")
def apply() -> Callable[..., np.ndarray]:
    """apply(operation, inputs, output=None) -> its first output; see `apply_all`."""

    def apply(operation: str, inputs: Inputs, output: Operand | None = None) -> np.ndarray:
        return _apply_all(operation, inputs, output)[0]

    return apply


@pytest.fixture(scope="session")
def refuses() -> Callable[..., None]:
    """refuses(operation, inputs, change, message): a valid use is refused with `change`, saying `message`.

    Changed values are refused by verification and, where they are not known before, by the execution; changed operands
    (types, scales) by verification alone.
    """

    def refuses(operation: str, inputs: Inputs, change: Inputs, message: str, output: Outputs = None) -> None:
        model = _single(operation, inputs, output)
        wrong = _changed(model, change)
        with pytest.raises(ModelError, match=message) as refused:
            verify(wrong)
        assert refused.value.operation == operation
        if not any(isinstance(value, Operand) for value in change.values()):
            unknown, values = _on_inputs(wrong)
            with pytest.raises(ExecutionError, match=message):
                execute(unknown, values)

    return refuses


@pytest.fixture(scope="session")
def fails() -> Callable[..., None]:
    """fails(operation, inputs, change, message): a valid model whose execution on changed values fails, saying so."""

    def fails(operation: str, inputs: Inputs, change: Inputs, message: str, outputs: Outputs = None) -> None:
        wrong = _changed(_single(operation, inputs, outputs), change)
        verify(wrong)
        with pytest.raises(ExecutionError, match=message) as failed:
            execute(wrong, [])
        assert failed.value.operation == operation

    return fails
