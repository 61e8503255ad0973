"""C programs that use the library as clients do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nnapi.capi.build import Library

Compile = Callable[..., Path]
Run = Callable[..., Any]


@pytest.mark.parametrize("devices", ["reference", "litert,reference"])
def test_the_whole_life(devices: str, compile_c: Compile, run: Run, tmp_path: Path) -> None:
    done = run([compile_c("lifecycle"), tmp_path], environment={"NNAPI_DEVICES": devices})
    assert done.stdout.endswith(" checks, 0 failures\n")
    assert done.stderr == ""
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["any", "litert", "reference"])
@pytest.mark.parametrize("mode", ["sync", "burst", "async"])
def test_a_delegate(device: str, mode: str, library: Library, compile_c: Compile, run: Run) -> None:
    done = run([compile_c("delegate", linked=False), library.path, device, mode])
    assert done.stdout.endswith(" checks, 0 failures\n")
    assert done.stderr == ""


@pytest.mark.parametrize("devices", ["reference", "litert,reference", ""])
def test_what_android_takes_and_refuses(devices: str, compile_c: Compile, run: Run) -> None:
    done = run([compile_c("tolerance")], environment={"NNAPI_DEVICES": devices})
    assert done.stdout.endswith(" checks, 0 failures\n")
    assert done.stderr == ""


def test_an_operation_that_no_device_will_run_is_logged(compile_c: Compile, run: Run) -> None:
    log = run([compile_c("tolerance")], environment={"NNAPI_LOG": "info"}).stderr
    assert "an operation that no device will run: ADD: activation is 999" in log


CYCLES = [
    pytest.param("reference", 1000, id="reference"),
    pytest.param("litert,reference", 4000, marks=pytest.mark.slow, id="litert"),
]
PER_CYCLE, STEPS = 500, 1_000_000
"""Bytes that a cycle may leave behind, and those by which the allocator's own steps may hide it."""


@pytest.mark.parametrize(("devices", "cycles"), CYCLES)
def test_nothing_stays(devices: str, cycles: int, compile_c: Compile, run: Run) -> None:
    done = run(
        [compile_c("stress"), "cycles", str(cycles)], environment={"NNAPI_DEVICES": devices}, timeout=60 + cycles / 10
    )
    assert int(done.stdout.split()[0]) < max(PER_CYCLE * cycles, STEPS)
    assert done.stdout.endswith(" checks, 0 failures\n")


@pytest.mark.slow
def test_eight_threads_at_once(compile_c: Compile, run: Run) -> None:
    done = run([compile_c("stress"), "threads", "20"], timeout=120)
    assert int(done.stdout.split()[0]) > 100
    assert done.stdout.endswith(" checks, 0 failures\n")
    assert done.stderr == ""


@pytest.mark.alone
def test_an_execution_costs_microseconds(compile_c: Compile, run: Run) -> None:
    source = Path(__file__).parents[2] / "benchmarks" / "capi_overhead.c"
    done = run([compile_c("capi_overhead", text=source.read_text()), "any", "3000"])
    times = json.loads(done.stdout)
    # Limits of the design are 25 and 60 on a quiet machine; a busy one is given twice the time.
    assert times["compute"] <= 50
    assert times["execution"] <= 120


def test_the_log_is_silent_unless_asked(compile_c: Compile, run: Run, tmp_path: Path) -> None:
    program = compile_c("lifecycle")
    info = run([program, tmp_path], environment={"NNAPI_LOG": "info"}).stderr
    assert "nnapi: compiled 1 of 1 operations: " in info
    debug = run([program, tmp_path], environment={"NNAPI_LOG": "debug"}).stderr
    assert "nnapi: ANeuralNetworksModel_setOperandValue: BAD_DATA: operand 99 does not exist" in debug
    assert "Traceback" not in debug and "internal" not in debug
