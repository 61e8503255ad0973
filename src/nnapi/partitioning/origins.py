"""Origins of an output's values, and their precision: followed back through what only moves or converts.

That an operation only moves values is found out: it is given two sets of marks, in opposite orders, and must give the
same elements of both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

import numpy as np

from nnapi.errors import ModelError
from nnapi.ir.model import Model, Operation
from nnapi.ir.verify import compatible
from nnapi.ops.op import no_macs
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import F16, F32, FLOAT16, FLOAT32, Array, Dimensions, Operand

Kind = Literal["fp32", "fp16", "rounded", "quantized", "exact"]
"""Precisions of values: floats, floats behind 8-bit integers, these integers, and indexes and truth values."""
ORDER: Final[Sequence[Kind]] = ("fp32", "fp16", "rounded", "quantized")
"""Of the kinds that stand for real numbers, the finest first."""
CONVERSIONS: Final = frozenset(("CAST", "DEQUANTIZE", "QUANTIZE"))
MAX_MARKS: Final = 1 << 22
"""Elements up to which it is found out where each comes from: marks are float32, which counts to 2^24."""
MAX_MOVES: Final = 64
"""Moves and conversions one after the other that values are followed back through."""


@dataclass(frozen=True)
class Origin:
    """A computed operand, with the coarsest kind its values had from there on; `step`, a real, is that of integers."""

    operand: int
    kind: Kind
    step: float = 0.0


class Origins:
    """The origins of a model's operands."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._known: dict[int, tuple[Array, list[Origin]] | None] = {}
        self._moves = 0

    def of(self, output: int, shape: tuple[int, ...]) -> Iterator[tuple[Origin, Array | None]]:
        """Each origin of an output of this shape, with the elements that come from there; None for all of them."""
        traced = self._traced(output)
        if traced is None or traced[0].shape != shape:
            yield self._start(output), None
            return
        marks, origins = traced
        used = np.unique(marks)
        for k in used:
            yield origins[k], None if len(used) == 1 else marks == k

    @cached_property
    def kinds(self) -> list[Kind]:
        """The coarsest kind that each operand depends on; what the model is given is as fine as can be."""
        ranks = [0] * len(self.model.operands)
        for operation in self.model.operations:
            before = max((ranks[i] for i in operation.inputs), default=0)
            bodies = [Origins(body) for body in self.model.referenced(operation)]
            inside = [ORDER.index(b.kinds[o]) for b in bodies for o in b.model.outputs]
            for o in operation.outputs:
                ranks[o] = max([before, *inside, _rank(self.model.operands[o])])
        return [ORDER[min(rank, 2)] for rank in ranks]

    def _start(self, i: int) -> Origin:
        """An operand as the origin of its own values."""
        operand = self.model.operands[i]
        if operand.type.is_quantized:
            return Origin(i, "quantized", operand.scale or 1.0)
        return Origin(i, self.kinds[i] if operand.type.is_float else "exact")

    def _traced(self, i: int) -> tuple[Array, list[Origin]] | None:
        """The number of each element's origin, and the origins; None for unknown shapes."""
        if i not in self._known:
            self._moves += 1
            self._known[i] = self._trace(i)
            self._moves -= 1
        return self._known[i]

    def _trace(self, i: int) -> tuple[Array, list[Origin]] | None:
        model = self.model
        n = model.producers.get(i)
        operand = model.operands[i]
        if n is not None and self._moves <= MAX_MOVES:
            operation = model.operations[n]
            if any(True for _ in model.referenced(operation)):
                return self._uniform(operand, self._inside(operation, operation.outputs.index(i)))
            if operation.type in CONVERSIONS and (operand.type.is_float or _is_stored(model, operation)):
                return self._converted(operation, operand)
            moved = self._moved(operation, operation.outputs.index(i)) if not operation.is_extension else None
            if moved is not None:
                return moved
        return self._uniform(operand, [self._start(i)])

    def _uniform(self, operand: Operand, origins: Sequence[Origin]) -> tuple[Array, list[Origin]] | None:
        """All elements of one origin: the coarsest."""
        shape = _shape(operand)
        if shape is None:
            return None
        coarsest = max(origins, key=lambda o: (o.kind == "exact", o.kind != "exact" and ORDER.index(o.kind), o.step))
        return np.zeros(shape, np.int32), [coarsest]

    def _inside(self, operation: Operation, output: int) -> list[Origin]:
        """The origins of one output in the models that an operation refers to, which may be what it is given."""
        found: list[Origin] = []
        o = operation.outputs[output]
        for body in self.model.referenced(operation):
            given = operation.inputs[-1 - len(body.inputs) : -1] if self.model.body(operation) else (
                operation.inputs[len(operation.inputs) - len(body.inputs) :]
            )  # fmt: skip
            if output >= len(body.outputs):
                continue  # a loop's condition
            traced = Origins(body)._traced(body.outputs[output])
            for origin in [Origins(body)._start(body.outputs[output])] if traced is None else traced[1]:
                if origin.operand not in body.inputs:
                    found.append(_coarser(replace(origin, operand=o), self._start(o).kind, 0.0))
                    continue
                outer = self._traced(given[body.inputs.index(origin.operand)])
                found += [] if outer is None else [_coarser(x, origin.kind, origin.step) for x in outer[1]]
        return found or [self._start(o)]

    def _converted(self, operation: Operation, operand: Operand) -> tuple[Array, list[Origin]] | None:
        traced, source = self._traced(operation.inputs[0]), self.model.operands[operation.inputs[0]]
        if traced is None:
            return None
        scale = 1.0
        if operation.type == "CAST":  # the integers themselves, whatever they stand for
            scale = (operand.scale or 1.0) / (source.scale or 1.0)
        return traced[0], [_stored(replace(origin, step=origin.step * scale), operand) for origin in traced[1]]

    def _moved(self, operation: Operation, output: int) -> tuple[Array, list[Origin]] | None:
        """The origins of what an operation only moves; None where it computes."""
        model, op = self.model, OPERATIONS[operation.type]
        operand = model.operands[operation.outputs[output]]
        inputs = model.operands_of(operation.inputs)
        data = [k for k, x in enumerate(inputs) if _is_real(x)]
        shapes = [_shape(inputs[k]) for k in data]
        if op.macs is not no_macs or not _is_real(operand) or not data or None in shapes:
            return None
        elements = _elements(model, operation, dict(zip(data, shapes)), output)  # type: ignore[arg-type]
        if elements is None or not compatible(operand.dimensions, elements.shape):
            return None
        origins, numbers = [self._start(operation.outputs[output])], [np.zeros(1, np.int32)]
        for k in data:
            i = operation.inputs[k]
            traced = self._traced(i)
            if traced is None or traced[0].shape != _shape(inputs[k]):
                return None
            numbers.append(traced[0].reshape(-1) + len(origins))
            origins += traced[1]
        return np.concatenate(numbers)[elements], [_stored(origin, operand) for origin in origins]


