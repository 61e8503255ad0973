"""Reductions: against NumPy over every set of axes, by hand, and at the edges."""

from itertools import chain, combinations

import numpy as np
import pytest

from nnapi.ir.verify import feature_level
from nnapi.ops import reduction
from nnapi.ops.types import B8, F16, F32, I32, Q8, Q8S, Operand

INF, NAN = np.inf, np.nan
REFERENCES = {
    "MEAN": np.mean, "REDUCE_SUM": np.sum, "REDUCE_PROD": np.prod, "REDUCE_MAX": np.max, "REDUCE_MIN": np.min,
    "REDUCE_ALL": np.all, "REDUCE_ANY": np.any,
}  # fmt: skip
LOGICAL = ("REDUCE_ALL", "REDUCE_ANY")
AXES = list(chain.from_iterable(combinations(range(4), n) for n in range(5)))


def tensor(type, values, scale=0.0, zero_point=0):
    return Operand(type, (), scale, zero_point).with_value(np.array(values, type.dtype))


def over(x, *axes, keep=False, mean=False):
    return {"input": x, "axes": np.array(axes, np.int32), "keep_dims": int(keep) if mean else keep}


# id: operation, inputs, expected
GOLDEN = {
    "MEAN": ("MEAN", over(tensor(F32, [[1, 2], [3, 4]]), 0, mean=True), [2, 3]),
    "MEAN keep": ("MEAN", over(tensor(F32, [[1, 2], [3, 4]]), -1, keep=True, mean=True), [[1.5], [3.5]]),
    "MEAN of all": ("MEAN", over(tensor(F32, [[1, 2], [3, 4]]), 0, 1, mean=True), [2.5]),
    "MEAN of none": ("MEAN", over(tensor(F32, [1, 2]), mean=True), [1, 2]),
    "MEAN axis twice": ("MEAN", over(tensor(F32, [[1, 2]]), 1, -1, mean=True), [1.5]),
    "MEAN quant8": ("MEAN", over(tensor(Q8, [[1, 2], [2, 3], [255, 255]], 0.5, 7), 1, mean=True), [2, 2, 255]),
    "MEAN signed": ("MEAN", over(tensor(Q8S, [[-128, -127], [3, 5]], 0.5, 0), 1, mean=True), [-128, 4]),
    "REDUCE_SUM edges": ("REDUCE_SUM", over(tensor(F32, [[INF, -INF], [NAN, 1], [1, 2]]), 1), [NAN, NAN, 3]),
    "REDUCE_SUM small beside large": ("REDUCE_SUM", over(tensor(F32, [1e8, 1, -1e8]), 0), [1]),
    "REDUCE_SUM float16": ("REDUCE_SUM", over(tensor(F16, [60000, 60000]), 0), [INF]),
    "REDUCE_SUM of nothing": ("REDUCE_SUM", over(tensor(F32, np.zeros((2, 0))), 1), [0, 0]),
    "REDUCE_PROD zero and infinity": ("REDUCE_PROD", over(tensor(F32, [[0, INF], [2, 3]]), 1), [0, 6]),
    "REDUCE_PROD of nothing": ("REDUCE_PROD", over(tensor(F32, np.zeros((1, 0))), 1), [1]),
    "REDUCE_MAX nan": ("REDUCE_MAX", over(tensor(F32, [[1, NAN], [-INF, -2]]), 1), [NAN, -2]),
    "REDUCE_MAX quant8": ("REDUCE_MAX", over(tensor(Q8, [[1, 200], [3, 4]], 0.5, 7), 1, keep=True), [[200], [4]]),
    "REDUCE_MIN signed": ("REDUCE_MIN", over(tensor(Q8S, [[1, -100], [3, 4]], 0.5, 7), 0, 1), [-100]),
    "REDUCE_MIN of all, kept": ("REDUCE_MIN", over(tensor(F32, [[3, 2]]), 0, 1, keep=True), [[2]]),
    "REDUCE_ALL": ("REDUCE_ALL", over(tensor(B8, [[True, False], [True, True]]), 1), [False, True]),
    "REDUCE_ANY": ("REDUCE_ANY", over(tensor(B8, [[False, False], [True, False]]), 1), [False, True]),
    "REDUCE_ANY of nothing": ("REDUCE_ANY", over(tensor(B8, np.zeros((2, 0))), 1), [False, False]),
}
ROW = tensor(F32, [[1, 2]])
# id: operation, valid inputs, change, message
ERRORS = {
    **{
        name: (name, over(tensor(B8 if name in LOGICAL else F32, [[1, 0]]), 0, mean=name == "MEAN"), {"axes": [2]},
               "axes 2 is outside rank 2")
        for name in REFERENCES
    },
    "MEAN negative axis": ("MEAN", over(ROW, 0, mean=True), {"axes": [0, -3]}, "axes -3 is outside rank 2"),
    "MEAN of nothing": ("MEAN", over(ROW, 1, mean=True), {"input": np.zeros((2, 0))}, r"axes \[1\] of input \(2, 0\)"),
    "REDUCE_MAX of nothing": ("REDUCE_MAX", over(ROW, 0), {"input": np.zeros((0, 2))}, r"axes \[0\] of input \(0, 2\)"),
    "REDUCE_SUM axes rank": ("REDUCE_SUM", over(ROW, 0), {"axes": [[0]]}, "axes has rank 2, must have 1"),
    "REDUCE_SUM rank": ("REDUCE_SUM", over(ROW, 0), {"input": np.zeros((1,) * 5)}, "rank 5, must have 1 to 4"),
    "REDUCE_ALL type": ("REDUCE_ALL", over(tensor(B8, [1]), 0), {"input": tensor(I32, [1])}, "must be TENSOR_BOOL8"),
    "REDUCE_SUM type": ("REDUCE_SUM", over(ROW, 0), {"input": tensor(Q8, [[1]], 1.0)}, "input is TENSOR_QUANT8_ASYMM"),
}  # fmt: skip


