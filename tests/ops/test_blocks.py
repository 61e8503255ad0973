"""Blocks of pixels between space, channels and batch: index by index as specified, there and back, and at the edges."""

import itertools

import numpy as np
import pytest

from arrays import HUGE, ints, tensor
from nnapi.ir.verify import feature_level
from nnapi.ops import blocks
from nnapi.ops.types import F16, F32, I32, Q8, Q8S

torch = pytest.importorskip("torch")


def pairs(*values):
    return np.array(values, np.int32).reshape(-1, 2)


NONE = pairs(0, 0, 0, 0)
DEEP, WIDE = tensor(F32, 1, 1, 1, 4), tensor(F32, 1, 2, 2, 1)
BATCHED = tensor(F32, 4, 1, 1, 1)
DEPTH = {"input": DEEP, "block_size": 2}
SPACE = {"input": WIDE, "block_size": 2}
BATCH = {"input": BATCHED, "block_shape": ints(2, 2)}
TO_BATCH = {"input": WIDE, "block_shape": ints(2, 2), "paddings": NONE}
SHUFFLE = {"input": tensor(F32, 6), "num_groups": 2, "axis": 0}
# operation, inputs, expected
GOLDEN = {
    "depth_to_space": ("DEPTH_TO_SPACE", DEPTH, [[[[0], [1]], [[2], [3]]]]),
    "depth_to_space, two channels": (
        "DEPTH_TO_SPACE", {"input": tensor(F32, 1, 1, 1, 8), "block_size": 2}, [[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]]
    ),
    "depth_to_space, channels first": (
        "DEPTH_TO_SPACE", {"input": tensor(F32, 1, 4, 1, 1), "block_size": 2, "layout": True}, [[[[0, 1], [2, 3]]]]
    ),
    "space_to_depth": ("SPACE_TO_DEPTH", SPACE, [[[[0, 1, 2, 3]]]]),
    "space_to_depth, empty batch": (
        "SPACE_TO_DEPTH", {"input": tensor(F32, 0, 2, 2, 1), "block_size": 2}, np.zeros((0, 1, 1, 4))
    ),
    "batch_to_space": ("BATCH_TO_SPACE_ND", BATCH, [[[[0], [1]], [[2], [3]]]]),
    "batch_to_space, columns": ("BATCH_TO_SPACE_ND", BATCH | {"block_shape": ints(1, 4)}, [[[[0], [1], [2], [3]]]]),
    "space_to_batch": ("SPACE_TO_BATCH_ND", TO_BATCH, [[[[0]]], [[[1]]], [[[2]]], [[[3]]]]),
    "space_to_batch, padded": (
        "SPACE_TO_BATCH_ND",
        {"input": tensor(Q8, 1, 1, 2, 1, zero_point=9), "block_shape": ints(1, 3), "paddings": pairs(0, 0, 1, 0)},
        [[[[9]]], [[[0]]], [[[1]]]],
    ),
    "channel_shuffle": ("CHANNEL_SHUFFLE", SHUFFLE, [0, 3, 1, 4, 2, 5]),
    "channel_shuffle of one group": ("CHANNEL_SHUFFLE", SHUFFLE | {"num_groups": 1}, [0, 1, 2, 3, 4, 5]),
    "channel_shuffle of nothing": (
        "CHANNEL_SHUFFLE", {"input": tensor(F32, 0, 4), "num_groups": 2, "axis": 0}, np.zeros((0, 4))
    ),
}  # fmt: skip
# operation, valid inputs, change, message
ERRORS = {
    "depth block": ("DEPTH_TO_SPACE", DEPTH, {"block_size": 0}, "block_size is 0, must be at least 1"),
    "depth channels": ("DEPTH_TO_SPACE", DEPTH, {"block_size": 3}, "4 is not divisible by block_size squared, 9"),
    "depth huge": ("DEPTH_TO_SPACE", DEPTH, {"block_size": HUGE}, "is not divisible by block_size squared"),
    "depth rank": ("DEPTH_TO_SPACE", DEPTH, {"input": tensor(F32, 1, 1, 4)}, "input has rank 3, must have 4"),
    "depth int": ("DEPTH_TO_SPACE", DEPTH, {"input": tensor(I32, 1, 1, 1, 4)}, "input is TENSOR_INT32, must be"),
    "space block": ("SPACE_TO_DEPTH", SPACE, {"block_size": -2}, "block_size is -2, must be at least 1"),
    "space height": ("SPACE_TO_DEPTH", SPACE, {"block_size": HUGE}, "height 2 is not divisible by block_size"),
    "batch block": ("BATCH_TO_SPACE_ND", BATCH, {"block_shape": ints(2, 0)}, "block_shape holds 0, must be at least 1"),
    "batch divides": ("BATCH_TO_SPACE_ND", BATCH, {"block_shape": ints(3, 1)}, "batch 4 is not divisible"),
    "batch count": ("BATCH_TO_SPACE_ND", BATCH, {"block_shape": ints(2)}, "block_shape has 1 values, must have 2"),
    "empty batch, huge": (
        "BATCH_TO_SPACE_ND", {"input": tensor(F32, 0, 2, 2, 1), "block_shape": ints(1, 1)},
        {"block_shape": ints(HUGE, HUGE)}, "bytes, limit 4294967295",
    ),
    "to batch divides": ("SPACE_TO_BATCH_ND", TO_BATCH, {"block_shape": ints(2, 3)}, "padded width 2 is not divisible"),
    "to batch block": ("SPACE_TO_BATCH_ND", TO_BATCH, {"block_shape": ints(-1, 1)}, "block_shape holds -1"),
    "to batch padding": ("SPACE_TO_BATCH_ND", TO_BATCH, {"paddings": pairs(0, 0, -1, 1)}, "paddings hold -1"),
    "to batch pads": ("SPACE_TO_BATCH_ND", TO_BATCH, {"paddings": pairs(0, 0)}, r"shape \(1, 2\), must have \(2, 2\)"),
    "to batch huge": (
        "SPACE_TO_BATCH_ND", TO_BATCH | {"block_shape": ints(1, 1)}, {"paddings": pairs(HUGE, 0, HUGE, 0)},
        r"has \d+ elements, limit 2147483647",
    ),
    "shuffle groups": ("CHANNEL_SHUFFLE", SHUFFLE, {"num_groups": 4}, "channels 6 is not divisible by num_groups 4"),
    "shuffle none": ("CHANNEL_SHUFFLE", SHUFFLE, {"num_groups": 0}, "num_groups is 0, must be at least 1"),
    "shuffle axis": ("CHANNEL_SHUFFLE", SHUFFLE, {"axis": 1}, "axis 1 is outside rank 1"),
}  # fmt: skip
TYPES = pytest.mark.parametrize("type", [F32, F16, Q8, Q8S], ids=lambda t: t.name)
LAYOUT = pytest.mark.parametrize("layout", [False, True], ids=["nhwc", "nchw"])


