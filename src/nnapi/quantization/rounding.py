"""Bias correction, and rounding learned per layer: filters whose errors cancel on the inputs that really come.

Layer by layer, in order, on the integer inputs that the layer gets: the filter is rounded column by column while the
columns to come make up for each error, and the bias takes what is left of the mean. Biases win most of it, in seconds;
rounding takes several times as long. Sources: Nagel et al. 2019 (arXiv 1906.04721), bias correction; Nagel et al. 2020
(arXiv 2004.10568), rounding by a layer's output; Frantar et al. 2022 (arXiv 2210.17323), solved column by column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.numeric import dequantize
from nnapi.ops.op import Call
from nnapi.ops.types import F32, Array
from nnapi.ops.window import Axis, window
from nnapi.quantization.advance import Advance
from nnapi.quantization.data import Example
from nnapi.quantization.expose import Exposed
from nnapi.quantization.integer import CHANNEL_AXIS
from nnapi.quantization.judge import quantized_inputs
from nnapi.quantization.weights import HIGH

ROWS: Final = 8192
"""Windows of the input that a layer is fitted to."""
MAX_TERMS: Final = 2304
"""Products per output above which fitting a layer would take too long."""
DAMPING: Final = 0.02
"""Of the mean variance: how strongly a filter holds on to its float values where the data says little."""
BLOCK: Final = 128
FITTED: Final = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "GROUPED_CONV_2D", "FULLY_CONNECTED"})


class Fitter:
    """Fits quantized forms of one float model to it, on the same examples."""

    def __init__(
        self,
        model: Model,
        examples: Sequence[Example],
        *,
        rounding: bool = True,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Biases are fitted, and with `rounding` filters; `progress` hears how many layers are done."""
        self._model, self._examples, self._rounding, self._progress = model, examples, rounding, progress
        layers = [_Layer(o, model.call(o)) for o in model.operations if o.type in FITTED and _has_weights(model, o)]
        self._layers = [layer for layer in layers if layer.is_fittable]

    @cached_property
    def _means(self) -> list[Array]:
        return _means(self._model, self._layers, self._examples)

    def fit(self, quantized: Model, where: Mapping[int, int]) -> Model:
        """`quantized`, fitted; `where` maps operands of the float model to its."""
        reached = Advance(quantized, [quantized_inputs(quantized, example) for example in self._examples])
        for n, (layer, mean) in enumerate(zip(self._layers, self._means)):
            if not _is_integer(quantized, where, layer.operation):
                continue
            integer = quantized.operations[quantized.producers[where[layer.operation.outputs[0]]]]
            i = integer.inputs[0]
            inputs = [dequantize(x, quantized.operands[i]) for x in reached.values(quantized, i)]
            quantized = _fit(quantized, integer, layer, mean, inputs, self._rounding)
            if self._progress is not None:
                self._progress(n + 1)
        return quantized


def _has_weights(model: Model, operation: Operation) -> bool:
    return all(model.operands[i].type == F32 and model.operands[i].is_constant for i in operation.inputs[1:3])


def _means(model: Model, layers: Sequence[_Layer], examples: Sequence[Example]) -> list[Array]:
    """For each layer the mean window of its float input: [groups, 1, terms]."""
    readers: dict[int, list[int]] = {}
    for k, layer in enumerate(layers):
        readers.setdefault(layer.operation.inputs[0], []).append(k)
    exposed = Exposed(model, [*readers])
    totals = [np.zeros(())] * len(layers)
    for example in examples:
        for i, x in exposed.run(example):
            for k in readers[i]:
                totals[k] = totals[k] + layers[k].mean(x)
    return [total / len(examples) for total in totals]


def _is_integer(quantized: Model, where: Mapping[int, int], operation: Operation) -> bool:
    output = where.get(operation.outputs[0])
    return output is not None and quantized.operands[output].type.is_quantized and output in quantized.producers


