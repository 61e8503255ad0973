"""ADD, SUB, MUL, DIV: broadcast arithmetic with a fused activation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from nnapi.ops.numeric import NONE, dequantize, fuse, quantize
from nnapi.ops.op import Call, Need, Op, Param, Result, Signature, same
from nnapi.ops.shape import broadcast
from nnapi.ops.types import F16, F32, I32, INT32, MAX_ELEMENTS, Q8, Q8S, Array, Shape

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


def _kernel(function: Callable[[Array, Array], Array], on_integers: Callable[[Array, Array], Array]):  # type: ignore[no-untyped-def]
    def reference(call: Call) -> list[Array]:
        x, y = call["input0"], call["input1"]
        if x.type == I32:
            return [on_integers(x.value, y.value)]
        real = function(dequantize(x.value, x), dequantize(y.value, y))
        return [quantize(fuse(real, call.scalar("activation")), call.output)]

    return reference


def _floor_divide(x: Array, y: Array) -> Array:
    safe = np.where(y == 0, 1, y)
    return np.where(y == 0, 0, np.floor_divide(x.astype(np.int64), safe)).clip(-(2**31), MAX_ELEMENTS).astype(np.int32)


def _arithmetic(
    name: str, code: int, formula: str, function: Callable[[Array, Array], Array],
    on_integers: Callable[[Array, Array], Array], quant8_since: int = 1, float_since: int = 1,
) -> Op:  # fmt: skip
    levels = {F32: float_since, F16: 3, I32: 4}
    if quant8_since:
        levels |= {Q8: quant8_since, Q8S: 4}
    return Op(
        name, code, float_since, (BINARY,), RESULT, types=same(levels), infer=_broadcast,
        reference=_kernel(function, on_integers), formula=formula, rules=_rules,
    )  # fmt: skip


ADD = _arithmetic("ADD", 0, "activation(input0 + input1)", np.add, np.add)
MUL = _arithmetic("MUL", 18, "activation(input0 * input1)", np.multiply, np.multiply)
DIV = _arithmetic("DIV", 30, "activation(input0 / input1)", np.divide, _floor_divide, quant8_since=0, float_since=2)
SUB = _arithmetic("SUB", 36, "activation(input0 - input1)", np.subtract, np.subtract, quant8_since=3, float_since=2)

OPERATIONS = (ADD, MUL, DIV, SUB)
