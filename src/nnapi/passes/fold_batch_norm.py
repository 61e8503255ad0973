"""Fold per-channel arithmetic around convolutions and fully connected layers into their filter and bias."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.numeric import NONE
from nnapi.ops.op import Call
from nnapi.ops.types import F16, F32, INT32, Array, Operand
from nnapi.ops.window import VALID
from nnapi.passes.rewrite import Graph, rewrite

OUTPUT_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "GROUPED_CONV_2D": 0, "TRANSPOSE_CONV_2D": 0, "FULLY_CONNECTED": 0}
"""Along which axis of the filter the output channels run."""
ARITHMETIC = frozenset(("ADD", "SUB", "MUL", "DIV"))


class Affine(NamedTuple):
    """y = x * scale + shift with scale and shift [channels] of float64, and a fused activation (FuseCode)."""

    scale: Array
    shift: Array
    activation: int


def fold_batch_norm(model: Model) -> Model:
    """MUL, ADD, SUB and DIV by float constants per channel fold into the convolution (of any kind) or fully connected
    layer behind or in front of them, where nobody else reads what is between.

    before: `t = CONV_2D(x, w, b); y = MUL(t, c[C], activation=RELU)`
    after:  `y = CONV_2D(x, w * c, b * c, activation=RELU)`

    In front of a layer a shift folds only where there is no padding, which would have to be shifted too.
    """
    return rewrite(model, _fold, ARITHMETIC | OUTPUT_AXIS.keys())


def _fold(graph: Graph, operation: Operation) -> bool:
    return _fold_behind(graph, operation) if operation.type in ARITHMETIC else _fold_in_front(graph, operation)


def _fold_behind(graph: Graph, operation: Operation) -> bool:
    """The operation is arithmetic, perhaps on a layer's output."""
    source = next((i for i in operation.inputs[:2] if graph.producer(i, OUTPUT_AXIS)), None)
    layer = None if source is None else graph.producer(source)
    if source is None or layer is None or graph.uses[source]:
        return False
    call = graph.call(layer)
    if not _is_foldable(call) or call.scalar("activation") != NONE:
        return False
    w, axis = call.array("filter"), OUTPUT_AXIS[layer.type]
    affine = _affine(graph, operation, source, _channels_from_end(call), w.shape[axis])
    if affine is None:
        return False
    scale = np.expand_dims(affine.scale, _all_but(axis, w))
    folded = _with_weights(graph, layer, call, scale, call.array("bias") * affine.scale + affine.shift)
    if folded is None:
        return False
    activation = graph.scalar(INT32, affine.activation)
    folded = replace(folded, inputs=graph.inputs(folded, activation=activation), outputs=operation.outputs)
    graph.swap(layer, folded)
    return True


def _fold_in_front(graph: Graph, operation: Operation) -> bool:
    """The operation is a layer, perhaps of some arithmetic's output."""
    folded = operation
    while (absorbed := _absorb(graph, folded)) is not None:
        folded = absorbed
    if folded is operation:
        return False
    graph.emit(folded)
    return True


def _absorb(graph: Graph, layer: Operation) -> Operation | None:
    source = layer.inputs[0]
    arithmetic = graph.producer(source, ARITHMETIC)
    if arithmetic is None or graph.uses[source]:
        return None
    call = graph.call(layer)
    x = next((i for i in arithmetic.inputs[:2] if not graph.operands[i].is_constant), None)
    if not _is_foldable(call) or x is None:
        return None
    at = _channels_from_end(call)
    channels = call["input"].dimensions[at] if call["input"].dimensions else 0
    if not channels or (layer.type == "FULLY_CONNECTED" and channels != call.array("filter").shape[1]):
        return None
    affine = _affine(graph, arithmetic, x, at, channels)
    if affine is None or affine.activation != NONE or (affine.shift.any() and not _is_unpadded(call)):
        return None
    w, bias = call.array("filter"), call.array("bias").astype(np.float64)
    if affine.shift.any():
        bias += (w * _over_filter(call, affine.shift)).sum(_all_but(OUTPUT_AXIS[layer.type], w), np.float64)
    folded = _with_weights(graph, layer, call, _over_filter(call, affine.scale), bias)
    if folded is None:
        return None
    graph.drop(arithmetic)
    return replace(folded, inputs=(x, *folded.inputs[1:]))


