"""Operands and arrays that tests of operations share."""

from __future__ import annotations

import numpy as np

from nnapi.ops.types import Array, Operand, OperandType

HUGE, LOWEST = 2**31 - 1, -(2**31)


def tensor(type: OperandType, *shape: int, scale: float = 0.5, zero_point: int = 0) -> Operand:
    """Elements 0, 1, 2, ... of a type, in a shape; `scale` and `zero_point` where it is quantized."""
    array = np.arange(np.prod(shape)).astype(type.dtype).reshape(shape)
    return Operand(type, shape, scale if type.is_quantized else 0.0, zero_point).with_value(array)


def ints(*values: int) -> Array:
    """A one-dimensional TENSOR_INT32 value."""
    return np.array(values, np.int32)
