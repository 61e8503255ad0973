"""Islands: operations in integers among floats that gain nothing, conversions around what only moves values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nnapi.ir.model import Model
from nnapi.ops.types import F32
from nnapi.quantization.params import Table
from nnapi.quantization.parts import MOVES
from nnapi.quantization.recipe import INTEGERS

REASON: Final = "in integers it would only be converted there and back"


def islands(model: Model, table: Table, *, idle: bool = False) -> dict[int, str]:
    """Operations that `table` has in integers for nothing, and why they stay in floats.

    They hang together by their values, and only move them; with `idle` they may compute, but not multiply and add. What
    reads an input or writes an output that is stored in integers is no island.
    """
    found: dict[int, str] = {}
    boundary = {*model.inputs, *model.outputs} if table.boundary == "integer" else set()
    for region in _regions(model, table):
        operations = [model.operations[n] for n in region]
        touched = {i for o in operations for i in (*o.inputs, *o.outputs)}
        calls = (model.call(o) for o in operations)
        gains = any(c.op.macs(c) for c in calls) if idle else not all(o.type in MOVES for o in operations)
        if not gains and boundary.isdisjoint(touched):
            found |= dict.fromkeys(region, REASON)
    return found


def _regions(model: Model, table: Table) -> Iterator[list[int]]:
    """The operations in integers, those together that hand each other values."""
    integer = {n for n, choice in table.operations.items() if choice.precision in INTEGERS}
    while integer:
        region, open_ = [], [min(integer)]
        integer.discard(open_[0])
        while open_:
            n = open_.pop()
            region.append(n)
            near = {k for i in _values(model, n) for k in (model.producers.get(i, -1), *model.consumers.get(i, ()))}
            open_ += near & integer
            integer -= near
        yield sorted(region)


def _values(model: Model, n: int) -> set[int]:
    operation = model.operations[n]
    return {
        i
        for i in (*operation.inputs, *operation.outputs)
        if model.operands[i].type == F32 and model.operands[i].value is None
    }
