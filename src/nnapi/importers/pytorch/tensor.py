"""PyTorch's tensors as the importer sees them: a shape, a type, and an operand or a constant value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from nnapi.errors import ModelError
from nnapi.importers.pytorch.rank import Dims
from nnapi.ir.builder import Ref
from nnapi.ops.types import B8, F16, F32, I32, Q8, Array, Operand, OperandType

TYPES: Final = {
    torch.float32: F32, torch.float64: F32, torch.bfloat16: F32, torch.float16: F16, torch.bool: B8,
    torch.int64: I32, torch.int32: I32, torch.int16: I32, torch.int8: I32, torch.uint8: Q8,
}  # fmt: skip
EXACT: Final = {F32: torch.float32, F16: torch.float16, B8: torch.bool, I32: torch.int32, Q8: torch.uint8}
"""The types that both have; PyTorch's others take the nearest one. Bytes are quantized with scale 1, zero point 0."""


LIMITS: Final = np.iinfo(np.int64)
MAX_CONSTANT: Final = 1 << 29
"""Bytes of a constant that is computed: a few numbers in a file ask for any size."""


class Inexpressible(Exception):
    """NNAPI's operations cannot say this; the operator becomes an extension. Raised before anything is written."""


class Unknown:
    """A size that is known at run time only."""


UNKNOWN: Final = Unknown()


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the graph: its shape in PyTorch, and either its operand or, where it is constant, its value.

    The operand holds the same elements in the same order, perhaps in another shape: NNAPI has no rank 0, and operations
    take rank 4 at most.
    """

    shape: Dims
    type: OperandType
    ref: Ref | None = None
    value: Any = None
    """torch.Tensor"""

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_constant(self) -> bool:
        return self.value is not None

    @property
    def is_float(self) -> bool:
        return self.type in (F32, F16)

    def axis(self, axis: int) -> int:
        """`axis` counted from the front."""
        return axis % max(self.rank, 1)

    def axes(self, axes: int | Sequence[int] | None) -> list[int]:
        """`axes` counted from the front, in order; every one where PyTorch names none."""
        if axes is None or axes == []:
            return list(range(self.rank))
        return sorted(self.axis(a) for a in ([axes] if isinstance(axes, int) else axes))

    @property
    def is_empty(self) -> bool:
        """Whether it has no elements."""
        return 0 in self.shape

    def size(self, axis: int) -> int:
        """A dimension that must be known."""
        size = self.shape[axis]
        if size is None:
            raise Inexpressible(f"dimension {axis} is unknown until run time")
        return size


def operand_of(type: OperandType, shape: Dims = (), name: str = "") -> Operand:
    """An operand for a tensor of that type and shape."""
    return Operand(type, tuple(d or 0 for d in shape), 1.0 if type == Q8 else 0.0, name=name)


def dims_of(value: torch.Tensor) -> Dims:
    """The shape of a tensor of the graph; None where a dimension is unknown until run time."""
    return tuple(map(number_of, value.shape))


def sizes_of(value: torch.Tensor) -> tuple[Any, ...]:
    """The shape of a tensor of the graph; an unknown dimension as PyTorch's expression of it."""
    return tuple(d.node.expr if isinstance(d, torch.SymInt) else d for d in value.shape)


def number_of(value: Any) -> Any:
    """A number of the graph; None where it is known at run time only: some symbols can have one value only."""
    match value:
        case torch.SymInt():
            return value.node.maybe_as_int()
        case torch.SymFloat():
            return value.node.maybe_as_float()
        case torch.SymBool():
            return value.node.maybe_as_bool()
        case bool() | int() | float():
            return value
    return None


def filled(shape: Dims, what: str) -> Dims:
    """The shape; ModelError where it has no elements."""
    if 0 in shape:
        raise ModelError(
            f"{what} has shape {shape}, where NNAPI's 0 is an unknown size", hint="leave out what is empty"
        )
    return shape


def empty(shape: Dims, type: OperandType) -> Tensor:
    """A tensor without elements: a constant that no operation takes; without a value where a size is unknown."""
    is_open = None in shape
    return Tensor(shape, type, value=None if is_open else torch.empty(shape, dtype=EXACT[type]))


def tensor_of(value: torch.Tensor) -> Tensor:
    """A constant."""
    if value.dtype not in TYPES:
        raise ModelError(f"a constant is {value.dtype}, which NNAPI has no type for", hint="use a real type")
    if value.is_meta:
        raise ModelError(f"a constant of shape {tuple(value.shape)} has no values", hint="load the weights first")
    if value.layout != torch.strided:
        value = value.to_dense()
    return Tensor(tuple(value.shape), TYPES[value.dtype], value=value)


def check_size(size: int) -> None:
    """ModelError where a constant would be computed that is too large."""
    if size > MAX_CONSTANT:
        raise ModelError(f"makes a constant of {size} bytes, may have {MAX_CONSTANT}", hint="make it an input")


def array_of(value: torch.Tensor) -> Array:
    """The tensor's values in the type NNAPI stores them in; a view of its memory where the layout allows."""
    size = value.numel() * value.itemsize
    if size > value.untyped_storage().nbytes():
        check_size(size)
    value = value.detach().resolve_conj().resolve_neg().cpu()
    if value.dtype == torch.bfloat16:
        value = value.float()
    array: Array = value.numpy()
    dtype = TYPES[value.dtype].dtype
    if array.dtype == np.int64:  # PyTorch's own limits stand for infinity, as NNAPI's do
        array = np.where(array == LIMITS.min, -(2**31), np.where(array == LIMITS.max, 2**31 - 1, array))
    if dtype == np.int32 and array.size and not -(2**31) <= int(array.min()) <= int(array.max()) < 2**31:
        raise ModelError(
            f"a constant of {value.dtype} holds {array.min()} to {array.max()}, TENSOR_INT32 has 32 bits",
            hint="use smaller values, or a float mask",
        )
    return np.ascontiguousarray(array, dtype)
