"""NNAPI's compilation: a finished model prepared on devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnapi.runtime.device import Device
from nnapi.runtime.model import Model


class Compilation:
    """A model to be prepared: on all devices by partition (None), or on named ones, with no fallback."""

    def __init__(self, model: Model, devices: Sequence[Device] | None = None) -> None:
        self.model = model

    def set_preference(self, preference: int) -> None:
        """Say what matters most, a PreferenceCode."""
        raise NotImplementedError

    def set_caching(self, directory: str, token: Any) -> None:
        """Keep and look for what is compiled in `directory`, under a token of 32 bytes."""
        raise NotImplementedError

    def set_priority(self, priority: int) -> None:
        """Say whose executions go first, a PriorityCode."""
        raise NotImplementedError

    def set_timeout(self, nanoseconds: int) -> None:
        """Limit the time of `finish`; 0 is no limit. One named device only."""
        raise NotImplementedError

    def add_extension_attribute(self, name: str, code: int, data: Any) -> None:
        """Set an attribute that an extension defines for compilations."""
        raise NotImplementedError

    def finish(self) -> None:
        """Compile."""
        raise NotImplementedError

    def get_preferred_memory_alignment_for_input(self, index: int) -> int:
        """Bytes that the address of an input should be a multiple of."""
        raise NotImplementedError

    def get_preferred_memory_padding_for_input(self, index: int) -> int:
        """Bytes that the length of an input should be a multiple of."""
        raise NotImplementedError

    def get_preferred_memory_alignment_for_output(self, index: int) -> int:
        """Bytes that the address of an output should be a multiple of."""
        raise NotImplementedError

    def get_preferred_memory_padding_for_output(self, index: int) -> int:
        """Bytes that the length of an output should be a multiple of."""
        raise NotImplementedError
