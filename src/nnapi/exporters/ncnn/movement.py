"""Operations that only move numbers: reshape, transpose, cut, join, pad."""

from __future__ import annotations

from collections.abc import Sequence

from nnapi.exporters.ncnn.lowering import FLOATS, Node, Row, blob_shape
from nnapi.exporters.ncnn.writer import Blob, Parameter

REST = -233
"""Slice: an equal share of what is left."""
OUTPUT_CHANNELS_LAST = 1
"""How NNAPI counts the channels of a block."""
PADS = {1: ((2, 3),), 2: ((0, 1), (2, 3)), 3: ((7, 8), (0, 1), (2, 3))}
"""By rank: Padding's parameters (before, after) of each dimension of a blob, outermost first."""


def _reshape(node: Node) -> None:
    node.write(node.blob("input"))


def _transpose(node: Node) -> None:
    dims = node.dims("input")
    order = node.array("perm").ravel().tolist() if "perm" in node else [*range(len(dims))][::-1]
    blob = node.blob("input")
    if len(blob.shape) < len(dims):  # there is a batch
        order = [i - 1 for i in order if i] if order[0] == 0 else _moved(node, dims, order)
        blob = blob if len(order) < len(dims) else node.reshape(blob, dims)
    node.write(node.lowering.permute(blob, order))


def _moved(node: Node, dims: Sequence[int], order: list[int]) -> list[int]:
    """An order that moves the batch: among at most four dimensions it is one of them."""
    if len(dims) > 4:
        node.refuse(f"moves the batch among {len(dims)} dimensions, ncnn's Permute has 4")
    return order


def _concatenation(node: Node) -> None:
    axis = node.scalar("axis")
    operands = [node.lowering.operands[i] for i in node.indexes("inputs")]
    blobs = [node.lowering.blob(i) for i in node.indexes("inputs")]
    axis %= len(operands[0].dimensions)
    dims = node.output.dimensions
    shape = blob_shape(dims)
    inner = len(dims) - len(shape)
    if axis < inner or any(len(b.shape) != len(shape) for b in blobs):  # along the batch
        blobs = [node.reshape(b, o.dimensions) for b, o in zip(blobs, operands)]
        shape, inner = dims, 0
    node.write(node.emit("Concat", blobs, shape, {0: axis - inner}))


def _split(node: Node) -> None:
    x, axis = node.along("input", node.scalar("axis"))
    count = node.scalar("num_splits")
    shape = (*x.shape[:axis], x.shape[axis] // count, *x.shape[axis + 1 :])
    parts = node.lowering.net.add("Slice", [x], [shape] * count, {0: [REST] * count, 1: axis})
    for n, part in enumerate(parts):
        node.write(part, n)


def _slice(node: Node) -> None:
    begin, size = (node.array(name).ravel().tolist() for name in ("begin", "size"))
    dims = node.dims("input")
    _cut(node, begin, [d if s < 0 else b + s for b, s, d in zip(begin, size, dims)])


def _strided_slice(node: Node) -> None:
    begins, ends, strides = (node.array(name).ravel().tolist() for name in ("begin", "end", "strides"))
    if any(stride != 1 for stride in strides):
        node.refuse(f"strides are {strides}, ncnn's Crop has only 1")
    open_begin, open_end, dropped = (node.scalar(name) for name in ("begin_mask", "end_mask", "shrink_axis_mask"))
    dims = node.dims("input")
    for i, d in enumerate(dims):
        begins[i] = 0 if open_begin >> i & 1 else min(max(begins[i] + d * (begins[i] < 0), 0), d)
        ends[i] = d if open_end >> i & 1 else min(max(ends[i] + d * (ends[i] < 0), 0), d)
        ends[i] = begins[i] + 1 if dropped >> i & 1 else ends[i]
    _cut(node, begins, ends)


def _cut(node: Node, begins: Sequence[int], ends: Sequence[int]) -> None:
    x, dims = node.blob("input"), node.dims("input")
    inner = len(dims) - len(x.shape)
    shape = tuple(e - b for b, e in zip(begins, ends))[inner:]
    if shape == x.shape:
        node.write(x)
        return
    axes = [i for i, (out, of) in enumerate(zip(shape, x.shape)) if out != of]
    parameters: dict[int, Parameter] = {
        9: [begins[inner + i] for i in axes],
        10: [ends[inner + i] for i in axes],
        11: axes,
    }
    node.write(node.emit("Crop", [x], shape, parameters))


def _pad(node: Node) -> None:
    _padded(node, 0.0)


def _pad_v2(node: Node) -> None:
    _padded(node, float(node.scalar("pad_value")))


def _padded(node: Node, value: float) -> None:
    pads = node.array("paddings").tolist()
    x, dims = node.blob("input"), node.dims("input")
    if len(x.shape) < len(dims) and any(pads[0]):
        x = node.reshape(x, dims)
    if len(x.shape) not in PADS:
        node.refuse(f"{len(x.shape)} dimensions, ncnn's Padding has {max(PADS)}")
    node.write(padding(node, x, pads[len(dims) - len(x.shape) :], value))


def padding(node: Node, x: Blob, pads: Sequence[Sequence[int]], value: float = 0.0) -> Blob:
    """A blob with (before, after) of each of its dimensions filled with a value."""
    shape = tuple(d + sum(pair) for d, pair in zip(x.shape, pads))
    if shape == x.shape:
        return x
    parameters: dict[int, Parameter] = {4: 0, 5: value, 7: 0, 8: 0}
    for names, pair in zip(PADS[len(shape)], pads):
        parameters |= dict(zip(names, pair))
    return node.emit("Padding", [x], shape, parameters)


def _depth_to_space(node: Node) -> None:
    x, size = node.image(), node.scalar("block_size")
    c, h, w = x.shape
    shape = (c // size**2, h * size, w * size)
    node.write(node.emit("PixelShuffle", [x], shape, {0: size, 1: OUTPUT_CHANNELS_LAST}), image=True)


def _space_to_depth(node: Node) -> None:
    x, size = node.image(), node.scalar("block_size")
    c, h, w = x.shape
    shape = (c * size**2, h // size, w // size)
    node.write(node.emit("Reorg", [x], shape, {0: size, 1: OUTPUT_CHANNELS_LAST}), image=True)


def _channel_shuffle(node: Node) -> None:
    """The channels of an image."""
    groups = node.scalar("num_groups")
    x, axis = node.along("input", node.scalar("axis"))
    if axis or len(x.shape) != 3:
        node.refuse("is not along the channels of [1, C, H, W], ncnn's ShuffleChannel is")
    node.write(node.emit("ShuffleChannel", [x], x.shape, {0: groups}))


ROWS = {
    "RESHAPE": Row(_reshape, FLOATS, constants=("shape",)),
    "SQUEEZE": Row(_reshape, FLOATS),
    "EXPAND_DIMS": Row(_reshape, FLOATS),
    "TRANSPOSE": Row(_transpose, FLOATS),
    "CONCATENATION": Row(_concatenation, FLOATS),
    "SPLIT": Row(_split, FLOATS),
    "SLICE": Row(_slice, FLOATS),
    "STRIDED_SLICE": Row(_strided_slice, FLOATS),
    "PAD": Row(_pad, FLOATS),
    "PAD_V2": Row(_pad_v2, FLOATS),
    "DEPTH_TO_SPACE": Row(_depth_to_space, FLOATS),
    "SPACE_TO_DEPTH": Row(_space_to_depth, FLOATS),
    "CHANNEL_SHUFFLE": Row(_channel_shuffle, FLOATS),
}
