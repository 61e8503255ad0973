"""Operations that only move elements, as they are stored: reshape, transpose, cut, join, pad, gather."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnapi.exporters.onnx.lowering import REAL, Node, Row
from nnapi.exporters.onnx.writer import Value
from nnapi.ops.types import B8, I32, Q8PC, Q8SYMM, Q16, Q16SYMM

LOWEST, LARGEST = -(2**31), 2**31 - 1
REFLECT = 0


def _reshape(node: Node) -> None:
    shape = node["shape"].value
    sizes = node.ints(shape.ravel().tolist()) if isinstance(shape, np.ndarray) else _as_int64(node, "shape")
    node.write_stored(node.emit("Reshape", [node.stored("input"), sizes]))


def _as_int64(node: Node, name: str) -> Value:
    return node.cast(node.stored(name), np.int64)


def _squeeze(node: Node) -> None:
    """NNAPI has no rank 0: where nothing is left there is one dimension."""
    rank = node.rank("input")
    if "axes" in node:
        axes = sorted({int(a) % rank for a in node.array("axes").ravel()})
    else:
        axes = [i for i, d in enumerate(node.dims("input")) if d == 1]
    x = node.stored("input")
    if len(axes) == rank:
        node.write_stored(node.reshape(x, (1,)))
    else:
        node.write_stored(node.emit("Squeeze", [x, node.ints(axes)]) if axes else node.emit("Identity", [x]))


def _expand_dims(node: Node) -> None:
    axis = node.scalar("axis") % (node.rank("input") + 1)
    node.write_stored(node.emit("Unsqueeze", [node.stored("input"), node.ints([axis])]))


def _transpose(node: Node) -> None:
    perm = node.array("perm").ravel().tolist() if "perm" in node else range(node.rank("input"))[::-1]
    node.write_stored(node.transpose(node.stored("input"), perm))


def _reverse(node: Node) -> None:
    axis = int(node.array("axis").ravel()[0])
    node.write_stored(_sliced(node, node.stored("input"), [-1], [LOWEST], [axis], [-1]))


def _sliced(
    node: Node, x: Value, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]
) -> Value:
    return node.emit("Slice", [x, *map(node.ints, (starts, ends, axes, steps))])


def _slice(node: Node) -> None:
    x, rank = node.stored("input"), node.rank("input")
    if node["begin"].is_constant and node["size"].is_constant:
        begin, size = (node.array(name).ravel().tolist() for name in ("begin", "size"))
        ends = [LARGEST if s < 0 else b + s for b, s in zip(begin, size)]
        node.write_stored(_sliced(node, x, begin, ends, range(rank), [1] * rank))
        return
    starts, sizes = _as_int64(node, "begin"), _as_int64(node, "size")
    rest = node.emit("Less", [sizes, node.ints(0)])
    # The largest number there is would do for ONNX; OpenVINO chooses in floats, where it overflows.
    ends_at = node.emit("Where", [rest, node.emit("Shape", [x]), node.emit("Add", [starts, sizes])])
    node.write_stored(node.emit("Slice", [x, starts, ends_at]))


def _strided_slice(node: Node) -> None:
    """An open begin or end is the first or last that the stride's direction has."""
    begins, ends, strides = (node.array(name).ravel().tolist() for name in ("begin", "end", "strides"))
    open_begin, open_end, dropped = (node.scalar(name) for name in ("begin_mask", "end_mask", "shrink_axis_mask"))
    rank = len(strides)
    for i, stride in enumerate(strides):
        first, last = (0, LARGEST) if stride > 0 else (LARGEST, LOWEST)
        begins[i] = first if open_begin >> i & 1 else begins[i]
        ends[i] = last if open_end >> i & 1 else ends[i]
    y = _sliced(node, node.stored("input"), begins, ends, range(rank), strides)
    axes = [i for i in range(rank) if dropped >> i & 1]
    if len(axes) == rank:
        y = node.reshape(y, (1,))
    elif axes:
        y = node.emit("Squeeze", [y, node.ints(axes)])
    node.write_stored(y)


def _tile(node: Node) -> None:
    node.write_stored(node.emit("Tile", [node.stored("input"), _as_int64(node, "multiples")]))


