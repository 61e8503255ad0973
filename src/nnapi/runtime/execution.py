"""NNAPI's execution: buffers bound to a compilation's inputs and outputs, and run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nnapi.runtime.compilation import Compilation
from nnapi.runtime.event import Event

if TYPE_CHECKING:
    from nnapi.runtime.burst import Burst
    from nnapi.runtime.memory import Memory

Type = tuple[int, Sequence[int], float, int]
"""An operand type: type code, dimensions, scale, zero point."""


class Execution:
    """One evaluation of a finished compilation, or several one after the other where it is reusable."""

    def __init__(self, compilation: Compilation) -> None:
        self.compilation = compilation

    def set_input(self, index: int, type: Type | None, buffer: Any | None) -> None:
        """Read an input from a buffer; None omits it. `type` gives what the model left open."""
        raise NotImplementedError

    def set_input_from_memory(self, index: int, type: Type | None, memory: Memory, offset: int, length: int) -> None:
        """Read an input from a region of a memory."""
        raise NotImplementedError

    def set_output(self, index: int, type: Type | None, buffer: Any | None) -> None:
        """Write an output to a buffer; None omits it."""
        raise NotImplementedError

    def set_output_from_memory(self, index: int, type: Type | None, memory: Memory, offset: int, length: int) -> None:
        """Write an output to a region of a memory."""
        raise NotImplementedError

    def compute(self) -> None:
        """Run, and return when done."""
        raise NotImplementedError

    def burst_compute(self, burst: Burst) -> None:
        """Run as part of a burst, and return when done."""
        raise NotImplementedError

    def start_compute(self) -> Event:
        """Run on its own; the event tells the end."""
        raise NotImplementedError

    def start_compute_with_dependencies(self, dependencies: Sequence[Event], duration: int) -> Event:
        """Run on its own once all dependencies have ended, within `duration` nanoseconds from then (0: no limit)."""
        raise NotImplementedError

    def set_timeout(self, nanoseconds: int) -> None:
        """Limit the time of the execution; 0 is no limit. One named device only."""
        raise NotImplementedError

    def set_loop_timeout(self, nanoseconds: int) -> None:
        """Limit the time of every WHILE, to 15 s at most."""
        raise NotImplementedError

    def set_measure_timing(self, measure: bool) -> None:
        """Measure durations. One named device only."""
        raise NotImplementedError

    def get_duration(self, code: int) -> int:
        """Nanoseconds of the last run, by DurationCode; 2**64 - 1 where they are not known."""
        raise NotImplementedError

    def get_output_operand_rank(self, index: int) -> int:
        """The rank that an output had."""
        raise NotImplementedError

    def get_output_operand_dimensions(self, index: int) -> tuple[int, ...]:
        """The dimensions that an output had."""
        raise NotImplementedError

    def set_reusable(self, reusable: bool) -> None:
        """Allow several runs."""
        raise NotImplementedError

    def enable_input_and_output_padding(self, enable: bool) -> None:
        """Allow buffers that are longer than their operands."""
        raise NotImplementedError

    def add_extension_attribute(self, name: str, code: int, data: Any) -> None:
        """Set an attribute that an extension defines for executions."""
        raise NotImplementedError
