"""Activation functions and normalizations along one axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from nnapi.exporters.tflite.lowering import Node, Row, along_last_axis, through_float
from nnapi.ir.model import COMPOSITE
from nnapi.ops.types import F32, Q8, Q8S

FLOAT_OR_QUANT8 = {F32, Q8, Q8S}


def _simple(builtin: str) -> Callable[[Node], None]:
    def lower(node: Node) -> None:
        node.emit(builtin, [node.tensor("input")])

    return lower


def _hard_swish(node: Node) -> None:
    """The quantized kernel cannot scale up: beyond its reach in float32."""
    x, y, options = node["input"], node.output, schema.HardSwishOptionsT()
    if x.type.is_quantized and x.scale >= 128 * y.scale:
        through_float(node, lambda x, y: node.emit("HARD_SWISH", x, y, options))
    else:
        node.emit("HARD_SWISH", [node.tensor("input")], options=options)


def _elu(node: Node) -> None:
    """TFLite's has an alpha of 1: another scales what lies below zero."""
    x, source, alpha = node["input"], node.tensor("input"), node.scalar("alpha")
    if alpha == 1.0:
        node.emit("ELU", [source])
        return
    curve, below, scaled, above = (node.temporary(x, x.dimensions) for _ in range(4))
    node.emit("ELU", [source], [curve])
    node.emit("MINIMUM", [curve, node.constant([0.0], x)], [below], schema.MaximumMinimumOptionsT())
    node.emit("MUL", [below, node.constant([alpha], x)], [scaled], schema.MulOptionsT())
    node.emit("RELU", [source], [above])
    node.emit("ADD", [above, scaled], options=schema.AddOptionsT())


def _alpha_not_negative(node: Node) -> str | None:
    alpha = node.scalar("alpha")
    return None if alpha >= 0 else f"alpha is {alpha}, must not be negative"


def _prelu(node: Node) -> None:
    """One slope for all channels is LEAKY_RELU."""
    alpha = node["alpha"]
    if isinstance(alpha.value, np.ndarray) and alpha.value.size == 1 and node["input"].type == F32:
        options = schema.LeakyReluOptionsT(alpha=alpha.value.item())
        node.emit("LEAKY_RELU", [node.tensor("input")], options=options)
    else:
        node.emit("PRELU", [node.tensor("input"), node.tensor("alpha")])


def _gelu(node: Node) -> None:
    """The composite GELU: x, tanh."""
    x, tanh = node.operation.inputs[:2]
    approximate = node.lowering.model.operands[tanh].value
    if not isinstance(approximate, np.ndarray):
        node.refuse("tanh is not a constant, must be")
    node.emit("GELU", [node.lowering.tensor(x)], options=schema.GeluOptionsT(approximate=bool(approximate)))


def _alpha_within_input(node: Node) -> str | None:
    x, alpha = node["input"].dimensions, node["alpha"].dimensions
    fits = len(alpha) <= len(x) and all(a == 1 or a == d != 0 for a, d in zip(alpha[::-1], x[::-1]))
    return None if fits else f"alpha {alpha} may widen the input {x}, PRELU keeps its shape"


def _softmax(node: Node) -> None:
    """XNNPACK's has a beta of 1."""
    x, beta = node["input"], node.scalar("beta")
    if x.type == F32 and beta != 1.0:
        options, source = schema.SoftmaxOptionsT(beta=1.0), _scaled(node, beta)
    else:
        options, source = schema.SoftmaxOptionsT(beta=beta), node.tensor("input")
    along_last_axis(node, source, lambda x, y: node.emit("SOFTMAX", [x], [y], options))


def _log_softmax(node: Node) -> None:
    """TFLite's has a beta of 1."""
    beta, options = node.scalar("beta"), schema.LogSoftmaxOptionsT()
    source = node.tensor("input") if beta == 1.0 else _scaled(node, beta)
    along_last_axis(node, source, lambda x, y: node.emit("LOG_SOFTMAX", [x], [y], options))


