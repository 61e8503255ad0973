"""`nnapi quantize` and `nnapi convert` into files of other formats."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nnapi
from nnapi.cli import main, quantize
from nnapi.ops.types import F32, Q8, Q8S
from nnapi.runtime.session import Fallback
from quantization.graphs import examples, small

FILES = {".tflite": "ai_edge_litert", ".onnx": "onnx", ".nnapi": "nnapi"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model = small()
    nnapi.save(model, tmp_path / "m.nnapi")
    np.savez(tmp_path / "c.npz", x=np.concatenate([x[0] for x in examples(model)]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("recipe", ["int8", "int8_float_io", "uint8", "fp16", "dynamic_range", "mixed"])
@pytest.mark.parametrize("suffix", FILES)
def test_every_recipe_into_every_file(
    suffix: str, recipe: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(FILES[suffix])
    assert main(["quantize", "m.nnapi", "-c", "c.npz", "-r", recipe, "-o", f"q{suffix}"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert (folder / f"q{suffix}").stat().st_size > 500


@pytest.mark.parametrize(
    ("recipe", "boundary", "type"),
    [("uint8", "float32", F32), ("int8_float_io", "integer", Q8S), ("uint8", "integer", Q8)],
)
def test_inputs_and_outputs_by_an_option(recipe: str, boundary: str, type: Any, folder: Path) -> None:
    assert main(["quantize", "m.nnapi", "-c", "c.npz", "-r", recipe, "--boundary", boundary, "-o", "q.nnapi"]) == 0
    model = nnapi.load("q.nnapi")
    assert {o.type for o in (*model.input_operands, *model.output_operands)} == {type}


def test_a_file_that_its_reader_computes_otherwise_is_written_with_a_warning(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it does is `nnapi.compile`'s to say."""
    reason = "fails the accuracy gate: output y: SQNR 2.4 dB, limit 20 dB"
    session = SimpleNamespace(fallbacks=[Fallback("3 operations", "litert", reason)])
    monkeypatch.setattr(quantize, "compile", lambda model, devices: session)
    assert main(["quantize", "m.nnapi", "-c", "c.npz", "-r", "int16x8", "-o", "q.tflite"]) == 0
    assert f"warning: q.tflite is computed otherwise by litert: {reason}" in capsys.readouterr().err
    assert (folder / "q.tflite").exists()


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ".param"])
@pytest.mark.parametrize("options", [(), ("--no-optimize",), ("--layout", "nchw"), ("--layout", "nhwc")], ids=" ".join)
def test_a_layout_for_every_file(options: tuple[str, ...], suffix: str, folder: Path) -> None:
    assert main(["convert", "m.nnapi", *options, "-o", f"m{suffix}"]) == 0
