"""Clients' buffers as arrays, and back: views, not copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnapi.ops.types import Array, OperandType
from nnapi.runtime.codes import bad_data

Buffer = Any
"""Anything with the buffer protocol, contiguous; its length is that of the value."""


def bytes_of(buffer: Buffer) -> Array:
    """A buffer as bytes [n], read only where it is; BAD_DATA for what is no buffer, or not contiguous."""
    try:
        with memoryview(buffer) as view:
            if not view.nbytes:
                return np.empty(0, np.uint8)
        return np.frombuffer(buffer, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        bad_data(f"a buffer cannot be used: {error}")


def typed(data: Array, type: OperandType, dimensions: Sequence[int]) -> Array:
    """bytes [n] as a value of the type: a view; of booleans a copy, in which every byte but 0 is true."""
    if type.dtype.kind == "b":
        return (data != 0).reshape(dimensions)
    return data.view(type.dtype).reshape(dimensions)


def raw(array: Array) -> Array:
    """An array as bytes [n]: a view where it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
