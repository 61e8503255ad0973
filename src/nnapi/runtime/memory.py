"""NNAPI's memories: regions of files, and contents that stay on the device."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from weakref import ref

import numpy as np

from nnapi.ops.types import Array, Dimensions, Operand
from nnapi.runtime.codes import ResultCode, ResultError, bad_data, bad_state
from nnapi.runtime.view import raw, typed

if TYPE_CHECKING:
    from nnapi.runtime.compilation import Compilation

Kind = Literal["input", "output"]
PROTECTIONS: Final = mmap.PROT_READ | mmap.PROT_WRITE


class Content(NamedTuple):
    """What a memory holds: an array stored as `operand` says, or bytes."""

    data: Array
    operand: Operand | None


class Memory:
    """Data outside of the client's own buffers."""

    @classmethod
    def from_fd(cls, size: int, protect: int, fd: int, offset: int) -> FileMemory:
        """`size` bytes of a file from `offset`, mapped; `protect` is PROT_READ, PROT_WRITE or both."""
        return FileMemory(size, protect, fd, offset)

    @classmethod
    def from_desc(cls, desc: MemoryDesc) -> DeviceMemory:
        """A memory of the device, for the roles of a finished descriptor; without content at first."""
        return DeviceMemory(desc)

    @classmethod
    def from_hardware_buffer(cls, buffer: object) -> Memory:
        """There are no AHardwareBuffers here: always BAD_DATA."""
        bad_data("this platform has no AHardwareBuffer")

    @staticmethod
    def copy(src: Memory, dst: Memory) -> None:
        """Copy the content of one memory to another, which then has its dimensions.

        BAD_DATA where the source has no content, or the destination cannot take it; a destination of the device has
        no content then.
        """
        if src is dst:
            return
        try:
            dst.store(src.load())
        except ResultError:
            if isinstance(dst, DeviceMemory):
                dst.content = None
            raise

    def region(self, offset: int, length: int) -> Array:
        """bytes [length] of the memory, without a copy."""
        raise NotImplementedError

    def load(self) -> Content:
        """The whole content."""
        raise NotImplementedError

    def store(self, content: Content) -> None:
        """Take over the whole content."""
        raise NotImplementedError


class FileMemory(Memory):
    """A part of a file, shared with whoever else has it mapped."""

    def __init__(self, size: int, protect: int, fd: int, offset: int) -> None:
        if size <= 0:
            bad_data(f"a memory of {size} bytes, must have at least 1")
        if protect & ~PROTECTIONS:
            bad_data(f"protection {protect}, must be PROT_NONE or made of PROT_READ and PROT_WRITE")
        if fd < 0:
            bad_data(f"descriptor {fd}")
        if offset < 0 or offset % mmap.ALLOCATIONGRANULARITY:
            bad_data(f"offset {offset}, must be a multiple of {mmap.ALLOCATIONGRANULARITY}")
        try:
            os.fstat(fd)
        except OSError as error:
            bad_data(f"descriptor {fd}: {error.strerror}")
        try:
            self._map = mmap.mmap(fd, size, mmap.MAP_SHARED, protect, offset=offset)
        except (ValueError, OverflowError) as error:
            bad_data(f"{size} bytes from {offset} of descriptor {fd}: {error}")
        except OSError as error:
            raise ResultError(ResultCode.UNMAPPABLE, f"descriptor {fd} cannot be mapped: {error.strerror}") from error
        self.size = size
        self._end = offset + size
        self._protect = protect

    def region(self, offset: int, length: int) -> Array:
        """bytes [length] of the memory, without a copy.

        BAD_DATA outside of the memory, or of the file, which may have become shorter.
        """
        if offset < 0 or length <= 0 or offset + length > self.size:
            bad_data(f"{length} bytes from {offset} of a memory of {self.size}")
        if self._map.size() < self._end:
            bad_data(f"the file ends at {self._map.size()}, the memory at {self._end}", hint="it was made shorter")
        return np.frombuffer(self._map, np.uint8, length, offset)

    def require_access(self, *, writable: bool) -> None:
        """UNMAPPABLE where the protection does not let the memory be read, or written."""
        needed = mmap.PROT_WRITE if writable else mmap.PROT_READ
        if not self._protect & needed:
            what = "written" if writable else "read"
            raise ResultError(ResultCode.UNMAPPABLE, f"the memory's protection does not let it be {what}")

    def load(self) -> Content:
        self.require_access(writable=False)
        return Content(self.region(0, self.size), None)

    def store(self, content: Content) -> None:
        if content.data.nbytes != self.size:
            bad_data(f"a memory of {self.size} bytes cannot take {content.data.nbytes}")
        self.require_access(writable=True)
        self.region(0, self.size)[...] = raw(content.data)


