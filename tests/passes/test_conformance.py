"""Every conformance model in every form: what passes make of it gives what it gave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from nnapi.conformance.reader import Case, case_files, read_cases
from nnapi.drivers.reference import execute
from nnapi.errors import NnapiError
from nnapi.ir.model import Model
from nnapi.ir.verify import verify
from nnapi.ops.types import Array
from nnapi.passes.layout import to_layout
from nnapi.passes.run import run_passes

FORMS: dict[str, Callable[[Model], Model]] = {
    "default": run_passes,
    "nhwc": lambda model: to_layout(model, "nhwc"),
    "nchw": lambda model: to_layout(model, "nchw"),
    "default nchw": lambda model: run_passes(model, layout="nchw"),
}
STEP = 12
FIRST = [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 6, 9))]
"""Every third file, in four parts."""


def cases(vectors: Path, first: int) -> Iterator[Case]:
    """The cases of every `STEP`th file."""
    for file in case_files(vectors)[first::STEP]:
        for case in read_cases(file):
            if not case.expect_failure and "RANDOM_MULTINOMIAL" not in case.operations:
                yield case


def agrees(expected: Array, actual: Array) -> bool:
    if expected.dtype.kind != "f":
        return expected.shape == actual.shape and bool((expected == actual).all())
    tolerance = 2e-3 if expected.itemsize == 2 else 1e-4  # folded weights round once more, sums run in another order
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    largest = max(1.0, np.abs(expected[np.isfinite(expected)]).max(initial=0))
    return np.allclose(actual, expected, rtol=tolerance, atol=tolerance * largest, equal_nan=True)


@pytest.mark.parametrize("first", FIRST)
def test_conformance_models_keep_their_results(first: int, vectors: Path) -> None:
    problems, changed = [], Counter[str]()
    for case in cases(vectors, first):
        try:
            expected = execute(case.model, case.inputs)
        except NnapiError:
            continue  # tests of the operations tell
        for form, function in FORMS.items():
            after = function(case.model)
            verify(after)
            changed[form] += after is not case.model
            if not all(map(agrees, expected, execute(after, case.inputs))):
                problems.append(f"{case.id} {form}")
    assert not problems
    assert all(changed[form] > 5 for form in FORMS), changed
