"""Fold a selection of channels into the layer that produces them."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import replace

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.op import Call
from nnapi.ops.types import I32, Array, Operand
from nnapi.passes.fold_transposes import permutation
from nnapi.passes.rewrite import Graph, rewrite

LAYERS = frozenset(("CONV_2D", "TRANSPOSE_CONV_2D", "FULLY_CONNECTED"))
"""Every output channel is one row of the filter, and reads all input channels."""


def fold_channel_permutation(model: Model) -> Model:
    """A GATHER of channels by constant indices, or a CHANNEL_SHUFFLE, that alone reads a convolution or a fully
    connected layer becomes an order of the rows of that layer's filter and bias. So does a TRANSPOSE of the image that
    a fully connected layer makes.

    before: `t = CONV_2D(x, w, b); y = GATHER(t, axis=3, [2, 0, 1])`
    after:  `y = CONV_2D(x, w[[2, 0, 1]], b[[2, 0, 1]])`

    Exact for every type. More indices than there are channels would make the layer larger and stay.
    """
    return rewrite(model, _fold, ("GATHER", "CHANNEL_SHUFFLE", "TRANSPOSE"))


def _fold(graph: Graph, operation: Operation) -> bool:
    if operation.type == "TRANSPOSE":
        return _fold_transpose(graph, operation)
    layer = _layer(graph, operation.inputs[0], LAYERS)
    axis = None if layer is None else _channel_axis(graph.call(layer))
    if layer is None or axis is None:
        return False
    channels = len(graph.call(layer).array("bias"))
    indices = _indices(graph.call(operation), axis, channels)
    if indices is None:
        return False
    graph.swap(layer, replace(_with_rows(graph, layer, indices), outputs=operation.outputs))
    return True


def _fold_transpose(graph: Graph, operation: Operation) -> bool:
    """[N, K] from a fully connected layer, reshaped to an image, then transposed."""
    perm, reshape = permutation(graph, operation), graph.producer(operation.inputs[0], ("RESHAPE",))
    if perm is None or perm[0] != 0 or reshape is None or graph.uses[operation.inputs[0]]:
        return False
    image = graph.operands[reshape.outputs[0]].dimensions
    layer = _layer(graph, reshape.inputs[0], ("FULLY_CONNECTED",), reads=1)
    if layer is None or 0 in image or graph.operands[layer.outputs[0]].dimensions != (image[0], math.prod(image[1:])):
        return False
    rows = np.arange(math.prod(image[1:])).reshape(image[1:]).transpose([p - 1 for p in perm[1:]]).ravel()
    graph.swap(layer, _with_rows(graph, layer, rows))
    graph.drop(reshape)
    shape = graph.constant([image[p] for p in perm], Operand(I32))
    graph.emit(replace(reshape, inputs=(reshape.inputs[0], shape), outputs=operation.outputs))
    return True


def _layer(graph: Graph, i: int, types: Container[str], reads: int = 0) -> Operation | None:
    """The layer with constant weights that makes operand i, if no more than `reads` others read that."""
    layer = graph.producer(i, types)
    if layer is None or graph.uses[i] > reads:
        return None
    weights = (graph.operands[k].value for k in layer.inputs[1:3])
    return layer if all(isinstance(w, np.ndarray) for w in weights) else None


def _with_rows(graph: Graph, layer: Operation, indices: Array) -> Operation:
    """The layer with the rows `indices` of its filter and bias."""
    filter, bias = (_rows(graph, graph.operands[i], indices) for i in layer.inputs[1:3])
    return replace(layer, inputs=(layer.inputs[0], filter, bias, *layer.inputs[3:]))


def _channel_axis(layer: Call) -> int | None:
    """The axis of channels in the layer's output."""
    if "layout" not in layer:
        return len(layer.output.dimensions) - 1
    layout = layer.scalar("layout")
    return None if layout is None else 1 if layout else 3


def _indices(selection: Call, axis: int, channels: int) -> Array | None:
    """Which channel comes where [channels or fewer]; None where another axis is selected from, or nobody knows."""
    along, rank = selection.scalar("axis"), len(selection["input"].dimensions)
    if along is None or not rank or along % rank != axis:
        return None
    if selection.op.name == "CHANNEL_SHUFFLE":
        groups = selection.scalar("num_groups")
        return None if groups is None else np.arange(channels).reshape(groups, -1).T.ravel()
    indices = selection["indices"].value
    if not isinstance(indices, np.ndarray) or indices.ndim != 1 or not 0 < indices.size <= channels:
        return None
    return indices if indices.min() >= 0 and indices.max() < channels else None


def _rows(graph: Graph, operand: Operand, indices: Array) -> int:
    quant = operand.channel_quant
    if quant is not None:
        quant = replace(quant, scales=tuple(quant.scales[i] for i in indices))
    return graph.constant(operand.value[indices], replace(operand, channel_quant=quant))
