"""A client of libneuralnetworks.so in Python: the C functions themselves, through cffi."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from cffi import FFI

from nnapi.capi.header import (
    OPERATION_TYPE,
    PREFIX,
    constants,
    functions,
    handles,
    structure_text,
    structures,
)  # fmt: skip
from nnapi.ir.model import Model
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import Array, Operand
from nnapi.runtime.codes import ResultCode


class Client:
    """NNAPI's functions by their names without `ANeuralNetworks`, and the constants without their prefix."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.ffi = FFI()
        opaque = "".join(f"typedef struct {name} {name};\n" for name in handles())
        prototypes = "".join(f"{f.prototype};\n" for f in functions())
        types = "".join(map(structure_text, structures()))
        self.ffi.cdef(f"{opaque}typedef int32_t {OPERATION_TYPE};\n{types}{prototypes}")
        self.library = self.ffi.dlopen(os.fspath(path))
        self.constants = {name.removeprefix(PREFIX): value for name, value in constants().items()}

    def __getattr__(self, name: str) -> Any:
        if name in self.constants:
            return self.constants[name]
        return getattr(self.library, f"ANeuralNetworks{name}")

    def ok(self, name: str, *arguments: Any) -> None:
        """Call a function that must succeed."""
        code = getattr(self, name)(*arguments)
        assert code == 0, f"{name} answers {ResultCode(code).name}"

    def new(self, name: str, *arguments: Any) -> Any:
        """Call a function that makes something, and return its handle."""
        kind = next(f.parameters[-1].type for f in functions() if f.name == f"ANeuralNetworks{name}")
        result = self.ffi.new(kind.removesuffix("**") + "* *")
        self.ok(name, *arguments, result)
        return result[0]

    def type(self, code: int, dimensions: Sequence[int] = (), scale: float = 0.0, zero_point: int = 0) -> Any:
        """An operand type; it keeps its dimensions alive."""
        held = self.ffi.new("uint32_t[]", list(dimensions)) if dimensions else self.ffi.NULL
        made = self.ffi.new("ANeuralNetworksOperandType*", (code, len(dimensions), held, scale, zero_point))
        self._held[made] = held
        return made

    @cached_property
    def _held(self) -> WeakKeyDictionary[Any, Any]:
        return WeakKeyDictionary()

    def indexes(self, *values: int) -> Any:
        """An array of operand indexes or dimensions."""
        return self.ffi.new("uint32_t[]", values)

    def devices(self) -> dict[str, Any]:
        """Device handles by name."""
        count, name = self.ffi.new("uint32_t*"), self.ffi.new("const char**")
        self.ok("_getDeviceCount", count)
        found = {}
        for i in range(count[0]):
            device = self.new("_getDevice", i)
            self.ok("Device_getName", device, name)
            found[self.ffi.string(name[0]).decode()] = device
        return found

    def model(self, ir: Model) -> Any:
        """The same model, built call by call."""
        made = self.new("Model_create")
        for operand in ir.operands:
            type = self.type(operand.type, operand.dimensions, operand.scale, operand.zero_point)
            self.ok("Model_addOperand", made, type)
        for index, operand in enumerate(ir.operands):
            self._set_value(made, index, operand)
        for operation in ir.operations:
            inputs, outputs = self.indexes(*operation.inputs), self.indexes(*operation.outputs)
            code = OPERATIONS[operation.type].code
            self.ok("Model_addOperation", made, code, len(inputs), inputs, len(outputs), outputs)
        inputs, outputs = self.indexes(*ir.inputs), self.indexes(*ir.outputs)
        self.ok("Model_identifyInputsAndOutputs", made, len(inputs), inputs, len(outputs), outputs)
        self.ok("Model_relaxComputationFloat32toFloat16", made, ir.relaxed)
        self.ok("Model_finish", made)
        return made

    def _set_value(self, model: Any, index: int, operand: Operand) -> None:
        if operand.channel_quant is not None:
            scales = self.ffi.new("float[]", operand.channel_quant.scales)
            quant = (operand.channel_quant.axis, len(scales), scales)
            made = self.ffi.new("ANeuralNetworksSymmPerChannelQuantParams*", quant)
            self.ok("Model_setOperandSymmPerChannelQuantParams", model, index, made)
        if operand.is_omitted:
            self.ok("Model_setOperandValue", model, index, self.ffi.NULL, 0)
        elif isinstance(operand.value, Model):
            referenced = self.model(operand.value)
            self.ok("Model_setOperandValueFromModel", model, index, referenced)
            self.Model_free(referenced)
        elif operand.value is not None:
            value = np.ascontiguousarray(operand.value)
            self.ok("Model_setOperandValue", model, index, self.ffi.from_buffer(value), value.nbytes)

    def compiled(self, model: Any, *names: str) -> Any:
        """A finished compilation for all devices, or for those named."""
        if names:
            known = self.devices()
            devices = self.ffi.new("ANeuralNetworksDevice*[]", [known[name] for name in names])
            compilation = self.new("Compilation_createForDevices", model, devices, len(names))
        else:
            compilation = self.new("Compilation_create", model)
        self.ok("Compilation_finish", compilation)
        return compilation

    def compute(
        self, compilation: Any, ir: Model, inputs: Sequence[Array | None], *, room: int = 1 << 16
    ) -> list[Array]:
        """The outputs, in their real dimensions; outputs of unknown size get `room` bytes."""
        execution = self.new("Execution_create", compilation)
        try:
            for i, (operand, array) in enumerate(zip(ir.input_operands, inputs)):
                if array is None:
                    self.ok("Execution_setInput", execution, i, self.ffi.NULL, self.ffi.NULL, 0)
                    continue
                array = np.ascontiguousarray(array)
                dimensions = array.shape if operand.type.is_tensor else ()
                type = self.type(operand.type, dimensions, operand.scale, operand.zero_point)
                self.ok("Execution_setInput", execution, i, type, self.ffi.from_buffer(array), array.nbytes)
            buffers = [np.zeros(room if o.bytes is None else o.bytes, np.uint8) for o in ir.output_operands]
            for i, buffer in enumerate(buffers):
                data = self.ffi.from_buffer(buffer)
                self.ok("Execution_setOutput", execution, i, self.ffi.NULL, data, buffer.nbytes)
            self.ok("Execution_compute", execution)
            return [self._output(execution, i, o, b) for i, (o, b) in enumerate(zip(ir.output_operands, buffers))]
        finally:
            self.Execution_free(execution)

    def _output(self, execution: Any, index: int, operand: Operand, buffer: Array) -> Array:
        rank = self.ffi.new("uint32_t*")
        self.ok("Execution_getOutputOperandRank", execution, index, rank)
        dimensions = self.ffi.new("uint32_t[]", max(rank[0], 1))
        if rank[0]:
            self.ok("Execution_getOutputOperandDimensions", execution, index, dimensions)
        shape = tuple(dimensions)[: rank[0]]
        size = operand.type.dtype.itemsize * math.prod(shape)
        return buffer[:size].view(operand.type.dtype).reshape(shape)
