"""An input or output of a compilation: what a client may bind to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from nnapi.ir.model import Model
from nnapi.ops.types import Array, Operand
from nnapi.runtime.codes import bad_data
from nnapi.runtime.memory import combine
from nnapi.runtime.model import operand_of

Type = tuple[int, Sequence[int], float, int]
"""An operand type as clients give it: type code, dimensions, scale, zero point."""


class Slot:
    """One input or output, by index: its operand, and the bytes that it takes, None where a dimension is unknown."""

    __slots__ = ("index", "kind", "operand", "size")

    def __init__(self, kind: Literal["input", "output"], index: int, operand: Operand) -> None:
        self.kind = kind
        self.index = index
        self.operand = operand
        self.size = operand.bytes if _is_known(operand) else None

    def narrowed(self, type: Type | None) -> Slot:
        """The slot with what `type` adds: dimensions that the model leaves open, another scale and zero point."""
        if type is None:
            return self
        code, dimensions, scale, zero_point = type
        own = self.operand
        if code != own.type:
            bad_data(f"{self.kind} {self.index} is {own.type.name}, given operand type {code}")
        given = operand_of(code, dimensions, scale, zero_point)
        if combine(own.dimensions, given.dimensions) != given.dimensions:
            hint = "what the model specifies may not be left open"
            bad_data(f"{self.kind} {self.index} has dimensions {own.dimensions}, given {given.dimensions}", hint=hint)
        changed = replace(own, dimensions=given.dimensions, scale=given.scale, zero_point=given.zero_point)
        return self if changed == own else Slot(self.kind, self.index, changed)

    def known(self) -> Slot:
        """This slot; BAD_DATA where a dimension is still unknown."""
        if self.size is None:
            bad_data(
                f"{self.kind} {self.index} has dimensions {self.operand.dimensions}",
                hint="give its operand type with all of them",
            )
        return self

    def fit(self, data: Array, *, padding: bool) -> Array:
        """bytes [n] that a client gives, without what is beyond the operand; BAD_DATA where they do not fit."""
        length = data.nbytes
        if self.size == length:
            return data
        if not length:
            bad_data(f"{self.kind} {self.index}: a buffer without bytes", hint="None omits it")
        if self.size is None:
            return data
        if length < self.size or not padding:
            hint = "" if padding else "enable_input_and_output_padding allows more"
            bad_data(f"{self.kind} {self.index} takes {self.size} bytes, given {length}", hint=hint)
        return data[: self.size]


def slots_of(model: Model, kind: Literal["input", "output"]) -> tuple[Slot, ...]:
    """The inputs or outputs of a model."""
    operands = model.input_operands if kind == "input" else model.output_operands
    return tuple(Slot(kind, i, operand) for i, operand in enumerate(operands))


def _is_known(operand: Operand) -> bool:
    return not operand.type.is_tensor or (bool(operand.dimensions) and 0 not in operand.dimensions)
