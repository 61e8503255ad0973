"""Fold a selection of channels into the layer that produces them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.op import Call
from nnapi.ops.types import Array, Operand
from nnapi.passes.rewrite import Graph, rewrite

LAYERS = frozenset(("CONV_2D", "TRANSPOSE_CONV_2D", "FULLY_CONNECTED"))
"""Every output channel is one row of the filter, and reads all input channels."""


def fold_channel_permutation(model: Model) -> Model:
    """A GATHER of channels by constant indices, or a CHANNEL_SHUFFLE, that alone reads a convolution or a fully
    connected layer becomes an order of the rows of that layer's filter and bias.

    before: `t = CONV_2D(x, w, b); y = GATHER(t, axis=3, [2, 0, 1])`
    after:  `y = CONV_2D(x, w[[2, 0, 1]], b[[2, 0, 1]])`

    Exact for every type. More indices than there are channels would make the layer larger and stay.
    """
    return rewrite(model, _fold, ("GATHER", "CHANNEL_SHUFFLE"))


def _fold(graph: Graph, operation: Operation) -> bool:
    producer = graph.producer(operation.inputs[0], LAYERS)
    if producer is None or graph.uses[operation.inputs[0]]:
        return False
    selection, layer = graph.call(operation), graph.call(producer)
    w, b, axis = layer["filter"], layer["bias"], _channel_axis(layer)
    if axis is None or not isinstance(w.value, np.ndarray) or not isinstance(b.value, np.ndarray):
        return False
    indices = _indices(selection, axis, len(b.value))
    if indices is None:
        return False
    inputs = graph.inputs(producer, filter=_rows(graph, w, indices), bias=_rows(graph, b, indices))
    graph.swap(producer, replace(producer, inputs=inputs, outputs=operation.outputs))
    return True


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
