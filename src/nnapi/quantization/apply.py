"""Apply: a table -> the model in integers (or 16-bit floats), with conversions where two precisions meet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from nnapi.errors import QuantizeError
from nnapi.ir.model import Model, Operation
from nnapi.ir.verify import verify
from nnapi.ops.numeric import quantize
from nnapi.ops.op import Call, Types
from nnapi.ops.types import F16, F32, FLOAT16, FLOAT32, INT32, Operand, OperandType
from nnapi.passes.rewrite import Graph
from nnapi.quantization.decide import HALF, half_types
from nnapi.quantization.integer import CHANNEL_AXIS, JOINS, activations
from nnapi.quantization.params import Params, Table
from nnapi.quantization.recipe import INTEGERS
from nnapi.quantization.weights import stored_bias, stored_filter

HALF_MAX: Final = float(np.finfo(np.float16).max)
Storage = Params | OperandType
"""Storage of a tensor: as integers, or in floats of 32 or 16 bits."""


def apply(model: Model, table: Table) -> Model:
    """`model` quantized as the table says.

    before: `y = CONV_2D(x float32, ...)`
    after:  `y = CONV_2D(x int8, ...)`, with QUANTIZE and DEQUANTIZE around what stays in floats
    """
    return apply_traced(model, table)[0]


def apply_traced(model: Model, table: Table) -> tuple[Model, dict[int, int]]:
    """`apply`, and for each operand of `model` that the result still has, its index there."""
    if set(table.operations) != set(range(len(model.operations))):
        raise QuantizeError(f"the table has {len(table.operations)} operations, the model {len(model.operations)}")
    applying = _Applying(model, table)
    try:
        result = applying.run()
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise QuantizeError(f"the table does not fit the model: {type(error).__name__} {error}") from error
    verify(result)
    position = {id(operand): k for k, operand in enumerate(result.operands)}
    operands = applying.graph.operands
    return result, {i: position[id(operands[i])] for i in range(len(model.operands)) if id(operands[i]) in position}


@dataclass
class _Applying:
    model: Model
    table: Table

    def __post_init__(self) -> None:
        # Operands that two indexes share as one object could not be told apart afterwards.
        self.graph = Graph(replace(self.model, operands=tuple(replace(o) for o in self.model.operands)))
        self._versions: dict[tuple[int, Storage], int] = {}
        in_floats = [n for n in self.table.filters if self.table.operations[n].precision == "float32"]
        self._filters = {self.model.operations[n].inputs[1]: n for n in in_floats}
        """Filters that are stored in 8 bits and read in floats: operand -> the operation by which."""
        self._real: dict[int, int] = {}

    def run(self) -> Model:
        graph, table = self.graph, self.table
        if table.boundary == "integer":
            for i in self.model.inputs:
                if i in table.operands:
                    graph.operands[i] = table.operands[i].of(graph.operands[i])
        for n, operation in enumerate(graph):
            precision = table.operations[n].precision
            if precision in INTEGERS:
                self._integer(n, operation)
            elif precision == "float16":
                self._half(operation)
            elif precision == "float32":
                self._float(n, operation)
            elif precision == "as it is":
                graph.emit(operation)
            else:
                known = ", ".join((*INTEGERS, "float16, float32, as it is"))
                raise QuantizeError(f"no precision {precision!r}", operation=operation.label, hint=f"known: {known}")
        for k, i in enumerate(graph.outputs):
            home = self._home(i)
            wanted = home if table.boundary == "integer" else F32
            if self.model.operands[i].type == F32 and home != wanted:
                graph.outputs[k] = self._as(i, wanted, name=self.model.operands[i].name)
        graph.changed = True
        return graph.finish()

    def _home(self, i: int) -> Storage:
        """How an operand is stored where it is written."""
        operand = self.graph.operands[i]
        return Params(operand.type, operand.scale, operand.zero_point) if operand.type.is_quantized else operand.type

    def _as(self, i: int, wanted: Storage, name: str = "") -> int:
        """Operand i stored as wanted: itself, or a conversion of it."""
        home = self._home(i)
        operand = self.graph.operands[i]
        if home == wanted or (not operand.type.is_float and not operand.type.is_quantized):
            return i
        key = (i, wanted)
        if key not in self._versions:
            self._versions[key] = (
                self._constant(operand, wanted) if operand.is_constant else self._convert(i, wanted, name)
            )
        return self._versions[key]

    def _constant(self, operand: Operand, wanted: Storage) -> int:
        like = wanted.of(operand) if isinstance(wanted, Params) else replace(operand, type=wanted)
        if operand.is_omitted:
            return self.graph.operand(like)
        # A mask's -1e9 must stay finite: a row that is hidden wholly would be NaN after SOFTMAX.
        value = operand.value
        if like.type in (F16, FLOAT16):
            value = np.where(np.isfinite(value), np.clip(value, -HALF_MAX, HALF_MAX), value)
        return self.graph.operand(replace(like, value=quantize(value, like)))

    def _convert(self, i: int, wanted: Storage, name: str) -> int:
        home, operand = self._home(i), self.graph.operands[i]
        if isinstance(home, Params) and isinstance(wanted, Params):
            return self._convert(self._as(i, F32), wanted, name)
        plain = replace(operand, scale=0.0, zero_point=0, name=name, value=None)
        new = wanted.of(plain) if isinstance(wanted, Params) else replace(plain, type=wanted)
        kind = "QUANTIZE" if isinstance(wanted, Params) else "DEQUANTIZE" if isinstance(home, Params) else "CAST"
        result = self.graph.operand(new)
        producer = self.graph.producer(i)
        label = producer.name if producer is not None else operand.name
        self.graph.emit(Operation(kind, (i,), (result,), f"{label}.{kind.lower()}" if label else ""))
        return result

    def _params(self, i: int, operation: Operation) -> Params:
        params = self.table.operands.get(i)
        if params is None:
            raise QuantizeError(f"the table has no parameters of operand {i}", operation=operation.label)
        return params

    def _filter(self, n: int) -> tuple[Params, ...]:
        """One for the whole filter, or one for each channel."""
        operation, params = self.model.operations[n], self.table.filters.get(n, ())
        channels = self.model.operands[operation.inputs[1]].dimensions[CHANNEL_AXIS[operation.type]]
        if len(params) not in (1, channels):
            problem = f"the table has {len(params)} scales of the filter, must have 1 or {channels}"
            raise QuantizeError(problem, operation=operation.label)
        return params

    def _integer(self, n: int, operation: Operation) -> None:
        call = self.model.call(operation)
        outputs = [i for i in operation.outputs if self.model.operands[i].type == F32]
        stored = outputs or [i for i in operation.inputs if i in self.table.operands]
        if not stored:
            raise QuantizeError("the table has no parameters of its operands", operation=operation.label)
        storage = self._params(stored[0], operation)
        row = _row(call, storage.type, (n in self.table.filters and self.table.filters[n][0].type) or None)
        joined = call.op.name in JOINS
        inputs = list(operation.inputs)
        for param, position, i in activations(call, operation.inputs, row):
            quant = call.op.outputs[0].quant
            alike = outputs and (joined or quant == param.name)
            inputs[position] = self._as(i, storage if alike else self._params(i, operation))
        x = self._params(operation.inputs[0], operation) if n in self.table.filters else storage
        for param, at in call.slots:
            position = at.start
            if param.type == "W":
                axis = CHANNEL_AXIS[call.op.name]
                inputs[position] = self.graph.operand(stored_filter(call["filter"], self._filter(n), axis))
            elif param.type == "B":
                inputs[position] = self.graph.operand(stored_bias(call["bias"], x, self._filter(n)))
            elif param.name == "pad_value":
                inputs[position] = self.graph.scalar(
                    INT32, int(quantize(call.array("pad_value"), storage.of(Operand(F32))))
                )
        for i in outputs:
            self.graph.operands[i] = self._params(i, operation).of(self.graph.operands[i])
        self.graph.emit(replace(operation, inputs=tuple(inputs)))

    def _half(self, operation: Operation) -> None:
        row = half_types(self.model, operation)
        if row is None:
            raise QuantizeError("has no form in TENSOR_FLOAT16", operation=operation.label)
        inputs = []
        for i in operation.inputs:
            operand = self.graph.operands[i]
            inputs.append(self._as(i, FLOAT16 if operand.type == FLOAT32 else F16))
        for i in operation.outputs:
            operand = self.graph.operands[i]
            self.graph.operands[i] = replace(operand, type=HALF.get(operand.type, operand.type))
        self.graph.emit(replace(operation, inputs=tuple(inputs)))

    def _float(self, n: int, operation: Operation) -> None:
        inputs = [self._as(i, F32) if self.model.operands[i].type == F32 else i for i in operation.inputs]
        if not operation.is_extension:
            inputs = [self._dequantized(i) if i in self._filters else i for i in inputs]
        self.graph.emit(replace(operation, inputs=tuple(inputs)))

    def _dequantized(self, i: int) -> int:
        """A filter in 8 bits, and a DEQUANTIZE of it; once for all that read it, such as the table of an embedding."""
        if i not in self._real:
            self._real[i] = self._stored_in_8_bits(i, self._filters[i])
        return self._real[i]

    def _stored_in_8_bits(self, i: int, n: int) -> int:
        filter, operation = self.graph.operands[i], self.model.operations[n]
        stored = self.graph.operand(stored_filter(filter, self._filter(n), CHANNEL_AXIS[operation.type]))
        real = self.graph.operand(replace(filter, value=None, name=""))
        name = f"{operation.name}.filter" if operation.name else ""
        self.graph.emit(Operation("DEQUANTIZE", (stored,), (real,), name))
        return real


def _row(call: Call, type: OperandType, weights: OperandType | None) -> Types:
    """The row of integers with activations of `type` and, where there is a filter, `weights`."""
    for row in call.op.types:
        types = row.bind.values()
        if type in types and not {F32, F16} & {*types} and weights in (None, row.bind.get("W")):
            return row
    raise QuantizeError(f"has no form in {type.name}", operation=call.label)
