"""Blocks of pixels moved between space, channels and batch; and CHANNEL_SHUFFLE."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from nnapi.ops.integers import PADDINGS, SINCE_1, SINCE_2, bounded, integers, padded, paddings
from nnapi.ops.op import Call, Need, Op, Param, Result, Signature, same
from nnapi.ops.shape import axis_of
from nnapi.ops.types import BEYOND, F16, F32, I32, INT32, Q8, Q8S, Q16SYMM, Array, Shape
from nnapi.ops.window import (
    OPTIONAL_LAYOUT,
    Size,
    at_least,
    channels_last,
    image_shape,
    image_sizes,
    in_layout,
    zero_batch_needs,
)  # fmt: skip

INPUT = Param("input", "T", rank=4)
BLOCK_SIZE = Param("block_size", INT32)
BLOCK_SHAPE = Param("block_shape", I32, rank=1)
RESULT = (Result("output", "T", quant="input"),)


def _divided(call: Call, size: Size, by: Size, what: str, name: str) -> Size:
    """size / by, None where unknown; ModelError unless it comes out even."""
    if size is None or by is None:
        return None
    call.require(size % by == 0, f"{what} {size} is not divisible by {name} {by}")
    return size // by


def _stored(call: Call, array: Array) -> Array:
    """array [N, H, W, C] in the call's layout; never a view of the input, which blocks of one pixel would be."""
    stored = in_layout(call, array)
    return stored.copy() if np.may_share_memory(stored, call["input"].value) else stored


def _times(size: Size, by: Size) -> Size:
    return None if size is None or by is None else size * by


def _depth_to_space_shape(call: Call) -> list[Shape]:
    n, h, w, c = image_sizes(call)
    block = at_least(call, "block_size", 1)
    depth = _divided(call, c, _times(block, block), "the number of channels", "block_size squared,")
    return [bounded(call, image_shape(call, n, _times(h, block), _times(w, block), depth))]


