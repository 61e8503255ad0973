"""Activation functions and normalizations along one axis."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nnapi.exporters.onnx.elementwise import unary
from nnapi.exporters.onnx.lowering import FLOAT, REAL, Node, Row
from nnapi.ops.normalization import SMALLEST_NORM
from nnapi.ops.numeric import RELU, RELU1, RELU6, activation_range


def _clamp(code: int) -> Callable[[Node], None]:
    """Of quantized values the clamp is one of integers."""

    def lower(node: Node) -> None:
        x = node["input"]
        if not x.type.is_quantized:
            node.write(node.activation(node.real("input"), code))
            return
        limits = [node.constant(limit, x.type.dtype) for limit in activation_range(x, code)]
        node.write_stored(node.emit("Clip", [node.stored("input"), *limits]))

    return lower


def _elu(node: Node) -> None:
    node.write(node.emit("Elu", [node.real("input")], alpha=float(node.scalar("alpha"))))


def _alpha_not_negative(node: Node) -> str | None:
    alpha = node.scalar("alpha")
    return None if alpha >= 0 else f"alpha is {alpha}, must not be negative"


def _prelu(node: Node) -> None:
    """One slope for all is LeakyRelu; slopes that widen the input are beyond PRelu."""
    alpha, x = node["alpha"], node.real("input")
    if isinstance(alpha.value, np.ndarray) and alpha.value.size == 1 and alpha.value.ndim <= node.rank("input"):
        real = (float(alpha.value.item()) - alpha.zero_point) * (alpha.scale or 1.0)
        node.write(node.emit("LeakyRelu", [x], alpha=real))
    elif _within(alpha.dimensions, node["input"].dimensions):
        missing = node.rank("input") - len(alpha.dimensions)
        # Some engines take a vector of slopes for the channels, wherever it would broadcast to.
        slopes = (
            node.reshape(node.stored("alpha"), (1,) * missing + alpha.dimensions) if missing else node.stored("alpha")
        )
        node.write(node.emit("PRelu", [x, node.reals(slopes, alpha)]))
    else:
        positive = node.emit("GreaterOrEqual", [x, node.number(0)])
        node.write(node.emit("Where", [positive, x, node.emit("Mul", [x, node.real("alpha")])]))


def _within(alpha: tuple[int, ...], x: tuple[int, ...]) -> bool:
    return len(alpha) <= len(x) and all(a == 1 or a == d != 0 for a, d in zip(alpha[::-1], x[::-1]))


def _softmax(type: str) -> Callable[[Node], None]:
    def lower(node: Node) -> None:
        x, beta = node.real("input"), node.scalar("beta")
        if beta != 1.0:
            x = node.emit("Mul", [x, node.number(beta)])
        y = node.emit(type, [x], axis=node.scalar("axis") % node.rank("input"))
        if node.output.type.is_quantized:  # ONNX Runtime's own 8-bit softmax stores 1.0, which is one too many, as 0
            y = node.emit("Min", [y, node.number(1 - 1 / 256)])
        node.write(y)

    return lower


def _l2_normalization(node: Node) -> None:
    x, axis = node.real("input"), node.ints([node.scalar("axis") % node.rank("input")])
    # Quantized values have a norm of their scale or more, or are all 0: engines may leave something else of a 0.
    smallest = (node["input"].scale / 2) or SMALLEST_NORM
    norm = node.emit("ReduceL2", [x, axis], keepdims=1)
    node.write(node.emit("Div", [x, node.emit("Max", [norm, node.number(smallest)])]))


def _local_response_normalization(node: Node) -> None:
    """The window's sum of squares is its size times an average pool's; ONNX's LRN is wrong on some engines."""
    shape = node.dims("input")
    axis = node.scalar("axis") % len(shape)
    radius = min(node.scalar("radius"), shape[axis] - 1)  # a larger window covers the same values
    size = 2 * radius + 1
    alpha, beta, bias = (node.scalar(name) for name in ("alpha", "beta", "bias"))
    x = node.real("input")
    squares = node.reshape(
        node.emit("Mul", [x, x]), (math.prod(shape[:axis]), 1, shape[axis], math.prod(shape[axis + 1 :]))
    )
    window = {"kernel_shape": [size, 1], "pads": [radius, 0, radius, 0], "count_include_pad": 1}
    mean = node.reshape(node.emit("AveragePool", [squares], **window), shape)
    scale = node.emit("Add", [node.emit("Mul", [mean, node.number(alpha * size)]), node.number(bias)])
    node.write(node.emit("Mul", [x, node.emit("Pow", [scale, node.number(-beta)])]))


def _instance_normalization(node: Node) -> None:
    channels = node.image_dims()[1]
    if channels is None:
        node.unknown("the number of channels is not known")
    gamma, beta = (
        node.constant(np.full(channels, node.scalar(name), node["input"].type.dtype)) for name in ("gamma", "beta")
    )
    y = node.emit("InstanceNormalization", [node.image(), gamma, beta], epsilon=float(node.scalar("epsilon")))
    node.write(y, image=True)


ROWS = {
    "RELU": Row(_clamp(RELU), REAL),
    "RELU1": Row(_clamp(RELU1), REAL),
    "RELU6": Row(_clamp(RELU6), REAL),
    "LOGISTIC": Row(unary("Sigmoid"), REAL),
    "TANH": Row(unary("Tanh"), REAL),
    "HARD_SWISH": Row(unary("HardSwish"), REAL),
    "ELU": Row(_elu, FLOAT, (_alpha_not_negative,)),
    "PRELU": Row(_prelu, REAL),
    "SOFTMAX": Row(_softmax("Softmax"), REAL),
    "LOG_SOFTMAX": Row(_softmax("LogSoftmax"), FLOAT),
    "L2_NORMALIZATION": Row(_l2_normalization, REAL),
    "LOCAL_RESPONSE_NORMALIZATION": Row(_local_response_normalization, FLOAT),
    "INSTANCE_NORMALIZATION": Row(_instance_normalization, FLOAT),
}
