"""Attention masks: a constant of -65504 or minus infinity, added before SOFTMAX, would take the scores' whole range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from nnapi.ir.model import Model
from nnapi.ops.types import F32
from nnapi.quantization.data import Example
from nnapi.quantization.expose import Exposed

HIDDEN: Final = -1000.0
"""What is added from here on down hides a score."""
ENOUGH: Final = 16.0
"""How far below all others a score counts for nothing: of its exponential a ten-millionth is left."""


def clip_masks(model: Model, examples: Sequence[Example]) -> Model:
    """The same function with constant masks no lower than the scores on `examples` ask for.

    before: `SOFTMAX(ADD(scores, mask))`, the mask 0 or -65504
    after:  the mask 0 or -(the scores' span + 16 / beta)
    """
    found = {n: sides for n in range(len(model.operations)) if (sides := _scores_and_mask(model, n)) is not None}
    if not found:
        return model
    span = dict.fromkeys((scores for scores, _, _ in found.values()), (0.0, 0.0))
    exposed = Exposed(model, [*span])
    for example in examples:
        for i, x in exposed.run(example):
            span[i] = min(span[i][0], float(x.min())), max(span[i][1], float(x.max()))
    operands, operations = list(model.operands), list(model.operations)
    for n, (scores, mask, beta) in found.items():
        low, high = span[scores]
        least = np.float32(low - high - ENOUGH / beta)
        value = operands[mask].value
        operands.append(replace(operands[mask], value=np.where(value <= HIDDEN, np.maximum(value, least), value)))
        inputs = tuple(len(operands) - 1 if i == mask else i for i in operations[n].inputs)
        operations[n] = replace(operations[n], inputs=inputs)
    return replace(model, operands=tuple(operands), operations=tuple(operations))


def _scores_and_mask(model: Model, n: int) -> tuple[int, int, float] | None:
    """The operands of scores and mask, and SOFTMAX's beta, where operation n adds a mask for SOFTMAX alone."""
    operation = model.operations[n]
    if operation.type != "ADD" or operation.outputs[0] in model.outputs:
        return None
    constant = [i for i in operation.inputs[:2] if model.operands[i].type == F32 and model.operands[i].is_constant]
    readers = [model.operations[k] for k in model.consumers.get(operation.outputs[0], ())]
    if len(constant) != 1 or not readers or any(r.type != "SOFTMAX" for r in readers):
        return None
    value = model.operands[constant[0]].value
    beta = min(float(model.call(r).scalar("beta")) for r in readers)
    if not value.size or value.min() > HIDDEN or not beta > 0:
        return None
    scores = next(i for i in operation.inputs[:2] if i != constant[0])
    return scores, constant[0], beta
