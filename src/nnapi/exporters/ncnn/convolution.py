"""Convolutions, pools and matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnapi.exporters.ncnn.lowering import FLOATS, Node, Row, floats
from nnapi.exporters.ncnn.writer import Blob, Parameter
from nnapi.ops.window import SAME

OUTPUTS_FIRST = (0, 3, 1, 2)
DEPTHWISE = (3, 0, 1, 2)
"""[1, KH, KW, channels] -> [channels, 1, KH, KW]"""
SIDES = ("top", "left", "bottom", "right")
VALID_PADS = 1
"""Pooling: exactly the padding that is given."""
MEAN = 1
NONE_MOVE = (0, 0, 0, 0)


def _strides(node: Node) -> tuple[int, int]:
    return node.scalar("stride_height"), node.scalar("stride_width")


def _pads(node: Node, filter: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """top, left, bottom, right"""
    if "padding" not in node:
        return tuple(node.scalar(f"padding_{side}") for side in SIDES)
    if node.scalar("padding") != SAME:
        return NONE_MOVE
    sizes = node.image_dims()[1:]
    extents = [(f - 1) * d + 1 for f, d in zip(filter, dilations)]
    total = [max((-(-i // s) - 1) * s + e - i, 0) for i, s, e in zip(sizes, _strides(node), extents)]
    before = [t // 2 for t in total]
    return (*before, *(t - b for t, b in zip(total, before)))


def output_image(node: Node) -> tuple[int, ...]:
    """(C, H, W) of the output."""
    _, *dims = node.output.dimensions
    return tuple(dims) if node.scalar("layout") else (dims[2], dims[0], dims[1])


def _window(node: Node, filter: Sequence[int], pads: Sequence[int]) -> dict[int, Parameter]:
    """Kernel, dilation, stride and padding as convolutions number them."""
    (height, width), (down, right) = filter, _strides(node)
    dilated = "dilation_width" in node
    dilations = [node.scalar(f"dilation_{side}") if dilated else 1 for side in ("width", "height")]
    names = (1, 11, 2, 12, 3, 13, 14, 4, 16, 15)
    return dict(zip(names, (width, height, *dilations, right, down, *pads)))


def _convolve(node: Node, type: str, order: Sequence[int], groups: int = 1) -> None:
    filter = node.dims("filter")[1:3]
    dilated = "dilation_height" in node
    dilations = [node.scalar(f"dilation_{side}") if dilated else 1 for side in ("height", "width")]
    parameters = _window(node, filter, _pads(node, filter, dilations)) | node.activation_parameters()
    _weigh(node, type, order, parameters | ({7: groups} if groups > 1 else {}))


def _weigh(node: Node, type: str, order: Sequence[int], parameters: dict[int, Parameter]) -> None:
    shape, count = output_image(node), math.prod(node.dims("filter"))
    weights = [node.weight("filter", order), floats(node.array("bias"))]
    parameters |= {0: shape[0], 5: 1, 6: count}
    node.write(node.emit(type, [node.image()], shape, parameters, weights), image=True)


def _conv(node: Node) -> None:
    _convolve(node, "Convolution", OUTPUTS_FIRST)


def _grouped_conv(node: Node) -> None:
    _convolve(node, "ConvolutionDepthWise", OUTPUTS_FIRST, node.scalar("num_groups"))


def _depthwise_conv(node: Node) -> None:
    channels = node.image_dims()[0]
    if channels == 1:
        _convolve(node, "Convolution", DEPTHWISE)
    else:
        _convolve(node, "ConvolutionDepthWise", DEPTHWISE, channels)


def _transpose_conv(node: Node) -> None:
    """What lies beyond the output is cut off; where the output reaches beyond the windows there is only bias."""
    filter, strides = node.dims("filter")[1:3], _strides(node)
    _, *sizes = node.image_dims()
    wanted = output_image(node)[1:]
    whole = [(i - 1) * s + f for i, s, f in zip(sizes, strides, filter)]
    if "padding" not in node:
        before = [node.scalar(f"padding_{side}") for side in ("top", "left")]
    else:
        same = node.scalar("padding") == SAME
        before = [max(all_ - out, 0) // 2 if same else 0 for all_, out in zip(whole, wanted)]
    after = [all_ - out - b for all_, out, b in zip(whole, wanted, before)]
    if min(after) < 0:
        node.refuse(f"the output is {-min(after)} beyond the windows' reach, ncnn's ends there")
    parameters = _window(node, filter, (*before, *after)) | node.activation_parameters()
    _weigh(node, "Deconvolution", OUTPUTS_FIRST, parameters)


def _fully_connected(node: Node) -> None:
    """One row is a vector's product, several are a matrix's."""
    units, depth = node.dims("filter")
    rows = math.prod(node.dims("input")) // depth
    bias = node.array("bias")
    if rows == 1:
        parameters = {0: units, 1: 1, 2: units * depth} | node.activation_parameters()
        weights = [node.weight("filter"), floats(bias)]
        x = node.reshape(node.blob("input"), (depth,))
        node.write(node.emit("InnerProduct", [x], (units,), parameters, weights))
        return
    x = node.reshape(node.blob("input"), (rows, depth))
    constant = {3: 1, 5: 1, 6: 1, 7: rows, 8: units, 9: depth, 10: 4}
    weights = [node.weight("filter"), node.weight("bias")]
    node.write(node.fused(node.emit("Gemm", [x], (rows, units), constant, weights)))


def _batch_matmul(node: Node) -> None:
    if "adj_x" in node and node.scalar("adj_x"):
        node.refuse("adj_x is True, ncnn's MatMul only turns the other")
    turned = bool("adj_y" in node and node.scalar("adj_y"))
    sides = [node.reshape(node.blob(name), _matrices(node.dims(name))) for name in ("input0", "input1")]
    node.write(node.emit("MatMul", sides, _matrices(node.output.dimensions), {0: int(turned)}))


def _matrices(dims: Sequence[int]) -> tuple[int, int, int]:
    """Matrices in one row."""
    return math.prod(dims[:-2]), dims[-2], dims[-1]


def _average_pool(node: Node) -> None:
    padded = node.lowering.padded.get(node.indexes("input")[0])
    if padded is None:
        _pooled(node, node.image(), MEAN)
    else:
        x = node.lowering.image(padded.source, bool(node.scalar("layout")))
        _pooled(node, x, MEAN, padded.pads)


def _max_pool(node: Node) -> None:
    _pooled(node, node.image(), 0)


def _pooled(node: Node, x: Blob, type: int, counted: Sequence[int] | None = None) -> None:
    """`counted`: padding that counts, as zeros."""
    filter = (node.scalar("filter_height"), node.scalar("filter_width"))
    pads = _pads(node, filter, (1, 1)) if counted is None else counted
    if type == MEAN and filter == x.shape[1:] and not any(pads):
        node.write(node.fused(global_average(node, x)), image=True)
        return
    top, left, bottom, right = pads
    (height, width), (down, across) = filter, _strides(node)
    names = (0, 1, 11, 2, 12, 3, 13, 14, 15, 5, 6)
    values = (type, width, height, across, down, left, top, right, bottom, VALID_PADS, int(counted is not None))
    y = node.emit("Pooling", [x], output_image(node), dict(zip(names, values)))
    node.write(node.fused(y), image=True)


def global_average(node: Node, x: Blob) -> Blob:
    """(C, H, W) -> (C, 1, 1)"""
    channels = x.shape[0]
    return node.reshape(node.emit("Pooling", [x], (channels,), {0: MEAN, 4: 1}), (channels, 1, 1))


ROWS: dict[str, Row] = {
    "CONV_2D": Row(_conv, FLOATS),
    "GROUPED_CONV_2D": Row(_grouped_conv, FLOATS),
    "DEPTHWISE_CONV_2D": Row(_depthwise_conv, FLOATS),
    "TRANSPOSE_CONV_2D": Row(_transpose_conv, FLOATS),
    "FULLY_CONNECTED": Row(_fully_connected, FLOATS),
    "BATCH_MATMUL": Row(_batch_matmul, FLOATS),
    "AVERAGE_POOL_2D": Row(_average_pool, FLOATS),
    "MAX_POOL_2D": Row(_max_pool, FLOATS),
}
