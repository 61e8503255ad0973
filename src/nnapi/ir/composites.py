"""What NNAPI has no operation for but can express: one extension operation each, with its decomposition inside.

| composite | inputs before the body | computes |
|---|---|---|
| ERF | x | 2 / sqrt(pi) * integral of exp(-t * t) from 0 to x |
| GELU | x, tanh BOOL | x * P(X <= x) of the normal distribution; tanh: its approximation |
| SILU | x | x * logistic(x) |
| MISH | x | x * tanh(log(1 + exp(x))) |
| SOFTPLUS | x, beta FLOAT32 | log(1 + exp(beta * x)) / beta |
| LAYER_NORM | x, gamma, beta, epsilon FLOAT32 | over the dimensions that gamma [...] has |
| RMS_NORM | x, gamma, epsilon FLOAT32 | x * gamma / sqrt(mean of x * x + epsilon), likewise |
| GROUP_NORM | x [N, C, ...], gamma [C], beta [C], groups INT32, epsilon FLOAT32 | over each group of channels |
| GRU | x [T, N, I], weights [3 H, I], recurrent weights [3 H, H], two biases [3 H], h [N, H], backward BOOL | outputs [T, N, H] and the last [N, H]; the gates reset, update and new, as PyTorch defines them |
| SCALED_DOT_PRODUCT_ATTENTION | query [B, H, T, D], key [B, H, S, D], value [B, H, S, E], scale FLOAT32, causal BOOL, and perhaps mask | softmax(scale * query * key' + mask) * value [B, H, T, E] |

An engine recognises `org.nnapi.composite/NAME` and reads the scalars; all others run the body, which is the last input
and right to rounding. The mask is added, and broadcasts to [B, H, T, S]; attention has rank 2 to 4.
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from nnapi.errors import ModelError
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import COMPOSITE
from nnapi.ir.recurrence import Plain, gru_cell, sequence
from nnapi.ops.numeric import NONE
from nnapi.ops.types import BOOL, F16, F32, FLOAT32, INT32, Operand, OperandType

Body = Callable[..., Ref | tuple[Ref, ...]]
"""(builder, one Ref per tensor) -> the result, or several."""

ERFC_SCALE: Final = 0.39
ERFC: Final = (0.2351357855, 0.09256810448, 0.6466403035, -0.6318116881, 0.8844720344, -0.2270045315)
"""erfc(z) = exp(-z * z) * (c1 * t + ... + c6 * t**6) where t = 1 / (1 + 0.39 * z), z >= 0: within 1.1e-8.

