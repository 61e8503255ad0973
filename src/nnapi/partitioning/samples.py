"""Sample inputs: what placements are compared and measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnapi.errors import UsageError
from nnapi.ops.types import Array, Operand


def random_inputs(operands: Sequence[Operand], seed: int = 0) -> list[Array]:
    """Seeded random values for model inputs: normal for floats, the whole range for quantized types, 0 or 1 else.

    An unknown dimension is 1. Raises UsageError for an input of unknown rank.
    """
    generator = np.random.default_rng(seed)
    return [_random(operand, generator) for operand in operands]


def _random(operand: Operand, generator: Any) -> Array:
    if operand.type.is_tensor and not operand.dimensions:
        raise UsageError(f"input {operand.name!r} has unknown rank", hint="give it as a .npy file")
    shape = tuple(d or 1 for d in operand.dimensions)
    dtype = operand.type.dtype
    if dtype.kind == "f":
        return np.asarray(generator.standard_normal(shape), dtype)
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if operand.type.is_quantized else (0, 1)
    return np.asarray(generator.integers(low, high, shape, endpoint=True)).astype(dtype)
