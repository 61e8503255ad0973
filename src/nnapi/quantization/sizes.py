"""Sizes of a model, and the share of it that computes in integers."""

from __future__ import annotations

from typing import Final

import numpy as np

from nnapi.ir.model import Model

ENTRY: Final = 100
"""Bytes that an operation or an operand takes in a file, about."""


def size(model: Model) -> int:
    """Bytes of all constants, each counted once; bodies of control flow and composites included."""
    seen: dict[int, int] = {}

    def add(model: Model) -> None:
        for operand in model.operands:
            if isinstance(operand.value, Model):
                add(operand.value)
            elif isinstance(operand.value, np.ndarray):
                seen[id(operand.value)] = operand.value.nbytes

    add(model)
    return sum(seen.values())


def footprint(model: Model) -> int:
    """About the bytes of `model` in a file: constants, and what describes operations and operands."""
    return size(model) + ENTRY * (len(model.operations) + len(model.operands))
