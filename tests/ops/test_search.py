"""ARGMAX, ARGMIN and TOPK_V2: against NumPy and PyTorch, by hand, and at the edges."""

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.ir.builder import Builder
from nnapi.ir.verify import feature_level
from nnapi.ops import search
from nnapi.ops.types import B8, F16, F32, I32, Q8, Q8S, Operand

INF, NAN = np.inf, np.nan
TYPES = {F32: 3, F16: 3, I32: 3, Q8: 3, Q8S: 4}


def tensor(type, values):
    return Operand(type, (), 0.5 if type.is_quantized else 0.0).with_value(np.array(values, type.dtype))


def top(x, k):
    """Both outputs of TOPK_V2."""
    b = Builder()
    b.output(*b.add_many("TOPK_V2", {"input": b.operand(x), "k": k}))
    return execute(b.finish(), [])


# id: operation, input, axis, expected
GOLDEN = {
    "ARGMAX": ("ARGMAX", tensor(F32, [[1, 9, 2], [7, 0, 3]]), 1, [1, 0]),
    "ARGMAX first axis": ("ARGMAX", tensor(F32, [[1, 9, 2], [7, 0, 3]]), -2, [1, 0, 1]),
    "ARGMAX first of equals": ("ARGMAX", tensor(I32, [3, 5, 5, 1]), 0, [1]),
    "ARGMAX infinity": ("ARGMAX", tensor(F16, [-INF, INF, 0]), 0, [1]),
    "ARGMAX nan": ("ARGMAX", tensor(F32, [9, NAN, INF]), 0, [1]),
    "ARGMAX signed": ("ARGMAX", tensor(Q8S, [-128, 127, 0]), 0, [1]),
    "ARGMAX of an empty batch": ("ARGMAX", tensor(F32, np.zeros((0, 3))), 1, np.zeros(0)),
    "ARGMIN": ("ARGMIN", tensor(Q8, [[1, 9, 2], [7, 0, 0]]), 1, [0, 1]),
    "ARGMIN first of equals": ("ARGMIN", tensor(I32, [3, -5, -5]), 0, [1]),
}
# id: input, k, values, indices
TOPK = {
    "one row": (tensor(F32, [3, 1, 4, 1, 5]), 3, [5, 4, 3], [4, 2, 0]),
    "rows": (tensor(F32, [[1, 2], [4, 3]]), 1, [[2], [4]], [[1], [0]]),
    "larger index first of equals": (tensor(I32, [7, 1, 7, 7]), 3, [7, 7, 7], [3, 2, 0]),
    "all": (tensor(I32, [2**31 - 1, -(2**31)]), 2, [2**31 - 1, -(2**31)], [0, 1]),
    "quant8": (tensor(Q8, [0, 255, 128]), 2, [255, 128], [1, 2]),
    "signed": (tensor(Q8S, [-128, 127]), 2, [127, -128], [1, 0]),
    "nan is largest": (tensor(F32, [INF, NAN, -INF]), 2, [NAN, INF], [1, 0]),
    "empty batch": (tensor(F32, np.zeros((0, 3))), 2, np.zeros((0, 2)), np.zeros((0, 2))),
}
ROWS = tensor(F32, [[1, 2, 3], [4, 5, 6]])
# id: operation, valid inputs, change, message
ERRORS = {
    "ARGMAX": ("ARGMAX", {"input": ROWS, "axis": 1}, {"axis": 2}, "axis 2 is outside rank 2; use -2 to 1"),
    "ARGMAX of nothing": ("ARGMAX", {"input": ROWS, "axis": 1}, {"input": np.zeros((2, 0))}, "has no elements"),
    "ARGMAX type": ("ARGMAX", {"input": ROWS, "axis": 1}, {"input": tensor(B8, [1])}, "input is TENSOR_BOOL8"),
    "ARGMIN": ("ARGMIN", {"input": ROWS, "axis": 0}, {"axis": -3}, "axis -3 is outside rank 2"),
    "TOPK_V2 0": ("TOPK_V2", {"input": ROWS, "k": 1}, {"k": 0}, "k is 0, must be positive"),
    "TOPK_V2 negative": ("TOPK_V2", {"input": ROWS, "k": 1}, {"k": -2}, "k is -2, must be positive"),
    "TOPK_V2 large": ("TOPK_V2", {"input": ROWS, "k": 1}, {"k": 4}, "k is 4, the last dimension has 3"),
    "TOPK_V2 type": ("TOPK_V2", {"input": ROWS, "k": 1}, {"input": tensor(B8, [1])}, "input is TENSOR_BOOL8"),
}


@pytest.mark.parametrize("operation, x, axis, expected", GOLDEN.values(), ids=GOLDEN)
def test_golden(apply, operation, x, axis, expected):
    result = apply(operation, {"input": x, "axis": axis})
    np.testing.assert_array_equal(result, np.array(expected, np.int32), strict=True)


@pytest.mark.parametrize("x, k, values, indices", TOPK.values(), ids=TOPK)
def test_topk_golden(x, k, values, indices):
    result = top(x, k)
    np.testing.assert_array_equal(result[0], np.array(values, x.type.dtype), strict=True)
    np.testing.assert_array_equal(result[1], np.array(indices, np.int32), strict=True)


@pytest.mark.parametrize("axis", range(-4, 4))
@pytest.mark.parametrize("operation, function", [("ARGMAX", np.argmax), ("ARGMIN", np.argmin)])
def test_against_numpy(apply, operation, function, axis):
    x = np.random.default_rng(0).integers(0, 5, (2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(apply(operation, {"input": tensor(F32, x), "axis": axis}), function(x, axis))


@pytest.mark.parametrize("type", TYPES, ids=lambda t: t.name)
@pytest.mark.parametrize("k", [1, 4, 17])
def test_topk_is_sorted_and_points_at_its_values(apply, type, k):
    x = tensor(type, np.random.default_rng(0).integers(0, 100, (3, 2, 17)))
    values, indices = top(x, k)
    np.testing.assert_array_equal(values, -np.sort(-x.value.astype(float), axis=-1)[..., :k])
    np.testing.assert_array_equal(np.take_along_axis(x.value, indices, -1), values)
    np.testing.assert_array_equal(apply("TOPK_V2", {"input": x, "k": k}), values)


@pytest.mark.parametrize("operation, valid, change, message", ERRORS.values(), ids=ERRORS)
def test_refused(refuses, operation, valid, change, message):
    refuses(operation, valid, change, message)


@pytest.mark.parametrize("type, level", TYPES.items(), ids=lambda v: getattr(v, "name", str(v)))
@pytest.mark.parametrize("operation, scalar", [("ARGMAX", "axis"), ("ARGMIN", "axis"), ("TOPK_V2", "k")])
def test_level(single, operation, scalar, type, level):
    assert feature_level(single(operation, {"input": tensor(type, [[1, 2]]), scalar: 1})) == level


def test_every_operation_has_a_golden_and_an_error_case():
    names = {op.name for op in search.OPERATIONS}
    assert {case[0] for case in GOLDEN.values()} | {"TOPK_V2"} == names == {case[0] for case in ERRORS.values()}
