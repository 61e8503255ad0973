"""ADD, SUB, MUL, DIV: broadcast arithmetic with a fused activation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from nnapi.ops.accumulate import store
from nnapi.ops.numeric import NONE, dequantize, fuse, quantize, requantize
from nnapi.ops.op import Call, Kernel, Need, Op, Param, Result, Signature, same
from nnapi.ops.shape import broadcast
from nnapi.ops.types import BEYOND, F16, F32, I32, INT32, MAX_ELEMENTS, Q8, Q8S, Q16SYMM, Array, Shape

BINARY = Signature((Param("input0", "T", rank=(1, 4)), Param("input1", "T", rank=(1, 4)), Param("activation", INT32)))
RESULT = (Result("output", "T"),)


def _broadcast(call: Call) -> list[Shape]:
    return [broadcast(call, "input0", "input1")]


def _rules(call: Call) -> Iterable[Need]:
    activation = call.scalar("activation")
    call.require(activation in (None, 0, 1, 2, 3), f"activation is {activation}, must be 0 to 3")
    call.require(
        call["input0"].type != I32 or activation in (None, NONE), f"activation {activation} on integers, must be 0"
    )
    return ()


def _kernel(
    function: Callable[[Array, Array], Array],
    on_integers: Callable[[Array, Array], Array],
    on_quantized: Callable[[Call], Array | None] | None,
) -> Kernel:
    def reference(call: Call) -> list[Array]:
        x, y = call["input0"], call["input1"]
        if x.type == I32:
            return [on_integers(x.value, y.value)]
        stored = on_quantized(call) if on_quantized and x.type in (Q8, Q8S) else None
        if stored is not None:
            return [stored]
        real = function(dequantize(x.value, x), dequantize(y.value, y))
        return [quantize(fuse(real, call.scalar("activation")), call.output)]

    return reference


def _integers(call: Call, name: str) -> Array:
    """Stored values less their zero point, of 9 bits, in 32."""
    return call[name].value.astype(np.int32) - call[name].zero_point


def _quantized_sum(call: Call, sign: int = 1) -> Array | None:
    """input0 + sign * input1 in 32 bits of fixed point, rounded once, half up; None where scales are too far apart."""
    factors = [float(np.float32(call[n].scale) / np.float32(call.output.scale)) for n in ("input0", "input1")]
    if not all(2**-10 <= factor < 2**8 for factor in factors):
        return None
    shift = 21 - math.frexp(max(factors))[1]  # the larger one has 21 bits
    left, right = (round(math.ldexp(factor, shift)) for factor in factors)
    total = _integers(call, "input0") * left + _integers(call, "input1") * (sign * right)
    return store(call, total + (1 << shift - 1) >> shift, call.scalar("activation"))


def _quantized_difference(call: Call) -> Array | None:
    return _quantized_sum(call, -1)


def _quantized_product(call: Call) -> Array:
    x, y, output = (np.float32(o.scale) for o in (call["input0"], call["input1"], call.output))
    product = _integers(call, "input0") * _integers(call, "input1")
    return store(call, requantize(product, float(x * y / output)), call.scalar("activation"))


def _floor_divide(x: Array, y: Array) -> Array:
    safe = np.where(y == 0, 1, y)
    return np.where(y == 0, 0, np.floor_divide(x.astype(np.int64), safe)).clip(-(2**31), MAX_ELEMENTS).astype(np.int32)


def _arithmetic(
    name: str, code: int, formula: str, function: Callable[[Array, Array], Array],
    on_integers: Callable[[Array, Array], Array], on_quantized: Callable[[Call], Array | None] | None = None,
    quant8_since: int = 1, float_since: int = 1,
) -> Op:  # fmt: skip
    levels = {F32: float_since, F16: 3, I32: 4}
    if on_quantized:
        levels |= {Q8: quant8_since, Q8S: 4, Q16SYMM: BEYOND}
    return Op(
        name, code, float_since, (BINARY,), RESULT, types=same(levels), infer=_broadcast,
        reference=_kernel(function, on_integers, on_quantized), formula=formula, rules=_rules,
    )  # fmt: skip


ADD = _arithmetic("ADD", 0, "activation(input0 + input1)", np.add, np.add, _quantized_sum)
MUL = _arithmetic("MUL", 18, "activation(input0 * input1)", np.multiply, np.multiply, _quantized_product)
DIV = _arithmetic("DIV", 30, "activation(input0 / input1)", np.divide, _floor_divide, float_since=2)
SUB = _arithmetic(
    "SUB", 36, "activation(input0 - input1)", np.subtract, np.subtract, _quantized_difference, quant8_since=3,
    float_since=2,
)  # fmt: skip

OPERATIONS = (ADD, MUL, DIV, SUB)
