"""The TFLite flatbuffer: tensors, operators and subgraphs; weights follow the header and are never copied into it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from nnapi.errors import ModelError
from nnapi.exporters.origin import PRODUCER, description
from nnapi.exporters.tflite.versions import DATA_INPUT, operator_version
from nnapi.ir.names import Names
from nnapi.ops.types import B8, F16, F32, I32, OMITTED, Q8, Q8PC, Q8S, Q8SYMM, Q16SYMM, Array, Operand, OperandType

IDENTIFIER: Final = b"TFL3"
SCHEMA_VERSION: Final = 3
MAX_BYTES: Final = 2**31 - 1
"""A flatbuffer's offsets are read as signed 32 bits."""
ALIGNMENT: Final = 16
"""What the schema promises of a buffer's address, relative to the file."""
OMITTED_TENSOR: Final = -1
SIGNATURE: Final = "serving_default"
"""The name under which readers look for a model's inputs and outputs by name."""

_T = schema.TensorType
TENSOR_TYPES: Final[dict[OperandType, int]] = {
    F32: _T.FLOAT32, F16: _T.FLOAT16, I32: _T.INT32, B8: _T.BOOL, Q8: _T.UINT8,
    Q8S: _T.INT8, Q8PC: _T.INT8, Q8SYMM: _T.INT8, Q16SYMM: _T.INT16,
    OperandType.FLOAT32: _T.FLOAT32, OperandType.FLOAT16: _T.FLOAT16,
    OperandType.INT32: _T.INT32, OperandType.BOOL: _T.BOOL,
}  # fmt: skip
"""NNAPI's operand types that TFLite has; TENSOR_QUANT16_ASYMM and UINT32 have no kernels there."""


