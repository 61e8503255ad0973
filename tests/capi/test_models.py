"""Whole models through the C functions: conformance cases, and what the library adds to an engine's time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from native import Client
from nnapi.bench.compare import interleave
from nnapi.conformance.compare import first_difference
from nnapi.conformance.reader import case_files, read_cases
from nnapi.drivers.driver import PrepareOptions
from nnapi.drivers.registry import get

STRIDE = 12
"""Every how many-th file of cases is run."""
MAX_ADDED = 100e-6
"""Seconds that an execution of a network may cost beyond its engine's own."""


def test_conformance_cases(nn: Client, vectors: Path) -> None:
    ran = 0
    for file in case_files(vectors)[::STRIDE]:
        for case in read_cases(file):
            if case.expect_failure or case.infinite_loop:
                continue
            model = nn.model(case.model)
            compilation = nn.compiled(model, "reference")
            outputs = nn.compute(compilation, case.model, case.inputs)
            assert not first_difference(case.expected, outputs, case.rules, case.inputs), case.id
            nn.Compilation_free(compilation)
            nn.Model_free(model)
            ran += 1
    assert ran > 100


def test_what_a_network_costs_beyond_its_engine(nn: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    import nnapi

    ir = nnapi.optimize(nnapi.load("zoo:mobilenet_v2"))
    monkeypatch.setenv("NNAPI_DEVICES", "null")  # an engine that takes no time
    x = np.zeros(ir.input_operands[0].dimensions, np.float32)
    y = np.ones(ir.output_operands[0].dimensions, np.float32)
    model = nn.model(ir)
    compilation = nn.compiled(model, "null")
    execution = nn.new("Execution_create", compilation)
    nn.ok("Execution_setReusable", execution, True)
    nn.ok("Execution_setInput", execution, 0, nn.ffi.NULL, nn.ffi.from_buffer(x), x.nbytes)
    nn.ok("Execution_setOutput", execution, 0, nn.ffi.NULL, nn.ffi.from_buffer(y), y.nbytes)
    prepared = get("null").prepare(ir, PrepareOptions())
    latency = interleave(
        {"library": lambda: nn.Execution_compute(execution), "engine": lambda: prepared.run([x], [y])}, repeats=300
    )
    assert not y.any()
    assert latency["library"].p50 - latency["engine"].p50 < MAX_ADDED
    nn.Execution_free(execution)
    nn.Compilation_free(compilation)
    nn.Model_free(model)
