"""A file of one small case, and how to write others."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def _operand(name: str, type: str, lifetime: str, dimensions: list[int], **more: Any) -> dict[str, Any]:
    return {
        "name": name, "type": type, "dimensions": dimensions, "scale": 0.0, "zeroPoint": 0, "lifetime": lifetime, **more
    }  # fmt: skip


_SCALED = {"scale": 0.5, "zeroPoint": 128}
_DOCUMENT = {
    "format": "nnapi-vectors/1",
    "spec": "add",
    "version": "V1_0",
    "buffers": [{"dtype": "|u1", "shape": [2], "b64": "gIE="}],
    "cases": [{
        "id": "V1_0/add/add", "variations": [], "minSupportedVersion": "V1_0", "isRelaxed": False,
        "expectFailure": False, "infiniteLoop": False, "multinomialTolerance": 0.0, "quantCoupling": True,
        "referenced": [], "rules": [{"rule": "near", "atol": 1, "rtol": 0}],
        "main": {
            "name": "main",
            "operands": [
                _operand("x", "TENSOR_QUANT8_ASYMM", "SUBGRAPH_INPUT", [2], data=[130, 132], **_SCALED),
                _operand("y", "TENSOR_QUANT8_ASYMM", "CONSTANT_COPY", [2], data={"buffer": 0}, **_SCALED),
                _operand("activation", "INT32", "CONSTANT_COPY", [], data=[0]),
                _operand("z", "TENSOR_QUANT8_ASYMM", "SUBGRAPH_OUTPUT", [2], data=[130, 133], **_SCALED),
            ],
            "operations": [{"type": "ADD", "inputs": [0, 1, 2], "outputs": [3]}],
            "inputs": [0], "outputs": [3],
        },
    }],
}  # fmt: skip


@pytest.fixture
def document() -> dict[str, Any]:
    """A file's contents: ADD of a quantized input and a constant."""
    return copy.deepcopy(_DOCUMENT)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    """Writes a document as a case file."""

    def write(document: Any) -> Path:
        path = tmp_path / "case.json.gz"
        path.write_bytes(gzip.compress(json.dumps(document).encode(), compresslevel=1))
        return path

    return write
