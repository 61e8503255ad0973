"""Conformance cases as a client runs them: built, compiled and executed through NNAPI's objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients import client_model, compiled, computed
from nnapi.conformance.compare import first_difference
from nnapi.conformance.reader import Case, case_files, read_cases
from nnapi.runtime import ResultError, devices

EVERY = 29
"""Of so many cases one is run: the drivers' own tests run them all."""


@pytest.fixture(scope="module")
def cases(vectors: Path) -> list[Case]:
    every = [case for file in case_files(vectors) for case in read_cases(file) if not case.infinite_loop]
    return every[::EVERY]


@pytest.mark.slow
@pytest.mark.parametrize("named", [False, True], ids=["all", "reference"])
def test_cases(cases: list[Case], named: bool) -> None:
    chosen = [d for d in devices() if d.name == "reference"] if named else None
    wrong = {}
    for case in cases:
        try:
            results = computed(compiled(client_model(case.model), chosen), case.inputs, room=1 << 20)
        except ResultError as error:
            if not case.expect_failure:
                wrong[case.id] = str(error)
            continue
        difference = first_difference(case.expected, results, case.rules, case.inputs)
        if case.expect_failure or difference:
            wrong[case.id] = difference or "ran, must be refused"
    assert wrong == {}
    assert len(cases) > 100
