"""What C programs may do that Python programs need not."""

from __future__ import annotations

from typing import Any

from nnapi.runtime import Memory, Model
from nnapi.runtime.codes import COPIED_BYTES


class ClientModel(Model):
    """A model whose large constants lie in the client's memory, until it is finished: then they are copied."""

    def __init__(self) -> None:
        super().__init__()
        self._borrowed: dict[int, Any] = {}

    def set_operand_value(self, index: int, buffer: Any | None) -> None:
        """Make an operand a constant, or an omitted one (None)."""
        super().set_operand_value(index, buffer)
        self._borrowed.pop(index, None)
        if buffer is not None and len(buffer) > COPIED_BYTES:
            self._borrowed[index] = buffer

    def set_operand_value_from_memory(self, index: int, memory: Memory, offset: int, length: int) -> None:
        """Make an operand a constant that lies in `memory`."""
        super().set_operand_value_from_memory(index, memory, offset, length)
        self._borrowed.pop(index, None)

    def finish(self, *, is_strict: bool = False) -> None:
        """Take over the constants and check the model."""
        borrowed, self._borrowed = self._borrowed, {}
        for index, buffer in borrowed.items():
            super().set_operand_value(index, bytes(buffer))
        super().finish(is_strict=is_strict)
