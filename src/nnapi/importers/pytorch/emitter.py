"""What the mapping functions work with: the operations to write, with PyTorch's tensors as their operands.

A mapping function gets the emitter and an ATen operator's arguments, and returns the operator's results:

    def relu(e: Emitter, x: Tensor) -> Tensor:
        return e.add("RELU", input=x)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import torch

from nnapi.errors import ModelError
from nnapi.importers.pytorch import aten, rank
from nnapi.importers.pytorch.rank import MAX_RANK, Dims
from nnapi.importers.pytorch.tensor import EXACT, TYPES, Inexpressible, Tensor, array_of, filled, operand_of, tensor_of
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import ATEN
from nnapi.ops.numeric import NONE
from nnapi.ops.types import B8, F32, I32, Q8, Array, Operand, OperandType

MOVING: Final = frozenset((
    "CONCATENATION", "GATHER", "PAD", "RESHAPE", "SLICE", "SPLIT", "STRIDED_SLICE", "TILE", "TRANSPOSE",
))  # fmt: skip
"""Operations that only move data."""


def _multiples(narrow: Dims, wide: Dims) -> list[int]:
    return [w if n == 1 and w is not None else 1 for n, w in zip(narrow, wide)]


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
        self.wanted: frozenset[int] = frozenset()
        """Which of the node's results are read, where it gives several."""
        self.sizes: tuple[Any, ...] = ()
        """The dimensions of the node's first result, unknown ones as PyTorch's expressions."""
        self.wide: set[int] = set()
        """Operations that compute what PyTorch has in 64-bit integers."""
        self.sized: dict[Any, tuple[Tensor, int]] = {}
        """By such an expression a tensor that has this size, and at which axis."""
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

    def operand(self, x: Tensor, shape: Dims | None = None) -> Ref:
        """`ref` for NNAPI's operations, which take rank 4 at most."""
        if len(x.shape if shape is None else shape) > MAX_RANK:
            raise Inexpressible(f"rank {x.rank}, NNAPI's operations take {MAX_RANK}")
        return self.ref(x, shape)

    def ref(self, x: Tensor, shape: Dims | None = None) -> Ref:
        """The operand of `x` in `shape` (its own if None); written as a RESHAPE where it has another."""
        shape = filled((x.shape if shape is None else shape) or (1,), "a tensor that it takes")
        if x.ref is None:
            return self._constant(x.value, shape)
        if x.ref.shape == shape:
            return x.ref
        key = (x.ref.index, shape)
        if key not in self._views:
            self._views[key] = self._reshaped(x.ref, shape)
        return self._views[key]

    def _reshaped(self, source: Ref, shape: Dims) -> Ref:
        """Through ATen's reshape where NNAPI's does not take the rank: inputs and outputs of rank 5 and more."""
        if shape.count(None) > 1:
            raise ModelError(f"a reshape to {shape} leaves two dimensions open", hint="export with fixed sizes")
        target = [-1 if d is None else d for d in shape]
        if max(len(shape), len(source.shape or ())) <= MAX_RANK:
            return self.ref(self.add("RESHAPE", input=self.unwrap(source), shape=target))
        output = operand_of(source.type, shape)
        return self.call_aten("reshape.default", [source], aten.encode_reshape(target), [output])[0]

    def call_aten(
        self, overload: str, inputs: Sequence[Ref], arguments: bytes, outputs: Sequence[Operand]
    ) -> list[Ref]:
        """Write the extension operation that calls an ATen overload."""
        operand = self.builder.constant(aten.array_of(arguments), operand_of(Q8))
        named = [replace(o, name=self.name) for o in outputs]
        return list(self.builder.add_raw(ATEN + overload, [*inputs, operand], named, name=self.name))

    def _constant(self, value: torch.Tensor, shape: Dims) -> Ref:
        """Stored once for every view of the same memory; `value` is kept, so that its address stays its own."""
        key = (value.data_ptr(), value.dtype, value.shape, value.stride(), shape)
        if key not in self._constants:
            array = array_of(value).reshape([d or 0 for d in shape])
            self._constants[key] = (value, self.builder.constant(array, operand_of(TYPES[value.dtype])))
        return self._constants[key][1]

    def like(self, number: float | Array | Sequence[int], x: Tensor) -> Tensor:
        """A constant of x's type: a number of rank 0, or an array as it is."""
        dtype = torch.int64 if x.type == I32 else EXACT[x.type]  # whether 32 bits do is seen later
        if not isinstance(number, (bool, int, float)):
            return tensor_of(torch.as_tensor(number, dtype=dtype))
        key = (str(number), dtype)
        if key not in self._numbers:
            self._numbers[key] = tensor_of(torch.tensor(number, dtype=dtype))
        return self._numbers[key]

    def indexes(self, values: torch.Tensor) -> Tensor:
        """A constant of integers."""
        return tensor_of(values.to(torch.int32))

    def as_operand(self, x: Tensor) -> Tensor:
        """x held by an operand, also where it is constant."""
        return Tensor(x.shape, x.type, self.ref(x))

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
            return self.operand(value)
        if isinstance(value, list) and value and isinstance(value[0], Tensor):
            return [self.operand(v) for v in value]
        return value

    def elementwise(self, type: str, output: Operand | None = None, /, **inputs: Any) -> Tensor:
        """Write an operation that works element by element on its tensors, whatever their rank."""
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        shapes = [t.shape for t in tensors.values()]
        views: Sequence[Dims] = shapes
        if max(map(len, shapes)) > MAX_RANK:
            views = rank.merged(*shapes)
        given = {name: self.operand(t, view) for (name, t), view in zip(tensors.items(), views)}
        (written,) = self._write(type, {**inputs, **given}, None if output is None else (output,))
        return Tensor(rank.broadcast(*shapes), written.type, written)

    def composite(self, build: Callable[..., Ref], *inputs: Tensor, **attributes: Any) -> Tensor:
        """Write a composite of ir/composites.py."""
        refs = [self.operand(x) for x in inputs]
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
        return Tensor(shape, x.type, self.operand(x, shape))

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
        if x.is_constant and None not in shape:
            return Tensor(shape, x.type, value=x.value.expand(shape))
        if x.type == B8:  # once, not at each step
            return self.cast(self.expand(self.cast(x, F32), shape), B8)
        for axis, (narrow, wide) in enumerate(zip(padded, shape)):
            if narrow == 1 and wide is None:
                x = self.binary("ADD", self.reshape(x, padded), self._zeros_along(axis, shape, x.type))
                padded = x.shape
        if padded == shape:
            return x
        if len(shape) <= MAX_RANK:
            return self.add("TILE", input=self.reshape(x, padded), multiples=_multiples(padded, shape))
        for axis, (narrow, wide) in enumerate(zip(padded, shape)):
            if narrow != wide:
                part, _ = self.around(self.viewed(x, padded), axis)
                padded = (*padded[:axis], wide, *padded[axis + 1 :])
                after, _ = rank.around(padded, [axis])
                x = self.viewed(self.add("TILE", input=part, multiples=_multiples(part.shape, after)), padded)
        return x

    def _zeros_along(self, axis: int, shape: Dims, type: OperandType) -> Tensor:
        """Zeros as many as the node's result is long along `axis`, unknown until run time; of size 1 elsewhere."""
        sizes = self.sizes if self.shape[axis : axis + 1] == (None,) and len(self.shape) == len(shape) else ()
        source, at = self.sized.get(sizes[axis] if sizes else None, (None, 0))
        if source is None:
            raise Inexpressible(f"expands to {shape}, which is unknown until run time")
        begin, size = [0] * source.rank, [-1 if a == at else 1 for a in range(source.rank)]
        row = self.reshape(self.add("SLICE", input=source, begin=begin, size=size), (None, 1))
        zeros = self.add("ARGMAX", input=row, axis=1)  # of one element: 0, whatever it is
        return self.cast(self.reshape(zeros, tuple(None if a == axis else 1 for a in range(len(shape)))), type)

    def cast(self, x: Tensor, type: OperandType) -> Tensor:
        """x in another type; PyTorch and NNAPI both truncate floats, and any number but 0 is true."""
        if x.type == type:
            return x
        if x.is_constant:
            return tensor_of(x.value.to(EXACT[type]))
        if type == B8:
            x = self.cast(x, I32) if x.type == Q8 else x
            return self.elementwise("NOT_EQUAL", input0=x, input1=self.like(0, x))
        if x.type == B8:  # which CAST does not take
            one, zero = (self.expand(self.like(n, Tensor((), type)), x.shape) for n in (1, 0))
            return self.elementwise("SELECT", condition=x, input0=one, input1=zero)
        return self.elementwise("CAST", operand_of(type, name=self.name), input=x)

    def binary(self, type: str, x: Tensor, y: Tensor | float, activation: int = NONE) -> Tensor:
        """ADD, SUB, MUL or DIV."""
        y = y if isinstance(y, Tensor) else self.like(y, x)
        return self.elementwise(type, input0=x, input1=y, activation=activation)

    def per_channel(self, vector: torch.Tensor | Tensor, x: Tensor) -> Tensor:
        """vector [C] so that it broadcasts along dimension 1 of x [N, C, ...]."""
        vector = vector if isinstance(vector, Tensor) else tensor_of(vector)
        return self.reshape(vector, (1, *vector.shape, *(1,) * (x.rank - 2)))
