"""Activations: ReLU and its kin, gates, smooth ones, softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnapi.errors import ModelError
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.reduction import reduced
from nnapi.importers.pytorch.tensor import Inexpressible, Tensor
from nnapi.ir import composites
from nnapi.ir.builder import Ref
from nnapi.ops.numeric import NONE, RELU, RELU6
from nnapi.ops.types import F16, F32

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
THRESHOLDS = {(0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU1", (0.0, float("inf")): "RELU"}
"""Clamps that are operations of their own."""
SMOOTH = 15.0
"""From where log(1 + exp(x)) is x to float32's rounding."""


def unary(type: str) -> Callable[..., Tensor]:
    """An operator that is one operation on one tensor."""

    def write(e: Emitter, x: Tensor, *_: Any) -> Tensor:
        return e.elementwise(type, input=_float(e, x))

    return write


def composite(build: Callable[..., Ref]) -> Callable[..., Tensor]:
    """An operator that is a composite of one tensor."""

    def write(e: Emitter, x: Tensor) -> Tensor:
        return e.elementwise_composite(build, x)

    return write


def _float(e: Emitter, x: Tensor) -> Tensor:
    """Integers go through PyTorch's activations as floats where the result is one."""
    return e.cast(x, e.type) if e.type in (F32, F16) else x


