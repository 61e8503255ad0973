"""Lower an NNAPI model to ONNX nodes, a row of the table per operation; what a row cannot express, it refuses.

Quantized operations are written as real ones between DequantizeLinear and QuantizeLinear, which engines fuse, and NHWC
ones between Transposes, of which opposite ones vanish. Activations are unsigned inside, whatever their type in NNAPI:
engines for x86 multiply unsigned by signed bytes, and leave signed ones to slow kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn, Self

import numpy as np

from nnapi.errors import ModelError, UnsupportedOperation
from nnapi.exporters.lowering import BaseLowering, BaseNode, BaseRow, Refused, require
from nnapi.exporters.onnx.symbols import symbols
from nnapi.exporters.onnx.writer import ELEMENTS, File, Graph, Port, Value
from nnapi.exporters.padding import padded_pools
from nnapi.ir.model import Model, Operation
from nnapi.ir.names import names_of
from nnapi.ir.specialize import specialize
from nnapi.ir.verdict import ACCEPT, Reject, Verdict
from nnapi.ops.numeric import NONE, RELU, RELU1, RELU6, activation_range
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import F16, F32, MODEL, Q8, Q8S, ChannelQuant, Operand, OperandType

FLOAT: Final = frozenset((F32, F16))
QUANT8: Final = frozenset((Q8, Q8S))
REAL: Final = FLOAT | QUANT8
"""Types that stand for real numbers, and that most operations take."""
CHANNELS_FIRST: Final = (0, 3, 1, 2)
CHANNELS_LAST: Final = (0, 2, 3, 1)
LARGEST: Final = 2**31 - 1


class ShapesFollow(Exception):
    """The lowering needs a dimension that is not known yet, but will be."""


class Node(BaseNode["Lowering"]):
    """One operation on its way: its operands by name, and the graph that its nodes go to."""

    format = "ONNX"

    @property
    def first(self) -> Operand:
        """The operand whose type the row speaks of: the first tensor."""
        return next((o for o in self.inputs if o.type.is_tensor), self.output)

    # What goes in.

    def stored(self, name: str) -> Value:
        """An input as it is stored."""
        return self.lowering.form(self.indexes(name)[0])

    def real(self, name: str) -> Value:
        """An input as real numbers; integers and booleans as they are."""
        return self.lowering.form(self.indexes(name)[0], real=True)

    def image(self, name: str = "input", *, real: bool = True) -> Value:
        """An input as [N, C, H, W], whatever the operation's layout."""
        return self.lowering.form(self.indexes(name)[0], real=real, image=not self.scalar("layout"))

    def turned(self, name: str, order: Sequence[int]) -> Value:
        """An input as real numbers, its dimensions in another order."""
        operand, value = self[name], self.transpose(self.stored(name), order)
        channels = operand.channel_quant
        if channels is not None:
            channels = ChannelQuant(channels.scales, list(order).index(channels.axis))
        return self.reals(value, replace(operand, channel_quant=channels))

    def reals(self, value: Value, operand: Operand) -> Value:
        """Real numbers of what is stored as `operand` says; engines fuse this with what follows at once."""
        return self.lowering.dequantize(value, operand) if operand.type.is_quantized else value

    def dims(self, operand: Operand | str) -> tuple[int, ...]:
        """All dimensions of an operand; refused where one is unknown and will not follow from the inputs' shapes."""
        operand = self[operand] if isinstance(operand, str) else operand
        shape = operand.shape
        if shape is None or None in shape:
            self.unknown(f"dimensions {operand.dimensions} of {operand.name or 'an operand'} are not known")
        return tuple(d or 0 for d in shape)

    def rank(self, name: str) -> int:
        """How many dimensions an input has."""
        shape = self[name].shape
        if shape is None:
            self.unknown(f"the rank of {name} is not known")
        return len(shape)

    def image_dims(self, name: str = "input") -> tuple[int | None, ...]:
        """(N, C, H, W) of an input in the operation's layout, None where unknown."""
        shape = self[name].shape or (None,) * 4
        return shape if self.scalar("layout") else tuple(shape[i] for i in CHANNELS_FIRST)

    # What goes between.

    def emit(self, type: str, inputs: Sequence[Value], **attributes: Any) -> Value:
        """Add a node with one output."""
        return self.emit_many(type, inputs, 1, **attributes)[0]

    def emit_many(self, type: str, inputs: Sequence[Value], outputs: int, **attributes: Any) -> tuple[Value, ...]:
        return self.lowering.emit(type, inputs, outputs, name=self.operation.name, **attributes)

    def constant(self, array: Any, dtype: Any = None) -> Value:
        """A constant of the array's own type, unless another is given."""
        return self.lowering.file.constant(np.asarray(array, dtype))

    def ints(self, values: int | Iterable[int]) -> Value:
        """Sizes, axes, places: an int64 constant."""
        return self.constant(np.array(values if isinstance(values, int) else list(values), np.int64))

    def number(self, value: float, like: Operand | None = None) -> Value:
        """A scalar constant of the type in which `like` (the first operand) is computed."""
        return self.constant(np.array(value, real_dtype(like or self.first)))

    def cast(self, value: Value, dtype: Any) -> Value:
        return self.emit("Cast", [value], to=ELEMENTS[np.dtype(dtype)])

    def reshape(self, value: Value, shape: Iterable[int]) -> Value:
        shape = tuple(shape)
        known = self.lowering.file.reshaped(value, shape)
        return self.emit("Reshape", [value, self.ints(shape)]) if known is None else known

    def transpose(self, value: Value, order: Iterable[int]) -> Value:
        """`value` with its dimensions in another order; a constant is turned when it is written."""
        return self.lowering.transpose(value, tuple(order), self.operation.name)

    # What comes out.

    def write(self, value: Value, n: int = 0, *, image: bool = False) -> None:
        """Give output `n` real values; `image`: as [N, C, H, W], whatever the layout."""
        operand = self.outputs[n]
        if operand.type.is_quantized:
            value = self.lowering.quantize(value, operand, self.operation.name)
        self.write_stored(value, n, image=image)

    def write_stored(self, value: Value, n: int = 0, *, image: bool = False) -> None:
        """Give output `n` as it is stored."""
        form = (self.operation.outputs[n], image and not self.scalar("layout"))
        self.lowering.forms[form] = value

    def fused(self, value: Value) -> Value:
        """Real values after the operation's fused activation; none where the stored type stops there anyway."""
        code, operand = self.scalar("activation"), self.output
        if operand.type.is_quantized:
            info = np.iinfo(operand.type.dtype)
            if activation_range(operand, code) == (info.min, info.max):
                return value
        return self.activation(value, code)

    def activation(self, value: Value, code: int) -> Value:
        """Real values after a FuseCode."""
        if code == NONE:
            return value
        if code == RELU:
            return self.emit("Relu", [value])
        low, high = {RELU1: (-1, 1), RELU6: (0, 6)}[code]
        return self.emit("Clip", [value, self.number(low, self.output), self.number(high, self.output)])

    def unknown(self, reason: str) -> NoReturn:
        """Refuse, unless it will be known when the model runs."""
        if self.lowering.shapes_follow:
            raise ShapesFollow
        raise Refused(reason)


