"""Masked attention in 8 bits: what hides a score leaves the others their range."""

from __future__ import annotations

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.numeric import dequantize
from nnapi.ops.types import F32
from nnapi.quantization.judge import quantized_inputs
from nnapi.quantization.masks import clip_masks
from nnapi.quantization.metrics import sqnr
from nnapi.quantization.quantize import quantize_model
from quantization.graphs import examples

CAUSAL = np.triu(np.ones((6, 6), bool), 1)


def masked(hidden: float, *, last: bool = False, first: bool = False) -> Model:
    """`SOFTMAX(x + mask)`; with `last` the sum is an output too, with `first` the mask is ADD's first input."""
    b = Builder("masked")
    x = b.input("x", F32, (2, 6, 6))
    mask = np.where(CAUSAL, np.float32(hidden), np.float32(0))[None]
    a, c = (mask, x) if first else (x, mask)
    total = b.add("ADD", {"input0": a, "input1": c, "activation": 0})
    b.output(b.add("SOFTMAX", {"input": total, "beta": 2.0}))
    if last:
        b.output(total)
    return b.finish()


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("hidden", [-65504.0, float(np.finfo(np.float32).min), -np.inf], ids=str)
@pytest.mark.parametrize("recipe", ["int8", "uint8"])
def test_masks_leave_scores_their_range(recipe: str, hidden: float, first: bool) -> None:
    model = masked(hidden, first=first)
    quantized = quantize_model(model, examples(model, 32), recipe).model
    assert all(np.isfinite(o.scale) and o.scale < 0.3 for o in quantized.operands)
    (x,) = examples(model, 1, seed=5)[0]
    (exact,) = execute(model, [x])
    (stored,) = execute(quantized, list(quantized_inputs(quantized, (x,))))
    actual = dequantize(stored, quantized.output_operands[0])
    assert not actual[:, CAUSAL].any()
    assert sqnr(exact, actual) > 25  # steps of 0.06 before beta of 2


@pytest.mark.parametrize("model", [masked(-5.0), masked(-65504.0, last=True)], ids=["no mask", "seen elsewhere"])
def test_other_sums_stay(model: Model) -> None:
    assert clip_masks(model, examples(model, 2)) is model


def test_the_function_stays() -> None:
    model = masked(-65504.0)
    given = examples(model, 4)
    clipped = clip_masks(model, given)
    for (x,) in given:
        # what the clipped scores leave: five in ten million
        np.testing.assert_allclose(execute(clipped, [x])[0], execute(model, [x])[0], rtol=1e-5, atol=1e-6)