def _fill(node: Node) -> None:
    node.write_stored(node.emit("Expand", [node.stored("value"), _as_int64(node, "dims")]))


def _rank(node: Node) -> None:
    node.write_stored(node.constant(node.rank("input"), np.int32))


def _concatenation(node: Node) -> None:
    """As stored where all are stored alike."""
    operands = (*(node.lowering.operands[i] for i in node.indexes("inputs")), node.output)
    alike = len({(o.type, o.scale, o.zero_point) for o in operands}) == 1
    values = [node.lowering.form(i, real=not alike) for i in node.indexes("inputs")]
    y = node.emit("Concat", values, axis=node.scalar("axis"))
    if alike:
        node.write_stored(y)
    else:
        node.write(y)


def _split(node: Node) -> None:
    count = node.scalar("num_splits")
    axis = node.scalar("axis") % node.rank("input")
    for n, part in enumerate(node.emit_many("Split", [node.stored("input")], count, axis=axis, num_outputs=count)):
        node.write_stored(part, n)


def _pack(node: Node) -> None:
    axis = node.ints([node.scalar("axis")])
    parts = [node.emit("Unsqueeze", [node.lowering.form(i), axis]) for i in node.indexes("inputs")]
    node.write_stored(node.emit("Concat", parts, axis=node.scalar("axis")))


def _paddings(node: Node) -> Value:
    """[rank, 2] -> all that goes before, then all that goes behind."""
    if node["paddings"].is_constant:
        return node.ints(node.array("paddings").T.ravel().tolist())
    turned = node.transpose(_as_int64(node, "paddings"), (1, 0))
    return node.reshape(turned, (-1,))


def _pad(node: Node) -> None:
    x = node["input"]
    fill = node.constant(x.zero_point, x.type.dtype)
    node.write_stored(node.emit("Pad", [node.stored("input"), _paddings(node), fill], mode="constant"))


def _pad_v2(node: Node) -> None:
    """Beside quantized input the value is as that was stored in NNAPI."""
    x, value = node["input"], node["pad_value"].value
    shift = x.zero_point - node.call["input"].zero_point
    if isinstance(value, np.ndarray):
        fill = node.constant(value.reshape(()) + value.dtype.type(shift), x.type.dtype)
    else:
        fill = node.stored("pad_value")
        fill = node.emit("Add", [fill, node.constant(shift, np.int32)]) if shift else fill
        fill = node.cast(fill, x.type.dtype) if x.type.is_quantized else fill
    node.write_stored(node.emit("Pad", [node.stored("input"), _paddings(node), fill], mode="constant"))


def _mirror_pad(node: Node) -> None:
    """ONNX cannot repeat the edge: elements are picked then."""
    x = node.stored("input")
    if node.scalar("mode") == REFLECT:
        node.write_stored(node.emit("Pad", [x, _paddings(node)], mode="reflect"))
        return
    pairs = node.array("paddings").tolist()
    for axis, (size, pair) in enumerate(zip(node.dims("input"), pairs)):
        if any(pair):
            x = node.emit("Gather", [x, node.constant(np.pad(np.arange(size), pair, "symmetric"))], axis=axis)
    node.write_stored(x)


def _depth_to_space(node: Node) -> None:
    _in_blocks(node, "DepthToSpace")


def _space_to_depth(node: Node) -> None:
    _in_blocks(node, "SpaceToDepth")


def _in_blocks(node: Node, type: str) -> None:
    y = node.emit(type, [node.image(real=False)], blocksize=node.scalar("block_size"))
    node.write_stored(y, image=True)


def _known_image(node: Node) -> tuple[int, ...]:
    """[N, C, H, W], all known."""
    shape = node.dims("input")
    return shape if node.scalar("layout") else tuple(shape[i] for i in (0, 3, 1, 2))


def _batch_to_space(node: Node) -> None:
    rows, columns = node.array("block_shape").ravel().tolist()
    n, c, h, w = _known_image(node)
    batch = n // (rows * columns)
    x = node.reshape(node.image(real=False), (rows, columns, batch, c, h, w))
    y = node.reshape(node.transpose(x, (2, 3, 4, 0, 5, 1)), (batch, c, h * rows, w * columns))
    node.write_stored(y, image=True)


