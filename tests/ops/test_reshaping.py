"""The same elements in another arrangement: by hand, against PyTorch and at the edges."""

import numpy as np
import pytest

from arrays import HUGE, LOWEST, ints, tensor
from nnapi.ir.verify import feature_level
from nnapi.ops import reshaping
from nnapi.ops.types import B8, F16, F32, FLOAT16, FLOAT32, I32, INT32, Q8, Q8PC, Q8S, ChannelQuant, Operand

torch = pytest.importorskip("torch")

X, UNIT, EMPTY = tensor(F32, 2, 1, 3), tensor(F32, 1, 2, 1), tensor(F32, 0, 4)
SCALAR = Operand(INT32).with_value(np.array(3, np.int32))
RESHAPE = {"input": X, "shape": ints(3, 2)}
TRANSPOSE = {"input": X, "perm": ints(2, 0, 1)}
SQUEEZE = {"input": X, "axes": ints(1)}
FILL = {"dims": ints(2, 3), "value": 7.0}
TILE = {"input": X, "multiples": ints(1, 1, 1)}
REVERSE = {"input": X, "axis": ints(2)}
# operation, inputs, expected
GOLDEN = {
    "reshape": ("RESHAPE", RESHAPE, [[0, 1], [2, 3], [4, 5]]),
    "reshape with -1": ("RESHAPE", {"input": X, "shape": ints(3, -1)}, [[0, 1], [2, 3], [4, 5]]),
    "reshape flattens": ("RESHAPE", {"input": X, "shape": ints(-1)}, [0, 1, 2, 3, 4, 5]),
    "reshape nothing": ("RESHAPE", {"input": EMPTY, "shape": ints(2, 0, 3)}, np.zeros((2, 0, 3))),
    "reshape nothing with -1": ("RESHAPE", {"input": EMPTY, "shape": ints(-1, 4)}, np.zeros((0, 4))),
    "transpose": ("TRANSPOSE", TRANSPOSE, [[[0], [3]], [[1], [4]], [[2], [5]]]),
    "transpose without perm": ("TRANSPOSE", {"input": X, "perm": None}, [[[0, 3]], [[1, 4]], [[2, 5]]]),
    "transpose nothing": ("TRANSPOSE", {"input": EMPTY, "perm": ints(1, 0)}, np.zeros((4, 0))),
    "squeeze all": ("SQUEEZE", {"input": X, "axes": None}, [[0, 1, 2], [3, 4, 5]]),
    "squeeze one of two": ("SQUEEZE", {"input": UNIT, "axes": ints(2)}, [[0, 1]]),
    "squeeze from the end": ("SQUEEZE", {"input": UNIT, "axes": ints(-1)}, [[0, 1]]),
    "squeeze leaves one": ("SQUEEZE", {"input": tensor(F32, 1, 1), "axes": None}, [0]),
    "squeeze nothing": ("SQUEEZE", {"input": tensor(F32, 0, 1), "axes": None}, np.zeros(0)),
    "expand_dims": ("EXPAND_DIMS", {"input": tensor(F32, 2), "axis": 1}, [[0], [1]]),
    "expand_dims from the end": ("EXPAND_DIMS", {"input": tensor(F32, 2), "axis": -2}, [[0, 1]]),
    "rank": ("RANK", {"input": X}, 3),
    "rank of nothing": ("RANK", {"input": EMPTY}, 2),
    "fill": ("FILL", FILL, [[7, 7, 7], [7, 7, 7]]),
    "fill nothing": ("FILL", {"dims": ints(2, 0), "value": 7.0}, np.zeros((2, 0))),
    "tile": ("TILE", {"input": tensor(F32, 1, 2), "multiples": ints(2, 2)}, [[0, 1, 0, 1], [0, 1, 0, 1]]),
    "tile to nothing": ("TILE", {"input": tensor(F32, 1, 2), "multiples": ints(2, 0)}, np.zeros((2, 0))),
    "reverse": ("REVERSE", REVERSE, [[[2, 1, 0]], [[5, 4, 3]]]),
    "reverse one": ("REVERSE", {"input": X, "axis": ints(0)}, [[[3, 4, 5]], [[0, 1, 2]]]),
}
# operation, valid inputs, change, message
ERRORS = {
    "reshape size": ("RESHAPE", RESHAPE, {"shape": ints(4, 2)}, r"shape \(4, 2\) does not hold the input's 6 elements"),
    "reshape -1": ("RESHAPE", RESHAPE, {"shape": ints(4, -1)}, r"shape \(4, -1\) does not hold the input's 6 elements"),
    "reshape twice -1": ("RESHAPE", RESHAPE, {"shape": ints(-1, -1)}, "has 2 times -1, must have at most one"),
    "reshape negative": ("RESHAPE", RESHAPE, {"shape": ints(-2, -3)}, "shape holds -3, must be a size or -1"),
    "reshape rank": ("RESHAPE", RESHAPE, {"shape": ints(1, 1, 1, 2, 3)}, "shape has 5 dimensions, must have 1 to 4"),
    "reshape to a scalar": ("RESHAPE", RESHAPE, {"shape": ints()}, "shape has 0 dimensions, must have 1 to 4"),
    "reshape huge": ("RESHAPE", RESHAPE, {"shape": ints(HUGE, HUGE, HUGE, HUGE)}, "does not hold the input's 6"),
    "reshape nothing to -1": (
        "RESHAPE", {"input": EMPTY, "shape": ints(0)}, {"shape": ints(0, -1)}, "does not hold the input's 0"
    ),
    "reshape nothing to huge": (
        "RESHAPE", {"input": EMPTY, "shape": ints(0)}, {"shape": ints(0, HUGE, HUGE, HUGE)}, "bytes, limit 4294967295"
    ),
    "reshape bool": ("RESHAPE", RESHAPE, {"input": tensor(B8, 2, 3)}, "input is TENSOR_BOOL8, must be"),
    "transpose twice": ("TRANSPOSE", TRANSPOSE, {"perm": ints(0, 0, 1)}, "is no permutation of 0 to 2"),
    "transpose huge": ("TRANSPOSE", TRANSPOSE, {"perm": ints(0, 1, HUGE)}, "is no permutation of 0 to 2"),
    "transpose count": ("TRANSPOSE", TRANSPOSE, {"perm": ints(1, 0)}, "perm has 2 values, must have 3"),
    "squeeze size": ("SQUEEZE", SQUEEZE, {"axes": ints(0)}, "axes hold 0, where the size is 2, must be 1"),
    "squeeze outside": ("SQUEEZE", SQUEEZE, {"axes": ints(LOWEST)}, "axes -2147483648 is outside rank 3"),
    "expand_dims": ("EXPAND_DIMS", {"input": X, "axis": 3}, {"axis": 4}, "axis 4 is outside rank 4"),
    "rank of a scalar": ("RANK", {"input": X}, {"input": SCALAR}, "input is INT32, must be"),
    "fill negative": ("FILL", FILL, {"dims": ints(2, -3)}, "dims holds -3, must not be negative"),
    "fill huge": ("FILL", FILL, {"dims": ints(HUGE, HUGE)}, r"has \d+ elements, limit 2147483647"),
    "fill bytes": ("FILL", FILL, {"dims": ints(2**15, 2**15 + 1)}, "4295098368 bytes, limit 4294967295"),
    "fill nothing, huge": ("FILL", FILL, {"dims": ints(0, HUGE, HUGE)}, "bytes, limit 4294967295"),
    "fill rank": ("FILL", FILL, {"dims": ints(*[1] * 9)}, "dims has 9 dimensions, must have 1 to 8"),
    "tile negative": ("TILE", TILE, {"multiples": ints(1, -1, 1)}, "multiples hold -1, must not be negative"),
    "tile huge": ("TILE", TILE, {"multiples": ints(HUGE, HUGE, HUGE)}, r"has \d+ elements, limit 2147483647"),
    "tile count": ("TILE", TILE, {"multiples": ints(1, 1)}, "multiples has 2 values, must have 3"),
    "reverse outside": ("REVERSE", REVERSE, {"axis": ints(3)}, "axis 3 is outside 0 to 2"),
    "reverse negative": ("REVERSE", REVERSE, {"axis": ints(-1)}, "axis -1 is outside 0 to 2"),
    "reverse two": ("REVERSE", REVERSE, {"axis": ints(0, 1)}, "axis has 2 values, must have 1"),
}  # fmt: skip
Y = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)
# operation, further inputs, PyTorch's function
REFERENCES = {
    "reshape": ("RESHAPE", {"shape": ints(6, -1, 2)}, lambda y: y.reshape(6, -1, 2)),
    "transpose": ("TRANSPOSE", {"perm": ints(3, 1, 0, 2)}, lambda y: y.permute(3, 1, 0, 2)),
    "expand_dims": ("EXPAND_DIMS", {"axis": -3}, lambda y: y.unsqueeze(-3)),
    "tile": ("TILE", {"multiples": ints(2, 1, 3, 2)}, lambda y: y.tile(2, 1, 3, 2)),
    "reverse": ("REVERSE", {"axis": ints(1)}, lambda y: y.flip(1)),
}
# operation, type, further inputs, level that takes it
LEVELS = [
    ("RESHAPE", F32, {"shape": ints(6)}, 1), ("RESHAPE", Q8, {"shape": ints(6)}, 1),
    ("RESHAPE", F16, {"shape": ints(6)}, 3), ("RESHAPE", Q8S, {"shape": ints(6)}, 4),
    ("RESHAPE", I32, {"shape": ints(6)}, 6), ("TRANSPOSE", F32, {"perm": None}, 2),
    ("SQUEEZE", Q8, {"axes": None}, 2), ("EXPAND_DIMS", I32, {"axis": 0}, 3), ("EXPAND_DIMS", Q8S, {"axis": 0}, 4),
    ("RANK", B8, {}, 4), ("TILE", F32, {"multiples": ints(1, 1, 1)}, 3), ("TILE", Q8S, {"multiples": ints(1, 1, 1)}, 4),
    ("REVERSE", F32, {"axis": ints(0)}, 7), ("REVERSE", I32, {"axis": ints(0)}, 7),
]  # fmt: skip


