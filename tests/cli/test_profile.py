"""`nnapi profile`, `--tune` and `--against`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models import chain
from nnapi.cli import main
from nnapi.ir import file


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "chain.nnapi"
    file.save(chain("ADD", "MUL", "SUB"), path)
    return str(path)


def test_profile_measures_every_device(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", source, "-d", "litert,reference", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["seconds"]
    assert set(found["whole"]) == {"litert", "reference"}
    assert all(seconds > 0 for seconds in found["whole"].values())


def test_what_was_measured_is_in_the_plan(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", source, "-d", "litert"]) == 0
    capsys.readouterr()
    assert main(["check", source, "-d", "litert", "--json"]) == 0
    (partition,) = json.loads(capsys.readouterr().out)["plan"]["partitions"]
    assert partition["source"] == "measured"
    assert partition["precision"] == "fp32"


@pytest.mark.parametrize("command", [["run", "--random", "1"], ["bench", "--seconds", "0", "--repeats", "2"]])
def test_tune(source: str, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command[0], source, *command[1:], "--tune", "-d", "litert,reference"]) == 0
    assert capsys.readouterr().out


def test_against_peers_prints_ratios_and_says_why_one_is_missing(
    source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", source, "--against", "litert,pytorch", "--repeats", "3", "-d", "reference", "--json"]
    assert main(arguments) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["litert"]["route"] == "our .tflite file" and rows["litert"]["ratio"] > 0
    assert rows["pytorch"]["latency"] is None and "is no PyTorch module" in rows["pytorch"]["route"]


WRONG = {
    "no such peer": (["bench", "--against", "tensorrt"], 2, "no peer 'tensorrt'; there are pytorch, litert"),
    "no such device": (["profile", "-d", "tpu"], 2, "no device 'tpu'; there are litert"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_wrong_use(case: tuple[list[str], int, str], source: str, capsys: pytest.CaptureFixture[str]) -> None:
    (command, *rest), status, message = case
    assert main([command, source, *rest]) == status
    assert message in capsys.readouterr().err


def test_the_deny_list_is_shown_and_cleared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "--clear-denied"]) == 0
    assert main(["profile", "--show-denied"]) == 0
    assert "nothing denied" in capsys.readouterr().out
    assert main(["profile"]) == 2
