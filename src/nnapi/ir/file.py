"""The `.nnapi` file: one safetensors file, constants as tensors, the graph as JSON in its metadata.

A file is read in three steps, and nothing is believed before it is checked: the header against the file's size, the
graph against a schema, the model by `verify`. Constants lie in the memory that the file was read to; only a file that
nobody else writes is mapped ([design/0010](../../../docs/design/0010-files-in-memory.md)).
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nnapi.errors import ModelError
from nnapi.ir.model import Model, Operation
from nnapi.ir.reading import open_file, parse_json, read_file
from nnapi.ir.verify import MAX_DEPTH, verify
from nnapi.ir.writing import writing
from nnapi.ops.types import MODEL, OMITTED, Array, ChannelQuant, Operand, OperandType

FORMAT = "nnapi"
VERSION = 1
MAX_HEADER = 100_000_000
"""Bytes; safetensors itself allows no more."""
_DTYPES = {"F32": "<f4", "F16": "<f2", "I32": "<i4", "U32": "<u4", "BOOL": "|b1", "U8": "|u1", "I8": "|i1",
           "U16": "<u2", "I16": "<i2"}  # fmt: skip
_NAMES = {np.dtype(v): k for k, v in _DTYPES.items()}
_ALIGN = 64
"""Tensors start at multiples of it, so that engines may use the mapped weights as they are."""


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path`: beside it first, then renamed, so that no half-written file is ever seen.

    Raises ModelError where the model does not verify, UsageError where the path cannot be written.
    """
    verify(model)
    tensors: dict[str, Array] = {}
    graph = _encode(model, tensors, {})
    # The format leaves no gaps: wide types first keeps every tensor aligned to its own type.
    tensors = dict(sorted(tensors.items(), key=lambda item: -item[1].itemsize))
    header: dict[str, Any] = {
        "__metadata__": {"format": FORMAT, "version": str(VERSION), "graph": json.dumps(graph, separators=(",", ":"))}
    }
    offset = 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes],
        }  # fmt: skip
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGN)
    with writing(path) as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).data if array.size else b"")


def load(path: str | os.PathLike[str], *, is_ours: bool = False) -> Model:
    """The verified model in a `.nnapi` file, its constants read only.

    A file that `is_ours`, that nobody else writes, is mapped instead of read. Raises ModelError where the file is not
    one, is truncated, or holds an invalid model.
    """
    try:
        content = _mapped(path) if is_ours else read_file(path)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    return loads(content, str(path))


def loads(content: bytes | memoryview, path: str) -> Model:
    """The verified model in the content of a `.nnapi` file; `path` names it in errors."""
    content = memoryview(content).toreadonly()
    if len(content) < 8:
        raise ModelError(f"{path} is no .nnapi file: {len(content)} bytes")
    try:
        graph, tensors = _read_header(content)
        model = _Decoder(tensors).model(graph, 0)
        verify(model)
    except ModelError as error:
        raise ModelError(f"{path}: {error}", operation=error.operation) from error
    return model


def _mapped(path: str | os.PathLike[str]) -> memoryview:
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")


def is_nnapi(head: bytes) -> bool:
    """Whether a file that starts with `head` (64 bytes or more) may be a `.nnapi` file."""
    if len(head) < 10:
        return False
    (length,) = struct.unpack("<Q", head[:8])
    return length <= MAX_HEADER and head[8:9] == b"{"


def _read_header(content: memoryview) -> tuple[Any, Mapping[str, Array]]:
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(MAX_HEADER, len(content) - 8):
        raise ModelError(f"truncated or foreign: a header of {length} bytes in a file of {len(content)}")
    try:
        header = parse_json(content[8 : 8 + length], MAX_HEADER)
        metadata = header.pop("__metadata__")
        graph = parse_json(metadata["graph"].encode(), MAX_HEADER)
        version = int(metadata["version"])
        found = metadata["format"]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = str(error) if type(error) is ValueError else ""
        raise ModelError(
            f"is a safetensors file without an NNAPI graph, or damaged{reason and ': '}{reason}"
        ) from error
    if found != FORMAT or version != VERSION:
        raise ModelError(f"format {found!r} version {version}, this nnapi reads {FORMAT!r} version {VERSION}")
    data = content[8 + length :]
    return graph, {name: _tensor(name, entry, data) for name, entry in header.items()}