def _scaled(node: Node, factor: float) -> int:
    """The input of floats times a number."""
    x = node["input"]
    result = node.temporary(x, x.dimensions)
    node.emit("MUL", [node.tensor("input"), node.constant([factor], x)], [result], schema.MulOptionsT())
    return result


def _l2_normalization(node: Node) -> None:
    along_last_axis(
        node, node.tensor("input"), lambda x, y: node.emit("L2_NORMALIZATION", [x], [y], schema.L2NormOptionsT())
    )


def _local_response_normalization(node: Node) -> None:
    radius, bias, alpha, beta = (node.scalar(name) for name in ("radius", "bias", "alpha", "beta"))
    radius = min(radius, max(node["input"].dimensions))  # its kernel counts what lies outside, too
    options = schema.LocalResponseNormalizationOptionsT(radius=radius, bias=bias, alpha=alpha, beta=beta)
    along_last_axis(
        node, node.tensor("input"), lambda x, y: node.emit("LOCAL_RESPONSE_NORMALIZATION", [x], [y], options)
    )


def _rank_4(node: Node) -> str | None:
    rank = len(node["input"].dimensions)
    return None if rank == 4 else f"input has rank {rank}, its kernel takes 4"


def _instance_normalization(node: Node) -> None:
    """(x - mean) * gamma / sqrt(variance + epsilon) + beta, mean and variance over height and width."""
    x, source = node["input"], node.tensor("input")
    n, h, w, c = x.dimensions
    axes = node.ints((1, 2))
    keep = schema.ReducerOptionsT(keepDims=True)

    def step(builtin: str, inputs: list[int], options: Any, shape: tuple[int, ...]) -> int:
        result = node.temporary(x, shape)
        node.emit(builtin, inputs, [result], options)
        return result

    def number(name: str) -> int:
        return node.constant(np.full((1,), node.scalar(name)), x)

    whole, moments = (n, h, w, c), (n, 1, 1, c)
    mean = step("MEAN", [source, axes], keep, moments)
    squares = step("SQUARED_DIFFERENCE", [source, mean], schema.SquaredDifferenceOptionsT(), whole)
    variance = step("MEAN", [squares, axes], keep, moments)
    shifted = step("ADD", [variance, number("epsilon")], schema.AddOptionsT(), moments)
    factor = step("MUL", [step("RSQRT", [shifted], None, moments), number("gamma")], schema.MulOptionsT(), moments)
    centered = step("SUB", [source, mean], schema.SubOptionsT(), whole)
    scaled = step("MUL", [centered, factor], schema.MulOptionsT(), whole)
    node.emit("ADD", [scaled, number("beta")], options=schema.AddOptionsT())


ROWS = {
    COMPOSITE + "GELU": Row(_gelu, {F32}),
    "RELU": Row(_simple("RELU"), FLOAT_OR_QUANT8),
    "RELU1": Row(_simple("RELU_N1_TO_1"), FLOAT_OR_QUANT8),
    "RELU6": Row(_simple("RELU6"), FLOAT_OR_QUANT8),
    "LOGISTIC": Row(_simple("LOGISTIC"), FLOAT_OR_QUANT8),
    "TANH": Row(_simple("TANH"), FLOAT_OR_QUANT8),
    "HARD_SWISH": Row(_hard_swish, FLOAT_OR_QUANT8),
    "ELU": Row(_elu, {F32}, (_alpha_not_negative,)),
    "PRELU": Row(_prelu, FLOAT_OR_QUANT8, (_alpha_within_input,)),
    "SOFTMAX": Row(_softmax, FLOAT_OR_QUANT8),
    "LOG_SOFTMAX": Row(_log_softmax, {F32}),
    "L2_NORMALIZATION": Row(_l2_normalization, FLOAT_OR_QUANT8),
    "LOCAL_RESPONSE_NORMALIZATION": Row(_local_response_normalization, {F32}, (_rank_4,)),
    "INSTANCE_NORMALIZATION": Row(_instance_normalization, {F32}),
}