@dataclass
class _Layer:
    """A layer of the float model, whose filter is looked at as [groups, channels, terms]."""

    operation: Operation
    call: Call

    @property
    def filter(self) -> Array:
        return self.call.array("filter")

    @property
    def is_fittable(self) -> bool:
        """Whether its windows can be cut out, and are not too large."""
        first = "layout" in self.call and self.call.scalar("layout")
        return not first and self.matrix(self.filter).shape[2] <= MAX_TERMS

    @property
    def groups(self) -> int:
        if self.call.op.name == "DEPTHWISE_CONV_2D":
            return int(self.filter.shape[3]) // int(self.call.scalar("depth_multiplier"))
        return int(self.call.scalar("num_groups")) if self.call.op.name == "GROUPED_CONV_2D" else 1

    def matrix(self, filter: Array) -> Array:
        """A filter as stored -> [groups, channels of a group, terms]."""
        if self.call.op.name == "DEPTHWISE_CONV_2D":
            return filter.reshape(-1, self.groups, filter.shape[3] // self.groups).transpose(1, 2, 0)
        return filter.reshape(self.groups, filter.shape[0] // self.groups, -1)

    def stored(self, matrix: Array) -> Array:
        """What `matrix` was made from."""
        if self.call.op.name == "DEPTHWISE_CONV_2D":
            return matrix.transpose(2, 0, 1).reshape(self.filter.shape)
        return matrix.reshape(self.filter.shape)

    def mean(self, x: Array) -> Array:
        """The mean of all windows on input x [N, H, W, C]: [groups, 1, terms]."""
        if self.call.op.name == "FULLY_CONNECTED":
            return x.reshape(1, -1, self.filter.shape[1]).mean(axis=1, keepdims=True, dtype=np.float64)
        kh, kw = self.filter.shape[1:3]
        rows, columns = window(self.call, x.shape[1:3], (kh, kw))
        assert rows is not None and columns is not None
        taps = np.zeros((kh, kw, x.shape[3]))
        for i in range(kh):
            for j in range(kw):
                seen = x[:, _reached(rows, i, x.shape[1]), _reached(columns, j, x.shape[2])]
                taps[i, j] = seen.sum(axis=2).sum(axis=(0, 1), dtype=np.float64)
        return self._grouped(taps[None] / (x.shape[0] * rows.output * columns.output))

    def windows(self, x: Array, rng: np.random.Generator, count: int) -> Array:
        """Input x [N, H, W, C] -> `count` of the windows on it, [groups, count, terms]."""
        if self.call.op.name == "FULLY_CONNECTED":
            return x.reshape(1, -1, self.filter.shape[1])
        kh, kw = self.filter.shape[1:3]
        rows, columns = window(self.call, x.shape[1:3], (kh, kw))
        assert rows is not None and columns is not None
        n, at_row, at_column = (rng.integers(0, d, count) for d in (x.shape[0], rows.output, columns.output))
        taps = np.zeros((count, kh, kw, x.shape[3]), np.float32)
        for i in range(kh):
            for j in range(kw):
                y = at_row * rows.stride + i * rows.dilation - rows.before
                z = at_column * columns.stride + j * columns.dilation - columns.before
                inside = (y >= 0) & (y < x.shape[1]) & (z >= 0) & (z < x.shape[2])
                taps[inside, i, j] = x[n[inside], y[inside], z[inside]]
        return self._grouped(taps)

    def _grouped(self, taps: Array) -> Array:
        """[count, height, width, channels] -> [groups, count, terms]"""
        groups, count = self.groups, len(taps)
        split = taps.reshape(count, -1, groups, taps.shape[3] // groups)
        return split.transpose(2, 0, 1, 3).reshape(groups, count, -1)


def _reached(axis: Axis, tap: int, size: int) -> slice:
    """What one tap of the window meets of an input of `size`, padding left out."""
    offset = tap * axis.dilation - axis.before
    first = max(0, -(offset // axis.stride))
    last = min(axis.output - 1, (size - 1 - offset) // axis.stride)
    return slice(first * axis.stride + offset, max(last * axis.stride + offset + 1, 0), axis.stride)


def _fit(
    quantized: Model, integer: Operation, layer: _Layer, mean: Array, inputs: Sequence[Array], rounding: bool
) -> Model:
    """`mean` is that of the windows of the layer's float input, `inputs` are its integer inputs, dequantized."""
    stored = quantized.call(integer)
    filter = stored["filter"]
    mean_q = np.mean([layer.mean(x) for x in inputs], axis=0)
    w, scales = layer.matrix(layer.filter).astype(np.float64), _scales(layer, stored)
    codes = layer.matrix(filter.value.astype(np.float64) - filter.zero_point)
    if rounding:
        info = np.iinfo(filter.type.dtype)
        low, high = max(info.min - filter.zero_point, -HIGH if info.min else -255), info.max - filter.zero_point
        count = -(-ROWS // len(inputs))
        sampled = [layer.windows(x, np.random.default_rng(n), count) for n, x in enumerate(inputs)]
        rows = (np.concatenate(sampled, axis=1) - mean_q).astype(np.float32)
        codes = np.stack([_rounded(w[g], rows[g], scales[g], low, high) for g in range(len(w))])
    rest = (mean @ w.transpose(0, 2, 1) - mean_q @ (codes * scales).transpose(0, 2, 1)).reshape(-1)
    unit = stored["input"].scale * scales.reshape(-1)
    info = np.iinfo(np.int32)
    bias = np.clip(np.rint((layer.call.array("bias") + rest) / unit), info.min, info.max).astype(np.int32)
    new = np.ascontiguousarray(layer.stored(codes + filter.zero_point), filter.type.dtype)
    return _replaced(quantized, {integer.inputs[1]: new, integer.inputs[2]: bias})


def _replaced(model: Model, values: Mapping[int, Array]) -> Model:
    operands = list(model.operands)
    for i, value in values.items():
        operands[i] = replace(operands[i], value=value)
    return replace(model, operands=tuple(operands))


def _scales(layer: _Layer, stored: Call) -> Array:
    """The filter's scales: [groups, channels of a group, 1]."""
    quant = stored["filter"].channel_quant
    channels = layer.filter.shape[CHANNEL_AXIS[layer.call.op.name]]
    scales = np.array(quant.scales) if quant is not None else np.full(channels, stored["filter"].scale)
    return scales.reshape(layer.groups, -1, 1)


def _rounded(w: Array, x: Array, scales: Array, low: int, high: int) -> Array:
    """Filter w [channels, terms], windows x [rows, terms] without their mean -> codes [channels, terms]."""
    hessian = (x.T @ x).astype(np.float64)
    terms = len(hessian)
    power = np.trace(hessian) / terms
    if power == 0.0:
        return np.clip(np.rint(w / scales), low, high)
    hessian += DAMPING * power * np.eye(terms)
    inverse = np.linalg.cholesky(np.linalg.inv(hessian)).T
    w, codes = w.copy(), np.empty_like(w)
    for first in range(0, terms, BLOCK):
        last = min(first + BLOCK, terms)
        errors = np.zeros((len(w), last - first))
        for k in range(first, last):
            codes[:, k] = np.clip(np.rint(w[:, k] / scales[:, 0]), low, high)
            error = (w[:, k] - codes[:, k] * scales[:, 0]) / inverse[k, k]
            w[:, k:last] -= np.outer(error, inverse[k, k:last])
            errors[:, k - first] = error
        w[:, last:] -= errors @ inverse[first:last, last:]
    return codes