def _depth_to_space(call: Call) -> list[Array]:
    x, b = channels_last(call, call["input"].value), call.scalar("block_size")
    n, h, w, c = x.shape
    moved = x.reshape(n, h, w, b, b, c // (b * b)).transpose(0, 1, 3, 2, 4, 5)
    return [_stored(call, moved.reshape(n, h * b, w * b, c // (b * b)))]


DEPTH_TO_SPACE = Op(
    "DEPTH_TO_SPACE", 5, 1, (Signature((INPUT, BLOCK_SIZE, OPTIONAL_LAYOUT)),), RESULT, same(SINCE_1),
    infer=_depth_to_space_shape, reference=_depth_to_space, rules=zero_batch_needs,
    formula="output[n, h * b + i, w * b + j, c] = input[n, h, w, (i * b + j) * C + c], b the block_size, C the depth",
)  # fmt: skip


def _space_to_depth_shape(call: Call) -> list[Shape]:
    n, h, w, c = image_sizes(call)
    block = at_least(call, "block_size", 1)
    height, width = (_divided(call, s, block, what, "block_size") for what, s in (("height", h), ("width", w)))
    return [bounded(call, image_shape(call, n, height, width, _times(c, _times(block, block))))]


def _space_to_depth(call: Call) -> list[Array]:
    x, b = channels_last(call, call["input"].value), call.scalar("block_size")
    n, h, w, c = x.shape
    moved = x.reshape(n, h // b, b, w // b, b, c).transpose(0, 1, 3, 2, 4, 5)
    return [_stored(call, moved.reshape(n, h // b, w // b, b * b * c))]


SPACE_TO_DEPTH = Op(
    "SPACE_TO_DEPTH", 26, 1, (Signature((INPUT, BLOCK_SIZE, OPTIONAL_LAYOUT)),), RESULT, same(SINCE_1),
    infer=_space_to_depth_shape, reference=_space_to_depth, rules=zero_batch_needs,
    formula="output[n, h, w, (i * b + j) * C + c] = input[n, h * b + i, w * b + j, c], b the block_size, C the depth",
)  # fmt: skip


def _block_shape(call: Call) -> tuple[Size, Size]:
    block = integers(call, "block_shape", 2)
    if block is None:
        return None, None
    call.require(min(block) >= 1, f"block_shape holds {min(block)}, must be at least 1")
    return block[0], block[1]


def _batch_to_space_shape(call: Call) -> list[Shape]:
    n, h, w, c = image_sizes(call)
    rows, columns = _block_shape(call)
    batch = _divided(call, n, _times(rows, columns), "the batch", "the product of block_shape,")
    return [bounded(call, image_shape(call, batch, _times(h, rows), _times(w, columns), c))]


def _batch_to_space(call: Call) -> list[Array]:
    x = channels_last(call, call["input"].value)
    n, h, w, c = x.shape
    rows, columns = call.array("block_shape").tolist()
    batch = n // (rows * columns)
    moved = x.reshape(rows, columns, batch, h, w, c).transpose(2, 3, 0, 4, 1, 5)
    return [_stored(call, moved.reshape(batch, h * rows, w * columns, c))]


BATCH_TO_SPACE_ND = Op(
    "BATCH_TO_SPACE_ND", 29, 2, (Signature((INPUT, BLOCK_SHAPE, OPTIONAL_LAYOUT)),), RESULT, same(SINCE_2),
    infer=_batch_to_space_shape, reference=_batch_to_space, rules=zero_batch_needs,
    formula="output[n, h * B0 + i, w * B1 + j, c] = input[(i * B1 + j) * N + n, h, w, c], B the block_shape",
)  # fmt: skip


def _space_to_batch_shape(call: Call) -> list[Shape]:
    n, h, w, c = image_sizes(call)
    rows, columns = _block_shape(call)
    pairs = paddings(call, 2)
    height, width = (None, None) if pairs is None else padded((h, w), pairs)
    height = _divided(call, height, rows, "the padded height", "block_shape")
    width = _divided(call, width, columns, "the padded width", "block_shape")
    return [bounded(call, image_shape(call, _times(n, _times(rows, columns)), height, width, c))]


def _space_to_batch(call: Call) -> list[Array]:
    operand = call["input"]
    around = ((0, 0), *call.array("paddings").tolist(), (0, 0))
    x = np.pad(channels_last(call, operand.value), around, constant_values=operand.zero_point)
    n, h, w, c = x.shape
    rows, columns = call.array("block_shape").tolist()
    moved = x.reshape(n, h // rows, rows, w // columns, columns, c).transpose(2, 4, 0, 1, 3, 5)
    return [_stored(call, moved.reshape(rows * columns * n, h // rows, w // columns, c))]


def _space_to_batch_rules(call: Call) -> Iterator[Need]:
    yield from zero_batch_needs(call)
    if call["input"].type == Q8 and call["input"].zero_point != 0:
        # Before, what is padded is not defined: stored zeros or real ones.
        yield Need(3, "SPACE_TO_BATCH_ND of quantized values with a zero point")


SPACE_TO_BATCH_ND = Op(
    "SPACE_TO_BATCH_ND", 33, 2, (Signature((INPUT, BLOCK_SHAPE, PADDINGS, OPTIONAL_LAYOUT)),), RESULT, same(SINCE_2),
    infer=_space_to_batch_shape, reference=_space_to_batch, rules=_space_to_batch_rules,
    formula="output[(i * B1 + j) * N + n, h, w, c] = padded input[n, h * B0 + i, w * B1 + j, c], B the block_shape",
)  # fmt: skip


def _shuffled(call: Call) -> list[Shape]:
    shape, axis, groups = call.shape("input"), call.scalar("axis"), at_least(call, "num_groups", 1)
    if shape is not None and axis is not None:
        _divided(call, shape[axis_of(call, axis, len(shape))], groups, "the number of channels", "num_groups")
    return [shape]


def _channel_shuffle(call: Call) -> list[Array]:
    x, groups = call["input"].value, call.scalar("num_groups")
    axis = axis_of(call, call.scalar("axis"), x.ndim)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    grouped = x.reshape(math.prod(before), groups, x.shape[axis] // groups, math.prod(after))
    return [grouped.swapaxes(1, 2).reshape(x.shape).copy()]


CHANNEL_SHUFFLE = Op(
    "CHANNEL_SHUFFLE", 46, 3,
    (Signature((Param("input", "T", rank=(1, 4)), Param("num_groups", INT32), Param("axis", INT32))),), RESULT,
    same({F32: 3, F16: 3, Q8: 3, Q8S: 4, Q16SYMM: BEYOND}), infer=_shuffled, reference=_channel_shuffle,
    formula="along axis: output[k * num_groups + g] = input[g * group_size + k]",
)  # fmt: skip

OPERATIONS = (DEPTH_TO_SPACE, SPACE_TO_DEPTH, BATCH_TO_SPACE_ND, SPACE_TO_BATCH_ND, CHANNEL_SHUFFLE)
