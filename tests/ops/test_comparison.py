"""Pairs of values: against NumPy, by hand, between quantizations, and at the edges."""

import numpy as np
import pytest

from nnapi.ir.verify import feature_level
from nnapi.ops import comparison
from nnapi.ops.types import B8, F16, F32, I32, Q8, Q8S, Operand

INF, NAN = np.inf, np.nan
FLOAT32 = 1e-6  # x^y of two libraries
COMPARISONS = {
    "EQUAL": np.equal, "NOT_EQUAL": np.not_equal, "GREATER": np.greater, "GREATER_EQUAL": np.greater_equal,
    "LESS": np.less, "LESS_EQUAL": np.less_equal,
}  # fmt: skip
EXTREMES = {"MAXIMUM": np.maximum, "MINIMUM": np.minimum}
SHAPES = [((2, 3), (2, 3)), ((2, 3), (3,)), ((4, 1, 2), (5, 4, 3, 1)), ((1,), (2, 2)), ((0, 3), (1, 3))]


def tensor(type, values, scale=0.0, zero_point=0):
    return Operand(type, (), scale, zero_point).with_value(np.array(values, type.dtype))


def pair(type, x, y):
    return {"input0": tensor(type, x), "input1": tensor(type, y)}


# id: operation, inputs, output where it is not determined, expected
GOLDEN = {
    "EQUAL nan": ("EQUAL", pair(F32, [NAN, INF, -0.0], [NAN, INF, 0.0]), None, [False, True, True]),
    "EQUAL bool": ("EQUAL", pair(B8, [True, False], [[True], [False]]), None, [[True, False], [False, True]]),
    "EQUAL large int": ("EQUAL", pair(I32, [2**31 - 1], [2**31 - 2]), None, [False]),
    "EQUAL across scales": (
        "EQUAL", {"input0": tensor(Q8, [10, 20], 0.5, 0), "input1": tensor(Q8, [120, 119], 0.25, 100)}, None,
        [True, False],
    ),
    "NOT_EQUAL nan": ("NOT_EQUAL", pair(F32, [NAN, 1], [NAN, 1]), None, [True, False]),
    "GREATER nan": ("GREATER", pair(F32, [NAN, 2, INF], [1, NAN, 1]), None, [False, False, True]),
    "GREATER_EQUAL signed": (
        "GREATER_EQUAL", {"input0": tensor(Q8S, [-3, 0], 1.0, 0), "input1": tensor(Q8S, [-6, 1], 0.5, 0)}, None,
        [True, False],
    ),
    "LESS float16": ("LESS", pair(F16, [1, 1.001], [1.001, 1]), None, [True, False]),
    "LESS_EQUAL": ("LESS_EQUAL", pair(I32, [1, 2, 3], [2]), None, [True, True, False]),
    "LOGICAL_AND": ("LOGICAL_AND", pair(B8, [True, False], [[True], [False]]), None, [[True, False], [False, False]]),
    "LOGICAL_OR": ("LOGICAL_OR", pair(B8, [True, False], [[True], [False]]), None, [[True, True], [True, False]]),
    "MAXIMUM nan": ("MAXIMUM", pair(F32, [NAN, -INF, 2], [1, -5, 3]), None, [NAN, -5, 3]),
    "MAXIMUM across scales": (
        "MAXIMUM", {"input0": tensor(Q8, [10, 255], 0.5, 0), "input1": tensor(Q8, [104], 1.0, 100)},
        Operand(Q8, (), 0.25, 10), [30, 255],
    ),
    "MINIMUM int": ("MINIMUM", pair(I32, [-(2**31), 7], [0]), None, [-(2**31), 0]),
    "POW edges": (
        "POW", {"input": tensor(F32, [2, 0, 0, -8, -2, INF]), "exponent": tensor(F32, [0.5, 0, -1, 1 / 3, 3, -1])},
        None, [2**0.5, 1, INF, NAN, -8, 0],
    ),
    "POW broadcast": (
        "POW", {"input": tensor(F32, [[2], [3]]), "exponent": tensor(F32, [0, 1, 2])}, None, [[1, 2, 4], [1, 3, 9]],
    ),
    "SELECT": ("SELECT", {"condition": np.array([True, False]), **pair(F32, [NAN, 2], [3, 4])}, None, [NAN, 4]),
    "SELECT large int": (
        "SELECT", {"condition": np.array([True, False]), **pair(I32, [2**31 - 1, 0], [0, -(2**31)])}, None,
        [2**31 - 1, -(2**31)],
    ),
    "SELECT across scales": (
        "SELECT",
        {"condition": np.array([True, False]), "input0": tensor(Q8, [12, 0], 0.5, 2),
         "input1": tensor(Q8, [0, 100], 1.0, 90)},
        Operand(Q8, (), 0.25, 0), [20, 40],
    ),
}  # fmt: skip
NO_BROADCAST = r"input0 and input1 do not broadcast: \(2,\) and \(3,\)"
THREE = {"input1": np.zeros(3)}
SELECT = {"condition": np.array([True, False]), **pair(F32, [1, 2], [3, 4])}
# id: operation, valid inputs, change, message
ERRORS = {
    **{name: (name, pair(F32, [1, 2], [3, 4]), THREE, NO_BROADCAST) for name in (*COMPARISONS, *EXTREMES)},
    "EQUAL types": ("EQUAL", pair(F32, [1], [1]), {"input1": tensor(I32, [1])}, "input1 is TENSOR_INT32, must be"),
    "LOGICAL_AND": ("LOGICAL_AND", pair(B8, [True], [True]), {"input0": tensor(I32, [1])}, "must be TENSOR_BOOL8"),
    "LOGICAL_OR": ("LOGICAL_OR", pair(B8, [1, 1], [1, 1]), THREE, NO_BROADCAST),
    "MAXIMUM bool": ("MAXIMUM", pair(I32, [1], [1]), {"input0": tensor(B8, [1])}, "input0 is TENSOR_BOOL8, must be"),
    "POW": (
        "POW", {"input": tensor(F32, [1]), "exponent": tensor(F32, [1])}, {"exponent": tensor(I32, [1])},
        "exponent is TENSOR_INT32, must be TENSOR_FLOAT32",
    ),
    "SELECT": ("SELECT", SELECT, THREE, r"have shapes \(2,\), \(2,\), \(3,\), must be the same"),
    "SELECT no broadcast": ("SELECT", SELECT, {"condition": [True]}, r"have shapes \(1,\), \(2,\), \(2,\), must be"),
    "SELECT rank": ("SELECT", SELECT, {"condition": [[True, False]]}, r"have shapes \(1, 2\), \(2,\), \(2,\), must"),
}  # fmt: skip