class Flatbuffer:
    """One TFLite file in the making: subgraphs, and the constants and operator codes that they share."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.graphs: list[Graph] = []
        self._arrays: list[Array] = []
        self._buffers: dict[tuple[Any, ...], int] = {}
        self._codes: dict[tuple[int, int], int] = {}

    def graph(self, name: str) -> Graph:
        """A new subgraph; the first is the one that runs."""
        self.graphs.append(Graph(self, len(self.graphs), name))
        return self.graphs[-1]

    def buffer(self, array: Array) -> int:
        """The index of the buffer that holds `array`, stored once (buffer 0 is empty by convention)."""
        array = np.ascontiguousarray(array)
        key = (array.tobytes(),) if array.nbytes <= 128 else (array.ctypes.data, array.nbytes)
        if key not in self._buffers:
            self._arrays.append(array)
            self._buffers[key] = len(self._arrays)
        return self._buffers[key]

    def code(self, builtin: int, version: int) -> int:
        """The index of an operator code."""
        return self._codes.setdefault((builtin, version), len(self._codes))

    def parts(self) -> Iterator[bytes | memoryview]:
        """The file, piece by piece: the header, then every constant where it lies in memory.

        A constant's vector may lie anywhere behind the table that points to it, so the header is packed without them
        and its offsets are set afterwards. Raises ModelError beyond 2 GiB.
        """
        header = self._header()
        root = schema.Model.GetRootAs(header)
        pieces: list[bytes | memoryview] = []
        end = len(header)
        texts = [np.frombuffer(text.encode(), np.uint8) for text in PRODUCER.values()]
        for i, array in enumerate((*self._arrays, *texts), 1):
            gap = -(end + 4) % ALIGNMENT
            table = root.Buffers(i)._tab
            slot = table.Pos + table.Offset(4)
            if end + gap + 4 + array.nbytes > MAX_BYTES:
                total = sum(a.nbytes for a in self._arrays)
                raise ModelError(
                    f"constants of {total} bytes, a TFLite file holds {MAX_BYTES}",
                    stage="export",
                    hint="quantize the model or split it",
                )
            header[slot : slot + 4] = (end + gap - slot).to_bytes(4, "little")
            pieces += (bytes(gap) + array.nbytes.to_bytes(4, "little"), array.reshape(-1).view(np.uint8).data)
            end += gap + 4 + array.nbytes
        yield bytes(header)
        yield from pieces

    def _header(self) -> bytearray:
        codes = [
            schema.OperatorCodeT(deprecatedBuiltinCode=min(builtin, 127), builtinCode=builtin, version=version)
            for builtin, version in self._codes
        ]
        # A vector of no bytes keeps a place for each offset.
        buffers = [schema.BufferT(), *(schema.BufferT(data=np.empty(0, np.uint8)) for _ in (*self._arrays, *PRODUCER))]
        first = len(self._arrays) + 1
        metadata = [schema.MetadataT(name=name, buffer=n) for n, name in enumerate(PRODUCER, first)]
        model = schema.ModelT(
            version=SCHEMA_VERSION,
            operatorCodes=codes,
            subgraphs=[graph.packable() for graph in self.graphs],
            description=description(self.name),
            buffers=buffers,
            metadata=metadata,
            signatureDefs=[self.graphs[0].signature()] if self.graphs else None,
        )
        builder = flatbuffers.Builder(4096)
        builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
        return bytearray(builder.Output())


class Graph:
    """One subgraph: tensors and operators, by index."""

    def __init__(self, file: Flatbuffer, index: int, name: str) -> None:
        self.file = file
        self.index = index
        self.name = name
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self.input_names: Sequence[str] = ()
        self.output_names: Sequence[str] = ()
        """Names in the signature; as tensors an input and an output of one name have two."""
        self._tensors: list[Any] = []
        self._operators: list[Any] = []

    def tensor(self, operand: Operand, *, scales: Sequence[float] = ()) -> int:
        """A tensor as `operand` describes it, with its value if it is a constant; `scales` replace its scale.

        An unknown dimension becomes 1 with -1 in the signature. Raises ModelError for a type or size TFLite has not.
        """
        if operand.value is OMITTED:
            return OMITTED_TENSOR
        if operand.type not in TENSOR_TYPES:
            raise ModelError(f"TFLite has no tensor of {operand.type.name}", stage="export")
        array = operand.value
        shape = operand.dimensions
        if array is not None:
            shape = array.shape
            if array.dtype != operand.type.dtype:
                raise ModelError(f"a constant of {operand.type.name} holds {array.dtype}", stage="export")
        if any(not 0 <= d < 2**31 for d in shape):
            raise ModelError(f"dimensions {shape}, TFLite counts in 32 bits", stage="export")
        tensor = schema.TensorT(
            shape=np.array([d or 1 for d in shape] if array is None else shape, np.int32),
            type=TENSOR_TYPES[operand.type],
            buffer=0 if array is None else self.file.buffer(array),
            name=operand.name,
            quantization=_quantization(operand, scales),
            hasRank=True,
        )
        if array is None and 0 in shape:
            tensor.shapeSignature = np.array([d or -1 for d in shape], np.int32)
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def int64(self, values: Array, scales: Sequence[float]) -> int:
        """A constant [n] of 64-bit integers, which NNAPI does not have."""
        tensor = schema.TensorT(
            shape=np.array(values.shape, np.int32),
            type=_T.INT64,
            buffer=self.file.buffer(values.astype(np.int64)),
            name="",
            quantization=_quantization(Operand(I32), scales),
            hasRank=True,
        )
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def operator(
        self,
        builtin: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: Any = None,
        version: int | None = None,
    ) -> None:
        """An operator by the name of its builtin code, with its options (an object of the schema's object API).

        The version follows from the type of its data unless it is given.
        """
        if version is None:
            version = operator_version(builtin, self._tensors[inputs[DATA_INPUT.get(builtin, 0)]].type)
        operator = schema.OperatorT(
            opcodeIndex=self.file.code(getattr(schema.BuiltinOperator, builtin), version),
            inputs=np.array(inputs, np.int32),
            outputs=np.array(outputs, np.int32),
        )
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = options
        self._operators.append(operator)

    def _name_tensors(self) -> None:
        """Each tensor has a name of its own, and inputs and outputs have the first choice: readers go by names."""
        wanted = dict(zip((*self.inputs, *self.outputs), (*self.input_names, *self.output_names)))
        wanted |= dict(zip(self.inputs, self.input_names))  # an input that is an output too
        names = Names()
        for i in (*wanted, *(i for i in range(len(self._tensors)) if i not in wanted)):
            self._tensors[i].name = names.fresh(wanted.get(i) or self._tensors[i].name or f"t{i}")

    def signature(self) -> Any:
        """Inputs and outputs by name, as the schema's object."""

        def ends(names: Sequence[str], tensors: Sequence[int]) -> list[Any]:
            return [schema.TensorMapT(name=name, tensorIndex=i) for name, i in zip(names, tensors)]

        return schema.SignatureDefT(
            inputs=ends(self.input_names, self.inputs),
            outputs=ends(self.output_names, self.outputs),
            signatureKey=SIGNATURE,
            subgraphIndex=self.index,
        )

    def packable(self) -> Any:
        """The subgraph as the schema's object."""
        self._name_tensors()
        return schema.SubGraphT(
            tensors=self._tensors,
            inputs=np.array(self.inputs, np.int32),
            outputs=np.array(self.outputs, np.int32),
            operators=self._operators,
            name=self.name,
        )


def _quantization(operand: Operand, scales: Sequence[float]) -> Any:
    channels = operand.channel_quant
    axis = 0
    if channels is not None and not scales:
        scales, axis = channels.scales, channels.axis
    if not scales:
        if not operand.scale:
            return None
        scales = (operand.scale,)
    return schema.QuantizationParametersT(
        scale=np.array(scales, np.float32),
        zeroPoint=np.full(len(scales), operand.zero_point, np.int64),
        quantizedDimension=axis,
    )
