"""Integer tensors that say how an operation moves its input: axes, sizes, paddings; and limits on what comes out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from nnapi.ops.op import Call, Need, Param
from nnapi.ops.shape import elements
from nnapi.ops.types import BEYOND, F16, F32, I32, MAX_ELEMENTS, Q8, Q8S, Q16SYMM, OperandType, Shape

SINCE_1: Final[Mapping[OperandType, int]] = {F32: 1, Q8: 1, F16: 3, Q8S: 4, Q16SYMM: BEYOND}
SINCE_2: Final[Mapping[OperandType, int]] = {F32: 2, Q8: 2, F16: 3, Q8S: 4, Q16SYMM: BEYOND}
SINCE_3: Final[Mapping[OperandType, int]] = {F32: 3, F16: 3, Q8: 3, I32: 3, Q8S: 4, Q16SYMM: BEYOND}
"""Types of operations that only move elements, by the level that brought the operation."""
MAX_BYTES: Final = 2**32 - 1
"""NNAPI counts the bytes of one operand in 32 bits."""
PADDINGS = Param("paddings", I32, rank=2)
"""[n, 2]: how many elements go before and after along each dimension."""


def integers(call: Call, name: str, count: int | None = None) -> list[int] | None:
    """The values of a one-dimensional input, None where unknown; ModelError unless there are `count`."""
    shape = call.shape(name)
    if count is not None and shape is not None and shape[0] is not None:
        call.require(shape[0] == count, f"{name} has {shape[0]} values, must have {count}")
    return [int(v) for v in call.array(name).ravel()] if call.known(name) else None


def paddings(call: Call, count: int | None) -> list[tuple[int, int]] | None:
    """Before and after of each of `count` dimensions, None where unknown; ModelError where one is negative."""
    shape = call.shape("paddings")
    if shape is not None:
        fits = shape[1] in (2, None) and (count is None or shape[0] in (count, None))
        call.require(fits, f"paddings have shape {shape}, must have {(count or 'rank', 2)}")
    if not call.known("paddings"):
        return None
    pairs = [(int(before), int(after)) for before, after in call.array("paddings")]
    for before, after in pairs:
        call.require(min(before, after) >= 0, f"paddings hold {min(before, after)}, must not be negative")
    return pairs


def padded(sizes: Iterable[int | None], pairs: Iterable[tuple[int, int]]) -> tuple[int | None, ...]:
    """Sizes with `pairs` of paddings added.

    >>> padded((2, None), [(1, 1), (0, 3)])
    (4, None)
    """
    return tuple(None if d is None else d + before + after for d, (before, after) in zip(sizes, pairs, strict=True))


def bounded(call: Call, shape: Shape) -> Shape:
    """`shape` itself; ModelError where a tensor of it, in the call's type T, is more than NNAPI can count."""
    elements(call, shape)
    if shape is not None:
        # A dimension of 0 hides the others from the count, but arrays cannot be shaped so either.
        size = math.prod(d or 1 for d in shape) * call.types.bind["T"].dtype.itemsize
        call.require(
            size <= MAX_BYTES and all(d is None or d <= MAX_ELEMENTS for d in shape),
            f"output has shape {shape}, {size} bytes, limit {MAX_BYTES}",
        )
    return shape


def empty_needs(call: Call, name: str = "input") -> Iterator[Need]:
    """A tensor without elements needs level 3."""
    if any(0 in (operand.shape or ()) for operand in call.many(name)):
        yield Need(3, f"{call.op.name} of an empty tensor")
