"""Arithmetic, comparison, logic and elementary functions, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from nnapi.importers.pytorch.activation import unary
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.tensor import Inexpressible, Tensor, check_size, tensor_of
from nnapi.ops.numeric import NONE
from nnapi.ops.types import B8, F16, F32, I32, Q8, OperandType

Number = bool | int | float


def pair(e: Emitter, x: Tensor | Number, y: Tensor | Number, type: OperandType) -> tuple[Tensor, Tensor]:
    """Both operands in the type that PyTorch computes in."""
    if type == Q8:
        raise Inexpressible("arithmetic on bytes, which wraps")
    like = Tensor((), type)
    first, second = (e.cast(v, type) if isinstance(v, Tensor) else e.like(v, like) for v in (x, y))
    return first, second


def common_type(x: Tensor | Number, y: Tensor | Number) -> OperandType:
    """The type two operands are compared in: a tensor with dimensions decides over numbers within a kind."""
    ranked = [v for v in (x, y) if isinstance(v, Tensor)]
    floats = [t for t in ranked if t.is_float]
    if floats:
        return max(floats, key=lambda t: (t.rank > 0, t.type == F32)).type
    if any(isinstance(v, float) for v in (x, y)):
        return F32
    if any(t.type in (I32, Q8) for t in ranked):
        return I32
    return I32 if any(not isinstance(v, (bool, Tensor)) for v in (x, y)) else B8


def binary(type: str) -> Callable[..., Tensor]:
    """ADD, SUB or MUL; integers wrap as PyTorch's 32-bit ones do."""

    def write(e: Emitter, x: Tensor | Number, y: Tensor | Number, *, alpha: Number = 1) -> Tensor:
        if e.type == B8:
            raise Inexpressible("arithmetic on booleans")
        x, y = pair(e, x, y, e.type)
        if alpha != 1:
            y = _scaled(e, y, alpha)
        return e.elementwise(type, input0=x, input1=y, activation=NONE)

    return write


def _scaled(e: Emitter, x: Tensor, factor: Number) -> Tensor:
    if x.is_constant:
        return e.like(x.value * factor, x)
    return e.binary("MUL", x, factor)


def rsub(e: Emitter, x: Tensor, y: Tensor | Number, alpha: Number = 1) -> Tensor:
    """y - alpha * x."""
    first, second = pair(e, y, x, e.type)
    return e.binary("SUB", first, _scaled(e, second, alpha) if alpha != 1 else second)


def div(e: Emitter, x: Tensor | Number, y: Tensor | Number, *, rounding_mode: str | None = None) -> Tensor:
    """DIV, and FLOOR of it; NNAPI's division of integers floors too."""
    if rounding_mode == "trunc":
        raise Inexpressible("NNAPI has no division that truncates")
    x, y = pair(e, x, y, e.type)
    quotient = e.elementwise("DIV", input0=x, input1=y, activation=NONE)
    return e.elementwise("FLOOR", input=quotient) if rounding_mode == "floor" and quotient.is_float else quotient


def floor_divide(e: Emitter, x: Tensor | Number, y: Tensor | Number) -> Tensor:
    return div(e, x, y, rounding_mode="floor")


def remainder(e: Emitter, x: Tensor | Number, y: Tensor | Number) -> Tensor:
    """x - floor(x / y) * y."""
    x, y = pair(e, x, y, e.type)
    whole = e.elementwise("DIV", input0=x, input1=y, activation=NONE)
    whole = e.elementwise("FLOOR", input=whole) if whole.is_float else whole
    return e.binary("SUB", x, e.binary("MUL", whole, y))


def compare(type: str) -> Callable[..., Tensor]:
    """EQUAL, LESS, ..."""

    def write(e: Emitter, x: Tensor, y: Tensor | Number) -> Tensor:
        x, y = pair(e, x, y, common_type(x, y))
        return e.elementwise(type, input0=x, input1=y)

    return write


def extreme(type: str) -> Callable[..., Tensor]:
    """MAXIMUM or MINIMUM of two tensors."""

    def write(e: Emitter, x: Tensor, y: Tensor) -> Tensor:
        x, y = pair(e, x, y, e.type)
        return e.elementwise(type, input0=x, input1=y)

    return write


def logical(type: str) -> Callable[..., Tensor]:
    """LOGICAL_AND or LOGICAL_OR; numbers count as whether they are not 0."""

    def write(e: Emitter, x: Tensor, y: Tensor | Number) -> Tensor:
        if e.type != B8:
            raise Inexpressible("NNAPI has no bitwise operations")
        x, y = pair(e, x, y, B8)
        return e.elementwise(type, input0=x, input1=y)

    return write


