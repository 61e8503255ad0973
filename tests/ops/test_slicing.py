"""A part of a tensor: by hand, against NumPy's own slices and at the edges."""

import numpy as np
import pytest

from arrays import HUGE, LOWEST, ints, tensor
from nnapi.ir.verify import feature_level
from nnapi.ops import slicing
from nnapi.ops.types import B8, F16, F32, I32, Q8, Q8S

X = tensor(F32, 2, 3)


def strided(begin, end, strides, begin_mask=0, end_mask=0, shrink_axis_mask=0, input=X):
    return {
        "input": input, "begin": ints(*begin), "end": ints(*end), "strides": ints(*strides),
        "begin_mask": begin_mask, "end_mask": end_mask, "shrink_axis_mask": shrink_axis_mask,
    }  # fmt: skip


SLICE = {"input": X, "begin": ints(0, 1), "size": ints(2, 2)}
WHOLE = strided((0, 0), (2, 3), (1, 1))
# operation, inputs, expected
GOLDEN = {
    "slice": ("SLICE", SLICE, [[1, 2], [4, 5]]),
    "slice the rest": ("SLICE", {"input": X, "begin": ints(1, 1), "size": ints(-1, -1)}, [[4, 5]]),
    "slice nothing": ("SLICE", {"input": X, "begin": ints(2, 0), "size": ints(-1, 3)}, np.zeros((0, 3))),
    "slice of nothing": (
        "SLICE", {"input": tensor(F32, 0, 3), "begin": ints(0, 1), "size": ints(0, 2)}, np.zeros((0, 2))
    ),
    "whole": ("STRIDED_SLICE", WHOLE, [[0, 1, 2], [3, 4, 5]]),
    "every second": ("STRIDED_SLICE", strided((0, 0), (2, 3), (1, 2)), [[0, 2], [3, 5]]),
    "backwards": ("STRIDED_SLICE", strided((1, 2), (-3, -4), (-1, -1)), [[5, 4, 3], [2, 1, 0]]),
    "from the end": ("STRIDED_SLICE", strided((-1, -2), (2, 3), (1, 1)), [[4, 5]]),
    "beyond the end": ("STRIDED_SLICE", strided((0, 1), (HUGE, HUGE), (1, 1)), [[1, 2], [4, 5]]),
    "beyond the start": ("STRIDED_SLICE", strided((LOWEST, 1), (1, 3), (1, 1)), [[1, 2]]),
    "begin open": ("STRIDED_SLICE", strided((1, 1), (2, 3), (1, 1), begin_mask=1), [[1, 2], [4, 5]]),
    "end open": ("STRIDED_SLICE", strided((0, 1), (1, 1), (1, 1), end_mask=2), [[1, 2]]),
    "open backwards": ("STRIDED_SLICE", strided((0, 0), (0, 0), (-1, -1), 3, 3), [[5, 4, 3], [2, 1, 0]]),
    "shrink rows": ("STRIDED_SLICE", strided((1, 0), (2, 3), (1, 1), shrink_axis_mask=1), [3, 4, 5]),
    "shrink all": ("STRIDED_SLICE", strided((1, 1), (2, 2), (1, 1), shrink_axis_mask=3), [4]),
    "shrink the last": ("STRIDED_SLICE", strided((0, -1), (2, 3), (1, 1), shrink_axis_mask=2), [2, 5]),
    "mask bits of no dimension": ("STRIDED_SLICE", strided((0, 0), (1, 1), (1, 1), shrink_axis_mask=-4), [[0]]),
    "no elements": ("STRIDED_SLICE", strided((1, 0), (1, 3), (1, 1)), np.zeros((0, 3))),
    "no elements backwards": ("STRIDED_SLICE", strided((LOWEST, 0), (0, 3), (-1, 1)), np.zeros((0, 3))),
}  # fmt: skip
# operation, valid inputs, change, message
ERRORS = {
    "slice begin": ("SLICE", SLICE, {"begin": ints(0, 2)}, "begin 2 and size 2 in dimension 1 exceed the input's 3"),
    "slice negative begin": ("SLICE", SLICE, {"begin": ints(0, -1)}, "begin holds -1, must be at least 0"),
    "slice negative size": ("SLICE", SLICE, {"size": ints(0, -2)}, "size holds -2, must be at least -1"),
    "slice from behind the end": (
        "SLICE", SLICE, {"begin": ints(HUGE, 0), "size": ints(-1, 1)}, "begin 2147483647 and size -1 in dimension 0"
    ),
    "slice overflow": ("SLICE", SLICE, {"begin": ints(HUGE, 0), "size": ints(HUGE, 1)}, "exceed the input's 2"),
    "slice count": ("SLICE", SLICE, {"size": ints(1)}, "size has 1 values, must have 2"),
    "slice bool": ("SLICE", SLICE, {"input": tensor(B8, 2, 3)}, "input is TENSOR_BOOL8, must be"),
    "stride 0": ("STRIDED_SLICE", WHOLE, {"strides": ints(1, 0)}, "strides hold 0, must not"),
    "count": ("STRIDED_SLICE", WHOLE, {"end": ints(1, 1, 1)}, "end has 3 values, must have 2"),
    "shrink two": ("STRIDED_SLICE", WHOLE, {"shrink_axis_mask": 1}, "begin 0 and end 2 take 2 elements"),
    "shrink none": (
        "STRIDED_SLICE", WHOLE, {"begin": ints(2, 0), "shrink_axis_mask": 1}, "begin 2 and end 2 take 0 elements"
    ),
    "shrink backwards": (
        "STRIDED_SLICE", WHOLE, {"begin": ints(1, 0), "end": ints(0, 3), "strides": ints(-1, 1), "shrink_axis_mask": 1},
        "dimension 0 shrinks with stride -1, must be positive",
    ),
    "shrink open": (
        "STRIDED_SLICE", strided((1, 0), (2, 3), (1, 1), shrink_axis_mask=1), {"begin_mask": 1}, "take 2 elements"
    ),
}  # fmt: skip


