"""Conformance cases: files of the format nnapi-vectors/1 -> models and arrays.

A file may come from anybody, so every field is checked, sizes are bounded and a bad one is a ModelError that names the
file and the case.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from nnapi.conformance.compare import RULES, Rule
from nnapi.conformance.fields import Fields
from nnapi.errors import ModelError, UsageError
from nnapi.ir.model import Model, Operation
from nnapi.ir.reading import open_file
from nnapi.ir.verify import MAX_DEPTH
from nnapi.ops.types import BOOL, MAX_ELEMENTS, MODEL, OMITTED, Array, ChannelQuant, Operand, OperandType

FORMAT: Final = "nnapi-vectors/1"
SUFFIX: Final = ".json.gz"
MAX_FILE_BYTES: Final = 64 * 2**20
"""How large a file may be once decompressed."""

LEVELS: Final = MappingProxyType({"V1_0": 1, "V1_1": 2, "V1_2": 3, "V1_3": 4})
"""HAL version -> feature level."""
_CONSTANTS = ("CONSTANT_COPY", "CONSTANT_REFERENCE")
_VARIABLES = ("SUBGRAPH_INPUT", "SUBGRAPH_OUTPUT", "TEMPORARY_VARIABLE")
_TYPES = {"SUBGRAPH" if t is MODEL else t.name: t for t in OperandType}


@dataclass(frozen=True)
class Case:
    """One model with inputs and what must come out of it."""

    id: str
    model: Model
    inputs: tuple[Array | None, ...]
    """One per model input; None is an omitted optional one."""
    expected: tuple[Array | None, ...]
    """One per model output; None is not compared."""
    rules: tuple[Rule, ...]
    operations: tuple[str, ...]
    """The operations under test."""
    level: int | None = None
    """The feature level that must accept the model, where stated."""
    expect_failure: bool = False
    infinite_loop: bool = False
    quant_coupling: bool = False
    """The case is to pass a second time as its signed twin."""


def case_files(path: Path) -> list[Path]:
    """The case files at `path`, a folder or one file, in order of their names; UsageError where there is none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"{path} does not exist", hint="give a folder of conformance cases, or one file")
    found = sorted(path.rglob(f"*{SUFFIX}"))
    if not found:
        raise UsageError(f"{path} holds no file *{SUFFIX}", hint="give a folder of conformance cases")
    return found


def read_cases(path: Path) -> list[Case]:
    """The cases of one file, in order; ModelError where it is not of the format."""
    try:
        document = Fields(_decode(path), "the file")
        if document.value.get("format") != FORMAT:
            document.fail("format", f"must be {FORMAT!r}")
        buffers = [_Buffer(entry) for entry in document.records("buffers")]
        return _with_operations_under_test(
            [(_case(entry, buffers), _tests_between(entry)) for entry in document.records("cases", name="id")]
        )
    except ModelError as error:
        raise ModelError(error.message, location=str(path), hint=error.hint) from error


