"""NNAPI's model: operands and operations added one by one, checked when finished."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from nnapi.errors import ModelError
from nnapi.ir.model import ATEN, Operation
from nnapi.ir.model import Model as IrModel
from nnapi.ir.verify import operand_problem, refused_operations, verify
from nnapi.ops.op import Need
from nnapi.ops.table import CODES
from nnapi.ops.types import BEYOND, INT32, MODEL, OEM_SCALAR, OMITTED, Q8PC, Array, ChannelQuant, Operand, OperandType
from nnapi.runtime import log
from nnapi.runtime.codes import COPIED_BYTES, bad_data, bad_state
from nnapi.runtime.extensions import CALL, OEM, OEM_CODE, OVERLOAD, join_code, operations_of, split_code
from nnapi.runtime.memory import FileMemory, Memory
from nnapi.runtime.view import Buffer, bytes_of, typed

_ATEN: Final = ATEN.rstrip("/")


class Model:
    """A model being built, then finished; `ir` is what it became, its operations in an order they can run in.

    `order` says, for each operation of `ir`, the how many-th it was added; `refused` which of them no device can run.

    >>> model = Model()
    >>> for type_code, dimensions in ((3, [2]), (3, [2]), (1, []), (3, [2])):
    ...     _ = model.add_operand(type_code, dimensions)
    >>> model.set_operand_value(2, np.int32(0))
    >>> model.add_operation(0, [0, 1, 2], [3])
    >>> model.identify_inputs_and_outputs([0, 1], [3])
    >>> model.finish()
    >>> model.ir.operations[0].type
    'ADD'
    """

    def __init__(self) -> None:
        self.ir: IrModel
        self.order: tuple[int, ...] = ()
        self.refused: dict[int, ModelError] = {}
        self.is_finished = False
        self._is_invalid = False
        self._operands: list[Operand] = []
        self._extension_types: dict[int, tuple[str, int]] = {}
        self._extension_data: dict[int, bytes] = {}
        self._operations: list[Operation] = []
        self._inputs: tuple[int, ...] = ()
        self._outputs: tuple[int, ...] = ()
        self._relaxed = False

    def add_operand(
        self, type_code: int, dimensions: Sequence[int] = (), scale: float = 0.0, zero_point: int = 0
    ) -> int:
        """Add an operand and return its index."""
        self._require_unfinished("add_operand")
        dimensions = tuple(dimensions)
        extension = split_code(type_code)
        if extension is not None:
            self._add_extension_operand(extension, dimensions)
            return len(self._operands) - 1
        operand = operand_of(type_code, dimensions, scale, zero_point)
        self._operands.append(operand)
        return len(self._operands) - 1

    def _add_extension_operand(self, extension: tuple[str, int], dimensions: tuple[int, ...]) -> None:
        if extension != (_ATEN, OVERLOAD) or dimensions:
            bad_data(f"extension {extension[0]!r} has no operand type {extension[1]} of dimensions {dimensions}")
        self._extension_types[len(self._operands)] = extension
        # Its place is kept, so that indexes stay what the client gave.
        self._operands.append(Operand(INT32, value=np.zeros((), np.int32)))

    def set_operand_value(self, index: int, buffer: Buffer | None) -> None:
        """Make an operand a constant, or an omitted one (None).

        Up to 128 bytes are copied; a longer buffer is referenced, and must not change while the model is in use.
        """
        operand = self._settable("set_operand_value", index)
        if buffer is None:
            self._operands[index] = replace(operand, value=OMITTED)
            return
        data = bytes_of(buffer)
        if data.nbytes <= COPIED_BYTES:
            data = data.copy()
        self._set_bytes(index, operand, data)

    def set_operand_value_from_memory(self, index: int, memory: Memory, offset: int, length: int) -> None:
        """Make an operand a constant that lies in `memory`, where it must stay while the model is in use."""
        operand = self._settable("set_operand_value_from_memory", index)
        data = memory.region(offset, length)
        if isinstance(memory, FileMemory):
            memory.require_access(writable=False)
        self._set_bytes(index, operand, data)

    def _set_bytes(self, index: int, operand: Operand, data: Array) -> None:
        if operand.type == MODEL:
            bad_data(f"operand {index} is a MODEL, its value is set from a model")
        if operand.type.is_tensor and operand.elements is None:
            bad_data(f"operand {index} has dimensions {operand.dimensions}, a constant's must all be known")
        if operand.type != OEM_SCALAR and data.nbytes != operand.bytes:
            bad_data(f"operand {index} is given {data.nbytes} bytes, {operand.type.name} takes {operand.bytes}")
        value = data if operand.type == OEM_SCALAR else typed(data, operand.type, operand.dimensions)
        self._operands[index] = replace(operand, value=value)

    def set_operand_symm_per_channel_quant_params(self, index: int, axis: int, scales: Sequence[float]) -> None:
        """Give an operand its scales per channel."""
        operand = self._operand("set_operand_symm_per_channel_quant_params", index)
        if operand.type != Q8PC:
            bad_data(f"operand {index} is {operand.type.name}, only {Q8PC.name} takes scales per channel")
        if not len(scales):
            bad_data(f"operand {index} is given no scales")
        quant = ChannelQuant(tuple(float(np.float32(s)) for s in scales), axis)
        problem = operand_problem(replace(operand, channel_quant=quant, value=None))
        if problem:
            bad_data(f"operand {index}: {problem}")
        self._operands[index] = replace(operand, channel_quant=quant)

    def set_operand_value_from_model(self, index: int, model: Model) -> None:
        """Make an operand a reference to a finished model."""
        operand = self._settable("set_operand_value_from_model", index)
        if not model.is_finished:
            bad_state("the model to be referenced is not finished")
        if operand.type != MODEL:
            bad_data(f"operand {index} is {operand.type.name}, must be MODEL")
        self._operands[index] = replace(operand, value=model.ir)

    def set_operand_extension_data(self, index: int, buffer: Buffer | None) -> None:
        """Give an operand of an extension's type the data that the extension defines for it; None takes it away."""
        self._require_unfinished("set_operand_extension_data")
        self._check_index(index)
        if index not in self._extension_types:
            bad_data(f"operand {index} is {self._operands[index].type.name}, of no extension's type")
        if buffer is None:
            self._extension_data.pop(index, None)
            return
        data = bytes_of(buffer).tobytes()
        if not data:
            bad_data(f"operand {index} is given no bytes", hint="None takes its data away")
        self._extension_data[index] = data

    def get_extension_operand_type(self, name: str, code: int) -> int:
        """The operand code of an extension's own operand type `code`."""
        return join_code(name, code)

    def get_extension_operation_type(self, name: str, code: int) -> int:
        """The operation code of an extension's own operation `code`."""
        return join_code(name, code)

    def add_operation(self, code: int, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Add an operation on operands by index."""
        self._require_unfinished("add_operation")
        for index in (*inputs, *outputs):
            self._check_index(index)
        if not outputs:
            bad_data(f"operation {code} has no outputs")
        extension = split_code(code)
        operation = (
            self._builtin(code, tuple(inputs), tuple(outputs))
            if extension is None
            else self._of_extension(*extension, tuple(inputs), tuple(outputs))
        )
        if any(i in self._extension_types for i in (*operation.inputs, *operation.outputs)):
            bad_data(f"{operation.type} takes no operand of an extension's type")
        self._operations.append(operation)

    def _builtin(self, code: int, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Operation:
        if code == OEM_CODE:
            return Operation(OEM, inputs, outputs)
        op = CODES.get(code)
        if op is None:
            bad_data(f"{code} is no operation's code")
        try:
            call = op.bind([self._operands[i] for i in inputs], [self._operands[i] for i in outputs])
        except ModelError as error:
            bad_data(str(error))
        if call.types.since == BEYOND:
            bad_data(str(Need(BEYOND, op.name)))
        return Operation(op.name, inputs, outputs)

    def _of_extension(self, name: str, code: int, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Operation:
        from nnapi.runtime.device import devices

        names = operations_of(name, () if name == _ATEN else [d.driver for d in devices()])
        if code >= len(names):
            bad_data(f"extension {name!r} has no operation {code}", hint="no device here has it")
        if (name, names[code]) != (_ATEN, CALL):
            return Operation(f"{name}/{names[code]}", inputs, outputs)
        if not inputs or inputs[0] not in self._extension_types:
            bad_data(f"{name}: the first input must name the overload", hint="an operand of its type 0 with its name")
        try:
            overload = self._extension_data.get(inputs[0], b"").decode()
        except UnicodeDecodeError as error:
            bad_data(f"{name}: the overload's name is no UTF-8: {error}")
        return Operation(ATEN + overload, inputs[1:], outputs)

    def identify_inputs_and_outputs(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Say which operands come from outside and which go there; once."""
        self._require_unfinished("identify_inputs_and_outputs")
        for index in (*inputs, *outputs):
            self._check_index(index)
        if self._inputs or self._outputs:
            bad_data("inputs and outputs are identified already")
        if not outputs:
            bad_data("the model has no outputs")
        indexes = (*inputs, *outputs)
        if len(set(indexes)) < len(indexes):
            bad_data(f"inputs {tuple(inputs)} and outputs {tuple(outputs)} name an operand twice")
        for index in indexes:
            if self._operands[index].value is not None:
                bad_data(f"operand {index} is a constant, no input or output")
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)

    def relax_computation_float32_to_float16(self, allow: bool) -> None:
        """Allow float32 to be computed as float16."""
        self._require_unfinished("relax_computation_float32_to_float16")
        self._relaxed = bool(allow)

    def finish(self, *, is_strict: bool = True) -> None:
        """Check the model as a whole; nothing can be changed afterwards.

        BAD_DATA where it is no valid model, which then stays unusable. Unless `is_strict`, operations whose operands
        do not go together are kept, as Android does: devices refuse them, and to run them is OP_FAILED.
        """
        self._require_unfinished("finish")
        self._is_invalid = True
        order = self._runnable_order()
        ir = IrModel(
            tuple(self._operands),
            tuple(self._operations[n] for n in order),
            self._inputs,
            self._outputs,
            "model",
            self._relaxed,
        )
        try:
            if is_strict:
                verify(ir)
            else:
                self.refused = refused_operations(ir)
        except ModelError as error:
            bad_data(str(error))
        for why in self.refused.values():
            log.info(f"an operation that no device will run: {why}")
        self.ir, self.order = ir, order
        self.is_finished, self._is_invalid = True, False

    def _runnable_order(self) -> tuple[int, ...]:
        """The operations so that each comes after those it reads from, otherwise as they were added."""
        producers = {o: n for n, operation in enumerate(self._operations) for o in operation.outputs}
        for index, operand in enumerate(self._operands):
            if operand.value is None and index not in producers and index not in self._inputs:
                bad_data(f"operand {index} is no input, has no value, and is written by no operation")
        waiting: list[int] = []
        readers: dict[int, list[int]] = {}
        for n, operation in enumerate(self._operations):
            before = {producers[i] for i in operation.inputs if i in producers}
            waiting.append(len(before))
            for b in before:
                readers.setdefault(b, []).append(n)
        ready = [n for n, count in enumerate(waiting) if not count]
        order: list[int] = []
        while ready:
            n = heapq.heappop(ready)
            order.append(n)
            for reader in readers.get(n, ()):
                waiting[reader] -= 1
                if not waiting[reader]:
                    heapq.heappush(ready, reader)
        if len(order) < len(self._operations):
            stuck = next(n for n, count in enumerate(waiting) if count)
            bad_data(f"operation {stuck} ({self._operations[stuck].type}) waits for its own result")
        return tuple(order)

    def _require_unfinished(self, call: str) -> None:
        if self.is_finished:
            bad_state(f"{call}: the model is finished")
        if self._is_invalid:
            bad_state(f"{call}: the model was found invalid when it was finished")

    def _check_index(self, index: int) -> None:
        if not 0 <= index < len(self._operands):
            bad_data(f"operand {index} does not exist, the model has {len(self._operands)}")

    def _operand(self, call: str, index: int) -> Operand:
        self._require_unfinished(call)
        self._check_index(index)
        return self._operands[index]

    def _settable(self, call: str, index: int) -> Operand:
        operand = self._operand(call, index)
        if index in self._inputs or index in self._outputs:
            bad_data(f"operand {index} is an input or output of the model, no constant")
        if index in self._extension_types:
            bad_data(f"operand {index} is of an extension's type, it has data and no value")
        return operand


def operand_of(type_code: int, dimensions: Sequence[int], scale: float, zero_point: int) -> Operand:
    """The operand that a client describes; BAD_DATA where NNAPI has none such."""
    try:
        type = OperandType(type_code)
    except ValueError:
        bad_data(f"{type_code} is no operand type")
    operand = Operand(type, tuple(map(int, dimensions)), float(np.float32(scale)), int(zero_point))
    # Per-channel scales come later; until then only the rest can be wrong.
    checked = replace(operand, type=OperandType.TENSOR_QUANT8_SYMM, scale=1.0) if type == Q8PC else operand
    problem = operand_problem(checked) or (f"scale is {scale}, must be 0" if type == Q8PC and operand.scale else "")
    if problem:
        bad_data(f"{type.name}: {problem}")
    return operand