def _is_foldable(call: Call) -> bool:
    """Whether it computes in float, with constant weights and known parameters."""
    known = all(call.known(name) for name in ("filter", "bias", "activation", "layout") if name in call)
    return call["input"].type in (F32, F16) and known


def _is_unpadded(call: Call) -> bool:
    """Whether every tap of the filter meets a pixel everywhere."""
    if call.op.name == "FULLY_CONNECTED":
        return True
    if call.op.name == "TRANSPOSE_CONV_2D":  # at the borders some taps meet nothing
        return False
    if "padding" in call:
        return call.scalar("padding") == VALID
    return all(call.scalar(f"padding_{side}") == 0 for side in ("left", "right", "top", "bottom"))


def _channels_from_end(call: Call) -> int:
    """The axis of channels in the layer's input and output, counted from the end."""
    return -3 if "layout" in call and call.scalar("layout") else -1


def _all_but(axis: int, w: Array) -> tuple[int, ...]:
    return tuple(a for a in range(w.ndim) if a != axis)


def _over_filter(call: Call, vector: Array) -> Array:
    """vector [input channels] -> an array of float32 that broadcasts with the filter."""
    w, vector = call.array("filter"), vector.astype(np.float32)
    if call.op.name == "DEPTHWISE_CONV_2D":
        return np.repeat(vector, w.shape[3] // len(vector))
    if call.op.name == "GROUPED_CONV_2D":
        by_group = vector.reshape(-1, 1, 1, w.shape[3])
        return np.repeat(by_group, w.shape[0] // len(by_group), axis=0)
    return vector


def _affine(graph: Graph, operation: Operation, x: int, at: int, channels: int) -> Affine | None:
    """What ADD, SUB, MUL or DIV does to operand x with `channels` channels along axis `at` (counted from the end).

    None where the other operand is not a constant per channel.
    """
    call = graph.call(operation)
    first = operation.inputs[0] == x
    this, other = (call["input0"], call["input1"]) if first else (call["input1"], call["input0"])
    activation = call.scalar("activation")
    constant = _per_channel(other, len(this.dimensions), at, channels)
    if constant is None or activation is None:
        return None
    one, zero = np.ones(channels), np.zeros(channels)
    match operation.type, first:
        case "ADD", _:
            return Affine(one, constant, activation)
        case "MUL", _:
            return Affine(constant, zero, activation)
        case "SUB", True:
            return Affine(one, -constant, activation)
        case "SUB", False:
            return Affine(-one, constant, activation)
        case "DIV", True if constant.all():
            return Affine(1.0 / constant, zero, activation)
    return None


def _per_channel(operand: Operand, rank: int, at: int, channels: int) -> Array | None:
    """The operand's values [channels] float64, where it is a constant that varies along axis `at` at most."""
    value = operand.value
    if not isinstance(value, np.ndarray) or value.ndim > rank or value.size not in (1, channels):
        return None
    if value.size > 1 and (value.ndim < -at or value.shape[at] != channels):
        return None
    return np.broadcast_to(value.astype(np.float64).reshape(-1), (channels,))


def _with_weights(graph: Graph, layer: Operation, call: Call, scale: Array, bias: Array) -> Operation | None:
    """The layer with its filter multiplied by `scale` and a new bias; None where a weight overflows."""
    w, b = call["filter"], call["bias"]
    given = {}
    with np.errstate(over="ignore", invalid="ignore"):
        bias = bias.astype(b.type.dtype)
        if (scale != 1.0).any():
            weights = (w.value * scale.astype(np.float32)).astype(w.type.dtype, copy=False)
            if not np.isfinite(weights).all():
                return None
            given["filter"] = graph.constant(weights, w)
    if not np.isfinite(bias).all():
        return None
    given["bias"] = graph.constant(bias, b)
    return replace(layer, inputs=graph.inputs(layer, **given))
