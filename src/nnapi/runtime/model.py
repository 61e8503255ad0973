"""NNAPI's model: operands and operations added one by one, checked when finished."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nnapi.ir.model import Model as IrModel

if TYPE_CHECKING:
    from nnapi.runtime.memory import Memory

Buffer = Any
"""Anything with the buffer protocol; a length is that of the buffer."""


class Model:
    """A model being built, then finished; `ir` is what it became, its operations in an order they can run in."""

    def __init__(self) -> None:
        self.ir: IrModel

    def add_operand(
        self, type_code: int, dimensions: Sequence[int] = (), scale: float = 0.0, zero_point: int = 0
    ) -> int:
        """Add an operand and return its index."""
        raise NotImplementedError

    def set_operand_value(self, index: int, buffer: Buffer | None) -> None:
        """Make an operand a constant, or an omitted one (None); the buffer is referenced, not copied."""
        raise NotImplementedError

    def set_operand_value_from_memory(self, index: int, memory: Memory, offset: int, length: int) -> None:
        """Make an operand a constant that lies in `memory`."""
        raise NotImplementedError

    def set_operand_symm_per_channel_quant_params(self, index: int, axis: int, scales: Sequence[float]) -> None:
        """Give an operand its scales per channel."""
        raise NotImplementedError

    def set_operand_value_from_model(self, index: int, model: Model) -> None:
        """Make an operand a reference to a finished model."""
        raise NotImplementedError

    def set_operand_extension_data(self, index: int, buffer: Buffer | None) -> None:
        """Give an operand of an extension's type the data that the extension defines for it."""
        raise NotImplementedError

    def get_extension_operand_type(self, name: str, code: int) -> int:
        """The operand code of an extension's own operand type `code`."""
        raise NotImplementedError

    def get_extension_operation_type(self, name: str, code: int) -> int:
        """The operation code of an extension's own operation `code`."""
        raise NotImplementedError

    def add_operation(self, code: int, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Add an operation on operands by index."""
        raise NotImplementedError

    def identify_inputs_and_outputs(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Say which operands come from outside and which go there."""
        raise NotImplementedError

    def relax_computation_float32_to_float16(self, allow: bool) -> None:
        """Allow float32 to be computed as float16."""
        raise NotImplementedError

    def finish(self) -> None:
        """Check the model as a whole; nothing can be changed afterwards."""
        raise NotImplementedError
