"""Calibration data: what counts as an example, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nnapi.errors import QuantizeError
from nnapi.ops.types import F32, I32, Operand
from nnapi.quantization.data import read_examples

IMAGE = Operand(F32, (1, 2, 2, 3), name="x")
INDEX = Operand(I32, (1,), name="i")
PAIR = (Operand(F32, (1, 4), name="a"), Operand(F32, (1, 4), name="b"))
X = np.ones((1, 2, 2, 3), np.float32)
Y = np.ones((1, 4), np.float32)


@pytest.mark.parametrize(
    "operands, calibration, count",
    [
        pytest.param([IMAGE], [X, X], 2, id="list"),
        pytest.param([IMAGE], (x for x in [X, X, X]), 3, id="generator"),
        pytest.param([IMAGE], np.ones((5, 2, 2, 3)), 5, id="one array, float64"),
        pytest.param([IMAGE], np.ones((2, 4, 2, 2, 3)), 8, id="an array of batches"),
        pytest.param([IMAGE], [X[0]], 1, id="without a batch"),
        pytest.param([IMAGE], [{"x": X}], 1, id="mapping"),
        pytest.param([IMAGE], [(X,)], 1, id="tuple"),
        pytest.param(PAIR, [(Y, Y), {"b": Y, "a": Y}], 2, id="two inputs"),
    ],
)
def test_examples(operands: list[Operand], calibration: object, count: int) -> None:
    examples = list(read_examples(calibration, operands))
    assert len(examples) == count
    assert all(a.shape == o.dimensions and a.dtype == np.float32 for e in examples for a, o in zip(e, operands))


@pytest.mark.parametrize(
    "operands, calibration, message",
    [
        pytest.param([IMAGE], None, "no calibration data", id="nothing"),
        pytest.param([IMAGE], [], "no calibration data", id="empty"),
        pytest.param([IMAGE], 7, "is a int, must be an iterable", id="number"),
        pytest.param([IMAGE], [X, X * np.nan], "example 1, input 'x' holds NaN or infinity", id="NaN"),
        pytest.param([IMAGE], [X * np.inf], "example 0, input 'x' holds NaN or infinity", id="infinity"),
        pytest.param([IMAGE], [X.astype(float) + 1e300], r"input 'x' holds 1e\+300", id="too large"),
        pytest.param([INDEX], [np.array([2**32 + 1])], r"input 'i' holds 4294967297", id="integer that does not fit"),
        pytest.param([IMAGE], [X[:, :1]], r"has shape \(1, 1, 2, 3\), must have \(1, 2, 2, 3\)", id="shape"),
        pytest.param([IMAGE], [X[:0]], "has shape", id="no rows"),
        pytest.param([IMAGE], ["cat"], "is <U3, must be numbers", id="text"),
        pytest.param([IMAGE], "cat.txt", "folder of images or an .npz", id="file"),
        pytest.param([IMAGE], "cat.npz", "cannot read", id="missing file"),
        pytest.param(PAIR, [Y], "must have 2 arrays", id="one of two"),
        pytest.param(PAIR, [{"a": Y, "c": Y}], "has 'a', 'c', the model takes a, b", id="names"),
        pytest.param(PAIR, [(np.ones((2, 4)), Y)], r"hold \[2, 1\] batches", id="batches"),
    ],
)
def test_bad_examples_are_explained(operands: list[Operand], calibration: object, message: str) -> None:
    with pytest.raises(QuantizeError, match=message):
        list(read_examples(calibration, operands))


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", x=np.ones((6, 2, 2, 3), np.float32))
    assert len(list(read_examples(tmp_path / "c.npz", [IMAGE]))) == 6


def test_examples_are_not_kept() -> None:
    alive = 0

    def stream() -> Iterator[np.ndarray]:
        nonlocal alive
        for _ in range(100):
            alive += 1
            yield X

    for n, _ in enumerate(read_examples(stream(), [IMAGE])):
        assert alive == n + 1  # nothing is read ahead
