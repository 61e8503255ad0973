"""RESHAPEs that TFLite does without: its FULLY_CONNECTED flattens by itself, and may give the dimensions back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from nnapi.ir.model import Model, Operation


class Flattening(NamedTuple):
    """What is left out of a graph."""

    same: Mapping[int, int]
    """Operand -> the one whose tensor it shares."""
    superfluous: frozenset[int]
    """Outputs of RESHAPEs."""
    kept: frozenset[int]
    """Outputs of FULLY_CONNECTED that have the dimensions of its input, but for the last."""


def flattening(model: Model) -> Flattening:
    """The RESHAPEs around each FULLY_CONNECTED of `model` that nobody else reads."""
    same: dict[int, int] = {}
    superfluous: set[int] = set()
    kept: set[int] = set()
    for operation in model.operations:
        if operation.type != "FULLY_CONNECTED":
            continue
        x, y = operation.inputs[0], operation.outputs[0]
        before = model.producers.get(x)
        if before is not None and _is_reshape(model, before) and _only_flattened(model, x):
            same[x] = model.operations[before].inputs[0]
            superfluous.add(x)
        after = _only_reader(model, y)
        if after is not None and _is_reshape(model, after):
            whole = model.operands[same.get(x, x)].dimensions
            result = model.operations[after].outputs[0]
            filter, restored = model.operands[operation.inputs[1]], model.operands[result].dimensions
            if whole[-1:] == filter.dimensions[1:] and restored == (*whole[:-1], filter.dimensions[0]):
                same[y] = result
                superfluous.add(result)
                kept.add(y)
    return Flattening(same, frozenset(superfluous), frozenset(kept))


def _is_reshape(model: Model, n: int) -> bool:
    """Whether an operation is a RESHAPE of known dimensions, not one that could be refused."""
    operation = model.operations[n]
    known = [model.operands[i].elements for i in (operation.inputs[0], *operation.outputs)]
    shape = operation.inputs[1:]
    return operation.type == "RESHAPE" and all(known) and all(model.operands[i].is_constant for i in shape)


def _only_flattened(model: Model, i: int) -> bool:
    """Whether nothing but the input of FULLY_CONNECTED is made of an operand."""
    readers = [model.operations[n] for n in model.consumers.get(i, ())]
    return i not in model.outputs and all(_flattens(reader, i) for reader in readers)


def _flattens(reader: Operation, i: int) -> bool:
    return reader.type == "FULLY_CONNECTED" and reader.inputs[0] == i and i not in reader.inputs[1:]


def _only_reader(model: Model, i: int) -> int | None:
    readers = set(model.consumers.get(i, ()))
    return readers.pop() if len(readers) == 1 and i not in model.outputs else None
