"""SLICE, STRIDED_SLICE: a part of a tensor."""

from __future__ import annotations

from nnapi.ops.integers import SINCE_2, SINCE_3, empty_needs, integers
from nnapi.ops.op import Call, Op, Param, Result, Signature, same
from nnapi.ops.types import I32, INT32, Array, Shape
from nnapi.ops.unary import ANY_RANK

RESULT = (Result("output", "T", quant="input"),)


def _sliced(call: Call) -> list[Shape]:
    shape = call.shape("input")
    rank = None if shape is None else len(shape)
    begin, size = integers(call, "begin", rank), integers(call, "size", rank)
    for name, values, low in (("begin", begin, 0), ("size", size, -1)):
        least = min(values or (), default=low)
        call.require(least >= low, f"{name} holds {least}, must be at least {low}")
    if shape is None or begin is None or size is None:
        return [None if rank is None else (None,) * rank]
    result: list[int | None] = []
    for i, (d, b, s) in enumerate(zip(shape, begin, size, strict=True)):
        call.require(d is None or b + max(s, 0) <= d, f"begin {b} and size {s} in dimension {i} exceed the input's {d}")
        result.append(s if s >= 0 else None if d is None else d - b)
    return [tuple(result)]


def _slice(call: Call) -> list[Array]:
    (shape,) = _sliced(call)
    assert shape is not None
    begin = call.array("begin").tolist()
    part = tuple(slice(b, b + s) for b, s in zip(begin, shape, strict=True) if s is not None)
    return [call["input"].value[part].copy()]


SLICE = Op(
    "SLICE", 86, 3,
    (Signature((Param("input", "T", rank=ANY_RANK), Param("begin", I32, rank=1), Param("size", I32, rank=1))),),
    RESULT, same(SINCE_3), infer=_sliced, reference=_slice,
    formula="size[i] elements of input from begin[i] on in dimension i; a size of -1 takes the rest",
)  # fmt: skip


def _ranges(call: Call, shape: tuple[int | None, ...]) -> list[tuple[range | None, bool]] | None:
    """Per dimension the indexes taken (None where unknown) and whether it is dropped; None where nothing is known.

    Negative begins and ends count from the end; what lies outside is cut off.
    """
    rank = len(shape)
    begin, end, strides = (integers(call, name, rank) for name in ("begin", "end", "strides"))
    masks = [call.scalar(name) for name in ("begin_mask", "end_mask", "shrink_axis_mask")]
    if strides is not None:
        call.require(0 not in strides, "strides hold 0, must not")
    if begin is None or end is None or strides is None or None in masks:
        return None
    result: list[tuple[range | None, bool]] = []
    for i, d in enumerate(shape):
        from_start, to_end, dropped = (bool(mask >> i & 1) for mask in masks)
        call.require(not dropped or strides[i] > 0, f"dimension {i} shrinks with stride {strides[i]}, must be positive")
        if d is None:
            result.append((None, dropped))
            continue
        taken = slice(None if from_start else begin[i], None if to_end else end[i], strides[i]).indices(d)
        indexes = range(*taken)
        call.require(
            not dropped or len(indexes) == 1,
            f"dimension {i} shrinks, but begin {begin[i]} and end {end[i]} take {len(indexes)} elements, must take 1",
        )
        result.append((indexes, dropped))
    return result


def _strided(call: Call) -> list[Shape]:
    shape = call.shape("input")
    if shape is None:
        return [None]
    ranges = _ranges(call, shape)
    if ranges is None:
        mask = call.scalar("shrink_axis_mask")
        kept = None if mask is None else sum(not mask >> i & 1 for i in range(len(shape)))
        return [None if kept is None else (None,) * kept or (1,)]
    return [tuple(None if r is None else len(r) for r, dropped in ranges if not dropped) or (1,)]


def _strided_slice(call: Call) -> list[Array]:
    x = call["input"].value
    ranges = _ranges(call, x.shape)
    (shape,) = _strided(call)
    assert ranges is not None and shape is not None
    return [x[tuple(_as_slice(r) for r, _ in ranges if r is not None)].reshape(shape).copy()]


def _as_slice(r: range) -> slice:
    """The slice that takes exactly the indexes of `r`: an end of -1 would count from the other side."""
    return slice(r.start, r.stop if r.stop >= 0 else None, r.step) if r else slice(0, 0)


STRIDED_SLICE = Op(
    "STRIDED_SLICE", 35, 2,
    (Signature((
        Param("input", "T", rank=(1, 4)), Param("begin", I32, rank=1), Param("end", I32, rank=1),
        Param("strides", I32, rank=1), Param("begin_mask", INT32), Param("end_mask", INT32),
        Param("shrink_axis_mask", INT32),
    )),),
    RESULT, same(SINCE_2), infer=_strided, reference=_strided_slice, rules=empty_needs,
    formula="input[begin:end:strides]; bits of the masks open a begin or an end, or drop a dimension",
)  # fmt: skip

OPERATIONS = (SLICE, STRIDED_SLICE)