@pytest.mark.parametrize("operation, inputs, output, expected", GOLDEN.values(), ids=GOLDEN)
def test_golden(apply, operation, inputs, output, expected):
    np.testing.assert_allclose(apply(operation, inputs, output), expected, FLOAT32)


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("type", [F32, F16, I32, B8], ids=lambda t: t.name)
@pytest.mark.parametrize("operation, function", COMPARISONS.items(), ids=COMPARISONS)
def test_comparison_against_numpy(apply, operation, function, type, shapes):
    rng = np.random.default_rng(0)
    x, y = (rng.integers(0, 3, shape).astype(type.dtype) for shape in shapes)
    result = apply(operation, pair(type, x, y))
    np.testing.assert_array_equal(result, function(x, y), strict=True)


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("type", [F32, F16, I32], ids=lambda t: t.name)
@pytest.mark.parametrize("operation, function", EXTREMES.items(), ids=EXTREMES)
def test_extreme_against_numpy(apply, operation, function, type, shapes):
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-9, 9, shape).astype(type.dtype) for shape in shapes)
    np.testing.assert_array_equal(apply(operation, pair(type, x, y)), function(x, y), strict=True)


@pytest.mark.parametrize("type", [Q8, Q8S], ids=["unsigned", "signed"])
@pytest.mark.parametrize("operation, function", (COMPARISONS | EXTREMES).items(), ids=COMPARISONS | EXTREMES)
def test_quantized_compares_real_values(apply, operation, function, type):
    low = np.iinfo(type.dtype).min
    x, y = tensor(type, np.arange(256) + low, 0.5, low + 100), tensor(type, np.arange(256)[::-1] + low, 0.25, low + 7)
    expected = function((np.arange(256) - 100) * 0.5, (np.arange(256)[::-1] - 7) * 0.25)
    if operation in EXTREMES:
        result = apply(operation, {"input0": x, "input1": y}, Operand(type, (), 0.5, low + 100))
        expected = np.clip(np.rint(expected / 0.5) + 100, 0, 255) + low
    else:
        result = apply(operation, {"input0": x, "input1": y})
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("operation, valid, change, message", ERRORS.values(), ids=ERRORS)
def test_refused(refuses, operation, valid, change, message):
    refuses(operation, valid, change, message)


@pytest.mark.parametrize("type, level", [(F32, 3), (F16, 3), (I32, 3), (Q8, 3), (Q8S, 4)], ids=lambda v: str(v))
@pytest.mark.parametrize("operation", ["EQUAL", "LESS", "MAXIMUM", "SELECT"])
def test_level(single, operation, type, level):
    x = tensor(type, [1], 0.5 if type.is_quantized else 0.0)
    inputs = {"input0": x, "input1": x} | ({"condition": np.array([True])} if operation == "SELECT" else {})
    output = x if operation in ("MAXIMUM", "SELECT") else None
    assert feature_level(single(operation, inputs, output)) == level


def test_every_operation_has_a_golden_and_an_error_case():
    names = {op.name for op in comparison.OPERATIONS}
    assert {case[0] for case in GOLDEN.values()} == names == {case[0] for case in ERRORS.values()}