@pytest.mark.parametrize("operation, inputs, expected", GOLDEN.values(), ids=GOLDEN)
def test_golden(apply, operation, inputs, expected):
    result = apply(operation, inputs)
    np.testing.assert_array_equal(result, expected)
    assert result.shape == np.shape(expected)


@pytest.mark.parametrize("operation, inputs, change, message", ERRORS.values(), ids=ERRORS)
def test_errors(refuses, operation, inputs, change, message):
    refuses(operation, inputs, change, message)


def image(type, layout, *shape):
    """An image [N, H, W, C] as an operand in a layout, and as an array."""
    x = tensor(type, *shape).value
    stored = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if layout else x
    return tensor(type, *stored.shape).with_value(stored), x


def channels_last(array, layout):
    return array.transpose(0, 2, 3, 1) if layout else array


@LAYOUT
@TYPES
def test_depth_to_space_index_by_index(apply, type, layout):
    operand, x = image(type, layout, 2, 2, 3, 12)
    result = channels_last(apply("DEPTH_TO_SPACE", {"input": operand, "block_size": 2, "layout": layout}), layout)
    assert result.shape == (2, 4, 6, 3)
    for n, h, w, i, j, c in itertools.product(*map(range, (2, 2, 3, 2, 2, 3))):
        assert result[n, h * 2 + i, w * 2 + j, c] == x[n, h, w, (i * 2 + j) * 3 + c]


