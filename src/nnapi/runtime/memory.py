"""NNAPI's memories: regions of files, and contents that stay on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnapi.runtime.compilation import Compilation


class MemoryDesc:
    """What a memory of a device will be used for."""

    def add_input_role(self, compilation: Compilation, index: int, frequency: float) -> None:
        """It may be this input of executions of a finished compilation."""
        raise NotImplementedError

    def add_output_role(self, compilation: Compilation, index: int, frequency: float) -> None:
        """It may be this output of executions of a finished compilation."""
        raise NotImplementedError

    def set_dimensions(self, dimensions: Sequence[int]) -> None:
        """Its dimensions; 0 is unknown."""
        raise NotImplementedError

    def finish(self) -> None:
        """Nothing can be changed afterwards."""
        raise NotImplementedError


class Memory:
    """Data outside of the client's own buffers."""

    @classmethod
    def from_fd(cls, size: int, protect: int, fd: int, offset: int) -> Memory:
        """`size` bytes of a file from `offset`, mapped; `protect` is PROT_READ, PROT_WRITE or both."""
        raise NotImplementedError

    @classmethod
    def from_desc(cls, desc: MemoryDesc) -> Memory:
        """A memory of the device, for the roles of a finished descriptor."""
        raise NotImplementedError

    @classmethod
    def from_hardware_buffer(cls, buffer: object) -> Memory:
        """There are no AHardwareBuffers here: always BAD_DATA."""
        raise NotImplementedError

    @staticmethod
    def copy(src: Memory, dst: Memory) -> None:
        """Copy the content of one memory to another of the same size."""
        raise NotImplementedError
