"""What an execution reads from and writes to: clients' buffers and memories, bound to inputs and outputs."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from nnapi.ops.types import Array, Dimensions, Operand
from nnapi.runtime.codes import ResultCode, ResultError, bad_data, bad_state
from nnapi.runtime.memory import DeviceMemory, FileMemory, Memory
from nnapi.runtime.slot import Slot
from nnapi.runtime.view import raw, typed


class _Unset(enum.Enum):
    UNSET = "unset"


UNSET: Final = _Unset.UNSET
Bound = Array | DeviceMemory | None | _Unset
"""Bytes [n], a memory of the device, None for what is omitted, UNSET."""


class Ends:
    """One side of an execution: its inputs, or its outputs; what each is bound to."""

    __slots__ = ("bound", "memories", "slots")

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots = list(slots)
        self.bound: list[Bound] = [UNSET] * len(slots)
        self.memories: list[FileMemory] | None = None

    def free(self, call: str, index: int) -> Slot:
        """The slot at an index; BAD_DATA where there is none, BAD_STATE where it is bound."""
        if not 0 <= index < len(self.slots):
            bad_data(f"{call}: index {index}, the model has {len(self.slots)}")
        slot = self.slots[index]
        if self.bound[index] is not UNSET:
            bad_state(f"{call}: {slot.kind} {index} is set already")
        return slot

    def bind(self, slot: Slot, value: Array | DeviceMemory | None, memory: Memory | None = None) -> None:
        """Bind a slot; `memory` is where its bytes are."""
        self.slots[slot.index] = slot
        self.bound[slot.index] = value
        if isinstance(memory, FileMemory):
            self.memories = [*(self.memories or ()), memory]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is bound yet."""
        return all(value is UNSET for value in self.bound)

    @property
    def operands(self) -> tuple[Operand, ...]:
        """The operands as the client has narrowed them."""
        return tuple(slot.operand for slot in self.slots)

    def require_complete(self, *, writable: bool) -> None:
        """BAD_DATA where something is not bound, UNMAPPABLE where a memory's protection is against it."""
        for slot, value in zip(self.slots, self.bound):
            if value is UNSET:
                bad_data(f"{slot.kind} {slot.index} is not set")
        for memory in self.memories or ():
            memory.require_access(writable=writable)


def plain_inputs(inputs: Ends) -> list[Array] | None:
    """The inputs as arrays that may be read again in every run; None where they must be looked at each time."""
    arrays = []
    for slot, data in zip(inputs.slots, inputs.bound):
        if not isinstance(data, np.ndarray) or slot.operand.type.dtype.kind == "b":
            return None
        array = typed(data, slot.operand.type, slot.operand.dimensions)
        if not array.flags.aligned:
            return None
        arrays.append(array)
    return arrays


def plain_outputs(outputs: Ends, operands: Sequence[Operand]) -> list[Array] | None:
    """The outputs as arrays that an engine may write to; None where they must be looked at after every run.

    `operands` are the outputs as the program has them.
    """
    arrays = []
    for operand, data in zip(operands, outputs.bound):
        if not isinstance(data, np.ndarray) or operand.elements is None or operand.bytes != data.nbytes:
            return None
        arrays.append(data.view(operand.type.dtype).reshape(operand.dimensions))
    return arrays


def read_inputs(inputs: Ends) -> list[Array | None]:
    """The inputs as arrays, now; OP_FAILED where a memory of the device has no content, or of other dimensions."""
    return [_read(slot, value) for slot, value in zip(inputs.slots, inputs.bound)]


def _read(slot: Slot, value: Bound) -> Array | None:
    operand = slot.operand
    if isinstance(value, DeviceMemory):
        return value.require_content(operand.dimensions)
    if not isinstance(value, np.ndarray):
        return None
    array = typed(value, operand.type, operand.dimensions)
    return array if array.flags.aligned else array.copy()


def write_outputs(outputs: Ends, results: Sequence[Array]) -> list[Dimensions]:
    """Store what was computed where it belongs, all that fits, and return the dimensions of all.

    OP_FAILED where they are not what the client or a memory of the device says.
    """
    shapes: list[Dimensions] = []
    for slot, value, result in zip(outputs.slots, outputs.bound, results):
        shape = result.shape if slot.operand.type.is_tensor else ()
        shapes.append(shape)
        if value is None:
            continue
        _require_agreement(slot, slot.operand.dimensions, shape)
        if isinstance(value, DeviceMemory):
            _require_agreement(slot, value.dimensions, shape)
            value.content = result if result.flags.owndata else result.copy()
        elif isinstance(value, np.ndarray) and result.nbytes <= value.nbytes:
            value[: result.nbytes] = raw(result)
    return shapes


def short_outputs(outputs: Ends, shapes: Sequence[Dimensions]) -> list[int]:
    """The outputs whose buffers are too small for these dimensions."""
    return [
        slot.index
        for slot, value, shape in zip(outputs.slots, outputs.bound, shapes)
        if isinstance(value, np.ndarray) and math.prod(shape) * slot.operand.type.dtype.itemsize > value.nbytes
    ]


def _require_agreement(slot: Slot, dimensions: Dimensions, shape: Dimensions) -> None:
    if slot.operand.type.is_tensor and dimensions and not _agree(dimensions, shape):
        message = f"output {slot.index} has dimensions {shape}, {dimensions} were given"
        raise ResultError(ResultCode.OP_FAILED, message)


def _agree(dimensions: Dimensions, shape: Dimensions) -> bool:
    """Whether an array's shape, in which 0 is really none, is what dimensions (0 unknown) say."""
    return len(dimensions) == len(shape) and all(d in (0, s) for d, s in zip(dimensions, shape))


def forget_contents(outputs: Ends) -> None:
    """A failed execution leaves its memories of the device without content."""
    for value in outputs.bound:
        if isinstance(value, DeviceMemory):
            value.content = None
