"""16-bit floats: whatever has operands of no value, bodies, or constants beyond what half a float holds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ir.verify import verify
from nnapi.ops.types import F16, F32, FLOAT32
from nnapi.pipeline import load, optimize, quantize
from nnapi.quantization.judge import Judge
from nnapi.quantization.quantize import quantize_model

torch = pytest.importorskip("torch")
LEAST = 55.0
"""dB: 11 bits of each value, summed over some hundred."""


class Last(torch.nn.Module):
    """A recurrent network's outputs alone."""

    def __init__(self, cell: torch.nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cell(x)[0]


RECURRENT = {
    "lstm": (torch.nn.LSTM, {}),
    "lstm of two layers": (torch.nn.LSTM, {"num_layers": 2}),
    "lstm without biases": (torch.nn.LSTM, {"bias": False}),
    "lstm with a projection": (torch.nn.LSTM, {"proj_size": 5}),
    "lstm both ways": (torch.nn.LSTM, {"bidirectional": True}),
    "lstm batch first": (torch.nn.LSTM, {"batch_first": True}),
    "rnn": (torch.nn.RNN, {}),
    "rnn both ways": (torch.nn.RNN, {"bidirectional": True, "nonlinearity": "relu"}),
}


@pytest.mark.parametrize(("cell", "options"), RECURRENT.values(), ids=RECURRENT.keys())
def test_recurrent_networks(cell: type[torch.nn.Module], options: dict[str, object]) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 5, 8)
    model = optimize(load(Last(cell(8, 12, **options)).eval(), (x,)))
    found = quantize_model(model, None, "fp16")
    verify(found.model)
    assert not [c for c in found.table.operations.values() if c.precision != "float16"]
    assert Judge(model, [(x.numpy(),)]).sqnr(found.model) > LEAST


def svdf(bias: bool) -> Model:
    b = Builder("svdf")
    rng = np.random.default_rng(0)
    inputs = {"input": b.input("x", F32, (2, 3)), "weights_feature": rng.normal(size=(4, 3)).astype(np.float32)}
    inputs |= {"weights_time": rng.normal(size=(4, 2)).astype(np.float32)}
    inputs |= {"bias": np.ones(4, np.float32) if bias else b.omitted(F32), "state": b.input("s", F32, (2, 8))}
    b.output(*b.add_many("SVDF", inputs | {"rank": 1, "activation": 0}))
    return b.finish()


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_svdf(bias: bool) -> None:
    model = svdf(bias)
    result = quantize(model, None, "fp16")
    verify(result)
    given = [np.random.default_rng(1).normal(size=o.dimensions).astype(np.float32) for o in model.input_operands]
    assert Judge(model, [tuple(given)]).sqnr(result) > LEAST
    assert {o.type for o in result.operands if o.type.is_tensor and o.is_omitted} == (set() if bias else {F16})


def test_branches_stay_as_they_are() -> None:
    class Branches(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cond(x.sum() > 0, lambda x: self.layer(x), lambda x: x * 2, (x,))

    torch.manual_seed(0)
    x = torch.randn(2, 8)
    model = optimize(load(Branches().eval(), (x,)))
    result = quantize(model, None, "fp16")
    verify(result)
    assert Judge(model, [(x.numpy(),), (-x.numpy(),)]).sqnr(result) > LEAST
    assert Counter(o.type for o in result.operations)["IF"] == 1


def test_a_scalar_that_comes_at_run_time_stays_float32() -> None:
    """CAST takes tensors only."""
    b = Builder("beta")
    b.output(b.add("SOFTMAX", {"input": b.input("x", F32, (2, 3)), "beta": b.input("beta", FLOAT32, ())}))
    found = quantize_model(b.finish(), None, "fp16")
    assert [c.precision for c in found.table.operations.values()] == ["float32"]


@pytest.mark.parametrize("mask", [-1e9, float(np.finfo(np.float32).min), -np.inf], ids=str)
def test_masks_hide_in_16_bits(mask: float) -> None:
    """A mask of -1e9 that became minus infinity would leave NaN in a row that it hides wholly."""
    b = Builder("mask")
    hidden = np.zeros((2, 4), np.float32)
    hidden[0, 2:] = mask
    hidden[1, : 4 if np.isfinite(mask) else 3] = mask
    scores = b.add("ADD", {"input0": b.input("x", F32, (2, 4)), "input1": hidden, "activation": 0})
    b.output(b.add("SOFTMAX", {"input": scores, "beta": 1.0}))
    model = b.finish()
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    (y,) = execute(quantize(model, None, "fp16"), [x])
    (expected,) = execute(model, [x])
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y[0], expected[0], atol=2e-3)  # 11 bits
