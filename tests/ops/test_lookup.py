"""Lookups: against NumPy, by hand, and with indices and keys that are not there."""

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.ir.builder import Builder
from nnapi.ir.verify import feature_level
from nnapi.ops import lookup
from nnapi.ops.types import B8, F16, F32, I32, Q8, Q8S, Operand

SPARSE_DEPRECATED, DENSE, SPARSE = 1, 2, 3


def tensor(type, values):
    return Operand(type, (), 0.5 if type.is_quantized else 0.0).with_value(np.array(values, type.dtype))


def ints(*values):
    return np.array(values, np.int32)


def hashtable(lookups, keys, values):
    """Both outputs of HASHTABLE_LOOKUP."""
    b = Builder()
    inputs = {"lookups": b.constant(lookups), "keys": b.constant(keys), "values": b.operand(values)}
    b.output(*b.add_many("HASHTABLE_LOOKUP", inputs))
    return execute(b.finish(), [])


TABLE = tensor(F32, [[1, 2], [3, 4], [5, 6]])
# Signs, in double, of 64-bit fingerprints of seed and item; checked against LiteRT's LSH_PROJECTION.
HASH = np.float32([[0.5, -1.25, 4], [3, 8.5, -9]])
PROJECT = {
    "hash": HASH, "input": tensor(I32, [7, -21, 1000, 65536, -4]), "weight": np.float32([1, -2, 0.5, 3, 1.5]),
}  # fmt: skip
# id: operation, inputs, expected
GOLDEN = {
    "GATHER": ("GATHER", {"input": TABLE, "axis": 0, "indices": ints(2, 0, 2)}, [[5, 6], [1, 2], [5, 6]]),
    "GATHER last axis": ("GATHER", {"input": TABLE, "axis": -1, "indices": ints(1)}, [[2], [4], [6]]),
    "GATHER matrix of indices": (
        "GATHER", {"input": TABLE, "axis": 0, "indices": np.int32([[0, 1], [2, 2]])},
        [[[1, 2], [3, 4]], [[5, 6], [5, 6]]],
    ),
    "GATHER nothing": ("GATHER", {"input": TABLE, "axis": 0, "indices": ints()}, np.zeros((0, 2))),
    "GATHER signed": ("GATHER", {"input": tensor(Q8S, [-128, 127]), "axis": 0, "indices": ints(1, 0)}, [127, -128]),
    "EMBEDDING_LOOKUP": ("EMBEDDING_LOOKUP", {"indices": ints(2, 0), "values": TABLE}, [[5, 6], [1, 2]]),
    "EMBEDDING_LOOKUP quant8": ("EMBEDDING_LOOKUP", {"indices": ints(1), "values": tensor(Q8, [[0], [255]])}, [[255]]),
    "EMBEDDING_LOOKUP of nothing": ("EMBEDDING_LOOKUP", {"indices": ints(), "values": TABLE}, np.zeros((0, 2))),
    "HASHTABLE_LOOKUP": (
        "HASHTABLE_LOOKUP", {"lookups": ints(20, 5, 10), "keys": ints(10, 20, 30), "values": TABLE},
        [[3, 4], [0, 0], [1, 2]],
    ),
    "LSH_PROJECTION dense": ("LSH_PROJECTION", {**PROJECT, "type": DENSE}, [0, 1, 0, 0, 0, 1]),
    "LSH_PROJECTION sparse": ("LSH_PROJECTION", {**PROJECT, "type": SPARSE}, [2, 8 + 1]),
    "LSH_PROJECTION deprecated": ("LSH_PROJECTION", {**PROJECT, "type": SPARSE_DEPRECATED}, [2, 1]),
    "LSH_PROJECTION of nothing": (
        "LSH_PROJECTION",
        {"hash": HASH, "input": tensor(I32, np.zeros((0, 2))), "weight": np.zeros(0, np.float32), "type": DENSE},
        [0] * 6,
    ),
}  # fmt: skip
GATHER = {"input": TABLE, "axis": 0, "indices": ints(0)}
EMBED = {"indices": ints(0), "values": TABLE}
FIND = {"lookups": ints(1), "keys": ints(1, 2, 3), "values": TABLE}
# id: operation, valid inputs, change, message
ERRORS = {
    "GATHER index": ("GATHER", GATHER, {"indices": [0, 3]}, "indices has 3, dimension 0 of input has 3"),
    "GATHER negative index": ("GATHER", GATHER, {"indices": [-1]}, "indices has -1, dimension 0 of input has 3"),
    "EMBEDDING_LOOKUP index": ("EMBEDDING_LOOKUP", EMBED, {"indices": [7]}, "has 7, dimension 0 of values has 3"),
    "GATHER axis": ("GATHER", GATHER, {"axis": 2}, "axis 2 is outside rank 2"),
    "GATHER type": ("GATHER", GATHER, {"input": tensor(B8, [[1]])}, "input is TENSOR_BOOL8, must be"),
    "EMBEDDING_LOOKUP rank": ("EMBEDDING_LOOKUP", EMBED, {"values": [1.0]}, "values has rank 1, must have 2 to 8"),
    "EMBEDDING_LOOKUP indices": ("EMBEDDING_LOOKUP", EMBED, {"indices": [[0]]}, "indices has rank 2, must have 1"),
    "HASHTABLE_LOOKUP keys": ("HASHTABLE_LOOKUP", FIND, {"keys": [1, 2]}, r"keys has 2 elements, .* values has 3"),
    "HASHTABLE_LOOKUP type": ("HASHTABLE_LOOKUP", FIND, {"values": tensor(F16, [[1]])}, "values is TENSOR_FLOAT16"),
    "LSH_PROJECTION type": ("LSH_PROJECTION", {**PROJECT, "type": 3}, {"type": 4}, "type is 4, must be 1"),
    "LSH_PROJECTION weight": ("LSH_PROJECTION", {**PROJECT, "type": 3}, {"weight": [1.0]}, "weight has 1 elements"),
    "LSH_PROJECTION bits": ("LSH_PROJECTION", {**PROJECT, "type": 2}, {"hash": np.zeros((1, 33))}, "33 bits, limit 32"),
    "LSH_PROJECTION functions": (
        "LSH_PROJECTION", {**PROJECT, "type": 3}, {"hash": np.zeros((3, 31))},
        "3 hash functions of 31 bits need 33 bits, limit 32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("operation, inputs, expected", GOLDEN.values(), ids=GOLDEN)
def test_golden(apply, operation, inputs, expected):
    np.testing.assert_array_equal(apply(operation, inputs), expected)


@pytest.mark.parametrize("indices", [(2,), (2, 3), (1, 2, 2)], ids=str)
@pytest.mark.parametrize("axis", range(-3, 3))
@pytest.mark.parametrize("type", [F32, F16, I32, Q8, Q8S], ids=lambda t: t.name)
def test_gather_against_numpy(apply, type, axis, indices):
    rng = np.random.default_rng(0)
    x, at = rng.integers(0, 99, (4, 5, 6)).astype(type.dtype), rng.integers(0, 4, indices).astype(np.int32)
    result = apply("GATHER", {"input": tensor(type, x), "axis": axis, "indices": at})
    np.testing.assert_array_equal(result, np.take(x, at, axis), strict=True)


@pytest.mark.parametrize("lookups, keys, hits", [
    ([20, 5, 10, 31], [10, 20, 30], [1, 0, 1, 0]),
    ([1, 2], [], [0, 0]),
    ([], [1, 2], []),
    ([3, 1, 2, 9], [3, 2, 1], [1, 1, 1, 0]),
    ([2**31 - 1, -(2**31)], [-(2**31), 0, 2**31 - 1], [1, 1]),
], ids=["hits and misses", "no keys", "no lookups", "keys out of order", "extreme keys"])  # fmt: skip
@pytest.mark.parametrize("type", [F32, I32, Q8], ids=lambda t: t.name)
def test_hashtable(type, lookups, keys, hits):
    values = np.arange(1, 1 + 2 * len(keys)).reshape(-1, 2)
    output, found = hashtable(ints(*lookups), ints(*keys), tensor(type, values))
    np.testing.assert_array_equal(found, np.array(hits, np.uint8), strict=True)
    expected = [values[keys.index(k)] if k in keys else [0, 0] for k in lookups]
    np.testing.assert_array_equal(output, np.array(expected, type.dtype).reshape(-1, 2), strict=True)


def test_projection_without_weights_is_projection_with_ones(apply):
    ones = {**PROJECT, "weight": np.ones(5, np.float32), "type": SPARSE}
    np.testing.assert_array_equal(apply("LSH_PROJECTION", {**ones, "weight": None}), apply("LSH_PROJECTION", ones))


@pytest.mark.parametrize("operation, valid, change, message", ERRORS.values(), ids=ERRORS)
def test_refused(refuses, operation, valid, change, message):
    refuses(operation, valid, change, message)


@pytest.mark.parametrize("operation, type, level", [
    ("GATHER", F32, 3), ("GATHER", I32, 3), ("GATHER", Q8S, 4), ("EMBEDDING_LOOKUP", F32, 1),
    ("EMBEDDING_LOOKUP", I32, 3), ("EMBEDDING_LOOKUP", Q8, 3), ("EMBEDDING_LOOKUP", F16, 4),
    ("EMBEDDING_LOOKUP", Q8S, 4), ("HASHTABLE_LOOKUP", F32, 1), ("HASHTABLE_LOOKUP", Q8, 1),
], ids=lambda v: getattr(v, "name", str(v)))  # fmt: skip
def test_level(single, operation, type, level):
    inputs = {"GATHER": GATHER, "EMBEDDING_LOOKUP": EMBED, "HASHTABLE_LOOKUP": FIND}[operation]
    given = tensor(type, np.zeros((3, 2)))
    assert feature_level(single(operation, {n: given if v is TABLE else v for n, v in inputs.items()})) == level


@pytest.mark.parametrize("change, level", [
    ({"type": SPARSE_DEPRECATED}, 1), ({"type": DENSE}, 1), ({"type": SPARSE}, 3),
    ({"type": DENSE, "input": tensor(F16, [1] * 5)}, 3),
    ({"type": DENSE, "hash": tensor(F16, HASH), "weight": tensor(F16, [1] * 5)}, 3),
], ids=["deprecated", "dense", "sparse", "float16 input", "float16 hash"])  # fmt: skip
def test_projection_level(single, change, level):
    given = {n: tensor(F32, v) if isinstance(v, np.ndarray) else v for n, v in PROJECT.items()}
    assert feature_level(single("LSH_PROJECTION", {**given, **change})) == level


def test_every_operation_has_a_golden_and_an_error_case():
    names = {op.name for op in lookup.OPERATIONS}
    assert {case[0] for case in GOLDEN.values()} == names
    assert {case[0] for case in ERRORS.values()} == names
