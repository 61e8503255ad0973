"""Composites that ncnn has layers for; the others are written as their bodies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnapi.exporters.ncnn.elementwise import MAX
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


def _mish(node: Node) -> None:
    """Below -20 it is 0 to rounding, but ncnn multiplies by a hyperbolic tangent that is 6e-8 for 0."""
    x = _tensor(node)
    bounded = node.emit("BinaryOp", [x], x.shape, {0: MAX, 1: 1, 2: -20.0})
    node.write(node.emit("Mish", [bounded], x.shape))


def _norm(type: str, affine: int) -> Callable[[Node], None]:
    """Over the last dimensions together; `affine`: how many inputs scale and shift."""

    def lower(node: Node) -> None:
        x, weights = _tensor(node), [_constant(node, n + 1) for n in range(affine)]
        size = weights[0].size
        flat = node.reshape(x, (math.prod(x.shape) // size, size))
        parameters = {0: size, 1: float(_constant(node, affine + 1).item()), 2: 1}
        node.write(node.emit(type, [flat], flat.shape, parameters, [floats(w) for w in weights]))

    return lower


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
        "MISH": _mish,
        "LAYER_NORM": _norm("LayerNorm", 2),
        "RMS_NORM": _norm("RMSNorm", 1),
        "GROUP_NORM": _group_norm,
    }.items()
}
