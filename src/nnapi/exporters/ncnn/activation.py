"""Activation functions and normalizations along one axis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nnapi.exporters.ncnn.elementwise import ADD, MAX, MIN, MUL, scaled, unary
from nnapi.exporters.ncnn.lowering import FLOATS, Node, Row, blob_shape, floats
from nnapi.ops.numeric import RELU, RELU1, RELU6


def _clamp(code: int) -> Callable[[Node], None]:
    def lower(node: Node) -> None:
        node.write(node.activation(node.blob("input"), code))

    return lower


def _elu(node: Node) -> None:
    x = node.blob("input")
    node.write(node.emit("ELU", [x], x.shape, {0: float(node.scalar("alpha"))}))


def _prelu(node: Node) -> None:
    """A slope for each channel of an image, or one for all, is PReLU; other slopes are max(x, 0) + slope min(x, 0)."""
    alpha, x = node["alpha"], node.blob("input")
    if isinstance(alpha.value, np.ndarray) and (alpha.value.size == 1 or _of_channels(alpha.value.shape, x.shape)):
        slopes = floats(alpha.value.ravel())
        node.write(node.emit("PReLU", [x], x.shape, {0: alpha.value.size}, [slopes]))
        return
    dims = node.output.dimensions
    slope, x = (node.aligned(node.indexes(name)[0], dims) for name in ("alpha", "input"))
    shape = blob_shape(dims)
    above, below = (node.emit("BinaryOp", [x], x.shape, {0: n, 1: 1, 2: 0.0}) for n in (MAX, MIN))
    node.write(node.emit("BinaryOp", [above, node.emit("BinaryOp", [below, slope], shape, {0: MUL})], shape, {0: ADD}))


def _of_channels(alpha: tuple[int, ...], x: tuple[int, ...]) -> bool:
    """Whether slopes vary along a blob's outermost dimension alone, which PReLU takes for its channels."""
    return len(x) == 3 and alpha[-3:] == (x[0], 1, 1)


def _softmax(node: Node) -> None:
    x, axis = node.along("input", node.scalar("axis"))
    x = scaled(node, x, float(node.scalar("beta")))
    node.write(node.emit("Softmax", [x], x.shape, {0: axis, 1: 1}))


def _local_response_normalization(node: Node) -> None:
    """Across the channels of an image; ncnn divides alpha by the window's size."""
    if node.scalar("axis") % 4 != 1 or node["input"].dimensions[0] != 1 or len(node.dims("input")) != 4:
        node.refuse("is not along the channels of [1, C, H, W], ncnn's LRN is")
    x, size = node.blob("input"), 2 * node.scalar("radius") + 1
    alpha, beta, bias = (float(node.scalar(name)) for name in ("alpha", "beta", "bias"))
    node.write(node.emit("LRN", [x], x.shape, {1: size, 2: alpha * size, 3: beta, 4: bias}))


def _instance_normalization(node: Node) -> None:
    x = node.image()
    epsilon, *affine = (float(node.scalar(name)) for name in ("epsilon", "gamma", "beta"))
    weights = [floats(np.full(x.shape[0], value)) for value in affine]
    y = node.emit("InstanceNorm", [x], x.shape, {0: x.shape[0], 1: epsilon, 2: 1}, weights)
    node.write(y, image=True)


ROWS = {
    "RELU": Row(_clamp(RELU), FLOATS),
    "RELU1": Row(_clamp(RELU1), FLOATS),
    "RELU6": Row(_clamp(RELU6), FLOATS),
    "LOGISTIC": Row(unary("Sigmoid"), FLOATS),
    "TANH": Row(unary("TanH"), FLOATS),
    "HARD_SWISH": Row(unary("HardSwish", {0: 1 / 6, 1: 0.5}), FLOATS),
    "ELU": Row(_elu, FLOATS),
    "PRELU": Row(_prelu, FLOATS),
    "SOFTMAX": Row(_softmax, FLOATS),
    "LOCAL_RESPONSE_NORMALIZATION": Row(_local_response_normalization, FLOATS),
    "INSTANCE_NORMALIZATION": Row(_instance_normalization, FLOATS),
}