def logical_not(e: Emitter, x: Tensor) -> Tensor:
    if e.type != B8:
        raise Inexpressible("NNAPI has no bitwise operations")
    return e.elementwise("LOGICAL_NOT", input=e.cast(x, B8))


def logical_xor(e: Emitter, x: Tensor, y: Tensor) -> Tensor:
    if e.type != B8:
        raise Inexpressible("NNAPI has no bitwise operations")
    x, y = pair(e, x, y, B8)
    return e.elementwise("NOT_EQUAL", input0=x, input1=y)


def where(e: Emitter, condition: Tensor, x: Tensor | Number, y: Tensor | Number) -> Tensor:
    """SELECT, which does not broadcast: what is smaller is expanded first."""
    x, y = pair(e, x, y, e.type)
    if e.type == B8:
        x, y = e.cast(x, F32), e.cast(y, F32)
    condition, x, y = (e.expand(t, e.shape) for t in (e.cast(condition, B8), x, y))
    return e.cast(e.elementwise("SELECT", condition=condition, input0=x, input1=y), e.type)


def masked_fill(e: Emitter, x: Tensor, mask: Tensor, value: Tensor | Number) -> Tensor:
    return where(e, mask, value, x)


def pow(e: Emitter, x: Tensor | Number, exponent: Tensor | Number) -> Tensor:
    """Small exponents have cheaper and more exact forms."""
    if e.type not in (F32, F16):
        if isinstance(x, Tensor) and exponent == 2:
            return e.binary("MUL", x, x)
        raise Inexpressible("POW takes floats")
    if isinstance(x, Tensor) and not isinstance(exponent, Tensor):
        x = e.cast(x, e.type)
        match float(exponent):
            case 1.0:
                return x
            case 2.0:
                return e.binary("MUL", x, x)
            case 3.0:
                return e.binary("MUL", e.binary("MUL", x, x), x)
            case 0.5:
                return e.elementwise("SQRT", input=x)
            case -0.5:
                return e.elementwise("RSQRT", input=x)
            case -1.0:
                return reciprocal(e, x)
    x, exponent = pair(e, x, exponent, e.type)
    return e.elementwise("POW", input=x, exponent=exponent)


def square(e: Emitter, x: Tensor) -> Tensor:
    return e.binary("MUL", x, x)


def reciprocal(e: Emitter, x: Tensor) -> Tensor:
    x = e.cast(x, e.type)
    return e.binary("DIV", e.like(1.0, x), x)


def sign(e: Emitter, x: Tensor) -> Tensor:
    """(x > 0) - (x < 0)."""
    zero = e.like(0, x)
    above, below = (e.cast(e.elementwise(t, input0=x, input1=zero), x.type) for t in ("GREATER", "LESS"))
    return e.binary("SUB", above, below)


def ceil(e: Emitter, x: Tensor) -> Tensor:
    """-floor(-x)."""
    negative = e.elementwise("FLOOR", input=e.elementwise("NEG", input=x))
    return e.elementwise("NEG", input=negative)


def cos(e: Emitter, x: Tensor) -> Tensor:
    """sin(x + pi / 2)."""
    return e.elementwise("SIN", input=e.binary("ADD", x, math.pi / 2))


def scaled(type: str, before: float = 1.0, after: float = 1.0, shift: float = 0.0) -> Callable[..., Tensor]:
    """after * type(before * x + shift)."""

    def write(e: Emitter, x: Tensor) -> Tensor:
        x = e.cast(x, e.type)
        x = x if before == 1.0 else e.binary("MUL", x, before)
        x = x if shift == 0.0 else e.binary("ADD", x, shift)
        y = e.elementwise(type, input=x)
        return y if after == 1.0 else e.binary("MUL", y, after)

    return write


def isnan(e: Emitter, x: Tensor) -> Tensor:
    """Only NaN is not equal to itself."""
    return e.elementwise("NOT_EQUAL", input0=x, input1=x)


def triangle(keep: Callable[[torch.Tensor, int], torch.Tensor]) -> Callable[..., Tensor]:
    """The lower or upper triangle of matrices, 0 elsewhere."""

    def write(e: Emitter, x: Tensor, diagonal: int = 0) -> Tensor:
        rows, columns = x.size(x.rank - 2), x.size(x.rank - 1)
        check_size(rows * columns)
        mask = keep(torch.ones(rows, columns, dtype=torch.bool), diagonal)
        return where(e, tensor_of(mask), x, 0)

    return write


def one_hot(e: Emitter, x: Tensor, classes: int) -> Tensor:
    """x [...] of integers -> [..., classes]: 1 at each one's place."""
    places = e.reshape(x, (*x.shape, 1))
    return e.cast(e.elementwise("EQUAL", input0=places, input1=e.indexes(torch.arange(classes))), I32)


