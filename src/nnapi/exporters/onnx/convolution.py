"""Convolutions, pools and matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnapi.exporters.onnx.lowering import CHANNELS_FIRST, FLOAT, REAL, Node, Row
from nnapi.exporters.onnx.writer import Value
from nnapi.ops.types import I32, Q8S
from nnapi.ops.window import SAME

SIDES = (("height", ("top", "bottom")), ("width", ("left", "right")))
DEPTHWISE = (3, 0, 1, 2)
"""[1, KH, KW, channels] -> [channels, 1, KH, KW]"""


def _window(node: Node, filter: Sequence[int]) -> dict[str, Any]:
    """Sizes, strides, dilations and padding of a window over an image, as ONNX's attributes."""
    strides = [node.scalar(f"stride_{side}") for side, _ in SIDES]
    dilated = "dilation_width" in node
    dilations = [node.scalar(f"dilation_{side}") if dilated else 1 for side, _ in SIDES]
    window = {"kernel_shape": list(filter), "strides": strides}
    if dilations != [1, 1]:
        window["dilations"] = dilations
    if "padding" not in node:
        before, after = ([node.scalar(f"padding_{ends[k]}") for _, ends in SIDES] for k in (0, 1))
        return window | {"pads": before + after}
    if node.scalar("padding") != SAME:
        return window
    sizes = node.image_dims()[2:]
    if None in sizes:
        return window | {"auto_pad": "SAME_UPPER"}
    extents = [(f - 1) * d + 1 for f, d in zip(filter, dilations)]
    total = [max((-(-i // s) - 1) * s + e - i, 0) for i, s, e in zip(sizes, strides, extents) if i]
    return window | {"pads": [t // 2 for t in total] + [t - t // 2 for t in total]}


def _bias(node: Node) -> Value:
    """The bias as real numbers: of quantized operations it has the scale of the products."""
    x, w = node["input"], node["filter"]
    if not x.type.is_quantized:
        return node.real("bias")
    scales = np.array(w.scale if w.channel_quant is None else w.channel_quant.scales, np.float32)
    scale = node.constant(np.float32(x.scale) * scales)
    return node.emit("DequantizeLinear", [node.stored("bias"), scale], axis=0)


def _conv(node: Node) -> None:
    groups = node.scalar("num_groups") if "num_groups" in node else 1
    _convolve(node, CHANNELS_FIRST, groups)


def _depthwise_conv(node: Node) -> None:
    channels = node.image_dims()[1]
    if channels is None:
        node.unknown("the number of channels is not known")
    _convolve(node, DEPTHWISE, channels)


def _convolve(node: Node, order: Sequence[int], groups: int) -> None:
    window = _window(node, node.dims("filter")[1:3])
    if groups > 1:
        window["group"] = groups
    y = node.emit("Conv", [node.image(), node.turned("filter", order), _bias(node)], **window)
    node.write(node.fused(y), image=True)


def _transpose_conv(node: Node) -> None:
    """What an implicit padding leaves of the whole output, ONNX takes as explicit paddings."""
    filter = node.dims("filter")[1:3]
    strides = [node.scalar(f"stride_{side}") for side, _ in SIDES]
    if "padding" not in node:
        before, after = ([node.scalar(f"padding_{ends[k]}") for _, ends in SIDES] for k in (0, 1))
    else:
        shape = node.array("output_shape")
        wanted = [int(d) for d in (shape[2:] if node.scalar("layout") else shape[1:3])]
        sizes = node.image_dims()[2:]
        if None in sizes:
            node.unknown("the size of the input is not known")
        cut = [(i - 1) * s + f - o for i, s, f, o in zip(sizes, strides, filter, wanted) if i]
        same = node.scalar("padding") == SAME
        before = [max(c, 0) // 2 if same else 0 for c in cut]
        after = [c - b for c, b in zip(cut, before)]
    window: dict[str, Any] = {"kernel_shape": list(filter), "strides": strides}
    window["pads"] = [*before, *(max(a, 0) for a in after)]
    if min(after) < 0:
        window["output_padding"] = [max(-a, 0) for a in after]
        for more, stride, (side, _) in zip(window["output_padding"], strides, SIDES):
            if more >= stride:
                node.refuse(f"output {side} is {more} beyond the windows' reach, must be less than the stride {stride}")
    y = node.emit("ConvTranspose", [node.image(), _real_filter(node, (3, 0, 1, 2)), _bias(node)], **window)
    node.write(node.fused(y), image=True)


def _real_filter(node: Node, order: Sequence[int]) -> Value:
    """The filter in float32, also of a quantized operation: no engine has this one in integers, some only pretend.

    It is stored in 8 bits; engines fold this arithmetic, in which they see no quantized weights, when they load.
    """
    filter = node["filter"]
    if not filter.type.is_quantized or not isinstance(filter.value, np.ndarray):
        return node.turned("filter", order)
    number = node.cast(node.transpose(node.stored("filter"), order), np.int32)
    if filter.zero_point:
        number = node.emit("Sub", [number, node.constant(filter.zero_point, np.int32)])
    scales = np.array(filter.scale, np.float32)
    if filter.channel_quant is not None:
        axis = list(order).index(filter.channel_quant.axis)
        scales = np.array(filter.channel_quant.scales, np.float32).reshape([-1 if d == axis else 1 for d in range(4)])
    return node.emit("Mul", [node.cast(number, np.float32), node.constant(scales)])


def _fully_connected(node: Node) -> None:
    depth = node.dims("filter")[1]
    x = node.real("input")
    if len(node["input"].dimensions) != 2:
        x = node.reals(node.reshape(node.stored("input"), (-1, depth)), node["input"])
    y = node.emit("Gemm", [x, node.real("filter"), _bias(node)], transB=1)
    node.write(node.fused(y))


def _batch_matmul(node: Node) -> None:
    sides = []
    for name, flag in (("input0", "adj_x"), ("input1", "adj_y")):
        rank = node.rank(name)
        turned = flag in node and node.scalar(flag)
        sides.append(node.turned(name, (*range(rank - 2), rank - 1, rank - 2)) if turned else node.real(name))
    node.write(node.emit("MatMul", sides))


def _pool_window(node: Node) -> dict[str, Any]:
    return _window(node, (node.scalar("filter_height"), node.scalar("filter_width")))


def _average_pool(node: Node) -> None:
    padded = node.lowering.padded.get(node.indexes("input")[0])
    if padded is None:
        y = _average(node, node.image())
    else:
        x = node.lowering.form(padded.source, real=True, image=not node.scalar("layout"))
        y = node.emit("AveragePool", [x], count_include_pad=1, **_pool_window(node) | {"pads": padded.pads})
    node.write(node.fused(y), image=True)


def _average(node: Node, x: Value) -> Value:
    """A window over the whole image is GlobalAveragePool, which engines do better."""
    window = _pool_window(node)
    sizes = node.image_dims()[2:]
    if list(sizes) == window["kernel_shape"] and not any(window.get("pads", ())):
        return node.emit("GlobalAveragePool", [x])
    return node.emit("AveragePool", [x], count_include_pad=0, **window)


def _max_pool(node: Node) -> None:
    """Of quantized values as they are stored."""
    pooled = node.emit("MaxPool", [node.image(real=False)], **_pool_window(node))
    if not node["input"].type.is_quantized:
        node.write(node.fused(pooled), image=True)
        return
    if node.scalar("activation"):
        pooled = node.fused(node.lowering.dequantize(pooled, node["input"]))
        node.write(pooled, image=True)
        return
    node.write_stored(pooled, image=True)


def _l2_pool(node: Node) -> None:
    x = node.image()
    mean = _average(node, node.emit("Mul", [x, x]))
    node.write(node.fused(node.emit("Sqrt", [mean])), image=True)


ROWS: dict[str, Row] = {
    "CONV_2D": Row(_conv, REAL),
    "GROUPED_CONV_2D": Row(_conv, REAL),
    "DEPTHWISE_CONV_2D": Row(_depthwise_conv, REAL),
    "TRANSPOSE_CONV_2D": Row(_transpose_conv, REAL),
    "FULLY_CONNECTED": Row(_fully_connected, REAL),
    "BATCH_MATMUL": Row(_batch_matmul, FLOAT | {I32, Q8S}),
    "AVERAGE_POOL_2D": Row(_average_pool, REAL),
    "MAX_POOL_2D": Row(_max_pool, REAL),
    "L2_POOL_2D": Row(_l2_pool, FLOAT),
}
