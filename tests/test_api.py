"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nnapi

PUBLIC = ["load", "optimize", "partition", "build", "compile", "check", "devices", "save", "verify", "Builder", "Model"]
HEAVY = ["torch", "onnx", "ai_edge_litert", "scipy", "sklearn", "numpy"]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_exist(name: str) -> None:
    assert callable(getattr(nnapi, name))
    assert name in dir(nnapi)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nnapi.nothing


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("import nnapi", id="import"),
        pytest.param("from nnapi.cli import main; main(['--help'])", id="help"),
    ],
)
def test_nothing_heavy_is_loaded(statement: str) -> None:
    program = f"{statement}\nimport sys; print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_load_and_compile_leave_engines_alone_until_needed() -> None:
    program = "import nnapi, sys; nnapi.load, nnapi.compile; print({*sys.modules} & {'torch', 'ai_edge_litert'})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
