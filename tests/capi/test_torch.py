"""PyTorch's NNAPI client, unmodified: every operation that its converter emits, and MobileNet-V2, against PyTorch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nnapi.capi.build import Library

pytest.importorskip("torch.backends._nnapi.prepare")
CLIENT = Path(__file__).parent / "torch_client.py"
OPERATIONS = 26
"""All that the converter can emit."""
QUANTA: dict[str, tuple[float, float]] = {
    # Quanta of difference, and the share of values that may differ: PyTorch multiplies by a float scale and rounds half
    # to even, NNAPI's engines by a fixed-point number and away from zero. Halves are frequent where scales are simple.
    "add": (1, 0.5),
    "average": (1, 0.2),
    "average-pool-other-scale": (1, 1),
    "convolution": (1, 0.03),
    "depthwise": (1, 0.03),
    "global": (1, 0.2),
    "linear": (1, 0.2),
    "multiply": (1, 0.03),
    "transposed": (1, 0.03),
}
EXACT = (0.0, 0.0)


def _run(kind: str, library: Library, run: Callable[..., Any], devices: str) -> dict[str, Any]:
    environment = {"LD_LIBRARY_PATH": str(library.directory), "NNAPI_DEVICES": devices}
    lines = run([sys.executable, CLIENT, kind], environment=environment, timeout=300).stdout.splitlines()
    results = [json.loads(line) for line in lines]
    assert len({result["name"] for result in results}) == len(results) > 0
    return {result["name"]: result for result in results}


def _judge(result: dict[str, Any]) -> str:
    """What is wrong with a result; nothing where it is right."""
    if "failure" in result:
        return str(result["failure"])
    name = result["name"]
    quanta, share = QUANTA.get(name, QUANTA.get(name.split("-")[0], EXACT))
    if result.get("quanta", 0) > quanta or result.get("differing", 0) > share:
        return f"{result['quanta']} quanta off, {result['differing']:.1%} of the values"
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("devices", ["litert,reference", "reference"])
def test_every_operation_that_the_converter_emits(devices: str, library: Library, run: Callable[..., Any]) -> None:
    results = _run("small", library, run, devices)
    wrong = {name: _judge(result) for name, result in results.items()}
    assert {name: what for name, what in wrong.items() if what} == {}
    assert len({operation for result in results.values() for operation in result["operations"]}) == OPERATIONS


@pytest.mark.slow
def test_mobilenet_v2(library: Library, run: Callable[..., Any]) -> None:
    results = _run("large", library, run, "litert,reference")
    assert {name: _judge(result) for name, result in results.items()} == {"mobilenet-v2": "", "mobilenet-v2-nhwc": ""}
