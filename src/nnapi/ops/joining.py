"""CONCATENATION, SPLIT, PACK: several tensors to one and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from nnapi.ops.integers import SINCE_1, SINCE_3, bounded, empty_needs
from nnapi.ops.numeric import dequantize, quantize
from nnapi.ops.op import Call, Need, Op, Param, Result, Signature, same
from nnapi.ops.shape import axis_of
from nnapi.ops.types import BEYOND, F16, F32, I32, INT32, Q8, Q8S, Q16SYMM, Array, Operand, Shape
from nnapi.ops.unary import ANY_RANK

MAX_OUTPUTS = 2**16
"""More parts than any model has; a number without a limit would be a way to take all memory."""


def _inputs(call: Call) -> Sequence[Operand]:
    inputs = call.many("inputs")
    call.require(len(inputs) > 0, "no inputs, must have at least one")
    return inputs


def _agree(call: Call, axis: int | None = None) -> Shape:
    """What the inputs' shapes have in common, None along `axis`; ModelError where they differ elsewhere."""
    known = [o.shape for o in _inputs(call) if o.shape is not None]
    if not known:
        return None
    ranks = sorted({len(s) for s in known})
    call.require(len(ranks) == 1, f"inputs have ranks {' and '.join(map(str, ranks))}, must be equal")
    merged: list[int | None] = []
    for i, sizes in enumerate(zip(*known)):
        exact = {s for s in sizes if s is not None} if i != axis else set()
        call.require(len(exact) <= 1, f"inputs have sizes {sorted(exact)} in dimension {i}, must be equal")
        merged.append(exact.pop() if exact else None)
    return tuple(merged)


def _axis(call: Call, count: int) -> int | None:
    """`axis` among `count` dimensions, None where unknown; it does not count from the end here."""
    axis: int | None = call.scalar("axis")
    call.require(axis is None or 0 <= axis < count, f"axis {axis} is outside 0 to {count - 1}")
    return axis


def _quantization(operand: Operand) -> tuple[float, int]:
    return operand.scale, operand.zero_point


def _concatenated(call: Call) -> list[Shape]:
    rank = next((len(o.shape) for o in _inputs(call) if o.shape is not None), None)
    if rank is None:
        return [None]
    axis = _axis(call, rank)
    if axis is None:
        return [(None,) * rank]
    common = _agree(call, axis)
    assert common is not None
    along = [o.shape[axis] if o.shape is not None else None for o in call.many("inputs")]
    joined = None if None in along else sum(d for d in along if d is not None)
    return [bounded(call, (*common[:axis], joined, *common[axis + 1 :]))]


def _concatenate(call: Call) -> list[Array]:
    arrays = [
        o.value if _quantization(o) == _quantization(call.output) else quantize(dequantize(o.value, o), call.output)
        for o in call.many("inputs")
    ]
    return [np.concatenate(arrays, call.scalar("axis"))]


def _concatenation_rules(call: Call) -> Iterator[Need]:
    yield from empty_needs(call, "inputs")
    if call["inputs"].type == Q8 and len({_quantization(o) for o in (*call.many("inputs"), call.output)}) > 1:
        yield Need(3, "CONCATENATION of inputs whose scale or zero point is not the output's")


CONCATENATION = Op(
    "CONCATENATION", 2, 1,
    (Signature((Param("inputs", "T", rank=(1, 4), variadic=True), Param("axis", INT32))),),
    (Result("output", "T"),), same(SINCE_1),
    infer=_concatenated, reference=_concatenate, rules=_concatenation_rules,
    formula="inputs one after the other along axis, requantized to the output's scale and zero point",
)  # fmt: skip


def _split_shapes(call: Call) -> list[Shape]:
    shape, count, axis = call.shape("input"), call.scalar("num_splits"), call.scalar("axis")
    if count is None:
        count = len(call.outputs)
        call.require(count > 0, "num_splits must be known here", hint="make it a constant")
    call.require(count >= 1, f"num_splits is {count}, must be at least 1")
    call.require(count <= MAX_OUTPUTS, f"num_splits is {count}, limit {MAX_OUTPUTS}")
    declared = call.declared
    call.require(declared is None or count == len(declared), f"num_splits is {count}, has {len(call.outputs)} outputs")
    if shape is None or axis is None:
        return [None if shape is None else (None,) * len(shape)] * count
    at = axis_of(call, axis, len(shape))
    size = shape[at]
    call.require(size is None or size % count == 0, f"num_splits {count} does not divide size {size} of axis {axis}")
    return [(*shape[:at], None if size is None else size // count, *shape[at + 1 :])] * count


def _split(call: Call) -> list[Array]:
    return [part.copy() for part in np.split(call["input"].value, call.scalar("num_splits"), call.scalar("axis"))]


SPLIT = Op(
    "SPLIT", 87, 3,
    (Signature((Param("input", "T", rank=ANY_RANK), Param("axis", INT32), Param("num_splits", INT32))),),
    (Result("outputs", "T", quant="input", variadic=True),), same(SINCE_3),
    infer=_split_shapes, reference=_split, formula="input cut into num_splits equal parts along axis",
)  # fmt: skip


def _packed(call: Call) -> list[Shape]:
    common, axis = _agree(call), None
    if common is not None:
        axis = _axis(call, len(common) + 1)
    if common is None or axis is None:
        return [None if common is None else (None,) * (len(common) + 1)]
    return [bounded(call, (*common[:axis], len(call.many("inputs")), *common[axis:]))]


def _pack(call: Call) -> list[Array]:
    return [np.stack([o.value for o in call.many("inputs")], call.scalar("axis"))]


def _pack_rules(call: Call) -> Iterable[Need]:
    found: Sequence[tuple[float, int]] = sorted({_quantization(o) for o in call.many("inputs")})
    call.require(len(found) <= 1, f"inputs have scales and zero points {found}, must be equal")
    return ()


PACK = Op(
    "PACK", 103, 6,
    (Signature((Param("axis", INT32), Param("inputs", "T", rank=(1, 7), variadic=True))),),
    (Result("output", "T", quant="inputs"),), same({**dict.fromkeys((F32, F16, Q8, Q8S, I32), 6), Q16SYMM: BEYOND}),
    infer=_packed, reference=_pack, rules=_pack_rules, formula="inputs side by side along a new dimension at axis",
)  # fmt: skip

OPERATIONS = (CONCATENATION, SPLIT, PACK)
