"""`nnapi quantize` as users meet it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nnapi.cli import main
from nnapi.exporters.save import save
from nnapi.ir.file import load
from nnapi.ops.types import Q8S
from quantization.graphs import examples, small


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = small()
    save(model, tmp_path / "m.nnapi")
    np.savez(tmp_path / "c.npz", x=np.concatenate([x[0] for x in examples(model)]))
    return tmp_path


def test_quantize(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, data = str(folder / "m.nnapi"), str(folder / "c.npz")
    output, page, table = (folder / name for name in ("q.nnapi", "r.html", "t.json"))
    options = ["-o", str(output), "--report", str(page), "--save-table", str(table)]
    assert main(["quantize", source, "-c", data, *options]) == 0
    out = capsys.readouterr().out
    assert "output 0: SQNR" in out
    assert "worst operations" in out
    assert load(output).input_operands[0].type == Q8S
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert main(["quantize", source, "--table", str(table), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes_after"] < 2000


def test_folders_of_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    pictures = folder / "pictures"
    pictures.mkdir()
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 256, (9, 9, 3), np.uint8)
        image.fromarray(pixels).save(pictures / f"{k}.png")
    assert main(["quantize", str(folder / "m.nnapi"), "-c", str(pictures)]) == 0
    assert "SQNR" in capsys.readouterr().out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", "--list"]) == 0
    assert "dynamic_range" in capsys.readouterr().out
    assert main(["quantize", "--list", "--json"]) == 0
    assert {"int8", "uint8"} <= {r["name"] for r in json.loads(capsys.readouterr().out)}


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        pytest.param([], 2, "no model given", id="no model"),
        pytest.param(["m.nnapi"], 1, "no calibration data", id="no data"),
        pytest.param(["m.nnapi", "-r", "int3"], 2, "no recipe 'int3'", id="recipe"),
        pytest.param(["m.nnapi", "-c", "absent.npz"], 1, "cannot read absent.npz", id="absent"),
        pytest.param(["m.nnapi", "-c", "."], 1, "no calibration data", id="no images"),
        pytest.param(["m.nnapi", "-o", "m.xyz"], 2, "m.xyz", id="suffix"),
    ],
)
def test_failures_are_explained(
    arguments: list[str], status: int, message: str, folder: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    assert main(["quantize", *arguments]) == status
    assert message in capsys.readouterr().err
