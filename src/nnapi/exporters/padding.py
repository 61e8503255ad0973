"""PADs that an average pool does by itself: engines have one that counts what is padded, NNAPI has not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.types import Array
from nnapi.ops.window import VALID


class Padded(NamedTuple):
    """What a pool reads instead of a PAD's output."""

    source: int
    """The operand that is padded with zeros."""
    pads: list[int]
    """top, left, bottom, right"""


def padded_pools(model: Model) -> dict[int, Padded]:
    """Of each PAD that only average pools without padding read, its output: what they read instead."""
    found: dict[int, Padded] = {}
    for operation in model.operations:
        if operation.type != "PAD" or not model.operands[operation.inputs[1]].is_constant:
            continue
        output = operation.outputs[0]
        readers = [model.operations[n] for n in model.consumers.get(output, ())]
        pads = np.asarray(model.operands[operation.inputs[1]].value)
        if readers and output not in model.outputs and pads.shape == (4, 2):
            sides = [_sides(model, reader, pads) for reader in readers]
            if sides[0] is not None and all(s == sides[0] for s in sides):
                found[output] = Padded(operation.inputs[0], sides[0])
    return found


def _sides(model: Model, reader: Operation, pads: Array) -> list[int] | None:
    """Paddings [4, 2] as `Padded` has them, where `reader` is a pool that takes them; None where it is not."""
    if reader.type != "AVERAGE_POOL_2D":
        return None
    call = model.call(reader)
    names = ("padding",) if "padding" in call else tuple(f"padding_{s}" for s in ("left", "right", "top", "bottom"))
    given = [call.scalar(name) for name in names]
    layout = call.scalar("layout")
    if layout is None or given not in ([VALID], [0, 0, 0, 0]):
        return None
    rows, columns, channels = (2, 3, 1) if layout else (1, 2, 3)
    if pads[0].any() or pads[channels].any():
        return None
    return [int(pads[axis][k]) for k in (0, 1) for axis in (rows, columns)]
