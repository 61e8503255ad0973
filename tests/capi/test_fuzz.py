"""Random calls: no crash, no hang, no answer that is no result code, no bug of ours brought to light."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nnapi.capi.build import Library

FUZZER = Path(__file__).parent / "fuzz.py"
RUNS = [
    *((seed, 1500, "reference") for seed in range(3)),
    *(pytest.param(seed, 4_000, "litert,reference", marks=pytest.mark.slow) for seed in range(3, 9)),
]


@pytest.mark.parametrize(("seed", "calls", "devices"), RUNS)
def test_random_calls(
    seed: int, calls: int, devices: str, library: Library, run: Callable[..., Any], tmp_path: Path
) -> None:
    environment = {"PYTHONPATH": str(FUZZER.parent.parent), "NNAPI_DEVICES": devices}
    command = [sys.executable, FUZZER, library.path, str(seed), str(calls)]
    done = run(command, environment=environment, timeout=300, folder=tmp_path)  # which it may take for a cache
    answers = {int(code): count for code, count in json.loads(done.stdout).items()}
    assert "internal error" not in done.stderr
    assert min(answers[code] for code in (0, 3, 4, 6)) > calls / 100, answers
