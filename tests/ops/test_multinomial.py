"""RANDOM_MULTINOMIAL: frequencies, seeds, and logits that no class can have."""

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.errors import ExecutionError
from nnapi.ir.builder import Builder
from nnapi.ir.verify import feature_level
from nnapi.ops.types import F16, F32, I32, Operand

INF, NAN = np.inf, np.nan
SEEDS = np.int32([37, 42])


def draw(logits, count=2000, seeds=SEEDS, type=F32):
    """Samples of logits that are known only at run time."""
    array = np.array(logits, type.dtype)
    b = Builder()
    x = b.input("x", type, (0, array.shape[1]))
    b.output(b.add("RANDOM_MULTINOMIAL", {"input": x, "sample_count": count, "seeds": np.int32(seeds)}))
    return execute(b.finish(), [array])[0]


@pytest.mark.parametrize("type", [F32, F16], ids=["float32", "float16"])
@pytest.mark.parametrize("row, expected", [
    ([0, 0], [0.5, 0.5]),
    (np.log([1, 2, 5]), [0.125, 0.25, 0.625]),
    ([1000, 1000, -1000], [0.5, 0.5, 0]),
    ([-INF, 0, NAN, INF], [0, 1, 0, 0]),
    ([3], [1]),
], ids=["even", "uneven", "large", "not finite", "one class"])  # fmt: skip
def test_frequencies(row, expected, type):
    samples = draw([row, row], type=type)
    assert samples.shape == (2, 2000)
    assert samples.dtype == np.int32
    for drawn in samples:
        frequencies = np.bincount(drawn, minlength=len(row)) / drawn.size
        np.testing.assert_allclose(frequencies, expected, atol=0.05)  # 4 standard deviations of 2000 draws


def test_same_seeds_same_draws():
    np.testing.assert_array_equal(draw([[0, 1, 2]]), draw([[0, 1, 2]]))
    assert (draw([[0, 1, 2]]) != draw([[0, 1, 2]], seeds=[37, 43])).any()
    assert (draw([[0, 1, 2]], seeds=[-1, 0]) != draw([[0, 1, 2]], seeds=[0, -1])).any()


def test_seeds_of_zero_draw_differently_every_time():
    assert (draw([[0, 1, 2]], seeds=[0, 0]) != draw([[0, 1, 2]], seeds=[0, 0])).any()


def test_rows_are_independent():
    first, second = draw([[0, 0], [0, 0]])
    assert (first != second).any()


def test_empty_batch():
    assert draw(np.zeros((0, 3))).shape == (0, 2000)


@pytest.mark.parametrize("logits", [[[0.0], [NAN]], [[0.0], [-INF]]], ids=["nan", "-inf"])
def test_no_finite_logit_is_refused(logits):
    with pytest.raises(ExecutionError, match="RANDOM_MULTINOMIAL: input has no finite logit in row 1"):
        draw(logits)


VALID = {"input": np.float32([[1, 2]]), "sample_count": 5, "seeds": SEEDS}


@pytest.mark.parametrize("change, message", [
    ({"sample_count": 0}, "sample_count is 0, must be positive"),
    ({"sample_count": -3}, "sample_count is -3, must be positive"),
    ({"seeds": [1, 2, 3]}, r"seeds has shape \(3,\), must have \(2,\)"),
    ({"input": [1.0]}, "input has rank 1, must have 2"),
    ({"input": np.zeros((0, 0))}, "input has no classes, must have at least 1"),
    ({"input": Operand(I32, ()).with_value(np.int32([[1]]))}, "input is TENSOR_INT32, must be"),
    ({"input": np.zeros((2**10, 1)), "sample_count": 2**22}, "4294967296 elements, limit 2147483647"),
], ids=["no samples", "negative", "three seeds", "rank", "no classes", "type", "too many"])  # fmt: skip
def test_refused(refuses, change, message):
    refuses("RANDOM_MULTINOMIAL", VALID, change, message)


def test_level(single):
    assert feature_level(single("RANDOM_MULTINOMIAL", VALID)) == 3
