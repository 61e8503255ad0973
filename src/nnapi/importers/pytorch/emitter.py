"""What the mapping functions work with: PyTorch's tensors as operands, and the operations to write.

A mapping function gets the emitter and an ATen operator's arguments, and returns the operator's results:

    def relu(e: Emitter, x: Tensor) -> Tensor:
        return e.add("RELU", input=x)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from nnapi.errors import ModelError
from nnapi.importers.pytorch import rank
from nnapi.importers.pytorch.rank import MAX_RANK, Dims
from nnapi.ir.builder import Builder, Ref
from nnapi.ops.numeric import NONE
from nnapi.ops.types import B8, F16, F32, I32, Array, Operand, OperandType

TYPES: Final = {
    torch.float32: F32, torch.float64: F32, torch.bfloat16: F32, torch.float16: F16, torch.bool: B8,
    torch.int64: I32, torch.int32: I32, torch.int16: I32, torch.int8: I32, torch.uint8: I32,
}  # fmt: skip
EXACT: Final = frozenset((torch.float32, torch.float16, torch.bool, torch.int32))
"""The types that NNAPI has as they are; the others take the nearest one."""


MOVING: Final = frozenset((
    "CONCATENATION", "GATHER", "PAD", "RESHAPE", "SLICE", "SPLIT", "STRIDED_SLICE", "TILE", "TRANSPOSE",
))  # fmt: skip
"""Operations that only move data."""


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

    def size(self, axis: int) -> int:
        """A dimension that must be known."""
        size = self.shape[axis]
        if size is None:
            raise Inexpressible(f"dimension {axis} is unknown until run time")
        return size


def dims_of(value: torch.Tensor) -> Dims:
    """The shape of a tensor of the graph; None where a dimension is unknown until run time."""
    return tuple(d if isinstance(d, int) else None for d in value.shape)


def tensor_of(value: torch.Tensor) -> Tensor:
    """A constant."""
    if value.dtype not in TYPES:
        raise ModelError(f"a constant is {value.dtype}, which NNAPI has no type for", hint="use a real type")
    return Tensor(tuple(value.shape), TYPES[value.dtype], value=value)


def array_of(value: torch.Tensor) -> Array:
    """The tensor's values in the type NNAPI stores them in; a view of its memory where the layout allows."""
    value = value.detach().resolve_conj().resolve_neg().cpu()
    if value.layout != torch.strided:
        value = value.to_dense()
    if value.dtype == torch.bfloat16:
        value = value.float()
    array: Array = value.numpy()
    dtype = TYPES[value.dtype].dtype
    if dtype == np.int32 and array.size and not -(2**31) <= int(array.min()) <= int(array.max()) < 2**31:
        raise ModelError(
            f"a constant of {value.dtype} holds {array.min()} to {array.max()}, TENSOR_INT32 has 32 bits",
            hint="use smaller values, or a float mask",
        )
    return np.ascontiguousarray(array, dtype)


def _tensors(inputs: Mapping[str, Any]) -> Iterator[Tensor]:
    for value in inputs.values():
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, Tensor):
                yield item


