"""Composites that ONNX has nodes for; the others are written as their bodies."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnapi.exporters.onnx.lowering import FLOAT, Node, Row
from nnapi.exporters.onnx.writer import Value
from nnapi.ir.model import COMPOSITE


def _tensor(node: Node, n: int) -> Value:
    return node.lowering.form(node.operation.inputs[n])


def _scalar(node: Node, n: int) -> Any:
    value = node.inputs[n].value
    if not isinstance(value, np.ndarray):
        node.refuse(f"input {n} is not a constant, ONNX takes an attribute")
    return value.item()


def _erf(node: Node) -> None:
    node.write(node.emit("Erf", [_tensor(node, 0)]))


def _gelu(node: Node) -> None:
    node.write(node.emit("Gelu", [_tensor(node, 0)], approximate="tanh" if _scalar(node, 1) else "none"))


def _silu(node: Node) -> None:
    x = _tensor(node, 0)
    node.write(node.emit("Mul", [x, node.emit("Sigmoid", [x])]))


def _mish(node: Node) -> None:
    node.write(node.emit("Mish", [_tensor(node, 0)]))


def _softplus(node: Node) -> None:
    x, beta = _tensor(node, 0), _scalar(node, 1)
    if beta == 1.0:
        node.write(node.emit("Softplus", [x]))
        return
    scaled = node.emit("Softplus", [node.emit("Mul", [x, node.number(beta)])])
    node.write(node.emit("Div", [scaled, node.number(beta)]))


def _layer_norm(node: Node) -> None:
    x, gamma, beta = (_tensor(node, n) for n in range(3))
    axis, epsilon = -len(node.inputs[1].dimensions), _scalar(node, 3)
    node.write(node.emit("LayerNormalization", [x, gamma, beta], axis=axis, epsilon=epsilon))


def _group_norm(node: Node) -> None:
    x, gamma, beta = (_tensor(node, n) for n in range(3))
    groups, epsilon = _scalar(node, 3), _scalar(node, 4)
    node.write(node.emit("GroupNormalization", [x, gamma, beta], num_groups=groups, epsilon=epsilon))


ROWS = {
    COMPOSITE + name: Row(lower, FLOAT)
    for name, lower in {
        "ERF": _erf,
        "GELU": _gelu,
        "SILU": _silu,
        "MISH": _mish,
        "SOFTPLUS": _softplus,
        "LAYER_NORM": _layer_norm,
        "GROUP_NORM": _group_norm,
    }.items()
}
