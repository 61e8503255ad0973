"""The reference device: arrays given for its outputs."""

from __future__ import annotations

import numpy as np
import pytest

from models import chain
from nnapi.drivers.driver import PrepareOptions
from nnapi.drivers.reference import ReferenceDriver
from nnapi.errors import ExecutionError
from nnapi.ops.types import Array

X = np.arange(4, dtype=np.float32).reshape(1, 4)
PREPARED = ReferenceDriver().prepare(chain("ADD", "MUL"), PrepareOptions())


def test_outputs_are_written_where_they_are_wanted() -> None:
    given = np.empty((1, 4), np.float32)
    (y,) = PREPARED.run([X], [given])
    assert y is given
    np.testing.assert_array_equal(y, (X + X) * X)


WRONG = {
    "none": ([], "0 output arrays given, the model has 1"),
    "two": ([X.copy(), X.copy()], "2 output arrays given, the model has 1"),
    "another shape": ([np.empty(4, np.float32)], r"output array is float32 \(4,\), must be float32 \(1, 4\)"),
    "another type": ([np.empty((1, 4), np.int32)], r"output array is int32 \(1, 4\), must be float32"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_outputs_that_do_not_fit(case: tuple[list[Array], str]) -> None:
    given, message = case
    with pytest.raises(ExecutionError, match=message):
        PREPARED.run([X], given)