class Emitter:
    """Writes the operations of one node after the other."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.name = ""
        """Of the operations being written."""
        self.result: tuple[tuple[Dims, OperandType], ...] = ()
        """Shape and type of each tensor that PyTorch says the node gives."""
        self._views: dict[tuple[int, Dims], Ref] = {}
        self._constants: dict[tuple[Any, ...], tuple[torch.Tensor, Ref]] = {}
        self._numbers: dict[tuple[str, torch.dtype], Tensor] = {}

    @property
    def shape(self) -> Dims:
        """The shape of the node's first result."""
        return self.result[0][0]

    @property
    def type(self) -> OperandType:
        """The type of the node's first result."""
        return self.result[0][1]

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What is written inside is taken back if it ends in an exception."""
        mark, views = self.builder.mark(), len(self._views)
        try:
            yield
        except Exception:
            self.builder.rollback(mark)
            while len(self._views) > views:
                self._views.popitem()
            raise

    # Operands

    def ref(self, x: Tensor, shape: Dims | None = None) -> Ref:
        """The operand of `x` in `shape` (its own if None); written as a RESHAPE where it has another."""
        shape = (x.shape if shape is None else shape) or (1,)
        if x.ref is None:
            return self._constant(x.value, shape)
        if x.ref.shape == shape:
            return x.ref
        key = (x.ref.index, shape)
        if key not in self._views:
            self._views[key] = self._reshaped(x.ref, shape)
        return self._views[key]

    def _reshaped(self, source: Ref, shape: Dims) -> Ref:
        if len(shape) > MAX_RANK or len(source.shape or ()) > MAX_RANK:
            raise Inexpressible(f"rank {max(len(shape), len(source.shape or ()))}, NNAPI's operations take {MAX_RANK}")
        if shape.count(None) > 1:
            raise ModelError(f"a reshape to {shape} leaves two dimensions open", hint="export with fixed sizes")
        target = [-1 if d is None else d for d in shape]
        return self.ref(self.add("RESHAPE", input=self.unwrap(source), shape=target))

    def _constant(self, value: torch.Tensor, shape: Dims) -> Ref:
        """Stored once for every view of the same memory; `value` is kept, so that its address stays its own."""
        key = (value.data_ptr(), value.dtype, value.shape, value.stride(), shape)
        if key not in self._constants:
            array = array_of(value).reshape([d or 0 for d in shape])
            self._constants[key] = (value, self.builder.constant(array, Operand(TYPES[value.dtype])))
        return self._constants[key][1]

    def like(self, number: float | Array | Sequence[int], x: Tensor) -> Tensor:
        """A constant of x's type: a number of rank 0, or an array as it is."""
        dtype = {F16: torch.float16, I32: torch.int32, B8: torch.bool}.get(x.type, torch.float32)
        if not isinstance(number, (bool, int, float)):
            return tensor_of(torch.as_tensor(number, dtype=dtype))
        key = (str(number), dtype)
        if key not in self._numbers:
            self._numbers[key] = tensor_of(torch.tensor(number, dtype=dtype))
        return self._numbers[key]

    def indexes(self, values: torch.Tensor) -> Tensor:
        """A constant of integers."""
        return tensor_of(values.to(torch.int32))

    def unwrap(self, x: Ref) -> Tensor:
        """An operand as a tensor of the same shape."""
        assert x.shape is not None
        return Tensor(x.shape, x.type, x)

    # Operations

    def add(self, type: str, output: Operand | None = None, /, **inputs: Any) -> Tensor:
        """Write an operation with one output; tensors are taken in PyTorch's shape."""
        return self.add_many(type, None if output is None else (output,), **inputs)[0]

    def add_many(self, type: str, outputs: Sequence[Operand] | None = None, /, **inputs: Any) -> tuple[Tensor, ...]:
        """Write an operation; booleans go through those that only move data as floats, which NNAPI moves."""
        booleans = type in MOVING and any(t.type == B8 for t in _tensors(inputs))
        if booleans:
            inputs = {name: self._as_float(value) for name, value in inputs.items()}
        refs = self._write(type, {name: self._input(value) for name, value in inputs.items()}, outputs)
        results = tuple(map(self.unwrap, refs))
        return tuple(self.cast(r, B8) for r in results) if booleans else results

    def _write(self, type: str, inputs: dict[str, Any], outputs: Sequence[Operand] | None) -> tuple[Ref, ...]:
        try:
            return self.builder.add_many(type, inputs, outputs, name=self.name)
        except ModelError as error:  # a type, a rank, a size that this operation does not take
            raise Inexpressible(f"{type}: {error.message}") from error

    def _as_float(self, value: Any) -> Any:
        if isinstance(value, list) and value and isinstance(value[0], Tensor):
            return [self._as_float(v) for v in value]
        return self.cast(value, F32) if isinstance(value, Tensor) and value.type == B8 else value

    def _input(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.ref(value)
        if isinstance(value, list) and value and isinstance(value[0], Tensor):
            return [self.ref(v) for v in value]
        return value

    def elementwise(self, type: str, output: Operand | None = None, /, **inputs: Any) -> Tensor:
        """Write an operation that works element by element on its tensors, whatever their rank."""
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        shapes = [t.shape for t in tensors.values()]
        views: Sequence[Dims] = shapes
        if max(map(len, shapes)) > MAX_RANK:
            views = rank.merged(*shapes)
        given = {name: self.ref(t, view) for (name, t), view in zip(tensors.items(), views)}
        (written,) = self._write(type, {**inputs, **given}, None if output is None else (output,))
        return Tensor(rank.broadcast(*shapes), written.type, written)

    def composite(self, build: Callable[..., Ref], *inputs: Tensor, **attributes: Any) -> Tensor:
        """Write a composite of ir/composites.py."""
        refs = [self.ref(x) for x in inputs]
        try:
            return self.unwrap(build(self.builder, *refs, **attributes, name=self.name))
        except ModelError as error:
            raise Inexpressible(error.message) from error

    def elementwise_composite(self, build: Callable[..., Ref], x: Tensor, **attributes: Any) -> Tensor:
        """Write a composite of one tensor that works element by element, whatever its rank."""
        (view,) = rank.merged(x.shape) if x.rank > MAX_RANK else (x.shape,)
        return self.viewed(self.composite(build, self.viewed(x, view), **attributes), x.shape)

    # The few that every family needs

    def reshape(self, x: Tensor, shape: Dims) -> Tensor:
        """The same elements in another shape; rank 5 and more moves no data until something needs it."""
        if x.ref is None:
            return Tensor(shape, x.type, value=x.value.reshape(shape))
        if len(shape) > MAX_RANK or (x.ref.shape or ()) == shape:
            return Tensor(shape, x.type, x.ref)
        return Tensor(shape, x.type, self.ref(x, shape))

    def permute(self, x: Tensor, order: Sequence[int]) -> Tensor:
        """x's dimensions in another order."""
        order = [x.axis(a) for a in order]
        shape = tuple(x.shape[a] for a in order)
        if x.is_constant:
            return Tensor(shape, x.type, value=x.value.permute(order))
        moved = x
        for view, step in rank.transposes(x.shape, order):
            moved = self.add("TRANSPOSE", input=Tensor(view, x.type, moved.ref), perm=list(step))
        return Tensor(shape, x.type, moved.ref)

    def viewed(self, x: Tensor, shape: Dims) -> Tensor:
        """The same tensor under another shape; nothing is written until an operation takes it."""
        return Tensor(shape, x.type, x.ref, None if x.value is None else x.value.reshape(shape))

    def flat(self, x: Tensor) -> Tensor:
        """x in one dimension."""
        return self.reshape(x, (rank.product(x.shape),))

    def images(self, x: Tensor, dimensions: int) -> Tensor:
        """x [..., C, H, W], whose last `dimensions` are one sample's, as [N, C, H, W]."""
        return self.reshape(x, (rank.product(x.shape[:-dimensions]), *x.shape[-dimensions:]))

    def around(self, x: Tensor, *axes: int) -> tuple[Tensor, list[int]]:
        """x with a rank that operations along `axes` take, and where those axes then are."""
        if 0 < x.rank <= MAX_RANK:
            return x, list(axes)
        shape, places = rank.around(x.shape or (1,), axes)
        return self.viewed(x, shape), places

    def expand(self, x: Tensor, shape: Dims) -> Tensor:
        """x broadcast to `shape`."""
        padded = (1,) * (len(shape) - x.rank) + x.shape
        if padded == shape:
            return self.reshape(x, shape)
        if x.is_constant:
            return Tensor(shape, x.type, value=x.value.expand(shape))
        if None in padded or None in shape:
            raise Inexpressible(f"{x.shape} expands to {shape}, which is unknown until run time")
        narrow, wide = rank.merged(padded, shape)
        multiples = [w if n == 1 else 1 for n, w in zip(narrow, wide)]
        tiled = self.add("TILE", input=self.reshape(x, narrow), multiples=multiples)
        return Tensor(shape, x.type, tiled.ref)

    def cast(self, x: Tensor, type: OperandType) -> Tensor:
        """x in another type; PyTorch and NNAPI both truncate floats, and any number but 0 is true."""
        if x.type == type:
            return x
        if x.is_constant:
            dtype = next(d for d in EXACT if TYPES[d] == type)
            return tensor_of(x.value.to(dtype))
        if type == B8:
            return self.elementwise("NOT_EQUAL", input0=x, input1=self.like(0, x))
        return self.elementwise("CAST", Operand(type, name=self.name), input=x)

    def binary(self, type: str, x: Tensor, y: Tensor | float, activation: int = NONE) -> Tensor:
        """ADD, SUB, MUL or DIV."""
        y = y if isinstance(y, Tensor) else self.like(y, x)
        return self.elementwise(type, input0=x, input1=y, activation=activation)

    def per_channel(self, vector: torch.Tensor | Tensor, x: Tensor) -> Tensor:
        """vector [C] so that it broadcasts along dimension 1 of x [N, C, ...]."""
        vector = vector if isinstance(vector, Tensor) else tensor_of(vector)
        return self.reshape(vector, (1, *vector.shape, *(1,) * (x.rank - 2)))
