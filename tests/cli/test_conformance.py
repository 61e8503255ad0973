"""`nnapi conformance`: what it prints, what it refuses, how it exits."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from nnapi.cli import main

OPERAND = {"scale": 0.0, "zeroPoint": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One case that passes and, in another file, one that cannot: it expects 1 + 1 = 3."""
    for name, expected in (("right", 2.0), ("wrong", 3.0)):
        case = {
            "id": name, "variations": [], "minSupportedVersion": "V1_0", "isRelaxed": False, "expectFailure": False,
            "infiniteLoop": False, "quantCoupling": False, "referenced": [],
            "rules": [{"rule": "near", "atol": 0.1, "rtol": 0.0}],
            "main": {
                "name": None,
                "operands": [
                    OPERAND | {"name": "x", "type": "TENSOR_FLOAT32", "dimensions": [1], "lifetime": "SUBGRAPH_INPUT",
                               "data": [1.0]},
                    OPERAND | {"name": "a", "type": "INT32", "dimensions": [], "lifetime": "CONSTANT_COPY",
                               "data": [0]},
                    OPERAND | {"name": "y", "type": "TENSOR_FLOAT32", "dimensions": [1], "lifetime": "SUBGRAPH_OUTPUT",
                               "data": [expected]},
                ],
                "operations": [{"type": "ADD", "inputs": [0, 0, 1], "outputs": [2]}], "inputs": [0], "outputs": [2],
            },
        }  # fmt: skip
        document = {"format": "nnapi-vectors/1", "buffers": [], "cases": [case]}
        (tmp_path / f"{name}.json.gz").write_bytes(gzip.compress(json.dumps(document).encode()))
    return tmp_path


def test_failures_are_told_and_fail(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "FAILED wrong: output 0: 1 of 1 elements out of tolerance, first at (0,): 2.0, expected 3.0" in out
    assert ["ADD", "1", "1", "0"] in [line.split() for line in out.splitlines()]
    assert out.splitlines()[-1].endswith("1 passed, 1 failed, 0 declined")


def test_success(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", str(folder / "right.json.gz"), "--unspecified-outputs", "--operation", "add"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("1 passed, 0 failed, 0 declined")


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", str(folder), "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["device"] == "reference"
    assert record["totals"] == {"passed": 1, "failed": 1, "declined": 0}
    assert [o["case"] for o in record["failed"]] == ["wrong"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nowhere"], 2, "nowhere does not exist"),
        (["."], 2, "holds no file *.json.gz"),
        (["{folder}", "--operation", "NO_SUCH"], 2, "no case to run tests NO_SUCH"),
        (["{folder}", "--driver", "abacus"], 2, "no device 'abacus'"),
        (["{folder}/broken.json.gz"], 1, "the case file is no JSON"),
        ([], 2, "Missing argument"),
    ],
    ids=["missing", "empty", "no such operation", "no such driver", "broken", "no folder"],
)
def test_mistakes_are_explained(
    arguments: list[str], status: int, message: str, folder: Path, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (folder / "broken.json.gz").write_bytes(gzip.compress(b'{"format":'))
    if "NO_SUCH" in arguments:
        (folder / "broken.json.gz").unlink()
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    assert main(["conformance", *(a.format(folder=folder) for a in arguments)]) == status
    assert message in capsys.readouterr().err
