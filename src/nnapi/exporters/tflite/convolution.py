"""Convolutions, pools and matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from nnapi.exporters.tflite.lowering import Node, Row
from nnapi.exporters.tflite.versions import operator_version
from nnapi.exporters.tflite.writer import TENSOR_TYPES
from nnapi.ops.numeric import NONE, RELU, RELU6
from nnapi.ops.types import F32, I32, Q8, Q8PC, Q8S, Q16SYMM, Array, Operand
from nnapi.ops.window import SAME

FLOAT_OR_QUANT8 = {F32, Q8, Q8S}
KEEPS_DIMENSIONS = 5
"""The version of FULLY_CONNECTED that may."""
MAX_FACTOR = 256
"""What XNNPACK's requantization stays below."""


class Side(NamedTuple):
    """How a window is padded along one spatial axis."""

    size: int
    """0 where unknown."""
    filter: int
    """With its dilation."""
    stride: int
    before: int
    after: int

    @property
    def output(self) -> int:
        return (self.size + self.before + self.after - self.filter) // self.stride + 1

    @property
    def is_valid(self) -> bool:
        """Whether the windows that TFLite's VALID takes are the same: no padding that a window reaches."""
        if not self.size:
            return self.before == self.after == 0
        return self.before == 0 and self.output == (self.size - self.filter) // self.stride + 1

    @property
    def is_same(self) -> bool:
        """Whether the windows that TFLite's SAME takes are the same."""
        output = -(-self.size // self.stride)
        total = max((output - 1) * self.stride + self.filter - self.size, 0)
        return self.size > 0 and self.output == output and self.before == total // 2

    @property
    def pads(self) -> tuple[int, int]:
        """Before and after, as far as a window reaches."""
        if not self.size:
            return self.before, self.after
        reach = (self.output - 1) * self.stride + self.filter - self.size - self.before
        return self.before, max(reach, 0)

    def counts(self) -> Array:
        """How many pixels of the input each window of a pool covers: [output]."""
        start = np.arange(self.output) * self.stride - self.before
        return np.minimum(start + self.filter, self.size) - np.maximum(start, 0)


def _sides(node: Node, filter: Sequence[int]) -> tuple[Side, Side]:
    """Height and width of a window with explicit padding."""

    def side(name: str, ends: tuple[str, str], at: int) -> Side:
        dilation = node.scalar(f"dilation_{name}") if f"dilation_{name}" in node else 1
        before, after = (node.scalar(f"padding_{end}") for end in ends)
        extent = (filter[at - 1] - 1) * dilation + 1
        return Side(node["input"].dimensions[at], extent, node.scalar(f"stride_{name}"), before, after)

    return side("height", ("top", "bottom"), 1), side("width", ("left", "right"), 2)


def _padding(node: Node, filter: Sequence[int]) -> int | tuple[Side, Side]:
    """TFLite's padding scheme, or the sides where neither of its two fits."""
    if "padding" in node:
        return schema.Padding.SAME if node.scalar("padding") == SAME else schema.Padding.VALID
    sides = _sides(node, filter)
    if all(s.is_valid for s in sides):
        return schema.Padding.VALID
    if all(s.is_same for s in sides):
        return schema.Padding.SAME
    return sides


def _padded(node: Node, filter: Sequence[int], fill: float | None = None) -> tuple[int, int]:
    """The input's tensor and the padding scheme; what no scheme expresses becomes a PAD in front.

    `fill` is what is padded with, as stored; None: zero, or the zero point.
    """
    x, tensor = node["input"], node.tensor("input")
    padding = _padding(node, filter)
    if isinstance(padding, int):
        return tensor, padding
    n, h, w, c = x.dimensions
    (top, bottom), (left, right) = (s.pads for s in padding)
    result = node.temporary(x, (n, h and h + top + bottom, w and w + left + right, c))
    amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    paddings = node.constant(amounts, Operand(I32))
    if fill is None:
        node.emit("PAD", [tensor, paddings], [result], schema.PadOptionsT())
    else:
        value = node.constant(fill, x)
        node.emit("PADV2", [tensor, paddings, value], [result], schema.PadV2OptionsT())
    return result, schema.Padding.VALID


def _bias(node: Node) -> int:
    """The bias; beside weights with a scale per channel it has one per channel too, beside 16 bits it has 64."""
    filter, bias = node["filter"], node["bias"]
    if filter.channel_quant is None or not isinstance(bias.value, np.ndarray):
        return node.tensor("bias")
    scales = [float(s) for s in np.float32(node["input"].scale) * np.array(filter.channel_quant.scales, np.float32)]
    if node["input"].type == Q16SYMM:
        return node.lowering.graph.int64(bias.value, scales)
    return node.lowering.graph.tensor(bias, scales=scales)


def _window(node: Node) -> dict[str, int]:
    """Strides, dilations and the fused activation, as the schema names them."""
    attributes = {
        "strideW": node.scalar("stride_width"),
        "strideH": node.scalar("stride_height"),
        "fusedActivationFunction": node.scalar("activation"),
    }
    for side, key in (("width", "dilationWFactor"), ("height", "dilationHFactor")):
        if f"dilation_{side}" in node:
            attributes[key] = node.scalar(f"dilation_{side}")
    return attributes


def _conv(node: Node) -> None:
    x, padding = _padded(node, node.shape(node["filter"])[1:3])
    inputs = [x, node.tensor("filter"), _bias(node)]
    version = 6 if "num_groups" in node else None
    node.emit("CONV_2D", inputs, options=schema.Conv2DOptionsT(padding=padding, **_window(node)), version=version)


def _depthwise_conv(node: Node) -> None:
    x, padding = _padded(node, node.shape(node["filter"])[1:3])
    options = schema.DepthwiseConv2DOptionsT(
        padding=padding, depthMultiplier=node.scalar("depth_multiplier"), **_window(node)
    )
    dilated = options.dilationWFactor > 1 or options.dilationHFactor > 1
    version = 2 if dilated and node["input"].type not in (Q8S, Q16SYMM) else None
    node.emit("DEPTHWISE_CONV_2D", [x, node.tensor("filter"), _bias(node)], options=options, version=version)


def _transpose_conv(node: Node) -> None:
    """VALID gives the whole output; of other paddings than SAME the middle is cut out."""
    n, h, w, c = node.shape(node.output)
    filter, size = node.shape(node["filter"])[1:3], node.shape(node["input"])[1:3]
    strides = (node.scalar("stride_height"), node.scalar("stride_width"))
    padding = schema.Padding.VALID
    before = (0, 0)
    if "padding" in node:
        padding = schema.Padding.SAME if node.scalar("padding") == SAME else schema.Padding.VALID
    else:
        sides = [
            Side(out, f, s, p, max((i - 1) * s + f - out - p, 0))
            for out, f, s, i, p in zip(
                (h, w), filter, strides, size, (node.scalar("padding_top"), node.scalar("padding_left"))
            )
        ]
        if all(s.is_same for s in sides):
            padding = schema.Padding.SAME
        else:
            before = (sides[0].before, sides[1].before)
    whole = (h + before[0], w + before[1]) if padding == schema.Padding.VALID else (h, w)
    if padding == schema.Padding.VALID:
        # As large as the windows reach: what is beyond the output is cut off as well.
        whole = tuple(max(o, (i - 1) * s + f) for o, i, s, f in zip(whole, size, strides, filter))
        for o, i, s, f, name in zip(whole, size, strides, filter, ("height", "width")):
            if (o - f) // s + 1 != i:
                node.refuse(f"output {name} {o} is beyond the reach of {i} windows of {f} at stride {s}")
    result = node.result() if whole == (h, w) else node.temporary(node.output, (n, *whole, c))
    options = schema.TransposeConvOptionsT(
        padding=padding,
        strideW=strides[1],
        strideH=strides[0],
        fusedActivationFunction=node.scalar("activation"),
    )
    inputs = [node.ints((n, *whole, c)), node.tensor("filter"), node.tensor("input"), _bias(node)]
    version = 4 if options.fusedActivationFunction else 3
    node.emit("TRANSPOSE_CONV", inputs, [result], options, version)
    if whole != (h, w):
        begin, extent = node.ints((0, *before, 0)), node.ints((n, h, w, c))
        node.emit("SLICE", [result, begin, extent], options=schema.SliceOptionsT())


def _fully_connected(node: Node) -> None:
    keeps = node.operation.outputs[0] in node.lowering.flattening.kept
    options = schema.FullyConnectedOptionsT(fusedActivationFunction=node.scalar("activation"), keepNumDims=keeps)
    version = max(KEEPS_DIMENSIONS, operator_version("FULLY_CONNECTED", TENSOR_TYPES[node["input"].type]))
    inputs = [node.tensor("input"), node.tensor("filter"), _bias(node)]
    node.emit("FULLY_CONNECTED", inputs, options=options, version=version if keeps else None)


def _batch_matmul(node: Node) -> None:
    options = schema.BatchMatMulOptionsT(
        adjX=bool("adj_x" in node and node.scalar("adj_x")), adjY=bool("adj_y" in node and node.scalar("adj_y"))
    )
    node.emit("BATCH_MATMUL", [node.tensor("input0"), node.tensor("input1")], options=options)


def _pool_options(node: Node, padding: int) -> Any:
    filter = {"filterHeight": node.scalar("filter_height"), "filterWidth": node.scalar("filter_width")}
    return schema.Pool2DOptionsT(padding=padding, **filter, **_window(node))


def _max_pool(node: Node) -> None:
    """What is padded must not win; where nothing is below zero, zeros do not, and XNNPACK pads with zeros only."""
    dtype = node["input"].type.dtype
    lowest: float = np.finfo(dtype).min if dtype.kind == "f" else np.iinfo(dtype).min
    x, padding = _padded(node, _pool_filter(node), None if _is_rectified(node) else lowest)
    node.emit("MAX_POOL_2D", [x], options=_pool_options(node, padding))


def _is_rectified(node: Node) -> bool:
    """Whether the operation that writes the input ends with RELU or RELU6."""
    model = node.lowering.model
    n = model.producers.get(node.indexes("input")[0])
    if n is None or model.operations[n].is_extension:
        return False
    call = model.call(model.operations[n])
    if call.op.name in ("RELU", "RELU6"):
        return True
    return any(p.name == "activation" and call.scalar("activation") in (RELU, RELU6) for p, _ in call.slots)


def _average_pool(node: Node) -> None:
    """Padding does not count: where TFLite has no such scheme the average of the padded input is scaled up again."""
    padding = _padding(node, _pool_filter(node))
    if isinstance(padding, int):
        node.emit("AVERAGE_POOL_2D", [node.tensor("input")], options=_pool_options(node, padding))
        return
    if node["input"].type != F32 or not all(s.size for s in padding):
        node.refuse(f"padding {[s.pads for s in padding]} is neither SAME nor VALID")
    x, scheme = _padded(node, _pool_filter(node))
    options = _pool_options(node, scheme)
    fused, options.fusedActivationFunction = options.fusedActivationFunction, NONE
    average = node.temporary(node.output, node.output.dimensions)
    node.emit("AVERAGE_POOL_2D", [x], [average], options)
    rows, columns = (s.filter / s.counts() for s in padding)
    scale = node.constant((rows[:, None] * columns)[None, :, :, None], Operand(F32))
    node.emit("MUL", [average, scale], options=schema.MulOptionsT(fusedActivationFunction=fused))


def _l2_pool(node: Node) -> None:
    padding = _padding(node, _pool_filter(node))
    if not isinstance(padding, int):
        node.refuse(f"padding {[s.pads for s in padding]} is neither SAME nor VALID")
    node.emit("L2_POOL_2D", [node.tensor("input")], options=_pool_options(node, padding))


def _pool_filter(node: Node) -> tuple[int, int]:
    return node.scalar("filter_height"), node.scalar("filter_width")


def _uniform_signedness(node: Node) -> str | None:
    x, w = node["input"], node["filter"]
    if x.type == Q8 and w.type == Q8PC:
        return "weights with a scale per channel beside unsigned activations, its kernels take signed ones"
    return None


def _symmetric_weights(node: Node) -> str | None:
    x, w = node["input"], node["filter"]
    if x.type == Q8S and w.zero_point:
        return f"signed weights with zero point {w.zero_point}, its kernels take 0"
    return None


def _requantized(node: Node) -> str | None:
    """XNNPACK, which takes 8 bits, fails to build a graph with a larger factor."""
    x, w = node["input"], node["filter"]
    if x.type not in (Q8, Q8S):
        return None
    scales = w.channel_quant.scales if w.channel_quant else (w.scale,)
    factor = max(scales) * x.scale / node.output.scale
    return None if factor < MAX_FACTOR else f"input scale x weight scale / output scale {factor:g} >= {MAX_FACTOR}"


def _constant_bias(node: Node) -> str | None:
    """CONV_2D's kernel reads 64 bits for each of a bias of 32, without a word."""
    if node["input"].type == Q16SYMM and not node["bias"].is_constant:
        return "bias is not a constant, kernels of 16-bit activations take one of 64 bits"
    return None


CONVOLUTION = (_uniform_signedness, _symmetric_weights, _requantized, _constant_bias)
ROWS = {
    "CONV_2D": Row(_conv, FLOAT_OR_QUANT8, CONVOLUTION),
    "GROUPED_CONV_2D": Row(_conv, FLOAT_OR_QUANT8, CONVOLUTION),
    "DEPTHWISE_CONV_2D": Row(_depthwise_conv, FLOAT_OR_QUANT8, CONVOLUTION),
    "TRANSPOSE_CONV_2D": Row(_transpose_conv, FLOAT_OR_QUANT8, CONVOLUTION),
    "FULLY_CONNECTED": Row(_fully_connected, FLOAT_OR_QUANT8, (_requantized, _constant_bias)),
    "BATCH_MATMUL": Row(_batch_matmul, {F32, Q8S}),
    "AVERAGE_POOL_2D": Row(_average_pool, FLOAT_OR_QUANT8),
    "MAX_POOL_2D": Row(_max_pool, FLOAT_OR_QUANT8),
    "L2_POOL_2D": Row(_l2_pool, {F32}),
}
