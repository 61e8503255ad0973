"""ONNX files: valid by ONNX's own checker, written whole or not at all, run by ONNX Runtime as by the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models import chain
from nnapi.drivers.reference import execute
from nnapi.errors import UsageError
from nnapi.exporters.save import save
from nnapi.ir.builder import Builder
from nnapi.ir.verdict import Accept, Reject
from nnapi.ops.types import F32

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from nnapi.exporters.onnx import OPSET, check_onnx, export_onnx  # noqa: E402

X = np.arange(4, dtype=np.float32).reshape(1, 4)


def test_a_file_is_valid_and_states_its_opset(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save(chain("ADD", "MUL", "MAXIMUM"), path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_onnx_runtime_computes_what_the_reference_does() -> None:
    model = chain("ADD", "MUL", "MAXIMUM")
    session = onnxruntime.InferenceSession(export_onnx(model), providers=["CPUExecutionProvider"])
    (actual,) = session.run(None, {session.get_inputs()[0].name: X})
    np.testing.assert_allclose(actual, execute(model, [X])[0], rtol=1e-6)


def test_what_onnx_has_no_form_for_is_refused_with_a_reason() -> None:
    b = Builder("draw")
    seeds = np.array([1, 2], np.int32)
    b.output(b.add("RANDOM_MULTINOMIAL", {"input": b.input("x", F32, (1, 3)), "sample_count": 5, "seeds": seeds}))
    (verdict,) = check_onnx(b.finish())
    assert isinstance(verdict, Reject)
    assert "RANDOM_MULTINOMIAL" in verdict.reason
    assert check_onnx(chain("ADD")) == [Accept()]


def test_an_unwritable_path_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        save(chain("ADD"), tmp_path / "none" / "m.onnx")
