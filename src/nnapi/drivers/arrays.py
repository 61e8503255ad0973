"""Arrays on their way into a prepared model and out of it: what its operands store, and nothing that looks like it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnapi.errors import ExecutionError
from nnapi.ir.verify import compatible
from nnapi.ops.types import Array, Operand


def check_input(operand: Operand, array: Array | None) -> Array | None:
    """`array` as the operand stores it; ExecutionError where type or shape do not fit."""
    if array is None:
        return None
    name = _name(operand)
    try:
        array = np.asarray(array)
    except Exception as error:  # whatever a foreign object's conversion raises
        raise ExecutionError(f"{name} is no array: {error}") from error
    if array.dtype != operand.type.dtype:
        raise ExecutionError(f"{name} is {array.dtype}, must be {operand.type.dtype} for {operand.type.name}")
    if operand.type.is_tensor and not compatible(operand.dimensions, array.shape):
        raise ExecutionError(f"{name} has shape {array.shape}, must have {operand.dimensions}")
    if not operand.type.is_tensor and array.size != 1:
        raise ExecutionError(f"{name} has {array.size} values, must have 1")
    return array if operand.type.is_tensor else array.reshape(())


def check_inputs(operands: Sequence[Operand], inputs: Sequence[Array | None], engine: str) -> list[Array]:
    """The inputs as the operands store them; ExecutionError where one does not fit, or `engine` takes none such."""
    if len(inputs) != len(operands):
        raise ExecutionError(f"{len(inputs)} inputs given, the model takes {len(operands)}")
    arrays = []
    for operand, given in zip(operands, inputs):
        array = check_input(operand, given)
        if array is None:
            raise ExecutionError(f"{_name(operand)} is omitted, {engine} has no optional inputs")
        if array.size == 0:
            raise ExecutionError(f"{_name(operand)} has shape {array.shape}, {engine} takes no empty tensors")
        arrays.append(array)
    return arrays


def are_stored(operands: Sequence[Operand], inputs: Sequence[Array | None]) -> bool:
    """Whether the inputs are arrays of exactly the operands' types: engines take swapped bytes for numbers."""
    return all(getattr(array, "dtype", None) == o.type.dtype for o, array in zip(operands, inputs))


def deliver(results: list[Array], operands: Sequence[Operand], outputs: Sequence[Array] | None) -> list[Array]:
    """The results, written into `outputs` where given; ExecutionError where one of these is not what it must be."""
    if outputs is None:
        return results
    if len(outputs) != len(results):
        raise ExecutionError(f"{len(outputs)} output arrays given, the model has {len(results)}")
    for given, operand, result in zip(outputs, operands, results):
        dtype = operand.type.dtype
        if given.shape != result.shape or given.dtype != dtype:
            raise ExecutionError(f"output array is {given.dtype} {given.shape}, must be {dtype} {result.shape}")
        if not given.flags.writeable:
            raise ExecutionError(f"output array {given.shape} is read-only, must be writable")
        given[...] = result
    return list(outputs)


def _name(operand: Operand) -> str:
    return f"input {operand.name!r}" if operand.name else "an input"