def _space_to_batch(node: Node) -> None:
    rows, columns = node.array("block_shape").ravel().tolist()
    (top, bottom), (left, right) = node.array("paddings").tolist()
    n, c, h, w = _known_image(node)
    x = node.image(real=False)
    if top or bottom or left or right:
        fill = node.constant(node["input"].zero_point, node["input"].type.dtype)
        x = node.emit("Pad", [x, node.ints((0, 0, top, left, 0, 0, bottom, right)), fill], mode="constant")
    h, w = (h + top + bottom) // rows, (w + left + right) // columns
    x = node.reshape(x, (n, c, h, rows, w, columns))
    y = node.reshape(node.transpose(x, (3, 5, 0, 1, 2, 4)), (rows * columns * n, c, h, w))
    node.write_stored(y, image=True)


def _channel_shuffle(node: Node) -> None:
    """The channels as a matrix of groups, transposed."""
    groups, axis = node.scalar("num_groups"), node.scalar("axis") % node.rank("input")
    shape = node.dims("input")
    x = node.reshape(node.stored("input"), (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]))
    order = list(range(len(shape) + 1))
    order[axis], order[axis + 1] = axis + 1, axis
    node.write_stored(node.reshape(node.transpose(x, order), shape))


def _gather(node: Node) -> None:
    axis = node.scalar("axis") % node.rank("input")
    node.write_stored(node.emit("Gather", [node.stored("input"), node.stored("indices")], axis=axis))


def _embedding_lookup(node: Node) -> None:
    node.write_stored(node.emit("Gather", [node.stored("values"), node.stored("indices")], axis=0))


def _hashtable_lookup(node: Node) -> None:
    """The first key that is the same; a miss is stored as zeros."""
    lookups = node.emit("Unsqueeze", [node.stored("lookups"), node.ints([1])])
    matches = node.cast(node.emit("Equal", [lookups, node.stored("keys")]), np.int32)
    hits = node.emit("ReduceMax", [matches, node.ints([1])], keepdims=0)
    found = node.emit("ArgMax", [matches], axis=1, keepdims=0)
    values = node.emit("Gather", [node.stored("values"), found], axis=0)
    hit = node.reshape(node.cast(hits, np.bool_), (-1, *(1,) * (node.rank("values") - 1)))
    node.write_stored(node.emit("Where", [hit, values, node.constant(0, node["values"].type.dtype)]), 0)
    node.write_stored(node.cast(hits, np.uint8), 1)


ANY = REAL | {I32}
ROWS: dict[str, Row] = {
    "RESHAPE": Row(_reshape, ANY),
    "SQUEEZE": Row(_squeeze, ANY),
    "EXPAND_DIMS": Row(_expand_dims, ANY),
    "TRANSPOSE": Row(_transpose, ANY),
    "REVERSE": Row(_reverse, ANY),
    "SLICE": Row(_slice, ANY),
    "STRIDED_SLICE": Row(_strided_slice, ANY),
    "TILE": Row(_tile, ANY),
    "FILL": Row(_fill, {I32}),
    "RANK": Row(_rank, ANY | {B8, Q8PC, Q8SYMM, Q16, Q16SYMM}),
    "CONCATENATION": Row(_concatenation, REAL),
    "SPLIT": Row(_split, ANY),
    "PACK": Row(_pack, ANY),
    "PAD": Row(_pad, REAL),
    "PAD_V2": Row(_pad_v2, REAL),
    "MIRROR_PAD": Row(_mirror_pad, ANY),
    "DEPTH_TO_SPACE": Row(_depth_to_space, REAL),
    "SPACE_TO_DEPTH": Row(_space_to_depth, REAL),
    "BATCH_TO_SPACE_ND": Row(_batch_to_space, REAL),
    "SPACE_TO_BATCH_ND": Row(_space_to_batch, REAL),
    "CHANNEL_SHUFFLE": Row(_channel_shuffle, REAL),
    "GATHER": Row(_gather, ANY),
    "EMBEDDING_LOOKUP": Row(_embedding_lookup, {I32}),
    "HASHTABLE_LOOKUP": Row(_hashtable_lookup, {I32}),
}