def _elements(model: Model, operation: Operation, data: Mapping[int, Dimensions], output: int) -> Array | None:
    """The number of the element that each element of an output is, counted through the inputs `data` from 1 on, 0 for
    a constant; None where some are none of them.
    """
    count = sum(math.prod(shape) for shape in data.values())
    if count > MAX_MARKS:
        return None
    # Quarters: neither the sum, the double nor the opposite of some is another one.
    marks = np.random.default_rng(0).permutation(count) - count // 2 + np.float32(0.25)
    found: list[Array] = []
    for sign in (1, -3):  # the other way round, and of other sizes: what picks or clamps does not give the same
        values = np.concatenate([[0], marks * sign]).astype(np.float32)
        try:
            result = _run(model, operation, data, values)[output]
        except (ModelError, ArithmeticError, LookupError, TypeError, ValueError, MemoryError):
            return None
        order = np.argsort(values)
        at = order[np.clip(np.searchsorted(values, result, sorter=order), 0, count)]
        if not np.array_equal(values[at], result):
            return None
        found.append(at)
    return found[0] if np.array_equal(found[0], found[1]) else None


def _run(model: Model, operation: Operation, data: Mapping[int, Dimensions], values: Array) -> Sequence[Array]:
    """The outputs of an operation in float32, with `values`, from the second on, as its data."""
    operands, start = [], 1
    for k, operand in enumerate(model.operands_of(operation.inputs)):
        if k not in data:
            operands.append(_given(operand))
            continue
        stop = start + math.prod(data[k])
        operands.append(Operand(F32, data[k], value=values[start:stop].reshape(data[k])))
        start = stop
    declared = [Operand(F32, o.dimensions) if _is_real(o) else o for o in model.operands_of(operation.outputs)]
    with np.errstate(all="ignore"):
        call = OPERATIONS[operation.type].bind(operands, declared)
        call.op.infer(call)
        return call.op.reference(call)


def _given(operand: Operand) -> Operand:
    """A parameter: its value, or the first element for an index that is computed; a float that fills is marked 0."""
    if operand.type.is_tensor or not operand.type.is_float:
        if operand.value is not None:
            return operand
        if operand.type.dtype.kind not in "iu" or operand.elements is None:
            raise ValueError("its parameters are computed")
        return operand.with_value(np.zeros(operand.shape or (), operand.type.dtype))
    return operand if operand.is_omitted else Operand(FLOAT32, value=np.zeros((), np.float32))


def _shape(operand: Operand) -> Dimensions | None:
    """The known part of a shape, 1 for a dimension that is not, as samples have it; None for an unknown rank."""
    if operand.is_constant or operand.dimensions or not operand.type.is_tensor:
        return tuple(d or 1 for d in operand.shape or ())
    return None


def _is_real(operand: Operand) -> bool:
    """Whether a tensor stands for real numbers."""
    return operand.type.is_tensor and (operand.type.is_float or operand.type.is_quantized) and not operand.is_omitted


def _is_stored(model: Model, operation: Operation) -> bool:
    """Whether a conversion to integers keeps those it is given, or rounds to a scale: CAST of floats truncates."""
    return operation.type != "CAST" or model.operands[operation.inputs[0]].type.is_quantized


def _rank(operand: Operand) -> int:
    return 2 if operand.type.is_quantized else 1 if operand.type in (F16, FLOAT16) else 0


def _coarser(origin: Origin, kind: Kind, step: float) -> Origin:
    if "exact" in (origin.kind, kind):
        return origin
    return replace(origin, kind=max(origin.kind, kind, key=ORDER.index), step=max(origin.step, step))


def _stored(origin: Origin, operand: Operand) -> Origin:
    """An origin whose values are then stored as `operand` says."""
    if operand.type.is_quantized:
        return _coarser(origin, "quantized", operand.scale or 1.0)
    return _coarser(origin, "fp16", 0.0) if _rank(operand) else origin