def copy(e: Emitter, x: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """What `x.copy_(source)` leaves in x."""
    return e.expand(e.cast(source, e.type), e.shape)


def fill(e: Emitter, x: Tensor, value: Any) -> Tensor:
    """What `x.fill_(value)` leaves in x."""
    value = value if isinstance(value, Tensor) else e.like(value, x)
    return e.expand(e.cast(value, e.type), e.shape)


FUNCTIONS = {
    "aten.add.Tensor": binary("ADD"),
    "aten.add.Scalar": lambda e, x, y, alpha=1: binary("ADD")(e, x, y, alpha=alpha),
    "aten.sub.Tensor": binary("SUB"),
    "aten.sub.Scalar": lambda e, x, y, alpha=1: binary("SUB")(e, x, y, alpha=alpha),
    "aten.mul.Tensor": binary("MUL"),
    "aten.mul.Scalar": binary("MUL"),
    "aten.rsub.Tensor": rsub,
    "aten.rsub.Scalar": rsub,
    "aten.div.Tensor": div,
    "aten.div.Scalar": div,
    "aten.div.Tensor_mode": div,
    "aten.div.Scalar_mode": div,
    "aten.true_divide.Tensor": div,
    "aten.floor_divide.default": floor_divide,
    "aten.floor_divide.Scalar": floor_divide,
    "aten.remainder.Tensor": remainder,
    "aten.remainder.Scalar": remainder,
    **{f"aten.{name}.{kind}": compare(type) for kind in ("Tensor", "Scalar") for name, type in {
        "eq": "EQUAL", "ne": "NOT_EQUAL", "lt": "LESS", "le": "LESS_EQUAL", "gt": "GREATER", "ge": "GREATER_EQUAL",
    }.items()},
    "aten.maximum.default": extreme("MAXIMUM"),
    "aten.minimum.default": extreme("MINIMUM"),
    "aten.max.other": extreme("MAXIMUM"),
    "aten.min.other": extreme("MINIMUM"),
    "aten.logical_and.default": logical("LOGICAL_AND"),
    "aten.logical_or.default": logical("LOGICAL_OR"),
    "aten.logical_xor.default": logical_xor,
    "aten.logical_not.default": logical_not,
    "aten.bitwise_and.Tensor": logical("LOGICAL_AND"),
    "aten.bitwise_or.Tensor": logical("LOGICAL_OR"),
    "aten.bitwise_xor.Tensor": logical_xor,
    "aten.bitwise_not.default": logical_not,
    "aten.__and__.Tensor": logical("LOGICAL_AND"),
    "aten.__or__.Tensor": logical("LOGICAL_OR"),
    "aten.__xor__.Tensor": logical_xor,
    "aten.where.self": where,
    "aten.where.ScalarSelf": where,
    "aten.where.ScalarOther": where,
    "aten.where.Scalar": where,
    "aten.masked_fill.Scalar": masked_fill,
    "aten.masked_fill.Tensor": masked_fill,
    "aten.pow.Tensor_Scalar": pow,
    "aten.pow.Tensor_Tensor": pow,
    "aten.pow.Scalar": pow,
    "aten.square.default": square,
    "aten.reciprocal.default": reciprocal,
    "aten.sign.default": sign,
    "aten.abs.default": unary("ABS"),
    "aten.neg.default": unary("NEG"),
    "aten.exp.default": unary("EXP"),
    "aten.exp2.default": scaled("EXP", before=math.log(2)),
    "aten.expm1.default": lambda e, x: e.binary("SUB", e.elementwise("EXP", input=e.cast(x, e.type)), 1.0),
    "aten.log.default": unary("LOG"),
    "aten.log2.default": scaled("LOG", after=1 / math.log(2)),
    "aten.log10.default": scaled("LOG", after=1 / math.log(10)),
    "aten.log1p.default": scaled("LOG", shift=1.0),
    "aten.sqrt.default": unary("SQRT"),
    "aten.rsqrt.default": unary("RSQRT"),
    "aten.sin.default": unary("SIN"),
    "aten.cos.default": cos,
    "aten.floor.default": unary("FLOOR"),
    "aten.ceil.default": ceil,
    "aten.isnan.default": isnan,
    "aten.tril.default": triangle(torch.tril),
    "aten.triu.default": triangle(torch.triu),
    "aten.one_hot.default": one_hot,
    "aten.copy.default": copy,
    "aten.fill.Scalar": fill,
    "aten.fill.Tensor": fill,
    "aten.zero.default": lambda e, x: fill(e, x, 0),
}  # fmt: skip