@pytest.mark.parametrize("operation, inputs, expected", GOLDEN.values(), ids=GOLDEN)
def test_golden(apply, operation, inputs, expected):
    result = apply(operation, inputs)
    assert result.dtype == (np.int32 if operation == "RANK" else np.float32)
    np.testing.assert_array_equal(result, expected)
    assert result.shape == np.shape(expected)


@pytest.mark.parametrize("operation, inputs, change, message", ERRORS.values(), ids=ERRORS)
def test_errors(refuses, operation, inputs, change, message):
    refuses(operation, inputs, change, message)


@pytest.mark.parametrize("operation, further, function", REFERENCES.values(), ids=REFERENCES)
@pytest.mark.parametrize("type", [F32, F16, Q8, Q8S], ids=lambda t: t.name)
def test_against_pytorch(apply, type, operation, further, function):
    expected = function(torch.from_numpy(Y.astype(type.dtype))).numpy()
    np.testing.assert_array_equal(apply(operation, {"input": tensor(type, *Y.shape), **further}), expected)


@pytest.mark.parametrize("operation, type, further, level", LEVELS)
def test_levels(single, operation, type, further, level):
    assert feature_level(single(operation, {"input": tensor(type, 2, 1, 3), **further})) == level


def test_an_empty_tensor_needs_level_3(single):
    assert feature_level(single("TRANSPOSE", {"input": EMPTY, "perm": None})) == 3