@pytest.mark.parametrize("operation, inputs, expected", GOLDEN.values(), ids=GOLDEN)
def test_golden(apply, operation, inputs, expected):
    result = apply(operation, inputs)
    np.testing.assert_array_equal(result, expected)
    assert result.shape == np.shape(expected)


@pytest.mark.parametrize("keep", [False, True], ids=["dropped", "kept"])
@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("operation, function", REFERENCES.items(), ids=REFERENCES)
def test_against_numpy(apply, operation, function, axes, keep):
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 1.5, (2, 3, 1, 4)).astype(np.float32)
    if operation in LOGICAL:
        x = x < (1.2 if operation == "REDUCE_ALL" else 0.7)
    expected = np.atleast_1d(function(x.astype(float) if x.dtype != bool else x, axis=axes, keepdims=keep))
    result = apply(operation, over(x, *axes, keep=keep, mean=operation == "MEAN"))
    np.testing.assert_allclose(result, expected, 1e-6)  # one rounding to float32
    assert result.shape == expected.shape


@pytest.mark.parametrize("operation, valid, change, message", ERRORS.values(), ids=ERRORS)
def test_refused(refuses, operation, valid, change, message):
    refuses(operation, valid, change, message)


@pytest.mark.parametrize("operation, type, level", [
    ("MEAN", F32, 2), ("MEAN", Q8, 2), ("MEAN", F16, 3), ("MEAN", Q8S, 4), ("REDUCE_MAX", Q8, 3),
    ("REDUCE_MIN", Q8S, 4), ("REDUCE_SUM", F32, 3), ("REDUCE_ANY", B8, 3),
], ids=lambda v: getattr(v, "name", str(v)))  # fmt: skip
def test_level(single, operation, type, level):
    x = tensor(type, [1], 0.5 if type.is_quantized else 0.0)
    assert feature_level(single(operation, over(x, 0, mean=operation == "MEAN"))) == level


def test_every_operation_has_a_golden_and_an_error_case():
    names = {op.name for op in reduction.OPERATIONS}
    assert {case[0] for case in GOLDEN.values()} == names == {case[0] for case in ERRORS.values()} == set(REFERENCES)
