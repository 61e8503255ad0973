"""EQUAL to LESS_EQUAL, LOGICAL_AND, LOGICAL_OR, MAXIMUM, MINIMUM, POW, SELECT: pairs of values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nnapi.ops.numeric import dequantize, quantize
from nnapi.ops.op import Call, Op, Param, Result, Signature, same
from nnapi.ops.shape import broadcast
from nnapi.ops.types import B8, BEYOND, F16, F32, I32, Q8, Q8S, Q16SYMM, Array, OperandType, Shape
from nnapi.ops.unary import ANY_RANK


def _binary(
    name: str, code: int, formula: str, function: Callable[[Array, Array], Array], types: Mapping[OperandType, int],
    output: OperandType | str = "T", inputs: tuple[str, str] = ("input0", "input1"),
) -> Op:  # fmt: skip
    """Broadcast arithmetic without a fused activation: real values (float32), integers and booleans as stored."""

    def infer(call: Call) -> list[Shape]:
        return [broadcast(call, *inputs)]

    def reference(call: Call) -> list[Array]:
        x, y = (_value(call, name) for name in inputs)
        return [quantize(function(x, y), call.output)]

    return Op(
        name, code, 3, (Signature(tuple(Param(n, "T", rank=ANY_RANK) for n in inputs)),), (Result("output", output),),
        types=same(types), infer=infer, reference=reference, formula=formula,
    )  # fmt: skip


def _value(call: Call, name: str) -> Array:
    operand = call[name]
    real = operand.type.is_float or operand.type.is_quantized
    return dequantize(call.array(name), operand) if real else call.array(name)


def _selected_shape(call: Call) -> list[Shape]:
    names = ("condition", "input0", "input1")
    shapes = [s for s in map(call.shape, names) if s is not None]
    sizes = [{s[i] for s in shapes} - {None} for i in range(min(map(len, shapes), default=0))]
    if len({len(s) for s in shapes}) > 1 or any(len(s) > 1 for s in sizes):
        call.fail(f"{', '.join(names)} have shapes {', '.join(map(str, shapes))}, must be the same")
    return [tuple(s.pop() if s else None for s in sizes) if shapes else None]


def _select(call: Call) -> list[Array]:
    return [quantize(np.where(call.array("condition"), _value(call, "input0"), _value(call, "input1")), call.output)]


_NUMBER = {F32: 3, F16: 3, I32: 3, Q8: 3, Q8S: 4, Q16SYMM: BEYOND}
_ANY = _NUMBER | {B8: 3}

EQUAL = _binary("EQUAL", 48, "input0 == input1", np.equal, _ANY, B8)
GREATER = _binary("GREATER", 53, "input0 > input1", np.greater, _ANY, B8)
GREATER_EQUAL = _binary("GREATER_EQUAL", 54, "input0 >= input1", np.greater_equal, _ANY, B8)
LESS = _binary("LESS", 58, "input0 < input1", np.less, _ANY, B8)
LESS_EQUAL = _binary("LESS_EQUAL", 59, "input0 <= input1", np.less_equal, _ANY, B8)
LOGICAL_AND = _binary("LOGICAL_AND", 61, "input0 and input1", np.logical_and, {B8: 3}, B8)
LOGICAL_OR = _binary("LOGICAL_OR", 63, "input0 or input1", np.logical_or, {B8: 3}, B8)
MAXIMUM = _binary("MAXIMUM", 65, "max(input0, input1)", np.maximum, _NUMBER)
MINIMUM = _binary("MINIMUM", 66, "min(input0, input1)", np.minimum, _NUMBER)
NOT_EQUAL = _binary("NOT_EQUAL", 68, "input0 != input1", np.not_equal, _ANY, B8)
POW = _binary("POW", 70, "input^exponent", np.power, {F32: 3, F16: 3}, inputs=("input", "exponent"))
SELECT = Op(
    "SELECT", 84, 3,
    (Signature((
        Param("condition", B8, rank=ANY_RANK), Param("input0", "T", rank=ANY_RANK), Param("input1", "T", rank=ANY_RANK),
    )),),
    (Result("output", "T"),), types=same(_NUMBER), infer=_selected_shape, reference=_select,
    formula="input0 where condition, else input1",
)  # fmt: skip

OPERATIONS = (
    EQUAL, GREATER, GREATER_EQUAL, LESS, LESS_EQUAL, LOGICAL_AND, LOGICAL_OR, MAXIMUM, MINIMUM, NOT_EQUAL, POW, SELECT,
)  # fmt: skip
