"""Model and Operation: immutable, in an order they can run in; weights are shared, never copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from nnapi.errors import ModelError
from nnapi.ops.op import Call
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import MODEL, Operand

COMPOSITE = "org.nnapi.composite/"
"""Extension operations whose last input is a MODEL operand: their decomposition into NNAPI operations."""
ATEN = "org.pytorch.aten/"
"""Extension operations that call one ATen overload; see importers/pytorch."""
NARROWED = "computed in 32 bits"
"""Key of a model's metadata: operations on integers of 64 bits in the source, of which results beyond 32 wrap."""
RANKLESS = "outputs of rank 0"
"""Key of a model's metadata: which outputs, of dimensions (1,) as NNAPI has no rank 0, had none where it came from."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its type (an NNAPI name, or `vendor/name` for an extension) and operand indexes."""

    type: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    name: str = ""
    """Where it came from: a module path, a node name."""

    @property
    def is_extension(self) -> bool:
        return "/" in self.type

    @property
    def label(self) -> str:
        """How messages name it: `CONV_2D 'features.0'`."""
        return f"{self.type} {self.name!r}" if self.name else self.type


@dataclass(frozen=True, eq=False)
class Model:
    """An NNAPI model: operands, operations in an order they can run in, inputs and outputs as operand indexes.

    Two models are equal only if they are the same object; compare `text.print_model` of both for content.
    """

    operands: tuple[Operand, ...]
    operations: tuple[Operation, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    name: str = ""
    relaxed: bool = False
    """float32 may be computed with the range and precision of float16."""
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def input_operands(self) -> tuple[Operand, ...]:
        return tuple(self.operands[i] for i in self.inputs)

    @property
    def output_operands(self) -> tuple[Operand, ...]:
        return tuple(self.operands[i] for i in self.outputs)

    @cached_property
    def producers(self) -> Mapping[int, int]:
        """Operand index -> index of the operation that writes it."""
        return {o: n for n, operation in enumerate(self.operations) for o in operation.outputs}

    @cached_property
    def consumers(self) -> Mapping[int, tuple[int, ...]]:
        """Operand index -> indexes of the operations that read it, in order; none for a model output only."""
        readers: dict[int, list[int]] = {}
        for n, operation in enumerate(self.operations):
            for i in dict.fromkeys(operation.inputs):
                readers.setdefault(i, []).append(n)
        return {i: tuple(ns) for i, ns in readers.items()}

    def operands_of(self, indexes: tuple[int, ...]) -> list[Operand]:
        return [self.operands[i] for i in indexes]

    def call(self, operation: Operation) -> Call:
        """The operation with its operands by name; ModelError where the table has no such use."""
        op = OPERATIONS.get(operation.type)
        if op is None:
            raise ModelError(
                "is no NNAPI operation", operation=operation.label, hint="extensions are written vendor/name"
            )
        return op.bind(self.operands_of(operation.inputs), self.operands_of(operation.outputs), label=operation.label)

    def body(self, operation: Operation) -> Model | None:
        """A composite's decomposition; None for any other operation."""
        if operation.type.startswith(COMPOSITE) and operation.inputs:
            value = self.operands[operation.inputs[-1]].value
            return value if isinstance(value, Model) else None
        return None

    def referenced(self, operation: Operation) -> Iterator[Model]:
        """The models that an operation's MODEL operands hold (IF, WHILE, composites)."""
        for i in operation.inputs:
            operand = self.operands[i]
            if operand.type == MODEL and isinstance(operand.value, Model):
                yield operand.value