class MemoryDesc:
    """What a memory of a device will be used for."""

    def __init__(self) -> None:
        self.roles: set[tuple[Compilation, Kind, int]] = set()
        self.operand: Operand | None = None
        self.dimensions: Dimensions = ()
        self._is_finished = False

    def add_input_role(self, compilation: Compilation, index: int, frequency: float) -> None:
        """It may be this input of executions of a finished compilation; `frequency` (0 to 1) is a hint."""
        self._add_role(compilation, "input", index, frequency)

    def add_output_role(self, compilation: Compilation, index: int, frequency: float) -> None:
        """It may be this output of executions of a finished compilation; `frequency` (0 to 1) is a hint."""
        self._add_role(compilation, "output", index, frequency)

    def _add_role(self, compilation: Compilation, kind: Kind, index: int, frequency: float) -> None:
        self._require_unfinished()
        role = (compilation, kind, index)
        if role in self.roles:
            bad_data(f"{kind} {index} has a role already")
        operand = compilation.operand(kind, index)
        if not 0.0 < frequency <= 1.0:
            bad_data(f"frequency is {frequency}, must be above 0, at most 1")
        if self.operand is not None and _storage(operand) != _storage(self.operand):
            bad_data(f"{kind} {index} is stored as {_storage(operand)}, other roles as {_storage(self.operand)}")
        self.dimensions = self._combined(operand, operand.dimensions)
        self.operand = operand
        self.roles.add(role)

    def set_dimensions(self, dimensions: Sequence[int]) -> None:
        """Its dimensions; 0 is unknown."""
        self._require_unfinished()
        if any(d < 0 for d in dimensions):
            bad_data(f"dimensions {tuple(dimensions)}, must not be negative")
        self.dimensions = self._combined(self.operand, tuple(dimensions))

    def _combined(self, operand: Operand | None, dimensions: Dimensions) -> Dimensions:
        if operand is not None and not operand.type.is_tensor and (dimensions or self.dimensions):
            bad_data(f"a scalar has no dimensions, given {dimensions or self.dimensions}")
        combined = combine(self.dimensions, dimensions)
        if combined is None:
            bad_data(f"dimensions {dimensions} do not go with {self.dimensions}")
        return combined

    def finish(self) -> None:
        """Nothing can be changed afterwards."""
        self._require_unfinished()
        if not self.roles:
            bad_data("the memory has no role")
        self._is_finished = True

    @property
    def is_finished(self) -> bool:
        """Whether memories can be made from it."""
        return self._is_finished

    def _require_unfinished(self) -> None:
        if self._is_finished:
            bad_state("the memory descriptor is finished")


class DeviceMemory(Memory):
    """Content that stays as the engine gave it: an array that the next execution reads without a copy."""

    def __init__(self, desc: MemoryDesc) -> None:
        if not desc.is_finished or desc.operand is None:
            bad_state("the memory descriptor is not finished")
        self.operand = desc.operand
        self.dimensions = desc.dimensions
        self.content: Array | None = None
        self._roles = frozenset((ref(compilation), kind, index) for compilation, kind, index in desc.roles)

    def require_role(
        self, compilation: Compilation, kind: Kind, index: int, dimensions: Dimensions, offset: int, length: int
    ) -> None:
        """BAD_DATA unless the memory, all of it, may be used so."""
        if (ref(compilation), kind, index) not in self._roles:
            bad_data(f"the memory was not made to be {kind} {index} of this compilation")
        if combine(self.dimensions, dimensions) is None:
            bad_data(f"a memory of dimensions {self.dimensions} is given for {kind} {index} of {dimensions}")
        if offset or length:
            bad_data(f"{length} bytes from {offset} of a memory of the device, must both be 0: it is used whole")

    def require_content(self, dimensions: Dimensions) -> Array:
        """The content; OP_FAILED where there is none, or of other dimensions than the input's."""
        content = self.content
        if content is None:
            raise ResultError(ResultCode.OP_FAILED, "a memory of the device without content is given as an input")
        if self.operand.type.is_tensor and combine(dimensions, content.shape) is None:
            raise ResultError(ResultCode.OP_FAILED, f"a memory of {content.shape} is given for an input {dimensions}")
        return content

    def region(self, offset: int, length: int) -> Array:
        """Its bytes are the device's own: always BAD_DATA."""
        bad_data("a memory of the device has no bytes to refer to, it cannot be a constant of a model")

    def load(self) -> Content:
        if self.content is None:
            bad_data("the source has no content yet")
        return Content(self.content, self.operand)

    def store(self, content: Content) -> None:
        if content.operand is not None and _storage(content.operand) != _storage(self.operand):
            bad_data(f"a memory of {_storage(self.operand)} cannot take {_storage(content.operand)}")
        data = content.data
        if content.operand is None:
            known = replace(self.operand, dimensions=self.dimensions)
            if known.bytes != data.nbytes:
                bad_data(f"a memory of {known.type.name} {known.dimensions} cannot take {data.nbytes} bytes")
            data = typed(data, known.type, known.dimensions)
        elif self.operand.type.is_tensor and combine(self.dimensions, data.shape) is None:
            bad_data(f"a memory of dimensions {self.dimensions} cannot take {data.shape}")
        self.content = data.copy()


def combine(one: Dimensions, other: Dimensions) -> Dimensions | None:
    """What two descriptions of one tensor's dimensions say together (0 and () unknown); None where they disagree.

    >>> combine((0, 3), (2, 0)), combine((), (4,)), combine((2,), (3,))
    ((2, 3), (4,), None)
    """
    if not one or not other:
        return tuple(one or other)
    if len(one) != len(other) or any(a and b and a != b for a, b in zip(one, other)):
        return None
    return tuple(a or b for a, b in zip(one, other))


def _storage(operand: Operand) -> tuple[object, ...]:
    return operand.type.name, operand.scale, operand.zero_point, operand.channel_quant
