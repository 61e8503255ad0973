"""Constants: zeros and epsilons have a scale that kernels can compute with, and what several read is stored once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.exporters.save import save
from nnapi.exporters.tflite import export_tflite
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import F32, I32
from nnapi.pipeline import quantize
from nnapi.quantization.metrics import sqnr
from tflite_cases import interpret

RNG = np.random.default_rng(0)
CONSTANTS = {"zeros": 0.0, "an epsilon": 1e-6, "as large": 2.0, "far larger": 3000.0}
SIZES = {"tiny": 0.01, "plain": 3.0}
RECIPES = {"int16x8": 80.0, "int8_float_io": 40.0, "uint8": 40.0}
"""And what they keep at least, in dB: 16 bits some 90, 8 bits some 45."""


def with_constant(kind: str, value: float, *, first: bool) -> Model:
    b = Builder(kind)
    x, c = b.input("x", F32, (2, 16)), np.full((1, 16), value, np.float32)
    pair = (c, x) if first else (x, c)
    y = b.add(kind, {"input0": pair[0], "input1": pair[1]} | ({} if kind == "MAXIMUM" else {"activation": 0}))
    b.output(y)
    return b.finish()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("constant", CONSTANTS)
@pytest.mark.parametrize("kind", ["ADD", "SUB", "MAXIMUM"])
def test_a_sum_with_a_constant(kind: str, constant: str, size: str, recipe: str) -> None:
    x = RNG.standard_normal((2, 16)).astype(np.float32) * np.float32(SIZES[size])
    if constant == "far larger" and size == "tiny":
        pytest.skip("nothing of the input is left")
    for first in (False, True):
        model = with_constant(kind, CONSTANTS[constant], first=first)
        quantized = quantize(model, [x], {"base": recipe, "boundary": "float32"})
        (right,), (reference,) = execute(model, [x]), execute(quantized, [x])
        (found,) = interpret(export_tflite(quantized), [x])
        assert sqnr(right, reference) > RECIPES[recipe]
        assert sqnr(right, found) > RECIPES[recipe]


@pytest.mark.parametrize("suffix", ["nnapi", "tflite", "onnx"])
@pytest.mark.parametrize("readers", ["an embedding", "two layers", "both"])
def test_a_filter_that_others_read_is_stored_once(readers: str, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip({"tflite": "ai_edge_litert"}.get(suffix, suffix))
    table = RNG.standard_normal((300, 32)).astype(np.float32)
    b = Builder("tied")
    if readers == "two layers":
        x = b.input("x", F32, (4, 32))
    else:
        x = b.add("GATHER", {"input": table, "axis": 0, "indices": b.input("tokens", I32, (4,))})
    layers = 1 if readers == "an embedding" else 2
    given = {"filter": table, "bias": np.zeros(300, np.float32), "activation": 0}
    b.output(*(b.add("FULLY_CONNECTED", given | {"input": y}) for y in (x, b.add("TANH", {"input": x}))[:layers]))
    model = b.finish()
    quantized = quantize(model, recipe="dynamic_range")
    save(quantized, tmp_path / f"m.{suffix}")
    # 9.6 kB in 8 bits, scales and biases, in text or not; in floats it has 38.4 kB, and both would be 48.
    assert (tmp_path / f"m.{suffix}").stat().st_size < 20_000
    inputs = [np.arange(4, dtype=np.int32)] if readers != "two layers" else [table[:4]]
    for right, found in zip(execute(model, inputs), execute(quantized, inputs), strict=True):
        assert sqnr(right, found) > 35  # 8 bits of weights
