"""Weights as integers: scales from their values, the filter and the bias as NNAPI stores them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from nnapi.ops.numeric import quantize
from nnapi.ops.types import I32, Q8, Q8PC, Array, ChannelQuant, Operand, OperandType
from nnapi.quantization.params import Params, params_for

HIGH: Final = 127
SMALLEST_FACTOR: Final = {8: 2.0**-20, 16: 2.0**-28}
"""Of input scale x filter scale over output scale, by the output's bits: below it fixed-point multipliers lose the
bias, and the filter is beneath what the output resolves anyway."""
BIAS_LIMIT: Final = 2.0**30
SHARES: Final = np.linspace(1.0, 0.7, 16)
"""How far a channel's range is cut in search of the least squared error."""


def filter_params(
    filter: Array, bias: Array, axis: int, type: OperandType, x: Params | None = None, y: Params | None = None
) -> tuple[Params, ...]:
    """The scales that store `filter`: one per channel along `axis` for Q8PC, else one.

    `x` and `y` are how input and output are stored (None: in floats); the bias [channels] must fit into 32 bits.
    """
    floor: Array = np.full(filter.shape[axis], np.finfo(np.float32).tiny)
    if x is not None and y is not None:
        smallest = SMALLEST_FACTOR[8 * y.type.dtype.itemsize] * y.scale
        floor = np.maximum(np.abs(bias) / BIAS_LIMIT, smallest) / x.scale
    if type == Q8PC:
        rows = np.moveaxis(filter, axis, 0).reshape(filter.shape[axis], -1)
        scales = np.maximum(_channel_scales(rows), floor)
        return tuple(Params(Q8PC, float(np.float32(s)), 0) for s in scales)
    if type == Q8:
        whole = params_for(float(filter.min()), float(filter.max()), type)
        least = float(np.float32(floor.max()))
        return (whole if whole.scale >= least else Params(type, least, 128),)
    largest = max(float(np.abs(filter).max()) / HIGH, float(floor.max()))
    return (Params(type, float(np.float32(largest)), 0),)


def _channel_scales(rows: Array) -> Array:
    """rows [channels, values] -> the scale of each that leaves the least squared error."""
    widest = np.abs(rows).max(axis=1) / HIGH
    best, least = widest.copy(), np.full(len(rows), np.inf)
    for share in SHARES:
        scale = np.where(widest > 0, widest * share, 1.0)[:, None]
        error = np.square(np.clip(np.rint(rows / scale), -HIGH, HIGH) * scale - rows).sum(axis=1)
        better = error < least
        best[better], least[better] = (widest * share)[better], error[better]
    return best


def along(params: Sequence[Params], axis: int, rank: int) -> Array:
    """The scales, shaped to multiply a filter."""
    shape = [1] * rank
    shape[axis] = -1
    return (
        np.array([p.scale for p in params], np.float64).reshape(shape) if len(params) > 1 else np.array(params[0].scale)
    )


def stored_filter(operand: Operand, params: Sequence[Params], axis: int) -> Operand:
    """A float filter as integers."""
    first = params[0]
    if first.type != Q8PC:
        like = first.of(operand)
        stored = quantize(operand.value, like)
        return like.with_value(stored if first.type == Q8 else np.maximum(stored, -HIGH))
    scaled = np.rint(operand.value.astype(np.float64) / along(params, axis, operand.value.ndim))
    scales = tuple(p.scale for p in params)
    stored = np.clip(scaled, -HIGH, HIGH).astype(np.int8)
    return Operand(Q8PC, stored.shape, channel_quant=ChannelQuant(scales, axis), name=operand.name, value=stored)


def stored_bias(operand: Operand, x: Params, params: Sequence[Params]) -> Operand:
    """A float bias as int32 of scale input x filter."""
    scales = np.float32(x.scale) * np.array([p.scale for p in params], np.float32)
    info = np.iinfo(np.int32)
    stored = np.clip(np.rint(operand.value.astype(np.float64) / scales), info.min, info.max).astype(np.int32)
    scale = 0.0 if params[0].type == Q8PC else x.scale * params[0].scale
    return Operand(I32, stored.shape, scale, 0, name=operand.name, value=stored)