def _decode(path: Path) -> Any:
    try:
        with open_file(path) as raw, gzip.open(raw) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ModelError(
            f"the case file cannot be read: {getattr(error, 'strerror', None) or error}",
            hint=f"case files are gzipped JSON, *{SUFFIX}",
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise ModelError(f"the case file is larger than {MAX_FILE_BYTES // 2**20} MiB decompressed")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the case file is no JSON: {error}") from error


class _Buffer:
    """A large tensor that cases share; decoded once, when first used."""

    def __init__(self, entry: Fields) -> None:
        self._entry = entry
        self._array: Array | None = None

    def array(self, dtype: np.dtype[Any]) -> Array:
        """Its elements, flat; ModelError where they are not of `dtype`."""
        if self._entry.text("dtype") != dtype.str:
            self._entry.fail("dtype", f"must be {dtype.str!r} for the operand that uses it")
        if self._array is None:
            try:
                data = base64.b64decode(self._entry.text("b64"), validate=True)
                stored = np.dtype(np.uint8) if dtype.kind == "b" else dtype
                self._array = np.frombuffer(data, stored).astype(dtype, copy=False)
            except ValueError as error:
                self._entry.fail("b64", f"cannot be decoded: {error}", show=False)
            self._array.flags.writeable = False
        return self._array


def _case(entry: Fields, buffers: Sequence[_Buffer]) -> Case:
    graphs = _Graphs(entry, buffers)
    main = entry.record("main")
    model = graphs.model(main)
    operands = main.records("operands")
    expect_failure = entry.flag("expectFailure")
    rules = tuple(_rule(r) for r in entry.records("rules"))
    if not expect_failure and len(rules) != len(model.outputs):
        entry.fail("rules", f"must be {len(model.outputs)}, one per output", show=False)
    version = entry.value.get("minSupportedVersion")
    if version is not None and (not isinstance(version, str) or version not in LEVELS):
        entry.fail("minSupportedVersion", f"must be null or one of {', '.join(LEVELS)}")
    return Case(
        entry.text("id"),
        model,
        tuple(_value(operands[i], buffers) for i in model.inputs),
        tuple(_expected(operands[i], buffers) for i in model.outputs),
        rules,
        (),
        None if version is None else LEVELS[version],
        expect_failure,
        entry.flag("infiniteLoop"),
        entry.flag("quantCoupling"),
    )


def _rule(entry: Fields) -> Rule:
    kind = entry.text("rule")
    if kind not in RULES:
        entry.fail("rule", f"must be one of {', '.join(RULES)}")
    return Rule(kind, **{name: entry.real(name) for name in RULES[kind]})


class _Graphs:
    """The graphs of one case, built into models; each referenced one once."""

    def __init__(self, entry: Fields, buffers: Sequence[_Buffer]) -> None:
        self._referenced = entry.records("referenced")
        self._buffers = buffers
        self._models: dict[int, Model] = {}
        self._open: list[int] = []
        self._relaxed = entry.flag("isRelaxed")

    def model(self, graph: Fields) -> Model:
        records = graph.records("operands")
        operands = tuple(self._operand(record) for record in records)

        def indexes(fields: Fields, key: str) -> tuple[int, ...]:
            found = tuple(fields.integers(key))
            if not all(0 <= i < len(operands) for i in found):
                fields.fail(key, f"must be operand indexes, 0 to {len(operands) - 1}")
            return found

        return Model(
            operands,
            tuple(
                Operation(o.text("type"), indexes(o, "inputs"), indexes(o, "outputs"))
                for o in graph.records("operations")
            ),
            indexes(graph, "inputs"),
            indexes(graph, "outputs"),
            "" if graph.value.get("name") is None else graph.text("name"),
            self._relaxed,
        )

    def _operand(self, record: Fields) -> Operand:
        type = _type(record)
        quant = record.value.get("channelQuant")
        lifetime = record.text("lifetime")
        if lifetime not in (*_CONSTANTS, *_VARIABLES, "NO_VALUE", "SUBGRAPH"):
            record.fail("lifetime", "is none of NNAPI's")
        value: Any = None
        if lifetime == "SUBGRAPH":
            value = self._body(record)
        elif lifetime == "NO_VALUE":
            value = OMITTED
        elif lifetime in _CONSTANTS:
            value = _value(record, self._buffers)
            value = OMITTED if value is None else value
        return Operand(
            type,
            _dimensions(record),
            float(np.float32(record.real("scale"))),
            record.integer("zeroPoint"),
            None if quant is None else _channel_quant(record.record("channelQuant")),
            record.text("name"),
            value,
        )

    def _body(self, record: Fields) -> Model:
        n = (record.integers("data") or [-1])[0]
        if not 0 <= n < len(self._referenced):
            record.fail("data", f"must be the index of one of {len(self._referenced)} referenced models")
        if n in self._open:
            record.fail("data", "refers to a model that contains it")
        if len(self._open) >= MAX_DEPTH:
            record.fail("data", f"nests models deeper than {MAX_DEPTH}")
        if n not in self._models:
            self._open.append(n)
            self._models[n] = self.model(self._referenced[n])
            self._open.pop()
        return self._models[n]


def _type(record: Fields) -> OperandType:
    type = _TYPES.get(record.text("type"))
    if type is None:
        record.fail("type", "is no operand type of NNAPI")
    return type


def _dimensions(record: Fields) -> tuple[int, ...]:
    dimensions = tuple(record.integers("dimensions"))
    if any(not 0 <= d <= MAX_ELEMENTS for d in dimensions):
        record.fail("dimensions", f"must be 0 to {MAX_ELEMENTS}")
    return dimensions


def _channel_quant(entry: Fields) -> ChannelQuant:
    return ChannelQuant(tuple(float(np.float32(s)) for s in entry.reals("scales")), entry.integer("channelDim"))


def _value(record: Fields, buffers: Sequence[_Buffer]) -> Array | None:
    """An operand's array, read-only; None where the case gives it no bytes."""
    data, dtype, shape = record.value.get("data"), _type(record).dtype, _dimensions(record)
    if data is None:
        return None
    if isinstance(data, dict):
        n = record.record("data").integer("buffer")
        if not 0 <= n < len(buffers):
            record.fail("data", f"must name one of {len(buffers)} buffers")
        flat = buffers[n].array(dtype)
    else:
        flat = _flat(record, dtype)
    if flat.size != math.prod(shape):
        record.fail("data", f"has {flat.size} elements, dimensions are {list(shape)}", show=False)
    return flat.reshape(shape)


def _flat(record: Fields, dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            flat = np.array(record.reals("data"), np.float64).astype(dtype)
    elif dtype.kind == "O":
        record.fail("type", "has no values")
    else:
        low, high = (0, 1) if dtype == BOOL.dtype else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        integers = record.integers("data")
        if not all(low <= i <= high for i in integers):
            record.fail("data", f"must be {low} to {high} for {dtype}")
        flat = np.array(integers, dtype)
    flat.flags.writeable = False
    return flat


def _expected(record: Fields, buffers: Sequence[_Buffer]) -> Array | None:
    array, shape = _value(record, buffers), _dimensions(record)
    if array is None and 0 in shape and not record.value.get("ignored"):
        return np.zeros(shape, _type(record).dtype)
    return array


def _tests_between(entry: Fields) -> bool:
    """Whether ADDs of zero were put before the inputs or behind the outputs of the case."""
    return any(v.text("kind").endswith("_as_internal") for v in entry.records("variations"))


def _with_operations_under_test(read: list[tuple[Case, bool]]) -> list[Case]:
    """Name the operations under test: of a file that has one-operation cases, only what those use."""
    alone = {case.model.operations[0].type for case, _ in read if len(case.model.operations) == 1}
    cases = []
    for case, between in read:
        types = dict.fromkeys(o.type for o in case.model.operations)
        tested = [t for t in types if not (between and t == "ADD")] or list(types)
        tested = [t for t in tested if t in alone] or tested
        cases.append(replace(case, operations=tuple(tested)))
    return cases
