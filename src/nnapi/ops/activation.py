"""RELU, RELU1, RELU6, LOGISTIC, TANH, ELU, HARD_SWISH, PRELU, SOFTMAX, LOG_SOFTMAX: activation functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np

from nnapi.ops import numeric
from nnapi.ops.accumulate import store
from nnapi.ops.fixed_point import HIGH, multiplier, product, saturate16, scale_twice, shift_right
from nnapi.ops.numeric import dequantize, fuse, quantize
from nnapi.ops.op import Call, Need, Op, Param, Result, Signature, Types, same
from nnapi.ops.shape import axis_of, broadcast, same_shape
from nnapi.ops.types import BEYOND, F16, F32, FLOAT16, FLOAT32, INT32, Q8, Q8S, Q16SYMM, Array, OperandType, Shape
from nnapi.ops.unary import ANY_RANK, pointwise

_LARGEST_FACTOR = 128
"""Input scale / output scale above which HARD_SWISH has no fixed point."""
Quant = str | Mapping[OperandType, tuple[float, int]] | None

UNIT: Quant = {Q8: (1 / 256, 0), Q8S: (1 / 256, -128), Q16SYMM: (1 / 32768, 0)}
"""What LOGISTIC and SOFTMAX store 0 to 1 as."""
SYMMETRIC: Quant = {Q8: (1 / 128, 128), Q8S: (1 / 128, 0), Q16SYMM: (1 / 32768, 0)}
"""What TANH stores -1 to 1 as."""


def _activation(
    name: str, code: int, formula: str, function: Callable[[Array], Array], quant: Quant,
    types: Mapping[OperandType, int],
) -> Op:  # fmt: skip
    return Op(
        name, code, min(types.values()), (Signature((Param("input", "T", rank=(1, 4)),)),),
        (Result("output", "T", quant),), types=same(types), infer=same_shape(), reference=pointwise(function),
        formula=formula,
    )  # fmt: skip


def _logistic(x: Array) -> Array:
    return np.float32(1) / (np.float32(1) + np.exp(-x))


def _hard_swish(call: Call) -> list[Array]:
    x = call["input"]
    if x.type in (Q8, Q8S) and x.scale < _LARGEST_FACTOR * call.output.scale:
        return [_hard_swish_table(call)[x.value.astype(np.intp) - np.iinfo(x.type.dtype).min]]
    real = dequantize(x.value, x)
    # As engines do, with a product that is not rounded: what is quantized next shows the last bit.
    ramp = (real.astype(np.float64) * np.float32(1 / 6) + 0.5).astype(np.float32)
    return [quantize(real * np.clip(ramp, np.float32(0), np.float32(1)), call.output)]


def _hard_swish_table(call: Call) -> Array:
    """What each stored value becomes, lowest first: [256]; in 16-bit fixed point, as engines compute it."""
    x, output = call["input"], call.output
    info = np.iinfo(x.type.dtype)
    fine = np.arange(info.min, info.max + 1, dtype=np.int64) - x.zero_point << 7
    scale = np.float32(x.scale) / np.float32(128)
    factor, right = _multiplier16(float(scale / np.float32(output.scale)))
    ramp, left = _multiplier16(float(scale * np.float32(2**15 / 3)))
    # -3 to 3 become -1 to 1, saturated, then 0 to 1.
    reluish = product(saturate16(fine << min(max(left - 1, 0), 16)), ramp)
    reluish = saturate16(reluish << 1) if left > 0 else shift_right(reluish, -left)
    raw = (reluish + 2**15 >> 1) * product(fine, factor)
    result = shift_right(np.sign(raw) * (np.abs(raw) >> 15), -right)
    return store(call, result, numeric.NONE)


def _multiplier16(real: float) -> tuple[int, int]:
    """`multiplier` with 15 bits of mantissa."""
    mantissa, shift = multiplier(real)
    return min(mantissa + 2**15 >> 16, HIGH), shift


def _elu(call: Call) -> list[Array]:
    x, alpha = dequantize(call.array("input"), call["input"]), np.float32(call.scalar("alpha"))
    # e^88 is the last power in float32; beyond it an alpha of 0 would give 0 * infinity.
    negative = np.minimum(np.float32(0), alpha * np.expm1(np.minimum(x, np.float32(88))))
    return [quantize(np.maximum(np.float32(0), x) + negative, call.output)]


def _prelu(call: Call) -> list[Array]:
    if call["input"].type.is_quantized:
        return [_quantized_prelu(call)]
    x, alpha = (dequantize(call.array(name), call[name]) for name in ("input", "alpha"))
    return [quantize(np.where(x >= 0, x, x * alpha), call.output)]


def _quantized_prelu(call: Call) -> Array:
    x, alpha = (call[name].value.astype(np.int64) - call[name].zero_point for name in ("input", "alpha"))
    factor = np.float32(call["input"].scale) / np.float32(call.output.scale)
    above = scale_twice(x, float(factor))
    below = scale_twice(x * alpha, float(factor * np.float32(call["alpha"].scale)))
    return store(call, np.where(x >= 0, above, below), numeric.NONE)


def _prelu_shape(call: Call) -> list[Shape]:
    return [broadcast(call, "input", "alpha")]


def _softmax_shape(call: Call) -> list[Shape]:
    shape, axis, beta = call.shape("input"), call.scalar("axis"), call.scalar("beta")
    if shape is not None and axis is not None:
        axis_of(call, axis, len(shape))
    call.require(beta is None or beta > 0, f"beta is {beta}, must be positive")
    return [shape]


def _softmax_needs(call: Call) -> Iterable[Need]:
    shape = call.shape("input")
    if shape is not None and len(shape) not in (2, 4):
        yield Need(3, f"SOFTMAX of rank {len(shape)}")


def _scaled(call: Call) -> tuple[Array, int]:
    """beta * input, the largest value along the axis moved to 0 before; and the axis."""
    axis = call.scalar("axis") % call.array("input").ndim
    x = dequantize(call.array("input"), call["input"])
    return (x - x.max(axis, keepdims=True, initial=-np.inf)) * np.float32(call.scalar("beta")), axis


def _softmax(call: Call) -> list[Array]:
    x, axis = _scaled(call)
    power = np.exp(x)
    return [quantize(power / power.sum(axis, keepdims=True), call.output)]


def _log_softmax(call: Call) -> list[Array]:
    x, axis = _scaled(call)
    return [quantize(x - np.log(np.exp(x).sum(axis, keepdims=True)), call.output)]


_QUANT8_SINCE_1 = {F32: 1, Q8: 1, F16: 3, Q8S: 4}
_SINCE_1 = {**_QUANT8_SINCE_1, Q16SYMM: BEYOND}

LOGISTIC = _activation("LOGISTIC", 14, "1 / (1 + e^-input)", _logistic, UNIT, _SINCE_1)
RELU = _activation("RELU", 19, "max(0, input)", partial(fuse, fuse_code=numeric.RELU), "input", _SINCE_1)
RELU1 = _activation(
    "RELU1", 20, "min(1, max(-1, input))", partial(fuse, fuse_code=numeric.RELU1), "input", _QUANT8_SINCE_1
)
RELU6 = _activation("RELU6", 21, "min(6, max(0, input))", partial(fuse, fuse_code=numeric.RELU6), "input", _SINCE_1)
TANH = _activation("TANH", 28, "tanh(input)", np.tanh, SYMMETRIC, {F32: 1, F16: 3, Q8: 3, Q8S: 4, Q16SYMM: BEYOND})
HARD_SWISH = Op(
    "HARD_SWISH", 99, 4, (Signature((Param("input", "T", rank=ANY_RANK),)),), (Result("output", "T"),),
    types=same({F32: 4, F16: 4, Q8: 4, Q8S: 4}), infer=same_shape(), reference=_hard_swish,
    formula="input * min(6, max(0, input + 3)) / 6",
)  # fmt: skip
ELU = Op(
    "ELU", 98, 4, (Signature((Param("input", "T", rank=ANY_RANK), Param("alpha", "S"))),), (Result("output", "T"),),
    types=(Types(4, T=F32, S=FLOAT32), Types(4, T=F16, S=FLOAT16)), infer=same_shape(), reference=_elu,
    formula="max(0, input) + min(0, alpha * (e^input - 1))",
)  # fmt: skip
PRELU = Op(
    "PRELU", 71, 3, (Signature((Param("input", "T", rank=ANY_RANK), Param("alpha", "T", rank=ANY_RANK))),),
    (Result("output", "T"),), types=same({F32: 3, F16: 3, Q8: 3, Q8S: 4}), infer=_prelu_shape, reference=_prelu,
    formula="input where input >= 0, else alpha * input",
)  # fmt: skip
SOFTMAX = Op(
    "SOFTMAX", 25, 1,
    (Signature((Param("input", "T", rank=(1, 4)), Param("beta", "S"), Param("axis", INT32, since=3, default=-1))),),
    (Result("output", "T", UNIT),),
    types=(
        Types(1, T=F32, S=FLOAT32), Types(1, T=Q8, S=FLOAT32), Types(3, T=F16, S=FLOAT16), Types(4, T=Q8S, S=FLOAT32),
        Types(BEYOND, T=Q16SYMM, S=FLOAT32),
    ),
    infer=_softmax_shape, reference=_softmax, formula="e^(beta * input) / sum over axis(e^(beta * input))",
    rules=_softmax_needs,
)  # fmt: skip
LOG_SOFTMAX = Op(
    "LOG_SOFTMAX", 64, 3,
    (Signature((Param("input", "T", rank=ANY_RANK), Param("beta", "S"), Param("axis", INT32))),),
    (Result("output", "T"),), types=(Types(3, T=F32, S=FLOAT32), Types(3, T=F16, S=FLOAT16)),
    infer=_softmax_shape, reference=_log_softmax,
    formula="beta * input - ln(sum over axis(e^(beta * input)))",
)  # fmt: skip

OPERATIONS = (LOGISTIC, RELU, RELU1, RELU6, SOFTMAX, TANH, LOG_SOFTMAX, PRELU, ELU, HARD_SWISH)
