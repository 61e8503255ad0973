"""What a client of NNAPI does, as short calls: models made through `runtime.Model`, compiled, run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from nnapi import runtime
from nnapi.drivers.driver import Driver
from nnapi.drivers.reference import ReferenceDriver
from nnapi.ir.model import Model as IrModel
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import OMITTED, Array
from nnapi.runtime import Compilation, Device, Execution, Model, ResultCode, ResultError
from nnapi.runtime.memory import FileMemory

FLOAT32, INT32, TENSOR_FLOAT32, TENSOR_INT32, QUANT8 = 0, 1, 3, 4, 5
ADD, RELU = 0, 19
REFERENCE = Device(ReferenceDriver())
MakeFile = Callable[[bytes], int]
"""content -> a descriptor; see runtime/conftest.py."""
MakeMemory = Callable[..., FileMemory]
"""(array, protection) -> a memory with its bytes; see runtime/conftest.py."""


def elementwise(code: int = ADD, dimensions: Sequence[int] = (4,), *, finish: bool = True) -> Model:
    """Two tensors of float32 -> one, by ADD, MUL, ... with no activation."""
    model = Model()
    for type_code, dims in ((TENSOR_FLOAT32, dimensions), (TENSOR_FLOAT32, dimensions), (INT32, ()),
                            (TENSOR_FLOAT32, dimensions)):  # fmt: skip
        model.add_operand(type_code, dims)
    model.set_operand_value(2, np.int32(0))
    model.add_operation(code, [0, 1, 2], [3])
    model.identify_inputs_and_outputs([0, 1], [3])
    if finish:
        model.finish()
    return model


def client_model(ir: IrModel) -> Model:
    """The same model, made as a client makes it."""
    model = Model()
    for index, operand in enumerate(ir.operands):
        model.add_operand(operand.type, operand.dimensions, operand.scale, operand.zero_point)
        quant, value = operand.channel_quant, operand.value
        if quant is not None:
            model.set_operand_symm_per_channel_quant_params(index, quant.axis, quant.scales)
        if value is OMITTED:
            model.set_operand_value(index, None)
        elif isinstance(value, IrModel):
            model.set_operand_value_from_model(index, client_model(value))
        elif value is not None:
            model.set_operand_value(index, np.ascontiguousarray(value))
    for operation in ir.operations:
        model.add_operation(OPERATIONS[operation.type].code, operation.inputs, operation.outputs)
    model.identify_inputs_and_outputs(ir.inputs, ir.outputs)
    model.relax_computation_float32_to_float16(ir.relaxed)
    model.finish()
    return model


def compiled(model: Model, devices: Iterable[Device] | None = (REFERENCE,)) -> Compilation:
    """The model, compiled for these devices."""
    compilation = Compilation(model, None if devices is None else list(devices))
    compilation.finish()
    return compilation


def bound(compilation: Compilation, inputs: Sequence[Array], outputs: Sequence[Array]) -> Execution:
    """An execution that reads and writes these arrays, of which the model has the dimensions."""
    execution = Execution(compilation)
    for i, array in enumerate(inputs):
        execution.set_input(i, None, array)
    for i, array in enumerate(outputs):
        execution.set_output(i, None, array)
    return execution


def computed(compilation: Compilation, inputs: Sequence[Array | None], *, room: int = 1 << 16) -> list[Array]:
    """The outputs for arrays of whatever dimensions, in buffers of `room` bytes where the model leaves them open."""
    execution = Execution(compilation)
    for slot, array in zip(compilation.inputs, inputs):
        operand = slot.operand
        if array is None:
            execution.set_input(slot.index, None, None)
            continue
        dims = array.shape if operand.type.is_tensor else ()
        execution.set_input(
            slot.index, (operand.type, dims, operand.scale, operand.zero_point), np.ascontiguousarray(array)
        )
    buffers = [np.zeros(room if slot.size is None else slot.size, np.uint8) for slot in compilation.outputs]
    for i, buffer in enumerate(buffers):
        execution.set_output(i, None, buffer)
    execution.compute()
    results = []
    for i, (slot, buffer) in enumerate(zip(compilation.outputs, buffers)):
        rank = execution.get_output_operand_rank(i)
        dims = execution.get_output_operand_dimensions(i) if rank else ()
        size = int(np.prod(dims)) * slot.operand.type.dtype.itemsize
        results.append(buffer[:size].view(slot.operand.type.dtype).reshape(dims))
    return results


@contextmanager
def refused(code: ResultCode | str, match: str | None = None) -> Iterator[pytest.ExceptionInfo[ResultError]]:
    """The block is answered with `code`."""
    code = ResultCode[code] if isinstance(code, str) else code
    with pytest.raises(ResultError, match=match) as caught:
        yield caught
    assert caught.value.code is code, caught.value


def answer(call: Callable[[], object]) -> ResultCode:
    """The result code of a call."""
    try:
        call()
    except ResultError as error:
        return error.code
    return ResultCode.NO_ERROR


def device(driver: Driver) -> Device:
    """A driver as a device."""
    return runtime.Device(driver)
