"""Constants beside activations: zeros and epsilons have a scale that kernels can compute with."""

from __future__ import annotations

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.exporters.tflite import export_tflite
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import F32
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
