"""The ONNX file: values by number, named at the end; weights follow the graph, each where it lies in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from nnapi.errors import ModelError
from nnapi.exporters.origin import PRODUCER, description
from nnapi.ir.names import Names
from nnapi.ops.types import Array, Operand

OPSET: Final = 21
"""Of the default domain, the only one used: since ONNX 1.16."""
IR_VERSION: Final = 10
MAX_BYTES: Final = 2**31 - 1
"""A protobuf message is read up to 2 GiB."""
INSIDE: Final = 1024
"""Bytes of a constant that stays in the file whatever its size: shapes and axes, which tools want to read."""
ALIGNMENT: Final = 4096
"""Where a weight starts in a file of its own, so that it may be mapped."""

Value = int
ABSENT: Final[Value] = -1
"""An optional input left out."""

_T = TensorProto
ELEMENTS: Final[Mapping[np.dtype[Any], int]] = {
    np.dtype(d): t for d, t in {
        "f4": _T.FLOAT, "f2": _T.FLOAT16, "i4": _T.INT32, "i8": _T.INT64, "u4": _T.UINT32, "u1": _T.UINT8,
        "i1": _T.INT8, "u2": _T.UINT16, "i2": _T.INT16, "?": _T.BOOL,
    }.items()
}  # fmt: skip


@dataclass(frozen=True)
class _Constant:
    """An array to be stored with its dimensions in `order`."""

    array: Array
    order: tuple[int, ...] | None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape if self.order is None else tuple(self.array.shape[i] for i in self.order)

    def data(self) -> memoryview:
        array = self.array if self.order is None else self.array.transpose(self.order)
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


@dataclass(frozen=True)
class _Node:
    type: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    name: str
    attributes: Mapping[str, Any]


class Port(NamedTuple):
    """An input or output of a graph; an unknown dimension is 0 or has a name, None is an unknown rank."""

    value: Value
    dtype: str
    dimensions: Sequence[int | str] | None

    @classmethod
    def of(cls, value: Value, operand: Operand, dimensions: Sequence[int | str] | None = None) -> Self:
        """As the operand is declared; `dimensions` replace its own, with names for what is unknown."""
        unknown = operand.type.is_tensor and not operand.dimensions
        return cls(value, operand.type.dtype.name, None if unknown else dimensions or operand.dimensions)


@dataclass(eq=False)
class Graph:
    """The main graph, or the body of an If or a Loop, which may use the values around it."""

    name: str
    nodes: list[_Node] = field(default_factory=list)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)


class File:
    """One ONNX file in the making: its graph, and the values and constants that this shares with its branches."""

    def __init__(self, name: str = "") -> None:
        self.main = Graph(name or "main")
        self.title = name
        self._count = 0
        self._names: dict[Value, str] = {}
        self._given = Names()
        self._constants: dict[Value, _Constant] = {}
        self._known: dict[tuple[Any, ...], Value] = {}
        self._written: dict[Value, Graph] = {}
        self._bytes_read: set[Value] = set()

    def value(self) -> Value:
        """A new value."""
        self._count += 1
        return self._count

    def constant(self, array: Array, order: Sequence[int] | None = None) -> Value:
        """The constant `array`, transposed to `order`; the same one is stored once, and copied only when written."""
        order = None if order is None else tuple(order)
        memory = array.tobytes() if array.nbytes <= 128 else (array.__array_interface__["data"][0], array.strides)
        key = (memory, array.shape, array.dtype, order)
        if key not in self._known:
            self._known[key] = self.value()
            self._constants[self._known[key]] = _Constant(array, order)
        return self._known[key]

    def transposed(self, value: Value, order: Sequence[int]) -> Value | None:
        """The constant `value` with its dimensions in another order; None where it is no constant."""
        constant = self._constants.get(value)
        if constant is None:
            return None
        before = constant.order or range(constant.array.ndim)
        return self.constant(constant.array, [before[i] for i in order])

    def reshaped(self, value: Value, shape: Sequence[int]) -> Value | None:
        """The constant `value` with other dimensions; None where it is no constant, or would be copied for that."""
        constant = self._constants.get(value)
        if constant is None or constant.order is not None or not constant.array.flags.c_contiguous or 0 in shape:
            return None
        return self.constant(constant.array.reshape(shape))

    def add(
        self,
        graph: Graph,
        type: str,
        inputs: Sequence[Value],
        outputs: int,
        name: str,
        attributes: Mapping[str, Any],
    ) -> tuple[Value, ...]:
        """Add a node to a graph; its outputs are new values. `name` is where it came from."""
        inputs = [self._unread(value) for value in inputs]
        results = tuple(self.value() for _ in range(outputs))
        self._written.update(dict.fromkeys(results, graph))
        graph.nodes.append(_Node(type, tuple(inputs), results, f"{name or graph.name}/{type}_{results[0]}", attributes))
        return results

    def _unread(self, value: Value) -> Value:
        """`value`, or where it is a constant of signed bytes that a node reads already, the same once more.

        ONNX Runtime makes signed filters and their zero points unsigned, and cannot do so twice to one constant.
        """
        constant = self._constants.get(value)
        if constant is None or constant.array.dtype != np.int8:
            return value
        if value in self._bytes_read:
            value = self.value()
            self._constants[value] = constant
        self._bytes_read.add(value)
        return value

    def is_written(self, graph: Graph, value: Value) -> bool:
        """Whether a node of the graph gives the value."""
        return self._written.get(value) is graph

    def name(self, value: Value, wanted: str) -> None:
        """Name a value, if it has none yet: as wanted, or like it where that is taken."""
        if value not in self._names:
            self._names[value] = self._given.fresh(wanted)

    def parts(self, external: str = "") -> Iterator[bytes | memoryview]:
        """The file, piece by piece. With `external` the larger constants are in a file of that name: `weights`.

        Raises ModelError beyond 2 GiB.
        """
        model = ModelProto(
            ir_version=IR_VERSION,
            doc_string=description(self.title),
            opset_import=[helper.make_opsetid("", OPSET)],
            **PRODUCER,
        )
        helper.set_model_props(model, PRODUCER)
        graph = self._graph(self.main).SerializeToString()
        heads = [
            (_initializer(header, 0 if outside else constant.array.nbytes), None if outside else constant)
            for header, constant, outside in self._headers(external)
        ]
        size = len(graph) + sum(len(head) + (c.array.nbytes if c else 0) for head, c in heads)
        if size > MAX_BYTES:
            raise ModelError(
                f"an ONNX file of {size} bytes, protobuf reads {MAX_BYTES}",
                stage="export",
                hint="save it to a file, which puts the weights beside it",
            )
        # ModelProto.graph: the fields of a message may come one after the other in any order.
        yield model.SerializeToString() + b"\x3a" + _varint(size) + graph
        for head, constant in heads:
            yield head
            if constant is not None:
                yield constant.data()

    def weights(self) -> Iterator[bytes | memoryview]:
        """What `parts` leaves out: the larger constants, each at a multiple of ALIGNMENT."""
        for _, constant in self._read():
            if constant.array.nbytes > INSIDE:
                yield constant.data()
                yield bytes(-constant.array.nbytes % ALIGNMENT)

    @property
    def constant_bytes(self) -> int:
        return sum(constant.array.nbytes for _, constant in self._read())

    def _read(self) -> list[tuple[Value, _Constant]]:
        """The constants that a node reads: of a transposed one that may be the turned form only."""
        read: set[Value] = set()
        graphs = [self.main]
        while graphs:
            for node in graphs.pop().nodes:
                read.update(node.inputs)
                graphs += [a for a in node.attributes.values() if isinstance(a, Graph)]
        return [(value, constant) for value, constant in self._constants.items() if value in read]

    def _headers(self, external: str) -> Iterator[tuple[TensorProto, _Constant, bool]]:
        """Each constant's tensor without its data, and whether that is in the file `external`."""
        offset = 0
        for value, constant in self._read():
            self.name(value, f"constant{value}")
            header = TensorProto(name=self._names[value], dims=constant.shape, data_type=ELEMENTS[constant.array.dtype])
            size = constant.array.nbytes
            outside = bool(external) and size > INSIDE
            if outside:
                header.data_location = TensorProto.EXTERNAL
                for key, content in (("location", external), ("offset", offset), ("length", size)):
                    header.external_data.add(key=key, value=str(content))
                offset += size + -size % ALIGNMENT
            yield header, constant, outside

    def _graph(self, graph: Graph) -> GraphProto:
        return GraphProto(
            name=graph.name,
            node=[self._node(node) for node in graph.nodes],
            input=[self._info(port) for port in graph.inputs],
            output=[self._info(port) for port in graph.outputs],
        )

    def _node(self, node: _Node) -> NodeProto:
        return NodeProto(
            op_type=node.type,
            input=[self._name(value) for value in node.inputs],
            output=[self._name(value) for value in node.outputs],
            name=node.name,
            attribute=[self._attribute(key, content) for key, content in node.attributes.items()],
        )

    def _attribute(self, key: str, content: Any) -> AttributeProto:
        if isinstance(content, Graph):
            content = self._graph(content)
        return helper.make_attribute(key, content, attr_type=AttributeProto.INTS if content == [] else None)

    def _name(self, value: Value) -> str:
        if value == ABSENT:
            return ""
        self.name(value, f"v{value}")
        return self._names[value]

    def _info(self, port: Port) -> ValueInfoProto:
        name = self._name(port.value)
        shape = None if port.dimensions is None else [d or f"{name}_{i}" for i, d in enumerate(port.dimensions)]
        return helper.make_tensor_value_info(name, ELEMENTS[np.dtype(port.dtype)], shape)


def _initializer(header: TensorProto, size: int) -> bytes:
    """GraphProto.initializer up to its raw_data of `size` bytes; without raw_data where that is 0."""
    head = header.SerializeToString()
    if header.data_location != TensorProto.EXTERNAL:
        head += b"\x4a" + _varint(size)
    return b"\x2a" + _varint(len(head) + size) + head


def _varint(number: int) -> bytes:
    """A number as protobuf writes it.

    >>> _varint(300).hex()
    'ac02'
    """
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