@pytest.mark.parametrize("type, scalar, value", [(F32, FLOAT32, 0.5), (F16, FLOAT16, 0.5), (I32, INT32, -3)])
def test_fill_takes_its_type_from_the_value(apply, type, scalar, value):
    operand = Operand(scalar).with_value(np.array(value, type.dtype))
    result = apply("FILL", {"dims": ints(2), "value": operand}, Operand(type))
    assert result.dtype == type.dtype
    assert result.tolist() == [value, value]


def test_rank_takes_per_channel_weights(apply):
    weights = Operand(Q8PC, (2, 3), channel_quant=ChannelQuant((0.5, 0.25), 0)).with_value(np.zeros((2, 3), np.int8))
    assert apply("RANK", {"input": weights}) == 2


def test_the_result_is_no_view_of_the_input(apply):
    for operation, further in (
        ("RESHAPE", {"shape": ints(6)}),
        ("SQUEEZE", {"axes": None}),
        ("TRANSPOSE", {"perm": ints(0, 1, 2)}),
    ):
        assert not np.shares_memory(apply(operation, {"input": X, **further}), X.value)


def test_every_operation_has_a_golden_and_an_error_case():
    names = {op.name for op in reshaping.OPERATIONS}
    assert {case[0] for case in GOLDEN.values()} == names == {case[0] for case in ERRORS.values()}
