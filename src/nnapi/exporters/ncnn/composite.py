"""Composites that ncnn has layers for; the others are written as their bodies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnapi.exporters.ncnn.lowering import FLOATS, Node, Row, floats
from nnapi.exporters.ncnn.writer import Blob
from nnapi.ir.model import COMPOSITE


def _tensor(node: Node) -> Blob:
    return node.lowering.blob(node.operation.inputs[0])


def _constant(node: Node, n: int) -> Any:
    value = node.inputs[n].value
    if not isinstance(value, np.ndarray):
        node.refuse(f"input {n} is not a constant, must be")
    return value


def _function(type: str) -> Callable[[Node], None]:
    def lower(node: Node) -> None:
        x = _tensor(node)
        node.write(node.emit(type, [x], x.shape))

    return lower


def _gelu(node: Node) -> None:
    x = _tensor(node)
    node.write(node.emit("GELU", [x], x.shape, {0: int(_constant(node, 1).item())}))


def _layer_norm(node: Node) -> None:
    """Over the last dimensions together."""
    x, (gamma, beta) = _tensor(node), (_constant(node, n) for n in (1, 2))
    rows = x.shape[: len(x.shape) - gamma.ndim]
    flat = node.reshape(x, (math.prod(rows), gamma.size))
    parameters = {0: gamma.size, 1: float(_constant(node, 3).item()), 2: 1}
    node.write(node.emit("LayerNorm", [flat], flat.shape, parameters, [floats(gamma), floats(beta)]))


def _group_norm(node: Node) -> None:
    x, (gamma, beta) = _tensor(node), (_constant(node, n) for n in (1, 2))
    if len(node.inputs[0].dimensions) != len(x.shape) + 1:
        node.refuse("a batch, ncnn takes one sample at a time")
    parameters = {0: int(_constant(node, 3).item()), 1: gamma.size, 2: float(_constant(node, 4).item()), 3: 1}
    node.write(node.emit("GroupNorm", [x], x.shape, parameters, [floats(gamma), floats(beta)]))


ROWS = {
    COMPOSITE + name: Row(lower, FLOATS)
    for name, lower in {
        "GELU": _gelu,
        "SILU": _function("Swish"),
        "MISH": _function("Mish"),
        "LAYER_NORM": _layer_norm,
        "GROUP_NORM": _group_norm,
    }.items()
}
