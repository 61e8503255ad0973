"""L2_NORMALIZATION, LOCAL_RESPONSE_NORMALIZATION, INSTANCE_NORMALIZATION."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nnapi.ops.numeric import dequantize, quantize
from nnapi.ops.op import Call, Need, Op, Param, Result, Signature, Types, same
from nnapi.ops.shape import axis_of, elements
from nnapi.ops.types import F16, F32, FLOAT16, FLOAT32, INT32, Q8, Q8S, Array, Shape
from nnapi.ops.window import LAYOUT, at_least, channels_last, image_sizes, in_layout

AXIS = Param("axis", INT32, since=3, default=-1)
SCALED_TYPES = (Types(1, T=F32, S=FLOAT32), Types(3, T=F16, S=FLOAT16))
SMALLEST_NORM = 1e-6


def _normalized_shape(call: Call) -> list[Shape]:
    shape, axis = call.shape("input"), call.scalar("axis")
    if shape is not None and axis is not None:
        axis_of(call, axis, len(shape))
    return [shape]


def _rank_rules(call: Call) -> Iterable[Need]:
    shape = call.shape("input")
    if shape is not None and len(shape) != 4:
        yield Need(3, f"{call.op.name} of rank {len(shape)}")


def _l2_normalization(call: Call) -> list[Array]:
    x = call["input"]
    # Of quantized input the scale cancels out, and the norm of integers is 0 or far above the smallest one.
    real = x.value.astype(np.float32) - np.float32(x.zero_point)
    norm = np.sqrt(np.square(real).sum(axis=call.scalar("axis"), keepdims=True))
    return [quantize(real / np.maximum(norm, np.float32(SMALLEST_NORM)), call.output)]


def _l2_macs(call: Call) -> int:
    return 2 * (call["input"].elements or 0)


def _local_response_shape(call: Call) -> list[Shape]:
    at_least(call, "radius", 0)
    return _normalized_shape(call)


def _local_response(call: Call) -> list[Array]:
    x = np.moveaxis(dequantize(call.array("input"), call["input"]), call.scalar("axis"), -1)
    squares, size = np.square(x), x.shape[-1]
    total = squares.copy()
    for distance in range(1, min(call.scalar("radius"), size - 1) + 1):
        total[..., distance:] += squares[..., :-distance]
        total[..., :-distance] += squares[..., distance:]
    bias, alpha, beta = (np.float32(call.scalar(name)) for name in ("bias", "alpha", "beta"))
    result = np.moveaxis(x * np.power(bias + alpha * total, -beta), -1, call.scalar("axis"))
    return [quantize(np.ascontiguousarray(result), call.output)]


def _local_response_macs(call: Call) -> int:
    """The window's squares and the scaling."""
    shape, axis, radius = call.shape("input"), call.scalar("axis"), call.scalar("radius")
    count = elements(call, shape)
    if shape is None or count is None or axis is None or radius is None:
        return 0
    return count * (min(2 * radius + 1, shape[axis] or 1) + 2)


def _instance_shape(call: Call) -> list[Shape]:
    image_sizes(call)
    return [call.shape("input")]


def _instance_normalization(call: Call) -> list[Array]:
    x = channels_last(call, dequantize(call.array("input"), call["input"]))
    gamma, beta, epsilon = (np.float32(call.scalar(name)) for name in ("gamma", "beta", "epsilon"))
    centered = x - x.mean(axis=(1, 2), keepdims=True)
    deviation = np.sqrt(np.square(centered).mean(axis=(1, 2), keepdims=True) + epsilon)
    return [quantize(in_layout(call, centered * gamma / deviation + beta), call.output)]


L2_NORMALIZATION = Op(
    "L2_NORMALIZATION", 11, 1, (Signature((Param("input", "T", rank=(1, 4)), AXIS)),),
    (Result("output", "T", quant={Q8: (1 / 128, 128), Q8S: (1 / 128, 0)}),), same({F32: 1, F16: 3, Q8: 3, Q8S: 4}),
    infer=_normalized_shape, reference=_l2_normalization, macs=_l2_macs, rules=_rank_rules,
    formula="input / square root of the sum of its squares along axis",
)  # fmt: skip
LOCAL_RESPONSE_NORMALIZATION = Op(
    "LOCAL_RESPONSE_NORMALIZATION", 13, 1,
    (
        Signature((
            Param("input", "T", rank=(1, 4)), Param("radius", INT32), Param("bias", "S"), Param("alpha", "S"),
            Param("beta", "S"), AXIS,
        )),
    ),
    (Result("output", "T"),), SCALED_TYPES,
    infer=_local_response_shape, reference=_local_response, macs=_local_response_macs, rules=_rank_rules,
    formula="input / (bias + alpha * sum of squares within radius along axis) ** beta",
)  # fmt: skip
INSTANCE_NORMALIZATION = Op(
    "INSTANCE_NORMALIZATION", 57, 3,
    (Signature((Param("input", "T", rank=4), Param("gamma", "S"), Param("beta", "S"), Param("epsilon", "S"), LAYOUT)),),
    (Result("output", "T"),), tuple(Types(3, **t.bind) for t in SCALED_TYPES),
    infer=_instance_shape, reference=_instance_normalization, macs=_l2_macs,
    formula="(input - mean) * gamma / square root of (variance + epsilon) + beta, over each image's height and width",
)  # fmt: skip

OPERATIONS = (L2_NORMALIZATION, LOCAL_RESPONSE_NORMALIZATION, INSTANCE_NORMALIZATION)