@dataclass(frozen=True)
class Row(BaseRow[Node]):
    """How one operation becomes ONNX nodes."""


class Lowering(BaseLowering[Node]):
    """One NNAPI model going into one ONNX graph."""

    node = Node

    def __init__(
        self,
        model: Model,
        file: File,
        rows: Mapping[str, BaseRow[Node] | str],
        *,
        graph: Graph | None = None,
        expand: bool = False,
        shapes_follow: bool = False,
    ) -> None:
        super().__init__(_with_known_dimensions(model), rows, expand=expand, shapes_follow=shapes_follow)
        self.operands = _unsigned(self.model)
        self.padded = self.absorbed = padded_pools(self.model)
        self.symbols = symbols(self.model)
        self.file = file
        self.graph = graph or file.main
        self.forms: dict[tuple[int, bool], Value] = {}
        """(operand, as an image turned to channels first) -> value as it is stored."""

    def run(self) -> list[Verdict]:
        """Lower every operation that ONNX takes; a verdict each."""
        entries = zip(self.model.inputs, names_of(self.model.input_operands, "input"), self.symbols.inputs)
        for i, name, dimensions in entries:
            value, operand = self.file.value(), self.model.operands[i]
            self.file.name(value, name)
            self.graph.inputs.append(Port.of(value, operand, dimensions))
            self.forms[i, False] = self._converted(value, operand, self.operands[i])
        verdicts = [self.lower(operation) for operation in self.model.operations]
        if all(verdict is ACCEPT for verdict in verdicts):
            self._finish()
        return verdicts

    def lower(self, operation: Operation) -> Verdict:
        try:
            verdict = super().lower(operation)
        except ShapesFollow:
            self._stand_in(operation)
            return ACCEPT
        if isinstance(verdict, Reject):
            self._stand_in(operation)
        return verdict

    def form(self, index: int, *, real: bool = False, image: bool = False) -> Value:
        """An operand in one of its forms."""
        operand = self.operands[index]
        if real and operand.type.is_quantized:
            # Every reader has a DequantizeLinear of its own: engines do not fuse a shared one.
            return self.dequantize(self.form(index, image=image), operand)
        key = (index, image)
        if key not in self.forms:
            self.forms[key] = self._made(index, operand, image)
        return self.forms[key]

    def _made(self, index: int, operand: Operand, image: bool) -> Value:
        if isinstance(operand.value, np.ndarray) and not image:
            return self.file.constant(operand.value)
        if image:
            return self.transpose(self.form(index), CHANNELS_FIRST)
        return self.transpose(self.forms[index, True], CHANNELS_LAST)

    def emit(
        self, type: str, inputs: Sequence[Value], outputs: int = 1, *, name: str = "", **attributes: Any
    ) -> tuple[Value, ...]:
        """Add a node."""
        return self.file.add(self.graph, type, inputs, outputs, name, attributes)

    def transpose(self, value: Value, order: tuple[int, ...], name: str = "") -> Value:
        turned = self.file.transposed(value, order)
        return self.emit("Transpose", [value], name=name, perm=list(order))[0] if turned is None else turned

    def _converted(self, value: Value, held: Operand, wanted: Operand) -> Value:
        """What is stored as `held` says, stored as `wanted` says: signed bytes as unsigned ones, and back."""
        if held.type == wanted.type:
            return value
        # In integers: OpenVINO would fuse a sum of floats into the layer before, which stores no negative number.
        shift = self.file.constant(np.array(wanted.zero_point - held.zero_point, np.int32))
        (number,) = self.emit("Cast", [value], to=ELEMENTS[np.dtype(np.int32)])
        (moved,) = self.emit("Add", [number, shift])
        return self.emit("Cast", [moved], to=ELEMENTS[wanted.type.dtype])[0]

    def quantize(self, value: Value, operand: Operand, name: str = "") -> Value:
        """Real values [...] as `operand` stores them."""
        return self.emit("QuantizeLinear", [value, *self._parameters(operand)], name=name)[0]

    def dequantize(self, value: Value, operand: Operand, name: str = "") -> Value:
        """Real values, float32, of what is stored as `operand` says."""
        channels = operand.channel_quant
        axis = {} if channels is None else {"axis": channels.axis}
        return self.emit("DequantizeLinear", [value, *self._parameters(operand)], name=name, **axis)[0]

    def _parameters(self, operand: Operand) -> tuple[Value, Value]:
        """Scale and zero point."""
        channels = operand.channel_quant
        scales = np.array(operand.scale if channels is None else channels.scales, np.float32)
        if not np.all(scales > 0):
            raise Refused(f"scale of {operand.name or 'an operand'} is {scales.min()}, must be positive")
        return self.file.constant(scales), self.file.constant(
            np.full(scales.shape, operand.zero_point, operand.type.dtype)
        )

    def problems(self, node: Node, row: BaseRow[Node]) -> Iterator[str]:
        types = [o.type for o in self.model.operands_of((*node.operation.inputs, node.operation.outputs[0]))]
        for operand in (*node.inputs, *node.outputs):
            yield from filter(None, (_type_problem(operand),))
        first = next((t for t in types if t.is_tensor), None) or types[-1]
        if first not in row.types:
            yield f"{first.name}, its nodes take {', '.join(t.name for t in OperandType if t in row.types)}"
        if not node.operation.is_extension:
            yield from node.omissible()

    @classmethod
    def within(cls, outer: Lowering, body: Model, graph: Graph, values: Sequence[Value | None]) -> Self:
        """A referenced model on its way into `graph`, its inputs the values of the lowering around it."""
        inner = cls(body, outer.file, outer.rows, graph=graph, expand=outer.expand, shapes_follow=outer.shapes_follow)
        inner.forms = {(i, False): value for i, value in zip(body.inputs, values) if value is not None}
        return inner

    def written(self, index: int) -> Value:
        """An operand as a value that a node of this very graph gives, as a branch's outputs must be."""
        value = self.form(index)
        return value if self.file.is_written(self.graph, value) else self.emit("Identity", [value])[0]

    def lower_body(self, operation: Operation, body: Model, inputs: Sequence[int]) -> None:
        values = [None if self.operands[i].is_omitted else self.form(i) for i in inputs]
        inner = Lowering.within(self, body, self.graph, values)
        inner.lower_all(inner.model.operations)
        for index, outer in zip(body.outputs, operation.outputs, strict=True):
            self.forms[outer, False] = inner.form(index)

    def _stand_in(self, operation: Operation) -> None:
        """Values for outputs that nobody computes, so that later operations can be judged."""
        for i in operation.outputs:
            self.forms.setdefault((i, False), self.file.value())

    def _finish(self) -> None:
        """The graph's outputs and the values' names."""
        given = {port.value for port in self.graph.inputs}
        for n, (i, dimensions) in enumerate(zip(self.model.outputs, self.symbols.outputs)):
            operand = self.model.operands[i]
            value = self._converted(self.form(i), self.operands[i], operand)
            if value in given or not self.file.is_written(self.graph, value):
                value = self.emit("Identity", [value])[0]
            given.add(value)
            self.file.name(value, operand.name or f"output{n}")
            self.graph.outputs.append(Port.of(value, operand, dimensions))
        for (i, image), value in self.forms.items():
            if self.model.operands[i].name and not image:
                self.file.name(value, self.model.operands[i].name)


