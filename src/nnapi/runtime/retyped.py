"""A model for operand types that clients give with their buffers: known dimensions, other scales and zero points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nnapi.errors import ModelError
from nnapi.ir.model import Model, Operation
from nnapi.ir.specialize import specialize
from nnapi.ir.verify import verify
from nnapi.ops.types import F32, Operand
from nnapi.runtime.codes import ResultCode, ResultError


def retyped(model: Model, inputs: Sequence[Operand], outputs: Sequence[Operand]) -> Model:
    """`model` on other inputs and outputs; where it cannot take an input's scale, on that input requantized.

    OP_FAILED where it does not take them either way.
    """
    try:
        return _checked(_on(model, inputs, outputs), inputs)
    except ModelError as error:
        try:
            return _checked(_requantized(model, inputs, outputs), inputs)
        except ModelError:
            message = f"the model does not take these operand types: {error.message}"
            raise ResultError(ResultCode.OP_FAILED, message, operation=error.operation, hint=error.hint) from error


def _checked(model: Model, inputs: Sequence[Operand]) -> Model:
    changed = specialize(model, [o.dimensions for o in inputs])
    verify(changed)
    return changed


def _on(model: Model, inputs: Sequence[Operand], outputs: Sequence[Operand]) -> Model:
    operands = list(model.operands)
    for index, operand in zip((*model.inputs, *model.outputs), (*inputs, *outputs)):
        operands[index] = operand
    return replace(model, operands=tuple(operands))


def _requantized(model: Model, inputs: Sequence[Operand], outputs: Sequence[Operand]) -> Model:
    """DEQUANTIZE and QUANTIZE between each input of another scale or zero point and the model as it was built."""
    own = [replace(model.operands[i], dimensions=o.dimensions) for i, o in zip(model.inputs, inputs)]
    changed = _on(model, own, outputs)
    operands, before, indexes = list(changed.operands), [], list(changed.inputs)
    for place, (index, given) in enumerate(zip(changed.inputs, inputs)):
        if quant_of(given) != quant_of(operands[index]):
            real = replace(given, type=F32, scale=0.0, zero_point=0)
            indexes[place] = len(operands)
            operands += [given, real]
            before.append(Operation("DEQUANTIZE", (indexes[place],), (indexes[place] + 1,)))
            before.append(Operation("QUANTIZE", (indexes[place] + 1,), (index,)))
    return replace(changed, operands=tuple(operands), operations=(*before, *changed.operations), inputs=tuple(indexes))


def quant_of(operand: Operand) -> tuple[float, int]:
    """Scale and zero point."""
    return operand.scale, operand.zero_point
