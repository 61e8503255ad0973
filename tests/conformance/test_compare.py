"""The comparison rules: what passes, and how a difference is told."""

from __future__ import annotations

import numpy as np
import pytest

from nnapi.conformance.compare import Rule, first_difference

NEAR = Rule("near", atol=0.1, rtol=0.01)
ONE = Rule("near", atol=1)
F = np.float32
ROWS = [
    ("within the absolute tolerance", [1.0], F([1.0]), F([1.1]), NEAR, ""),
    ("within the relative tolerance", [1.0], F([1000.0]), F([1010.0]), NEAR, ""),
    ("outside", [1.0], F([1.0, 2.0]), F([1.0, 2.5]), NEAR, "1 of 2 elements out of tolerance, first at (1,): 2.5"),
    ("nan", [1.0], F([1.0]), F([np.nan]), NEAR, "first at (0,): nan, expected 1.0"),
    ("nan on both sides", [1.0], F([np.nan]), F([np.nan]), NEAR, "first at (0,): nan, expected nan"),
    ("infinity on both sides", [1.0], F([np.inf]), F([np.inf]), NEAR, ""),
    ("infinities of both signs", [1.0], F([np.inf]), F([-np.inf]), NEAR, "-inf, expected inf"),
    ("shape", [1.0], F([[1.0]]), F([1.0]), NEAR, "shape (1,), expected (1, 1)"),
    ("type", [1.0], F([1.0]), np.float64([1.0]), NEAR, "is float64, expected float32"),
    ("a byte off by one", [1.0], np.uint8([0]), np.uint8([1]), ONE, ""),
    ("a byte does not wrap", [1.0], np.uint8([0]), np.uint8([255]), ONE, "255, expected 0"),
    ("no elements", [1.0], F(np.zeros((0, 2))), F(np.zeros((0, 2))), NEAR, ""),
    ("no elements, other shape", [1.0], F(np.zeros((0, 2))), F(np.zeros((0, 3))), NEAR, "expected (0, 2)"),
    ("scalar", [1.0], np.int32(3), np.int32(4), Rule("near"), "first at (): 4, expected 3"),
    ("equal", [1.0], np.array([True]), np.array([True]), Rule("equal"), ""),
    ("not equal", [1.0], np.array([True]), np.array([False]), Rule("equal"), "False, expected True"),
    ("ignored", [1.0], None, F([7.0]), Rule("ignore"), ""),
    ("nothing expected", [1.0], None, F([7.0]), NEAR, "nothing to compare"),
    (
        "drawn as often as it should",
        [[0.0, 0.0]],
        None,
        np.int32([[0, 1, 0, 1]]),
        Rule("multinomial", tolerance=0.1),
        "",
    ),
    ("drawn too often", [[0.0, 0.0]], None, np.int32([[0, 0, 0, 1]]), Rule("multinomial", tolerance=0.1), "+0.25"),
    ("no such class", [[0.0, 0.0]], None, np.int32([[2]]), Rule("multinomial", tolerance=9.0), "expected 0 to 1"),
    ("no integers", [[0.0, 0.0]], None, F([[0.0]]), Rule("multinomial", tolerance=9.0), "expected integers"),
    ("no logits", [0.0], None, np.int32([[0]]), Rule("multinomial", tolerance=9.0), "logits of shape"),
]


@pytest.mark.parametrize(
    ("inputs", "expected", "actual", "rule", "message"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS]
)
def test_first_difference(inputs, expected, actual, rule, message) -> None:
    found = first_difference([expected], [actual], [rule], [np.array(inputs, np.float32)])
    assert message in found if message else found == ""


def test_the_number_of_outputs_counts() -> None:
    assert first_difference([F([1.0])], [], [NEAR]) == "0 outputs, expected 1"