def _tensor(name: str, entry: Any, data: memoryview) -> Array:
    try:
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        begin, end = (_count(v) for v in entry["data_offsets"])
        shape = tuple(_count(d) for d in entry["shape"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"tensor {name!r}: its entry is damaged") from error
    count = 1
    for d in shape:
        count *= d
    if not begin <= end <= len(data) or end - begin != count * dtype.itemsize:
        raise ModelError(f"tensor {name!r} of shape {shape} at {begin} to {end}: the file holds {len(data)} bytes")
    return np.frombuffer(data[begin:end], dtype).reshape(shape)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise ValueError(value)
    return value


def _encode(model: Model, tensors: dict[str, Array], names: dict[int, str]) -> dict[str, Any]:
    """The graph as JSON; constants go to `tensors`, each once (`names`: identity -> tensor name)."""
    operands = []
    for operand in model.operands:
        entry: dict[str, Any] = {"type": operand.type.name}
        if operand.type.is_tensor:
            entry["dimensions"] = list(operand.dimensions)
        if operand.name:
            entry["name"] = operand.name
        if operand.scale:
            entry["scale"] = operand.scale
        if operand.zero_point:
            entry["zero_point"] = operand.zero_point
        if operand.channel_quant is not None:
            entry["channel_quant"] = {"scales": operand.channel_quant.scales, "axis": operand.channel_quant.axis}
        value = operand.value
        if value is OMITTED:
            entry["omitted"] = True
        elif isinstance(value, Model):
            entry["model"] = _encode(value, tensors, names)
        elif isinstance(value, np.ndarray) and not operand.type.is_tensor and operand.type.dtype.kind != "f":
            entry["value"] = value.item()
        elif isinstance(value, np.ndarray):
            if id(value) not in names:
                names[id(value)] = f"t{len(tensors)}"
                tensors[names[id(value)]] = value
            entry["tensor"] = names[id(value)]
        operands.append(entry)
    return {
        "name": model.name,
        "relaxed": model.relaxed,
        "metadata": dict(model.metadata),
        "operands": operands,
        "operations": [
            {"type": o.type, "inputs": o.inputs, "outputs": o.outputs, "name": o.name} for o in model.operations
        ],
        "inputs": model.inputs,
        "outputs": model.outputs,
    }


class _Decoder:
    """JSON back to a model; ModelError for whatever does not have the form that `_encode` gives."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self.tensors = tensors

    def model(self, graph: Any, depth: int) -> Model:
        if depth > MAX_DEPTH:
            raise ModelError(f"models nest deeper than {MAX_DEPTH}")
        try:
            return Model(
                tuple(self.operand(entry, depth) for entry in graph["operands"]),
                tuple(
                    Operation(_text(o["type"]), _indexes(o["inputs"]), _indexes(o["outputs"]), _text(o["name"]))
                    for o in graph["operations"]
                ),
                _indexes(graph["inputs"]),
                _indexes(graph["outputs"]),
                _text(graph["name"]),
                bool(graph["relaxed"]),
                {_text(k): _text(v) for k, v in graph["metadata"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ModelError(f"the graph is damaged: {type(error).__name__} {error}") from error

    def operand(self, entry: Any, depth: int) -> Operand:
        type = OperandType[entry["type"]]
        channel = entry.get("channel_quant")
        operand = Operand(
            type,
            _indexes(entry.get("dimensions", ())),
            float(entry.get("scale", 0.0)),
            int(entry.get("zero_point", 0)),
            ChannelQuant(tuple(map(float, channel["scales"])), int(channel["axis"])) if channel else None,
            _text(entry.get("name", "")),
        )
        if entry.get("omitted"):
            return replace(operand, value=OMITTED)
        if type == MODEL:
            return replace(operand, value=self.model(entry["model"], depth + 1))
        if "value" in entry:
            return replace(operand, value=np.array(entry["value"], type.dtype))
        if "tensor" not in entry:
            return operand
        array = self.tensors[entry["tensor"]]
        return replace(operand, value=array.view(type.dtype) if array.dtype.itemsize == type.dtype.itemsize else array)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _indexes(values: Any) -> tuple[int, ...]:
    return tuple(_count(v) for v in values)
