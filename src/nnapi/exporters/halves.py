"""16-bit floats for storage only: arithmetic in float32, constants of 16 bits and a CAST of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.types import F16, F32, FLOAT16, FLOAT32, Operand, OperandType

WIDE: Final[Mapping[OperandType, OperandType]] = {F16: F32, FLOAT16: FLOAT32}
SMALL: Final = 128
"""Bytes of a constant up to which 16 bits save nothing: an operation more takes as many."""


def in_float32(model: Model) -> Model:
    """`model` computed in float32, its inputs and outputs float32 too; large constants keep their 16 bits.

    before: `a = CAST(x float32); b = MUL(a float16, w float16); y = CAST(b)`
    after:  `v = CAST(w float16); y = MUL(x float32, v)`
    """
    bodies = {i: in_float32(o.value) for i, o in enumerate(model.operands) if isinstance(o.value, Model)}
    changed = any(bodies[i] is not model.operands[i].value for i in bodies)
    if not changed and all(o.type not in WIDE for o in model.operands):
        return model
    operands, operations = list(model.operands), []
    for i, operand in enumerate(model.operands):
        if i in bodies:
            operands[i] = replace(operand, value=bodies[i])
        elif operand.type == F16 and isinstance(operand.value, np.ndarray) and operand.value.nbytes > SMALL:
            operands[i] = replace(operand, type=F32, value=None)
            operations.append(Operation("CAST", (len(operands),), (i,), operand.name))
            operands.append(replace(operand, name=""))
        elif operand.type in WIDE:
            operands[i] = _widened(operand)
    same: dict[int, int] = {}
    outputs = list(model.outputs)
    for operation in model.operations:
        inputs = tuple(same.get(i, i) for i in operation.inputs)
        result = operation.outputs[0]
        if operation.type == "CAST" and operands[inputs[0]].type == F32 == operands[result].type:
            source = inputs[0]
            if result not in outputs:
                same[result] = source
                continue
            if source in model.producers and source not in outputs:
                operands[source] = replace(operands[source], name=operands[result].name)
                outputs[outputs.index(result)] = same[result] = source
                continue
        operations.append(replace(operation, inputs=inputs))
    return replace(model, operands=tuple(operands), operations=tuple(operations), outputs=tuple(outputs))


def _widened(operand: Operand) -> Operand:
    value = operand.value
    if isinstance(value, np.ndarray):
        value = value.astype(np.float32)
    return replace(operand, type=WIDE[operand.type], value=value)
