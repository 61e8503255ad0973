"""What a MUL stands for: the same numbers, and no island of floats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ops.types import F32
from nnapi.quantization.judge import Judge
from nnapi.quantization.multiply import multiply
from nnapi.quantization.quantize import quantize_model

SHAPE = (2, 3, 4)


def model_of(grow: Callable[[Builder, Ref], Ref]) -> Model:
    b = Builder("m")
    b.output(grow(b, b.input("x", F32, SHAPE)))
    return b.finish()


def div(b: Builder, x: Ref, by: object, activation: int = 0) -> Ref:
    return b.add("DIV", {"input0": x, "input1": np.asarray(by, np.float32), "activation": activation}, name="div")


# grow, most relative error: a reciprocal and a product round once each; a sum of n terms n times
ROWS: dict[str, tuple[Callable[[Builder, Ref], Ref], float]] = {
    "by the root of a width": (lambda b, x: div(b, x, [np.sqrt(48)]), 2**-23),
    "by a power of two": (lambda b, x: div(b, x, [8.0]), 0.0),
    "by a number of each channel": (lambda b, x: div(b, x, [0.1, 2, -3, 1e6]), 2**-23),
    "with an activation": (lambda b, x: div(b, x, [0.7], 1), 2**-23),
    "negation": (lambda b, x: b.add("NEG", {"input": x}), 0.0),
    "sum": (lambda b, x: b.add("REDUCE_SUM", {"input": x, "axes": [1, -1], "keep_dims": False}), 1e-5),
    "sum, dimensions kept": (lambda b, x: b.add("REDUCE_SUM", {"input": x, "axes": [0], "keep_dims": True}), 1e-6),
}


@pytest.mark.parametrize(("grow", "error"), ROWS.values(), ids=ROWS.keys())
def test_the_same_numbers_in_integers(grow: Callable[[Builder, Ref], Ref], error: float) -> None:
    model = model_of(grow)
    given = [(np.random.default_rng(n).uniform(0.5, 1, SHAPE).astype(np.float32),) for n in range(8)]
    x = given[0]
    np.testing.assert_allclose(execute(multiply(model), list(x))[0], execute(model, list(x))[0], rtol=error)
    found = quantize_model(model, given, "int8")
    assert {c.precision for c in found.table.operations.values()} == {"int8"}
    assert Judge(model, given).sqnr(found.model) > 35  # 8 bits, twice


@pytest.mark.parametrize("divisor", [0.0, 1e-39, np.inf, 1e39], ids=str)
def test_what_has_no_reciprocal_stays(divisor: float) -> None:
    with np.errstate(over="ignore"):
        model = model_of(lambda b, x: div(b, x, [divisor]))
    assert multiply(model) is model


def test_attention_by_hand_has_no_island() -> None:
    """`softmax(q @ k.T / sqrt(d)) @ v` as people write it."""
    torch = pytest.importorskip("torch")
    from nnapi.pipeline import load, optimize

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (torch.nn.Linear(24, 24) for _ in range(3))

        def forward(self, x):  # type: ignore[no-untyped-def]
            scores = self.q(x) @ self.k(x).transpose(-1, -2) / 24**0.5
            return scores.softmax(-1) @ self.v(x)

    torch.manual_seed(0)
    x = torch.randn(1, 5, 24)
    model = optimize(load(Attention().eval(), (x,)))
    found = quantize_model(model, [x.numpy(), -x.numpy()], "int8_float_io")
    kinds = Counter(o.type for o in found.model.operations)
    assert (kinds["QUANTIZE"], kinds["DEQUANTIZE"], kinds["DIV"]) == (1, 1, 0)
