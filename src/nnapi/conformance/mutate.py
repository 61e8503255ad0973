"""Break a model at random: whatever takes models must refuse the result with an NnapiError, or run it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import OMITTED, ChannelQuant, Operand, OperandType

WHOLE: Final = (-(2**63), -(2**31), -129, -1, 0, 1, 2, 3, 5, 7, 255, 256, 65536, 2**31 - 1, 2**31, 2**62)
"""Integers that tend to break things."""
REAL: Final = (0.0, -0.0, -1.0, 1e-45, 1e-9, 0.3, 3.4e38, 1e300, math.inf, -math.inf, math.nan)


def mutate(model: Model, seed: int, *, changes: int = 1) -> Model:
    """`model` with a few random changes; unchecked. The same seed makes the same changes."""
    rng = random.Random(seed)
    for _ in range(changes):
        model = rng.choice(CHANGES)(model, rng)
    return model


def _change_operand(change: Callable[[Operand, random.Random], Operand]) -> Callable[[Model, random.Random], Model]:
    def changed(model: Model, rng: random.Random) -> Model:
        operands = list(model.operands)
        i = rng.randrange(len(operands))
        operands[i] = change(operands[i], rng)
        return replace(model, operands=tuple(operands))

    return changed


def _change_operation(
    change: Callable[[Operation, Model, random.Random], Operation],
) -> Callable[[Model, random.Random], Model]:
    def changed(model: Model, rng: random.Random) -> Model:
        if not model.operations:
            return model
        operations = list(model.operations)
        i = rng.randrange(len(operations))
        operations[i] = change(operations[i], model, rng)
        return replace(model, operations=tuple(operations))

    return changed


def _type(operand: Operand, rng: random.Random) -> Operand:
    return replace(operand, type=rng.choice(list(OperandType)))


def _type_and_value(operand: Operand, rng: random.Random) -> Operand:
    """Another type, with the value to match."""
    type = rng.choice(list(OperandType))
    value = operand.value
    if isinstance(value, np.ndarray) and type.dtype.kind != "O":
        with np.errstate(all="ignore"):
            value = value.astype(type.dtype)
    return replace(operand, type=type, value=value, scale=rng.choice((operand.scale, 0.5, 0.0)), channel_quant=None)


def _dimensions(operand: Operand, rng: random.Random) -> Operand:
    dimensions = _changed_list(operand.dimensions, rng, WHOLE)
    value = operand.value
    if isinstance(value, np.ndarray) and all(0 <= d <= 2**12 for d in dimensions) and rng.random() < 0.7:
        count = math.prod(dimensions)
        if count <= 2**16:
            value = np.resize(value, dimensions) if value.size else np.zeros(dimensions, value.dtype)
    return replace(operand, dimensions=dimensions, value=value)


def _scale(operand: Operand, rng: random.Random) -> Operand:
    return replace(operand, scale=rng.choice(REAL))


def _zero_point(operand: Operand, rng: random.Random) -> Operand:
    return replace(operand, zero_point=rng.choice(WHOLE))


def _channel_quant(operand: Operand, rng: random.Random) -> Operand:
    scales = tuple(rng.choice((0.5, 0.25, *REAL)) for _ in range(rng.randrange(5)))
    return replace(operand, channel_quant=rng.choice((None, ChannelQuant(scales, rng.choice(WHOLE)))))


def _no_value(operand: Operand, rng: random.Random) -> Operand:
    return replace(operand, value=rng.choice((None, OMITTED, 1, "text", np.zeros(3))))


def _other_value(operand: Operand, rng: random.Random) -> Operand:
    """Extreme values in the constant, as many as it has."""
    value = operand.value
    if not isinstance(value, np.ndarray):
        return operand
    dtype = value.dtype
    flat: Any = value.flatten()
    for i in range(min(flat.size, rng.choice((1, 8)))):
        if dtype.kind == "f":
            with np.errstate(all="ignore"):
                flat[i] = np.float64(rng.choice(REAL)).astype(dtype)
        elif dtype.kind in "iu":
            flat[i] = min(max(rng.choice(WHOLE), np.iinfo(dtype).min), np.iinfo(dtype).max)
        else:
            flat[i] = not flat[i]
    return replace(operand, value=flat.reshape(value.shape))


def _operation_type(operation: Operation, model: Model, rng: random.Random) -> Operation:
    return replace(
        operation, type=rng.choice((*OPERATIONS, "", "NO_SUCH", "org.nobody/thing", "/", "org.nnapi.composite/X"))
    )


def _operation_inputs(operation: Operation, model: Model, rng: random.Random) -> Operation:
    return replace(operation, inputs=_changed_list(operation.inputs, rng, _indexes(model)))


def _operation_outputs(operation: Operation, model: Model, rng: random.Random) -> Operation:
    return replace(operation, outputs=_changed_list(operation.outputs, rng, _indexes(model)))


def _model_inputs(model: Model, rng: random.Random) -> Model:
    return replace(model, inputs=_changed_list(model.inputs, rng, _indexes(model)))


def _model_outputs(model: Model, rng: random.Random) -> Model:
    return replace(model, outputs=_changed_list(model.outputs, rng, _indexes(model)))


def _operations(model: Model, rng: random.Random) -> Model:
    """Operations in another order, one missing, or one twice."""
    operations = list(model.operations)
    if operations:
        rng.choice((rng.shuffle, lambda o: o.pop(), lambda o: o.append(o[0])))(operations)
    return replace(model, operations=tuple(operations))


def _referenced(model: Model, rng: random.Random) -> Model:
    """One change in a model that an operand holds."""
    operands = list(model.operands)
    held = [i for i, operand in enumerate(operands) if isinstance(operand.value, Model)]
    if held:
        i = rng.choice(held)
        operands[i] = replace(operands[i], value=rng.choice(CHANGES)(operands[i].value, rng))
    return replace(model, operands=tuple(operands))


def _indexes(model: Model) -> Sequence[int]:
    count = len(model.operands)
    return (*range(count), *range(count), -1, count, 2**40)


def _changed_list(values: Sequence[int], rng: random.Random, choices: Sequence[int]) -> tuple[int, ...]:
    """One value replaced, removed, repeated or put in."""
    changed = list(values)
    at = rng.randrange(len(changed)) if changed else 0
    how = rng.choice(("replace", "remove", "repeat", "insert")) if changed else "insert"
    if how == "replace":
        changed[at] = rng.choice(choices)
    elif how == "remove":
        del changed[at]
    elif how == "repeat":
        changed.append(changed[at])
    else:
        changed.insert(at, rng.choice(choices))
    return tuple(changed)


CHANGES: Final[tuple[Callable[[Model, random.Random], Model], ...]] = (
    *map(
        _change_operand,
        (_type, _type_and_value, _dimensions, _dimensions, _scale, _zero_point, _channel_quant, _no_value,
         _other_value, _other_value),
    ),
    *map(_change_operation, (_operation_type, _operation_inputs, _operation_outputs)),
    _model_inputs,
    _model_outputs,
    _operations,
    _referenced,
)  # fmt: skip
