"""Lower an NNAPI model to TFLite operators, a row of the table per operation; what a row cannot express, it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from nnapi.errors import UnsupportedOperation
from nnapi.exporters.halves import in_float32
from nnapi.exporters.lowering import BaseLowering, BaseNode, BaseRow, require
from nnapi.exporters.tflite.flattening import flattening
from nnapi.exporters.tflite.writer import MAX_BYTES, TENSOR_TYPES, Flatbuffer, Graph
from nnapi.ir.model import Model, Operation
from nnapi.ir.names import names_of
from nnapi.ir.verdict import Verdict
from nnapi.ops.types import F16, F32, I32, MODEL, Q8, Q8S, Q16SYMM, Operand, OperandType

MAX_RANK: Final = 6
"""Above it only few of TFLite's kernels are tested."""
MIN_SCALE: Final = 2.0**-20
MAX_SCALE: Final = 2.0**12
"""Beyond these fixed-point multipliers run out of bits."""


class Node(BaseNode["Lowering"]):
    """One operation on its way: its operands by name, and the graph that its operators go to."""

    format = "TFLite"

    def tensor(self, name: str) -> int:
        """The TFLite tensor of an input."""
        return self.lowering.tensor(self.indexes(name)[0])

    def result(self, n: int = 0) -> int:
        """The TFLite tensor of an output."""
        return self.lowering.tensor(self.operation.outputs[n])

    def shape(self, operand: Operand) -> tuple[int, ...]:
        """An operand's dimensions; refused where one is unknown and does not follow from the inputs' later."""
        dimensions = operand.dimensions
        if dimensions and self.lowering.shapes_follow:
            dimensions = (dimensions[0] or 1, *dimensions[1:])
        if operand.type.is_tensor and (not dimensions or 0 in dimensions):
            self.refuse(f"dimensions {operand.dimensions} of {operand.name or 'an operand'} are not known")
        return dimensions

    def ints(self, values: Sequence[int]) -> int:
        """A constant int32 vector."""
        array = np.array(values, np.int32)
        return self.lowering.graph.tensor(Operand(I32, array.shape, value=array))

    def constant(self, array: Any, like: Operand) -> int:
        """A constant of the type and quantization of `like`."""
        value = np.asarray(array, like.type.dtype)
        return self.lowering.graph.tensor(replace(like, dimensions=value.shape, value=value, name=""))

    def temporary(self, like: Operand, shape: Sequence[int]) -> int:
        """A tensor between two operators, of the type and quantization of `like`."""
        return self.lowering.graph.tensor(replace(like, dimensions=tuple(shape), value=None, name=""))

    def emit(
        self,
        builtin: str,
        inputs: Sequence[int],
        outputs: Sequence[int] | None = None,
        options: Any = None,
        version: int | None = None,
    ) -> None:
        """Add an operator; its outputs are the operation's own unless given."""
        if outputs is None:
            outputs = [self.result(n) for n in range(len(self.operation.outputs))]
        self.lowering.graph.operator(builtin, inputs, outputs, options, version)


@dataclass(frozen=True)
class Row(BaseRow[Node]):
    """How one operation becomes TFLite operators."""


class Lowering(BaseLowering[Node]):
    """One NNAPI model going into one TFLite subgraph."""

    node = Node

    def __init__(
        self,
        model: Model,
        file: Flatbuffer,
        rows: Mapping[str, BaseRow[Node] | str],
        *,
        expand: bool = False,
        shapes_follow: bool = False,
        graph: Graph | None = None,
    ) -> None:
        super().__init__(model, rows, expand=expand, shapes_follow=shapes_follow)
        self.file = file
        self.graph = graph or file.graph(model.name or "main")
        self._tensors: dict[int, int] = {}
        self.flattening = flattening(model)
        self.absorbed = self.flattening.superfluous

    def tensor(self, index: int) -> int:
        """The TFLite tensor of a model's operand."""
        index = self.flattening.same.get(index, index)
        if index not in self._tensors:
            self._tensors[index] = self.graph.tensor(self.model.operands[index])
        return self._tensors[index]

    def run(self) -> list[Verdict]:
        """Lower every operation that TFLite takes; a verdict each."""
        self.graph.inputs = self._boundary(self.model.inputs)
        verdicts = [self.lower(operation) for operation in self.model.operations]
        self.graph.outputs = self._boundary(self.model.outputs)
        self.graph.input_names = names_of(self.model.input_operands, "input")
        self.graph.output_names = names_of(self.model.output_operands, "output")
        return verdicts

    def _boundary(self, indexes: Sequence[int]) -> list[int]:
        return [self.tensor(i) for i in indexes if _type_problem(self.model.operands[i]) is None]

    def problems(self, node: Node, row: BaseRow[Node]) -> Iterator[str]:
        inputs = node.inputs
        for operand in (*inputs, *node.outputs):
            yield from filter(None, (operand_problem(operand),))
        if F16 not in row.types and any(o.type == F16 for o in (*inputs, *node.outputs)):
            yield "TENSOR_FLOAT16, TFLite computes in float32 or integers (float16 is for storage)"
        first = inputs[0].type if inputs else None
        # The table's rows of 16-bit activations are those that TFLite has: docs/design/0006.
        if first is not None and first not in row.types and first != Q16SYMM:
            yield f"{first.name}, its kernels take {', '.join(t.name for t in OperandType if t in row.types)}"
        if not node.operation.is_extension:
            if any(0 in (shape or ()) for shape in node.call.op.infer(node.call)):
                yield "its output has no elements"
            for name in row.constants:
                if name in node and not node[name].is_constant:
                    yield f"{name} is not a constant, the output's shape hangs on it"
            if "layout" in node and node.scalar("layout"):
                yield "layout is NCHW, TFLite's kernels are NHWC"
            yield from node.omissible()

    def lower_body(self, operation: Operation, body: Model, inputs: Sequence[int]) -> None:
        inner = Lowering(body, self.file, self.rows, expand=True, graph=self.graph)
        for index, outer in zip((*body.inputs, *body.outputs), (*inputs, *operation.outputs), strict=True):
            inner._tensors[index] = self.tensor(outer)
        inner.lower_all(body.operations)


