"""Every conformance case passes on the reference, as it is, as its signed twin, and with outputs unspecified."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nnapi.conformance import case_files, read_cases, run_file
from nnapi.drivers.reference import ReferenceDriver

VECTORS = Path(__file__).parent.parent.parent.parent / "shared" / "vectors"
FILES = case_files(VECTORS) if VECTORS.is_dir() else []


def name(path: Path) -> str:
    return path.relative_to(VECTORS).as_posix().removesuffix(".json.gz")


@pytest.mark.skipif(not FILES, reason="the conformance cases are not beside this checkout")
@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_case_of_a_file_passes(path: Path) -> None:
    outcomes = [o for form in (False, True) for o in run_file(path, ReferenceDriver(), unspecified=form)]
    assert outcomes
    assert [f"{o.case}: {o.detail}" for o in outcomes if o.status != "passed"] == []


def test_no_case_is_left_out(vectors: Path) -> None:
    index = json.loads((vectors / "index.json").read_text())
    read = {case.id: case.operations for path in FILES for case in read_cases(path)}
    assert {case["id"]: set(case["primaryOps"]) for case in index["cases"]} == {i: set(ops) for i, ops in read.items()}
