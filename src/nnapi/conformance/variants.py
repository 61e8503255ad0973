"""Other forms in which a case must pass too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nnapi.conformance.reader import Case
from nnapi.ops.types import Q8, Q8S, Array, Operand

DECLARED = frozenset(("RANK", "IF", "WHILE"))
"""Operations whose cases need their outputs' dimensions declared."""


def signed(case: Case) -> Case:
    """The twin of a case in which TENSOR_QUANT8_ASYMM of the main model is TENSOR_QUANT8_ASYMM_SIGNED, all less 128."""

    def operand(o: Operand) -> Operand:
        if o.type != Q8:
            return o
        value = _less_128(o.value) if isinstance(o.value, np.ndarray) else o.value
        return replace(o, type=Q8S, zero_point=o.zero_point - 128, value=value)

    def array(o: Operand, value: Array | None) -> Array | None:
        return value if value is None or o.type != Q8 else _less_128(value)

    model = case.model
    return replace(
        case,
        id=f"{case.id}@signed",
        model=replace(model, operands=tuple(map(operand, model.operands))),
        inputs=tuple(map(array, model.input_operands, case.inputs)),
        expected=tuple(map(array, model.output_operands, case.expected)),
        level=None if case.level is None else max(case.level, Q8S.since),
    )


def _less_128(array: Array) -> Array:
    # Flipping the top bit of a byte takes 128 from it.
    shifted = (array ^ np.uint8(128)).view(np.int8)
    shifted.flags.writeable = False
    return shifted


def unspecified_outputs(case: Case) -> Case | None:
    """The case with the dimensions of its model's outputs unspecified; None where that is not allowed."""
    model = case.model
    if case.expect_failure or not DECLARED.isdisjoint(o.type for o in model.operations):
        return None
    operands = list(model.operands)
    for i in model.outputs:
        operands[i] = replace(operands[i], dimensions=(0,) * len(operands[i].dimensions))
    return replace(case, id=f"{case.id}@unspecified", model=replace(model, operands=tuple(operands)))