def operand_problem(operand: Operand) -> str | None:
    """Why TFLite cannot hold an operand; None where it can."""
    problem = _type_problem(operand)
    if problem or not operand.type.is_tensor or operand.is_omitted:
        return problem
    shape = operand.shape
    name = operand.name or "an operand"
    if shape is None:
        return f"the rank of {name} is unknown"
    if len(shape) > MAX_RANK:
        return f"{name} has rank {len(shape)} > {MAX_RANK}"
    if 0 in shape:
        return f"{name} has no elements: shape {shape}"
    if operand.type in (Q8, Q8S) and not MIN_SCALE <= operand.scale <= MAX_SCALE:
        return f"{name} has scale {operand.scale:g}, kernels are made for {MIN_SCALE:g} to {MAX_SCALE:g}"
    if operand.bytes is not None and operand.bytes > MAX_BYTES:
        return f"{name} has {operand.bytes} bytes > {MAX_BYTES}"
    return None


def _type_problem(operand: Operand) -> str | None:
    if operand.type == MODEL or operand.is_omitted:
        return None
    if operand.type not in TENSOR_TYPES:
        return f"TFLite has no tensor of {operand.type.name}"
    return None


def lower_model(model: Model, rows: Mapping[str, BaseRow[Node] | str]) -> Flatbuffer:
    """The whole model as a TFLite file; UnsupportedOperation names the first operation that TFLite does not take."""
    model = in_float32(model)
    file = Flatbuffer(model.name)
    lowering = Lowering(model, file, rows, expand=True)
    for i in (*model.inputs, *model.outputs):
        problem = operand_problem(model.operands[i])
        if problem:
            raise UnsupportedOperation(problem, stage="export", hint="cast the model's inputs and outputs")
    require(model, lowering.run(), "check_tflite")
    return file


def same_quantization(*operands: Operand) -> bool:
    """Whether all are stored with one scale and zero point."""
    return len({(o.type, o.scale, o.zero_point) for o in operands}) == 1


def through_float(node: Node, emit: Callable[[list[int], list[int]], None]) -> None:
    """Quantized inputs and outputs of an operation that TFLite computes right in float32 only."""
    as_float = Operand(F32)
    tensors = []
    for i, operand in zip(node.operation.inputs, node.inputs):
        tensor = node.lowering.tensor(i)
        if operand.type.is_quantized:
            real = node.temporary(as_float, operand.dimensions)
            node.emit("DEQUANTIZE", [tensor], [real], schema.DequantizeOptionsT())
            tensor = real
        tensors.append(tensor)
    results = [
        node.temporary(as_float, o.dimensions) if o.type.is_quantized else node.result(n)
        for n, o in enumerate(node.outputs)
    ]
    emit(tensors, results)
    for n, (operand, result) in enumerate(zip(node.outputs, results)):
        if operand.type.is_quantized:
            version = 2 if operand.type == Q16SYMM else None
            node.emit("QUANTIZE", [result], [node.result(n)], schema.QuantizeOptionsT(), version)


def along_last_axis(node: Node, source: int, emit: Callable[[int, int], None]) -> None:
    """An operator that works along the last dimension, for an operation along `axis`: transposed there and back.

    `source` is the tensor it works on, shaped as the operation's input.
    """
    shape = node["input"].dimensions
    last = len(shape) - 1
    axis = node.scalar("axis") % len(shape)
    if axis == last:
        emit(source, node.result())
        return
    order = list(range(len(shape)))
    order[axis], order[last] = last, axis
    swap = node.ints(order)
    moved = [node.temporary(o, [shape[i] for i in order]) for o in (node["input"], node.output)]
    node.emit("TRANSPOSE", [source, swap], moved[:1], schema.TransposeOptionsT())
    emit(moved[0], moved[1])
    node.emit("TRANSPOSE", [moved[1], swap], options=schema.TransposeOptionsT())