@LAYOUT
@TYPES
def test_space_to_batch_index_by_index(apply, type, layout):
    operand, x = image(type, layout, 2, 3, 2, 2)
    given = {"input": operand, "block_shape": ints(2, 3), "paddings": pairs(1, 0, 1, 3), "layout": layout}
    result = channels_last(apply("SPACE_TO_BATCH_ND", given), layout)
    assert result.shape == (12, 2, 2, 2)
    for n, h, w, i, j, c in itertools.product(*map(range, (2, 2, 2, 2, 3, 2))):
        row, column = h * 2 + i - 1, w * 3 + j - 1
        inside = 0 <= row < 3 and 0 <= column < 2
        assert result[(i * 3 + j) * 2 + n, h, w, c] == (x[n, row, column, c] if inside else 0)


@LAYOUT
@TYPES
def test_there_and_back(apply, type, layout):
    operand, _ = image(type, layout, 2, 4, 6, 3)
    for there, back, block in (
        ("SPACE_TO_DEPTH", "DEPTH_TO_SPACE", {"block_size": 2}),
        ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", {"block_shape": ints(2, 3)}),
    ):
        padding = {"paddings": NONE} if there == "SPACE_TO_BATCH_ND" else {}
        moved = apply(there, {"input": operand, **block, **padding, "layout": layout})
        result = apply(back, {"input": operand.with_value(moved), **block, "layout": layout})
        np.testing.assert_array_equal(result, operand.value)


@pytest.mark.parametrize("axis", [1, -3])
@TYPES
def test_channel_shuffle_against_pytorch(apply, type, axis):
    x = tensor(type, 2, 6, 3, 2)
    expected = torch.nn.functional.channel_shuffle(torch.from_numpy(x.value.astype(np.float32)), 3).numpy()
    np.testing.assert_array_equal(apply("CHANNEL_SHUFFLE", {"input": x, "num_groups": 3, "axis": axis}), expected)


@pytest.mark.parametrize(
    "operation, further",
    [("DEPTH_TO_SPACE", {"block_size": 1}), ("BATCH_TO_SPACE_ND", {"block_shape": ints(1, 1)}),
     ("CHANNEL_SHUFFLE", {"num_groups": 1, "axis": 0})],
)  # fmt: skip
def test_the_result_is_no_view_of_the_input(apply, operation, further):
    assert not np.shares_memory(apply(operation, {"input": WIDE, **further}), WIDE.value)


# operation, type, zero point, further inputs, level that takes it
LEVELS = [
    ("DEPTH_TO_SPACE", F32, 0, {"block_size": 1}, 1), ("DEPTH_TO_SPACE", F32, 0, {"block_size": 1, "layout": True}, 3),
    ("DEPTH_TO_SPACE", F32, 0, {"block_size": 1, "layout": False}, 1), ("DEPTH_TO_SPACE", F16, 0, {"block_size": 1}, 3),
    ("SPACE_TO_DEPTH", Q8, 5, {"block_size": 1}, 1), ("SPACE_TO_DEPTH", Q8S, 5, {"block_size": 1}, 4),
    ("BATCH_TO_SPACE_ND", Q8, 5, {"block_shape": ints(1, 1)}, 2),
    ("SPACE_TO_BATCH_ND", Q8, 0, {"block_shape": ints(1, 1), "paddings": NONE}, 2),
    ("SPACE_TO_BATCH_ND", Q8, 5, {"block_shape": ints(1, 1), "paddings": NONE}, 3),
    ("CHANNEL_SHUFFLE", F32, 0, {"num_groups": 1, "axis": 0}, 3),
]  # fmt: skip


@pytest.mark.parametrize("operation, type, zero_point, further, level", LEVELS)
def test_levels(single, operation, type, zero_point, further, level):
    x = tensor(type, 1, 2, 2, 4, zero_point=zero_point)
    assert feature_level(single(operation, {"input": x, **further})) == level


def test_every_operation_has_a_golden_and_an_error_case():
    names = {op.name for op in blocks.OPERATIONS}
    assert {case[0] for case in GOLDEN.values()} == names == {case[0] for case in ERRORS.values()}
