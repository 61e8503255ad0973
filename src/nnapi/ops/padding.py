"""PAD, PAD_V2, MIRROR_PAD: elements added around a tensor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nnapi.ops.integers import PADDINGS, SINCE_2, bounded, empty_needs, padded, paddings
from nnapi.ops.op import Call, Need, Op, Param, Result, Signature, Types, same
from nnapi.ops.types import BEYOND, F16, F32, FLOAT16, FLOAT32, I32, INT32, Q8, Q8S, Q16SYMM, Array, Shape
from nnapi.ops.unary import ANY_RANK

INPUT = Param("input", "T", rank=(1, 4))
RESULT = (Result("output", "T", quant="input"),)
REFLECT, SYMMETRIC = range(2)


def _padded(call: Call) -> list[Shape]:
    shape = call.shape("input")
    pairs = paddings(call, None if shape is None else len(shape))
    if shape is None or pairs is None:
        return [None if shape is None else (None,) * len(shape)]
    return [bounded(call, padded(shape, pairs))]


def _pad_rules(call: Call) -> Iterator[Need]:
    yield from empty_needs(call)
    if call["input"].type == Q8 and call["input"].zero_point != 0:
        # Before, what is padded is not defined: stored zeros or real ones.
        yield Need(3, "PAD of quantized values with a zero point")


def _pad(call: Call) -> list[Array]:
    x = call["input"]
    return [np.pad(x.value, call.array("paddings"), constant_values=x.zero_point)]


PAD = Op(
    "PAD", 32, 2, (Signature((INPUT, PADDINGS)),), RESULT, same(SINCE_2),
    infer=_padded, reference=_pad, rules=_pad_rules,
    formula="input with paddings[i] zeros (real zero, where quantized) before and after it in dimension i",
)  # fmt: skip


def _padded_with_value(call: Call) -> list[Shape]:
    x, value = call["input"].type, call.scalar("pad_value")
    if value is not None and x.is_quantized:
        info = np.iinfo(x.dtype)
        call.require(
            info.min <= value <= info.max, f"pad_value is {value}, must be {info.min} to {info.max} for {x.name}"
        )
    return _padded(call)


def _pad_with_value(call: Call) -> list[Array]:
    x = call["input"]
    value = call["pad_value"].value.astype(x.type.dtype).reshape(())
    return [np.pad(x.value, call.array("paddings"), constant_values=value)]


PAD_V2 = Op(
    "PAD_V2", 69, 3, (Signature((INPUT, PADDINGS, Param("pad_value", "V"))),), RESULT,
    (Types(3, T=F32, V=FLOAT32), Types(3, T=F16, V=FLOAT16), Types(3, T=Q8, V=INT32), Types(4, T=Q8S, V=INT32),
     Types(BEYOND, T=Q16SYMM, V=INT32)),
    infer=_padded_with_value, reference=_pad_with_value,
    formula="input with paddings[i] times pad_value (as stored, where quantized) before and after it in dimension i",
)  # fmt: skip


def _mirrored(call: Call) -> list[Shape]:
    shape, mode = call.shape("input"), call.scalar("mode")
    call.require(mode in (None, REFLECT, SYMMETRIC), f"mode is {mode}, must be 0 (reflect) or 1 (symmetric)")
    pairs = paddings(call, None if shape is None else len(shape))
    if shape is not None and pairs is not None and mode is not None:
        for i, (d, pair) in enumerate(zip(shape, pairs, strict=True)):
            limit = None if d is None else max(d - (mode == REFLECT), 0)
            call.require(
                limit is None or max(pair) <= limit, f"paddings {pair} of dimension {i} exceed its {limit} to mirror"
            )
    return _padded(call)


def _mirror_pad(call: Call) -> list[Array]:
    mode = "reflect" if call.scalar("mode") == REFLECT else "symmetric"
    return [np.pad(call["input"].value, call.array("paddings"), mode)]  # type: ignore[call-overload]


MIRROR_PAD = Op(
    "MIRROR_PAD", 104, 7, (Signature((Param("input", "T", rank=ANY_RANK), PADDINGS, Param("mode", INT32))),), RESULT,
    same({**dict.fromkeys((F32, F16, Q8, Q8S, I32), 7), Q16SYMM: BEYOND}), infer=_mirrored, reference=_mirror_pad,
    formula="input with paddings[i] elements mirrored at its edges; mode 0 does not repeat the edge, 1 does",
)  # fmt: skip

OPERATIONS = (PAD, PAD_V2, MIRROR_PAD)