@pytest.mark.parametrize("operation, inputs, expected", GOLDEN.values(), ids=GOLDEN)
def test_golden(apply, operation, inputs, expected):
    result = apply(operation, inputs)
    np.testing.assert_array_equal(result, expected)
    assert result.shape == np.shape(expected)


@pytest.mark.parametrize("operation, inputs, change, message", ERRORS.values(), ids=ERRORS)
def test_errors(refuses, operation, inputs, change, message):
    refuses(operation, inputs, change, message)


@pytest.mark.parametrize("type", [F32, F16, Q8, Q8S], ids=lambda t: t.name)
@pytest.mark.parametrize("seed", range(15))
def test_strided_slice_against_numpy(apply, type, seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(d) for d in rng.integers(1, 6, rng.integers(1, 5)))
    begin, end = (rng.integers(-8, 9, len(shape)) for _ in range(2))
    strides = rng.choice([-3, -2, -1, 1, 2, 3], len(shape))
    begin_mask, end_mask = (int(m) for m in rng.integers(0, 16, 2))
    x = tensor(type, *shape)
    taken = tuple(
        slice(None if begin_mask >> i & 1 else b, None if end_mask >> i & 1 else e, s)
        for i, (b, e, s) in enumerate(zip(begin.tolist(), end.tolist(), strides.tolist()))
    )
    result = apply("STRIDED_SLICE", strided(begin, end, strides, begin_mask, end_mask, input=x))
    np.testing.assert_array_equal(result, x.value[taken])


@pytest.mark.parametrize("type", [F32, F16, Q8, Q8S, I32], ids=lambda t: t.name)
@pytest.mark.parametrize("seed", range(5))
def test_slice_against_numpy(apply, type, seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 6, rng.integers(1, 6))
    begin = rng.integers(0, shape)
    size = rng.integers(-1, shape - begin + 1)
    x = tensor(type, *shape.tolist())
    taken = tuple(slice(b, None if s == -1 else b + s) for b, s in zip(begin.tolist(), size.tolist()))
    result = apply("SLICE", {"input": x, "begin": ints(*begin), "size": ints(*size)})
    np.testing.assert_array_equal(result, x.value[taken])


@pytest.mark.parametrize(
    "operation, type, level",
    [("SLICE", F32, 3), ("SLICE", I32, 3), ("SLICE", Q8S, 4), ("STRIDED_SLICE", F32, 2), ("STRIDED_SLICE", Q8, 2),
     ("STRIDED_SLICE", F16, 3), ("STRIDED_SLICE", Q8S, 4)],
)  # fmt: skip
def test_levels(single, operation, type, level):
    inputs = dict(SLICE if operation == "SLICE" else WHOLE) | {"input": tensor(type, 2, 3)}
    assert feature_level(single(operation, inputs)) == level


def test_the_result_is_no_view_of_the_input(apply):
    assert not np.shares_memory(apply("STRIDED_SLICE", WHOLE), X.value)
    assert not np.shares_memory(apply("SLICE", SLICE), X.value)


def test_every_operation_has_a_golden_and_an_error_case():
    names = {op.name for op in slicing.OPERATIONS}
    assert {case[0] for case in GOLDEN.values()} == names == {case[0] for case in ERRORS.values()}
