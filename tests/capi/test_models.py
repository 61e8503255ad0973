"""Whole models through the C functions: conformance cases, and what the library adds to an engine's time."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from native import Client
from nnapi.bench.compare import interleave
from nnapi.conformance.compare import first_difference
from nnapi.conformance.reader import case_files, read_cases
from nnapi.drivers.driver import PrepareOptions
from nnapi.drivers.reference import execute
from nnapi.drivers.registry import get
from nnapi.ir.model import Model
from nnapi.ops.numeric import dequantize, quantize
from nnapi.ops.types import Array
from nnapi.quantization.metrics import sqnr
from nnapi.quantization.quantize import quantize_model

STRIDE = 12
"""Every how many-th file of cases is run."""
MAX_ADDED = 100e-6
"""Seconds that an execution of a network may cost beyond its engine's own."""
DECIBELS = 2.0
"""What an engine that rounds otherwise may lose beside the reference, against the network in floats."""


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


@pytest.mark.alone
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


@cache
def quantized(network: str, recipe: str) -> tuple[Model, list[Array], Array, Array]:
    """A network in integers, its inputs, what the reference makes of them, and what PyTorch's floats do."""
    torch = pytest.importorskip("torch")
    import nnapi
    from nnapi import zoo
    from nnapi.zoo.weights import sample

    module, inputs = zoo.build(network, small=True)
    generator = torch.Generator().manual_seed(3)
    images = [sample(tuple(inputs[0].shape), generator).numpy() for _ in range(3)]
    model = nnapi.optimize(quantize_model(nnapi.optimize(nnapi.load(module, inputs)), images, recipe).model)
    values = [quantize(images[0], model.input_operands[0])]
    expected = module(torch.from_numpy(images[0])).detach().numpy()
    return model, values, execute(model, values)[0], expected


@pytest.mark.parametrize("device", ["reference", "litert", "openvino", "onnxruntime"])
@pytest.mark.parametrize("recipe", ["int8", "uint8", "int8_float_io", "dynamic_range"])
@pytest.mark.parametrize("network", ["digits", pytest.param("mobilenet_v2", marks=pytest.mark.slow)])
def test_quantized_networks(nn: Client, network: str, recipe: str, device: str) -> None:
    """Of a network in integers the library gives what the reference gives, within what engines round otherwise."""
    if device not in nn.devices():
        pytest.skip(f"{device} is not installed")
    ir, values, exact, expected = quantized(network, recipe)
    model = nn.model(ir)
    # What one device refuses another takes: a compilation for one device alone never falls back.
    compilation = nn.compiled(model, *dict.fromkeys((device, "reference")))
    (actual,) = nn.compute(compilation, ir, values)
    operand = ir.output_operands[0]
    reached = sqnr(expected, dequantize(exact, operand))
    assert sqnr(expected, dequantize(actual, operand)) >= reached - DECIBELS
    nn.Compilation_free(compilation)
    nn.Model_free(model)
