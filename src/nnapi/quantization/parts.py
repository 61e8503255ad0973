"""Parts of outputs: what a detector joins last, boxes and scores, is judged and stored part by part.

One figure for all would be that of the part with the largest values, and one scale leaves nothing of the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from nnapi.drivers.reference import execute
from nnapi.errors import NnapiError
from nnapi.ir.model import Model, Operation
from nnapi.ir.specialize import specialize
from nnapi.ops.types import F32, FLOAT32, Array, OperandType
from nnapi.passes.fold_quantization import EXACT
from nnapi.passes.remove_dead_code import remove_dead_code
from nnapi.quantization.data import Example
from nnapi.quantization.integer import fixed
from nnapi.quantization.observers import Range
from nnapi.quantization.params import Params

MOVES: Final = EXACT | {"PACK"}
"""Operations that give values of their inputs as they are."""
ENOUGH: Final = {8: 4.0, 16: 1024.0}
"""Factor by which a part's shared range may be wider than its own, by bits: 6 of 8 bits are left then."""


@dataclass(frozen=True)
class Part:
    """Elements of one output of a model."""

    output: int
    name: str
    """Of the operation that computes them."""
    at: Array | None = None
    """Indexes of the output's elements, flat; None: all."""

    def of(self, array: Array) -> Array:
        """The part's elements of the output, flat."""
        flat = np.ravel(array)
        return flat if self.at is None else flat[self.at]


def parts_of(model: Model, examples: Sequence[Example]) -> list[Part]:
    """The parts of each output: what CONCATENATIONs behind which values only move have joined, else the whole."""
    found: list[Part] = []
    shapes = {tuple(x.shape for x in example) for example in examples}
    if len(shapes) == 1:
        with contextlib.suppress(NnapiError):  # an output whose shape depends on values is judged as a whole
            model = specialize(model, [*shapes.pop()])
    for k, i in enumerate(model.outputs):
        cone = _cone(model, i)
        sources = _sources(model, i, cone)
        labels = _labels(model, i, cone, sources) if len(sources) > 1 else None
        if labels is None:
            found.append(Part(k, _name(model, i)))
            continue
        for n, source in enumerate(sources, 1):
            at = np.flatnonzero(np.ravel(labels) == n)
            if at.size:
                found.append(Part(k, _name(model, source), at))
    return found


def apart(model: Model, ranges: Mapping[int, Range], type: OperandType) -> dict[int, str]:
    """Operations that join parts of outputs which one scale does not suit, and why they stay in floats."""
    found: dict[int, str] = {}
    limit = ENOUGH[8 * type.dtype.itemsize]
    for i in model.outputs:
        cone = _cone(model, i)
        for n in sorted(cone):
            operation = model.operations[n]
            widths = {
                j: max(r[1], 0.0) - min(r[0], 0.0) for j in operation.inputs
                if (r := _range(model, ranges, j, type)) is not None and (r[0] < 0 or r[1] > 0)
            }  # fmt: skip
            if n in found or len(widths) < 2 or max(widths.values()) <= limit * min(widths.values()):
                continue
            ratio = max(widths.values()) / min(widths.values())
            reason = (
                f"one scale for parts of an output whose ranges differ {ratio:.0f} times would lose the smaller one"
            )
            found |= dict.fromkeys(_behind(model, n, cone), reason)
    return found


def _range(model: Model, ranges: Mapping[int, Range], i: int, type: OperandType) -> Range | None:
    """The range that operand i is stored by when it joins nothing."""
    operand = model.operands[i]
    n = model.producers.get(i)
    if n is not None and not model.operations[n].is_extension:
        operation = model.operations[n]
        prescribed = fixed(model.call(operation), operation.outputs.index(i), type)
        if prescribed is not None:
            return Params(type, *prescribed).range
    if operand.type != F32 or operand.is_omitted:
        return None
    if operand.value is not None:
        return (float(operand.value.min()), float(operand.value.max())) if operand.value.size else None
    return ranges.get(i)


def _cone(model: Model, i: int) -> set[int]:
    """The operations, from output i back, that only move and join values."""
    found: set[int] = set()
    open_ = [i]
    while open_:
        n = model.producers.get(open_.pop())
        if n is None or n in found or model.operations[n].type not in MOVES:
            continue
        found.add(n)
        open_ += [j for j in model.operations[n].inputs if model.operands[j].type == F32]
    return found


def _sources(model: Model, i: int, cone: set[int]) -> list[int]:
    """Variables that the cone reads and does not write, in order; of one that joins nothing only one."""
    if not any(len(_variables(model, model.operations[n])) > 1 for n in cone):
        return [i]
    written = {o for n in cone for o in model.operations[n].outputs}
    read = dict.fromkeys(j for n in sorted(cone) for j in _variables(model, model.operations[n]))
    return [j for j in read if j not in written]


def _variables(model: Model, operation: Operation) -> list[int]:
    return [j for j in operation.inputs if model.operands[j].type == F32 and model.operands[j].value is None]


def _behind(model: Model, n: int, cone: set[int]) -> set[int]:
    """Operation n and those of the cone that read its results."""
    found, reached = {n}, {*model.operations[n].outputs}
    for k in sorted(cone):
        if k > n and not reached.isdisjoint(model.operations[k].inputs):
            found.add(k)
            reached |= {*model.operations[k].outputs}
    return found


def _labels(model: Model, i: int, cone: set[int], sources: Sequence[int]) -> Array | None:
    """For each element of output i the number of its source, from 1; None where shapes are not known."""
    shapes = [model.operands[j].dimensions for j in sources]
    if any(not shape or 0 in shape for shape in shapes):
        return None
    operands = tuple(
        replace(o, value=np.zeros_like(o.value)) if o.type in (F32, FLOAT32) and isinstance(o.value, np.ndarray) else o
        for o in model.operands
    )
    operations = tuple(model.operations[n] for n in sorted(cone))
    part = remove_dead_code(
        replace(model, operands=operands, operations=operations, inputs=tuple(sources), outputs=(i,))
    )
    try:
        (labels,) = execute(part, [np.full(shape, n, np.float32) for n, shape in enumerate(shapes, 1)])
    except NnapiError:
        return None
    return labels


def _name(model: Model, i: int) -> str:
    n = model.producers.get(i)
    return model.operands[i].name if n is None else model.operations[n].label
