"""Recurrent layers step by step: every form of NNAPI's operations as the reference computes it, GRU as PyTorch does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nnapi
from nnapi.drivers.reference import execute
from nnapi.errors import ModelError
from nnapi.exporters.save import save
from nnapi.ir import recurrence
from nnapi.ir.builder import Builder
from nnapi.ir.model import COMPOSITE, Model
from nnapi.ir.recurrence import unrolled
from nnapi.ir.verify import verify
from nnapi.ops.types import F32, Array, Operand
from ops.test_recurrent import (
    AUX,
    BATCH,
    FORMS,
    INPUT,
    TIME,
    UNITS,
    bidirectional_lstm_inputs,
    bidirectional_rnn_inputs,
    lstm_inputs,
    ordered,
    rnn_weights,
    weights,
)

TOLERANCE = 2e-6
"""A few roundings of float32 in each of the steps: values are within 1, or some."""
NORM = {f"{g}_layer_norm_weights": None for g in ("input", "forget", "cell", "output")}


def _lstm(form: str, **scalars: Any) -> dict[str, Any]:
    return NORM | lstm_inputs(FORMS[form]) | weights(7, input=(TIME, BATCH, INPUT)) | {"time_major": True} | scalars


def _rnn() -> dict[str, Any]:
    return rnn_weights() | weights(1, input=(TIME, BATCH, INPUT)) | {"activation": 4, "time_major": True}


def _aux_rnn() -> dict[str, Any]:
    shapes = {"aux_input": (TIME, BATCH, AUX), "fw_aux_weights": (UNITS, AUX), "bw_aux_weights": (UNITS, AUX)}
    return bidirectional_rnn_inputs() | weights(4, **shapes)


CASES: dict[str, tuple[str, Callable[[], dict[str, Any]], int]] = {
    **{f"lstm, {name}": ("UNIDIRECTIONAL_SEQUENCE_LSTM", lambda name=name: _lstm(name), 3) for name in FORMS},
    "lstm, outputs only": ("UNIDIRECTIONAL_SEQUENCE_LSTM", lambda: _lstm("plain"), 1),
    **{
        f"lstm both ways, {name}": (
            "BIDIRECTIONAL_SEQUENCE_LSTM",
            lambda name=name: bidirectional_lstm_inputs(FORMS[name]),
            6,
        )
        for name in ("plain", "all of it", "all of it, coupled")
    },
    "lstm both ways, merged": (
        "BIDIRECTIONAL_SEQUENCE_LSTM", lambda: bidirectional_lstm_inputs(FORMS["plain"]) | {"merge_outputs": True}, 5,
    ),
    "lstm both ways, cross-linked": (
        "BIDIRECTIONAL_SEQUENCE_LSTM", lambda: bidirectional_lstm_inputs(FORMS["plain"], aux=True), 6,
    ),
    "rnn": ("UNIDIRECTIONAL_SEQUENCE_RNN", _rnn, 2),
    "rnn both ways": ("BIDIRECTIONAL_SEQUENCE_RNN", bidirectional_rnn_inputs, 4),
    "rnn both ways, cross-linked": ("BIDIRECTIONAL_SEQUENCE_RNN", _aux_rnn, 4),
}  # fmt: skip


def layer(operation: str, inputs: dict[str, Any], outputs: int, *, time_major: bool, states: bool) -> Model:
    """The operation on a variable input, with variable or constant states."""
    b = Builder("layer")
    given = dict(inputs) | {"time_major": time_major}
    for name, value in inputs.items():
        if name in ("input", "aux_input") and value is not None:
            given[name] = b.input(name, F32, ordered(value, time_major).shape)
        elif "state" in name and states:
            given[name] = b.input(name, F32, value.shape)
    b.output(*b.add_many(operation, given, [Operand(F32)] * outputs))
    return b.finish()


@pytest.mark.parametrize("states", [True, False], ids=["states given", "states known"])
@pytest.mark.parametrize("time_major", [True, False], ids=["time-major", "batch-major"])
@pytest.mark.parametrize("name", CASES)
def test_every_form_is_the_operation_s(name: str, time_major: bool, states: bool) -> None:
    operation, make, count = CASES[name]
    inputs = make()
    model = layer(operation, inputs, count, time_major=time_major, states=states)
    steps = unrolled(model, model.operations[0])
    assert steps is not None
    verify(steps.body)
    assert not any(o.type == operation for o in steps.body.operations)
    arrays = {
        i: np.ascontiguousarray(ordered(inputs[o.name], time_major) if "input" in o.name else inputs[o.name])
        for i, o in zip(model.inputs, model.input_operands)
    }
    expected = execute(model, [arrays[i] for i in model.inputs])
    for found, right in zip(execute(steps.body, [arrays[i] for i in steps.inputs]), expected, strict=True):
        np.testing.assert_allclose(found, right, atol=TOLERANCE, rtol=TOLERANCE)


def test_an_operation_that_does_not_recur_has_no_steps() -> None:
    b = Builder()
    b.output(b.add("RELU", {"input": b.input("x", F32, (2,))}))
    model = b.finish()
    assert unrolled(model, model.operations[0]) is None


def test_too_many_steps_are_refused_with_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    model = layer("UNIDIRECTIONAL_SEQUENCE_RNN", _rnn(), 1, time_major=True, states=False)
    monkeypatch.setattr(recurrence, "MAX_STEPS", TIME - 1)
    with pytest.raises(ModelError, match=f"{TIME} time steps, {TIME - 1} are written one by one"):
        unrolled(model, model.operations[0])


def test_weights_that_vary_are_refused_by_name() -> None:
    model = layer("UNIDIRECTIONAL_SEQUENCE_RNN", _rnn(), 1, time_major=True, states=False)
    (operation,) = model.operations
    w = operation.inputs[1]
    operands = tuple(replace(o, value=None) if i == w else o for i, o in enumerate(model.operands))
    with pytest.raises(ModelError, match="weights is not a constant"):
        unrolled(replace(model, operands=operands, inputs=(*model.inputs, w)), operation)


GRUS: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {
    "time first": (nn.GRU(6, 5), [(7, 2, 6)]),
    "batch first, state given": (nn.GRU(6, 5, batch_first=True), [(2, 7, 6), (1, 2, 5)]),
    "two layers both ways": (nn.GRU(6, 5, 2, bidirectional=True), [(7, 2, 6), (4, 2, 5)]),
    "no batch, no bias": (nn.GRU(6, 5, bias=False), [(7, 6)]),
    "one step": (nn.GRU(6, 5), [(1, 2, 6)]),
    "one step of one": (nn.GRU(1, 1), [(1, 1, 1)]),
}


@pytest.mark.parametrize("device", ["reference", "litert", "onnxruntime", "openvino", "pytorch"])
@pytest.mark.parametrize("name", GRUS)
def test_gru_is_pytorch_s_on_every_engine(name: str, device: str) -> None:
    if device not in {d.name for d in nnapi.devices()}:
        pytest.skip(f"{device} is not here")
    module, shapes = GRUS[name]
    torch.manual_seed(0)
    inputs = tuple(map(torch.randn, shapes))
    model = nnapi.load(module.eval(), inputs)
    assert COMPOSITE + "GRU" in {o.type for o in model.operations}
    with torch.no_grad():
        expected = [t.numpy() for t in module(*inputs)]
    session = nnapi.compile(model, devices=device)
    assert not session.fallbacks
    for found, right in zip(session(*(x.numpy() for x in inputs)), expected, strict=True):
        assert found.shape == right.shape
        np.testing.assert_allclose(found, right, atol=TOLERANCE)


def test_a_gru_of_very_many_steps_stays_one_operation() -> None:
    model = nnapi.load(nn.GRU(2, 3).eval(), (torch.randn(recurrence.MAX_STEPS + 1, 1, 2),))
    assert [o.type for o in model.operations] == ["org.pytorch.aten/gru.input"]


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "gru": lambda: nn.GRU(6, 5), "gru both ways": lambda: nn.GRU(6, 5, bidirectional=True),
    "lstm": lambda: nn.LSTM(6, 5), "lstm both ways": lambda: nn.LSTM(6, 5, 2, bidirectional=True),
    "lstm with projection": lambda: nn.LSTM(6, 5, proj_size=3), "rnn": lambda: nn.RNN(6, 5, nonlinearity="relu"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ".param", ".nnapi"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_file_takes_recurrent_layers(name: str, suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 1, 6)
    model = nnapi.load(LAYERS[name]().eval(), (x,))
    save(model, tmp_path / f"m{suffix}")
    if suffix == ".tflite":
        interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(tmp_path / "m.tflite"))
        found = list(interpreter.get_signature_runner()(**{model.input_operands[0].name: x.numpy()}).values())
        expected: list[Array] = execute(model, [x.numpy()])
        assert {f.shape for f in found} == {e.shape for e in expected}
        for right in expected:  # in whatever order the runner has them
            assert min(np.abs(f - right).max() for f in found if f.shape == right.shape) < TOLERANCE


@pytest.mark.filterwarnings("ignore::nnapi.quantization.quantize.QuantizeWarning")  # in floats, and says so
@pytest.mark.parametrize("recipe", ["int8", "uint8", "int16x8", "mixed", "dynamic_range", "fp16"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_every_recipe_takes_recurrent_layers(cell: str, recipe: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 1, 6)
    model = nnapi.load(LAYERS[cell]().eval(), (x,))
    examples = [(torch.randn(4, 1, 6).numpy(),) for _ in range(3)]
    verify(nnapi.quantize(model, examples, recipe))
