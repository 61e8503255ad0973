"""Shape arithmetic that inference functions share; None is an unknown dimension, a shape of None an unknown rank."""

from __future__ import annotations

import math

from nnapi.ops.op import Call
from nnapi.ops.types import MAX_ELEMENTS, Shape


def broadcast(call: Call, *names: str) -> Shape:
    """The shape of inputs broadcast together from the right; ModelError where two dimensions disagree."""
    shapes = [call.shape(name) for name in names]
    known = [s for s in shapes if s is not None]
    if len(known) < len(shapes):
        return None
    rank = max(len(s) for s in known)
    result: list[int | None] = []
    for i in range(-rank, 0):
        sizes = {s[i] for s in known if len(s) >= -i} - {1}
        if len(sizes - {None}) > 1:
            call.fail(f"{' and '.join(names)} do not broadcast: {' and '.join(map(str, known))}")
        exact = sizes - {None}
        result.append(exact.pop() if exact else None if sizes else 1)
    return tuple(result)


def axis_of(call: Call, axis: int, rank: int, name: str = "axis") -> int:
    """`axis` in 0..rank-1, counted from the end where negative; ModelError outside."""
    call.require(-rank <= axis < rank, f"{name} {axis} is outside rank {rank}", hint=f"use {-rank} to {rank - 1}")
    return axis % rank


def elements(call: Call, shape: Shape) -> int | None:
    """How many elements a shape has; ModelError beyond what NNAPI counts, None where unknown."""
    if shape is None or None in shape:
        return None
    count = math.prod(d for d in shape if d is not None)
    call.require(count <= MAX_ELEMENTS, f"shape {shape} has {count} elements, limit {MAX_ELEMENTS}")
    return count


def same_shape(*names: str):  # type: ignore[no-untyped-def]
    """An inference function: the one output has the shape of the first input."""

    def infer(call: Call) -> list[Shape]:
        return [call.shape(names[0] if names else "input")]

    return infer