Fitted for this project: least squares, reweighted until the largest error of max(1, z) * erfc(z) was smallest.
"""
MASKED: Final = -65504.0
"""What masks add where nobody looks: the lowest float16, so that they survive relaxed precision."""


def erf(b: Builder, x: Ref, *, name: str = "") -> Ref:
    """The error function of x [...], within 3e-7."""
    return _composite(b, "ERF", [x], [], _erf, name)


def gelu(b: Builder, x: Ref, *, tanh: bool = False, name: str = "") -> Ref:
    """The Gaussian error linear unit of x [...], or its approximation by tanh."""
    return _composite(b, "GELU", [x], [(BOOL, tanh)], _gelu_tanh if tanh else _gelu, name)


def silu(b: Builder, x: Ref, *, name: str = "") -> Ref:
    """x * logistic(x), also called swish."""
    return _composite(b, "SILU", [x], [], lambda i, x: _mul(i, x, i.add("LOGISTIC", {"input": x})), name)


def mish(b: Builder, x: Ref, *, name: str = "") -> Ref:
    """x * tanh(softplus(x))."""
    return _composite(b, "MISH", [x], [], _mish, name)


def softplus(b: Builder, x: Ref, *, beta: float = 1.0, name: str = "") -> Ref:
    """A smooth relu: log(1 + exp(beta * x)) / beta."""
    return _composite(b, "SOFTPLUS", [x], [(FLOAT32, beta)], lambda i, x: _softplus(i, x, beta), name)


def layer_norm(b: Builder, x: Ref, gamma: Ref, beta: Ref, *, epsilon: float, name: str = "") -> Ref:
    """x [...] normalized over its last dimensions, as many as gamma and beta have."""

    def body(i: Builder, x: Ref, gamma: Ref, beta: Ref) -> Ref:
        y = _narrow(i, _normalized(i, _wide(i, x), _last_axes(x, gamma), epsilon), x)
        return _add(i, _mul(i, y, gamma), beta)

    return _composite(b, "LAYER_NORM", [x, gamma, beta], [(FLOAT32, epsilon)], body, name)


def rms_norm(b: Builder, x: Ref, gamma: Ref, *, epsilon: float, name: str = "") -> Ref:
    """x [...] over the root of its mean square over the last dimensions, as many as gamma has, times gamma."""

    def body(i: Builder, x: Ref, gamma: Ref) -> Ref:
        wide = _wide(i, x)
        y = _mul(i, wide, _inverse_deviation(i, wide, _last_axes(x, gamma), epsilon))
        return _mul(i, _narrow(i, y, x), gamma)

    return _composite(b, "RMS_NORM", [x, gamma], [(FLOAT32, epsilon)], body, name)


def group_norm(b: Builder, x: Ref, gamma: Ref, beta: Ref, *, groups: int, epsilon: float, name: str = "") -> Ref:
    """x [N, C, ...] normalized over each group of channels, then scaled and shifted per channel."""
    channels, *image = (x.shape or ())[1:]
    if channels is None or None in image:
        raise ModelError(f"GROUP_NORM of {x.operand.dimensions}: all but the batch must be known")
    outer = [-1 if d is None else d for d in x.shape or ()]
    grouped = [outer[0], groups, channels // groups * math.prod(d for d in image if d is not None)]
    per_channel = [1, channels, *(1 for _ in image)]

    def body(i: Builder, x: Ref, gamma: Ref, beta: Ref) -> Ref:
        y = _normalized(i, _wide(i, _reshape(i, x, grouped)), [2], epsilon)
        y = _reshape(i, _narrow(i, y, x), outer)
        return _add(i, _mul(i, y, _reshape(i, gamma, per_channel)), _reshape(i, beta, per_channel))

    return _composite(b, "GROUP_NORM", [x, gamma, beta], [(INT32, groups), (FLOAT32, epsilon)], body, name)


def attention(
    b: Builder,
    query: Ref,
    key: Ref,
    value: Ref,
    mask: Ref | None = None,
    *,
    scale: float,
    causal: bool = False,
    name: str = "",
) -> Ref:
    """softmax(scale * query [..., T, D] * key' [..., S, D] + mask) * value [..., S, E] -> [..., T, E].

    `causal`: position t sees the positions up to t only.
    """
    tokens, seen = ((r.shape or (None, None))[-2] for r in (query, key))
    if causal and (tokens is None or seen is None):
        raise ModelError("causal attention needs to know how many tokens there are")

    def body(i: Builder, query: Ref, key: Ref, value: Ref, mask: Ref | None = None) -> Ref:
        scores = i.add("BATCH_MATMUL", {"input0": query, "input1": key, "adj_x": False, "adj_y": True})
        plain = not causal and mask is None and scale > 0
        if not plain:
            scores = _mul(i, scores, scale)
        if causal:
            future = np.triu(np.ones((tokens or 0, seen or 0), bool), 1)
            scores = _add(i, scores, i.constant(np.where(future, MASKED, 0).astype(query.type.dtype)))
        if mask is not None:
            scores = _add(i, scores, mask)
        weights = i.add("SOFTMAX", {"input": scores, "beta": scale if plain else 1.0})
        return i.add("BATCH_MATMUL", {"input0": weights, "input1": value, "adj_x": False, "adj_y": False})

    extra = [] if mask is None else [mask]
    scalars: list[tuple[OperandType, float]] = [(FLOAT32, scale), (BOOL, causal)]
    return _composite(b, "SCALED_DOT_PRODUCT_ATTENTION", [query, key, value], scalars, body, name, extra)


def gru(
    b: Builder,
    x: Ref,
    weights: Ref,
    recurrent: Ref,
    bias: Ref,
    recurrent_bias: Ref,
    h: Ref,
    *,
    backward: bool = False,
    name: str = "",
) -> tuple[Ref, ...]:
    """x [T, N, I], h [N, H] -> the outputs [T, N, H] and the last of them [N, H]; T must be known."""

    def body(i: Builder, x: Ref, *rest: Ref) -> tuple[Ref, ...]:
        p = Plain(i)
        y, last = sequence(p, x, gru_cell(p, *rest[:4]), rest[4:], backward=backward)
        return y, *(v for v in last if isinstance(v, Ref))

    tensors = [x, weights, recurrent, bias, recurrent_bias, h]
    return _composites(b, "GRU", tensors, [(BOOL, backward)], body, name)


def _composite(
    b: Builder,
    kind: str,
    tensors: Sequence[Ref],
    scalars: Sequence[tuple[OperandType, float]],
    body: Body,
    name: str,
    extra: Sequence[Ref] = (),
) -> Ref:
    return _composites(b, kind, tensors, scalars, body, name, extra)[0]


def _composites(
    b: Builder,
    kind: str,
    tensors: Sequence[Ref],
    scalars: Sequence[tuple[OperandType, float]],
    body: Body,
    name: str,
    extra: Sequence[Ref] = (),
) -> tuple[Ref, ...]:
    """Write the extension operation: tensors, scalars, extra tensors, and the model that `body` writes of them."""
    inputs = [*tensors, *(b.scalar(type, value) for type, value in scalars), *extra]
    inner = Builder(kind)
    refs = [inner.input_operand(replace(r.operand, name="")) for r in inputs]
    written = body(inner, *(r for r in refs if r.type.is_tensor))
    results = (written,) if isinstance(written, Ref) else written
    inner.output(*results)
    inputs.append(b.model(inner.finish(check=False)))  # verified with the model around it
    outputs = [Operand(result.type, result.operand.dimensions, name=name) for result in results]
    return b.add_raw(COMPOSITE + kind, inputs, outputs, name=name)


def _erf(b: Builder, x: Ref) -> Ref:
    size = b.add("ABS", {"input": x})
    away = _sub(b, 1.0, _erfc(b, size))
    negative = b.add("LESS", {"input0": x, "input1": _number(b, 0.0, x)})
    return b.add("SELECT", {"condition": negative, "input0": b.add("NEG", {"input": away}), "input1": away})


def _erfc(b: Builder, z: Ref) -> Ref:
    """1 - erf(z) for z >= 0."""
    t = _div(b, 1.0, _add(b, _mul(b, z, ERFC_SCALE), 1.0))
    series = _mul(b, t, ERFC[-1])
    for coefficient in ERFC[-2::-1]:
        series = _mul(b, _add(b, series, coefficient), t)
    return _mul(b, series, b.add("EXP", {"input": _mul(b, _mul(b, z, z), -1.0)}))


def _gelu(b: Builder, x: Ref) -> Ref:
    """relu(x) - |x| / 2 * erfc(|x| / sqrt(2)): nothing cancels, however far x is from zero."""
    size = b.add("ABS", {"input": x})
    tail = _erfc(b, _mul(b, size, math.sqrt(0.5)))
    return _sub(b, b.add("RELU", {"input": x}), _mul(b, _mul(b, size, tail), 0.5))


def _gelu_tanh(b: Builder, x: Ref) -> Ref:
    """x * (1 + tanh(u)) / 2 = x * logistic(2 * u), where u = sqrt(2 / pi) * (x + 0.044715 * x**3)."""
    twice = 2 * math.sqrt(2 / math.pi)
    u = _mul(b, x, _add(b, _mul(b, _mul(b, x, x), twice * 0.044715), twice))
    return _mul(b, x, b.add("LOGISTIC", {"input": u}))


def _mish(b: Builder, x: Ref) -> Ref:
    """tanh(log(1 + e)) = n / (n + 2) where n = e * (e + 2) and e = exp(x); beyond 20 it is 1 to rounding."""
    limit = 20.0 if x.type.dtype.itemsize == 4 else 5.0
    e = b.add("EXP", {"input": b.add("MINIMUM", {"input0": x, "input1": _number(b, limit, x)})})
    n = _mul(b, e, _add(b, e, 2.0))
    return _mul(b, x, b.add("DIV", {"input0": n, "input1": _add(b, n, 2.0), "activation": NONE}))


def _softplus(b: Builder, x: Ref, beta: float) -> Ref:
    """relu(x) + log(1 + exp(-|beta * x|)) / beta: no exponent overflows."""
    e = b.add("EXP", {"input": _mul(b, b.add("ABS", {"input": x}), -abs(beta))})
    smooth = _mul(b, b.add("LOG", {"input": _add(b, e, 1.0)}), 1 / beta)
    return _add(b, b.add("RELU", {"input": x}), smooth)


def _wide(b: Builder, x: Ref) -> Ref:
    """x in float32: squares leave float16 from 256 on."""
    return b.add("CAST", {"input": x}, Operand(F32)) if x.type == F16 else x


def _narrow(b: Builder, y: Ref, x: Ref) -> Ref:
    """y in x's type."""
    return y if y.type == x.type else b.add("CAST", {"input": y}, Operand(x.type))


def _normalized(b: Builder, x: Ref, axes: Sequence[int], epsilon: float) -> Ref:
    """x with mean 0 and variance 1 along `axes`."""
    mean = b.add("MEAN", {"input": x, "axes": list(axes), "keep_dims": 1})
    centered = b.add("SUB", {"input0": x, "input1": mean, "activation": NONE})
    return _mul(b, centered, _inverse_deviation(b, centered, axes, epsilon))


def _inverse_deviation(b: Builder, x: Ref, axes: Sequence[int], epsilon: float) -> Ref:
    """1 / sqrt(mean of x * x along `axes` + epsilon)."""
    variance = b.add("MEAN", {"input": _mul(b, x, x), "axes": list(axes), "keep_dims": 1})
    return b.add("RSQRT", {"input": _add(b, variance, epsilon)})


def _last_axes(x: Ref, gamma: Ref) -> list[int]:
    rank = len(x.shape or ())
    return list(range(rank - len(gamma.shape or ()), rank))


def _reshape(b: Builder, x: Ref, shape: Sequence[int]) -> Ref:
    return b.add("RESHAPE", {"input": x, "shape": list(shape)})


def _number(b: Builder, value: float, like: Ref) -> Ref:
    """A constant [1] of like's type."""
    return b.constant(np.array([value], like.type.dtype))


def _arithmetic(b: Builder, kind: str, x: Ref | float, y: Ref | float) -> Ref:
    like = x if isinstance(x, Ref) else y
    assert isinstance(like, Ref)
    first, second = (v if isinstance(v, Ref) else _number(b, v, like) for v in (x, y))
    return b.add(kind, {"input0": first, "input1": second, "activation": NONE})


def _add(b: Builder, x: Ref, y: Ref | float) -> Ref:
    return _arithmetic(b, "ADD", x, y)


def _sub(b: Builder, x: Ref | float, y: Ref | float) -> Ref:
    return _arithmetic(b, "SUB", x, y)


def _mul(b: Builder, x: Ref, y: Ref | float) -> Ref:
    return _arithmetic(b, "MUL", x, y)


def _div(b: Builder, x: Ref | float, y: Ref | float) -> Ref:
    return _arithmetic(b, "DIV", x, y)
