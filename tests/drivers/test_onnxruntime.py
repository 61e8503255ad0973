"""ONNX Runtime: what the contract and test_by_shape.py do not ask."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models import chain
from nnapi.conformance.runner import run_folder
from nnapi.drivers.driver import PrepareOptions
from nnapi.errors import CompileError, ExecutionError

pytest.importorskip("onnxruntime")

from nnapi.drivers import onnxruntime as driver_module
from nnapi.drivers.onnxruntime import ONNXRuntimeDriver

DRIVER = ONNXRuntimeDriver()
CASES = ("conv_quant8", "depthwise_conv2d_v1_2", "concat_mixed_quant", "if_same_shape", "roi_align", "strided_slice")
"""Parts of the names of specs that cross most of what the driver does."""


def test_a_machine_without_vnni_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "saturates", lambda: True)
    x = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(DRIVER.prepare(chain("ADD"), PrepareOptions()).run([x])[0], 2 * x)


def test_what_the_engine_raises_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "export_onnx", lambda model: b"no model")
    with pytest.raises(CompileError, match="ONNX Runtime: "):
        DRIVER.prepare(chain("ADD"), PrepareOptions())


def test_a_failure_while_running_is_an_execution_s_error() -> None:
    ready = DRIVER.prepare(chain("ADD"), PrepareOptions())
    with pytest.raises(ExecutionError):
        ready.run([np.ones((1, 5), np.float32)])


def test_the_engine_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    ready = DRIVER.prepare(chain("ADD", "MUL"), PrepareOptions(num_threads=2))
    ready.run([np.ones((1, 4), np.float32)])
    with pytest.raises(ExecutionError):
        ready.run([np.ones((2, 4), np.float32)])
    assert capfd.readouterr() == ("", "")


def test_the_package_alone_loads_no_engine() -> None:
    program = "import nnapi, sys; print([m for m in ('onnx', 'onnxruntime', 'openvino') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_conformance(vectors: Path) -> None:
    """Some specs here; `nnapi conformance` runs all."""
    taken = 0
    for path in sorted(vectors.rglob("*.json.gz")):
        if any(part in path.name for part in CASES):
            for outcome in run_folder(path, DRIVER):
                assert outcome.status != "failed", f"{outcome.case}: {outcome.detail}"
                taken += outcome.status == "passed"
    assert taken > 100