def clamp(e: Emitter, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    """MAXIMUM, then MINIMUM, unless one operation says it."""
    if not isinstance(low, Tensor) and not isinstance(high, Tensor) and x.is_float:
        limits = (float("-inf") if low is None else float(low), float("inf") if high is None else float(high))
        if limits in THRESHOLDS:
            return e.elementwise(THRESHOLDS[limits], input=x)
    y = x = e.cast(x, e.type)
    for type, limit in (("MAXIMUM", low), ("MINIMUM", high)):
        if limit is not None:
            bound = e.cast(limit, e.type) if isinstance(limit, Tensor) else e.like(limit, x)
            y = e.elementwise(type, input0=y, input1=bound)
    return y


def hardtanh(e: Emitter, x: Tensor, low: float = -1.0, high: float = 1.0) -> Tensor:
    return clamp(e, x, low, high)


def relu6(e: Emitter, x: Tensor) -> Tensor:
    return clamp(e, x, 0.0, 6.0)


def hardsigmoid(e: Emitter, x: Tensor) -> Tensor:
    """relu6(x + 3) / 6."""
    return e.binary("MUL", e.binary("ADD", x, 3.0, RELU6), 1 / 6)


def leaky_relu(e: Emitter, x: Tensor, slope: float = 0.01) -> Tensor:
    return e.elementwise("PRELU", input=x, alpha=e.like(slope, x))


def prelu(e: Emitter, x: Tensor, weight: Tensor) -> Tensor:
    """One slope per channel, dimension 1, or one for all."""
    if weight.shape in ((), (1,)):
        weight = e.reshape(weight, (1,))
    elif x.rank > 1:
        weight = e.per_channel(e.reshape(weight, (weight.size(-1),)), x)
    return e.elementwise("PRELU", input=x, alpha=weight)


def elu(e: Emitter, x: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Tensor:
    """scale * elu(x), where the exponential part sees input_scale * x."""
    if input_scale != 1.0:
        raise Inexpressible(f"input_scale is {input_scale}, ELU has none")
    y = e.elementwise("ELU", input=x, alpha=alpha)
    return y if scale == 1.0 else e.binary("MUL", y, scale)


def celu(e: Emitter, x: Tensor, alpha: float = 1.0) -> Tensor:
    """alpha * elu(x / alpha)."""
    return e.binary("MUL", e.elementwise("ELU", input=e.binary("MUL", x, 1 / alpha), alpha=1.0), alpha)


def selu(e: Emitter, x: Tensor) -> Tensor:
    return elu(e, x, SELU_ALPHA, SELU_SCALE)


def gelu(e: Emitter, x: Tensor, *, approximate: str = "none") -> Tensor:
    return e.elementwise_composite(composites.gelu, x, tanh=approximate == "tanh")


def softplus(e: Emitter, x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    if threshold < SMOOTH or beta <= 0:
        raise Inexpressible(f"beta {beta} with a threshold of {threshold}: the curve has a step")
    return e.elementwise_composite(composites.softplus, x, beta=float(beta))


def hardshrink(e: Emitter, x: Tensor, limit: float = 0.5) -> Tensor:
    """x where it is beyond the limits, else 0: x times whether |x| > limit."""
    beyond = e.elementwise("GREATER", input0=e.elementwise("ABS", input=x), input1=e.like(limit, x))
    return e.elementwise("MUL", input0=x, input1=e.cast(beyond, x.type), activation=NONE)


def softshrink(e: Emitter, x: Tensor, limit: float = 0.5) -> Tensor:
    """x without the part of it within the limits."""
    return e.binary("SUB", x, clamp(e, x, -limit, limit))


def tanhshrink(e: Emitter, x: Tensor) -> Tensor:
    return e.binary("SUB", x, e.elementwise("TANH", input=x))


def softsign(e: Emitter, x: Tensor) -> Tensor:
    return e.binary("DIV", x, e.binary("ADD", e.elementwise("ABS", input=x), 1.0))


def softmax(e: Emitter, x: Tensor, axis: int, dtype: Any = None) -> Tensor:
    """Along any dimension; rank 5 and more as [before, axis, behind]."""
    return _along("SOFTMAX", e, x, axis)


def log_softmax(e: Emitter, x: Tensor, axis: int, dtype: Any = None) -> Tensor:
    return _along("LOG_SOFTMAX", e, x, axis)


def safe_softmax(e: Emitter, x: Tensor, axis: int, dtype: Any = None) -> Tensor:
    """A softmax that is 0 where all is minus infinity."""
    x = e.cast(x, e.type)
    return e.binary("MUL", softmax(e, finite(e, x), axis), seen(e, x, axis))


def finite(e: Emitter, x: Tensor) -> Tensor:
    """x, with the lowest number for minus infinity."""
    return e.elementwise("MAXIMUM", input0=x, input1=e.like(float(np.finfo(x.type.dtype).min), x))


def seen(e: Emitter, x: Tensor, axis: int) -> Tensor:
    """1 where anything along `axis` is above minus infinity, else 0.

    Every number scaled to what `above` lifts over 1 becomes 1, minus infinity stays what it is and becomes 0.
    """
    scale, above = (2.0**-114, 2.0**15) if x.type == F32 else (2.0**-4, 2.0**13)
    top = reduced(e, "REDUCE_MAX", x, axis, keep=True)
    lifted = e.binary("ADD", e.binary("MUL", top, scale), above, RELU)
    return e.elementwise("MINIMUM", input0=lifted, input1=e.like(1.0, x))


def _along(type: str, e: Emitter, x: Tensor, axis: int) -> Tensor:
    x = e.cast(x, e.type)
    axis = x.axis(axis)
    view, (at,) = e.around(x, axis)
    is_last = at == view.rank - 1
    given = {"axis": at} if type == "LOG_SOFTMAX" or not is_last else {}  # without it, a lower feature level does
    return e.viewed(e.add(type, input=view, beta=1.0, **given), x.shape)


def dropout(e: Emitter, x: Tensor, p: float = 0.5, train: bool = False) -> Tensor:
    """Nothing, once trained."""
    if train and p > 0:
        raise ModelError("drops at random, as in training", hint="call module.eval() before loading")
    return x


def threshold(e: Emitter, x: Tensor, limit: float, value: float) -> Tensor:
    """x where it is above the limit, else the value."""
    above = e.elementwise("GREATER", input0=x, input1=e.like(limit, x))
    return e.elementwise("SELECT", condition=above, input0=x, input1=e.expand(e.like(value, x), x.shape))


def log_sigmoid(e: Emitter, x: Tensor) -> Tensor:
    """-softplus(-x)."""
    negative = e.elementwise("NEG", input=x)
    return e.elementwise("NEG", input=e.elementwise_composite(composites.softplus, negative))


FUNCTIONS = {
    "aten.relu.default": unary("RELU"),
    "aten.relu6.default": relu6,
    "aten.hardtanh.default": hardtanh,
    "aten.clamp.default": clamp,
    "aten.clamp.Tensor": clamp,
    "aten.clip.default": clamp,
    "aten.clamp_min.default": clamp,
    "aten.clamp_min.Tensor": clamp,
    "aten.clamp_max.default": lambda e, x, high: clamp(e, x, None, high),
    "aten.clamp_max.Tensor": lambda e, x, high: clamp(e, x, None, high),
    "aten.sigmoid.default": unary("LOGISTIC"),
    "aten.tanh.default": unary("TANH"),
    "aten.hardswish.default": unary("HARD_SWISH"),
    "aten.hardsigmoid.default": hardsigmoid,
    "aten.leaky_relu.default": leaky_relu,
    "aten.prelu.default": prelu,
    "aten._prelu_kernel.default": prelu,
    "aten.elu.default": elu,
    "aten.celu.default": celu,
    "aten.selu.default": selu,
    "aten.gelu.default": gelu,
    "aten.silu.default": composite(composites.silu),
    "aten.mish.default": composite(composites.mish),
    "aten.erf.default": composite(composites.erf),
    "aten.erfc.default": lambda e, x: e.binary("SUB", e.like(1.0, x), composite(composites.erf)(e, x)),
    "aten.softplus.default": softplus,
    "aten.log_sigmoid.default": log_sigmoid,
    "aten.log_sigmoid_forward.default": lambda e, x: (log_sigmoid(e, x), None),
    "aten.threshold.default": threshold,
    "aten.hardshrink.default": hardshrink,
    "aten.softshrink.default": softshrink,
    "aten.tanhshrink.default": tanhshrink,
    "aten.softsign.default": softsign,
    "aten.softmax.int": softmax,
    "aten._softmax.default": softmax,
    "aten._safe_softmax.default": safe_softmax,
    "aten.log_softmax.int": log_softmax,
    "aten._log_softmax.default": log_softmax,
    "aten.dropout.default": dropout,
    "aten.alpha_dropout.default": dropout,
    "aten.feature_dropout.default": dropout,
    "aten.feature_alpha_dropout.default": dropout,
    "aten.native_dropout.default": lambda e, x, p, train: (dropout(e, x, p, train), None),
}
