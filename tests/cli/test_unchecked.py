"""What the reference cannot check is said, before and after compiling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nnapi
from models import chain
from nnapi.cli import main
from nnapi.exporters.save import save
from nnapi.partitioning import gate

REASON = "the reference: it would take about 33 s, limit 20 s"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model that takes the reference too long."""
    monkeypatch.setattr(gate, "_obstacle", lambda model, seconds: REASON.partition(": ")[2])
    path = tmp_path / "model.nnapi"
    save(chain("ADD", "MUL"), path)
    return str(path)


def test_session_plan(model: str) -> None:
    session = nnapi.compile(nnapi.load(model), devices="fake")
    assert session.plan.unchecked == {0: REASON}


def test_check(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", model, "--devices", "fake"]) == 0
    assert f"not compared with the reference: {REASON}" in capsys.readouterr().out
    assert main(["check", model, "--devices", "fake", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["partitions"][0]["unchecked"] == REASON


def test_run(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["run", model, "--devices", "fake", "--random", "0"]
    assert main(run) == 0
    assert f"not compared with the reference: 2 operations on fake: {REASON}" in capsys.readouterr().err
    assert main([*run, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unchecked"] == [{"device": "fake", "operations": [0, 1], "reason": REASON}]
    assert found["fallbacks"] == []


def test_the_reference_itself_is_not_in_question(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", model, "--devices", "reference", "--random", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unchecked"] == []