def real_dtype(operand: Operand) -> np.dtype[Any]:
    """The type in which an operand is computed: float32 for quantized ones."""
    return np.dtype(np.float32) if operand.type.is_quantized else operand.type.dtype


def _type_problem(operand: Operand) -> str | None:
    if operand.type == MODEL or operand.is_omitted:
        return None
    if operand.elements is not None and operand.elements == 0:
        return f"{operand.name or 'an operand'} has no elements: shape {operand.shape}"
    return None


def _unsigned(model: Model) -> list[Operand]:
    """The operands as they are stored inside: signed bytes as unsigned ones, but for filters."""
    filters = {i for o in model.operations if not o.is_extension for i in _filters(model, o)}
    return [o if o.type != Q8S or i in filters else _shifted(o) for i, o in enumerate(model.operands)]


def _filters(model: Model, operation: Operation) -> Iterator[int]:
    """The constants that the operation multiplies its input with."""
    op = OPERATIONS.get(operation.type)
    if op is not None and any(p.name == "filter" for p in op.signatures[0].inputs):
        i = operation.inputs[1]
        if model.operands[i].is_constant:
            yield i


def _shifted(operand: Operand) -> Operand:
    value = operand.value
    if isinstance(value, np.ndarray):
        value = value.view(np.uint8) ^ np.uint8(128)
    return replace(operand, type=Q8, zero_point=operand.zero_point + 128, value=value)


def _with_known_dimensions(model: Model) -> Model:
    """`model` with the dimensions that follow from its inputs'."""
    tensors = (o for o in model.operands if o.type.is_tensor and not o.is_omitted)
    if all(o.elements is not None for o in tensors):
        return model
    try:
        return specialize(model, [o.dimensions for o in model.input_operands])
    except (ModelError, ValueError):
        return model  # an operation will say what is wrong


def lower_model(model: Model, rows: Mapping[str, BaseRow[Node] | str]) -> File:
    """The whole model as an ONNX file; UnsupportedOperation names the first operation that ONNX does not take."""
    file = File(model.name)
    lowering = Lowering(model, file, rows, expand=True)
    for i in (*model.inputs, *model.outputs):
        problem = _type_problem(model.operands[i])
        if problem:
            raise UnsupportedOperation(problem, stage="export")
    require(model, lowering.run(), "check_onnx")
    return file
