"""RNN, SVDF, LSTM and their sequence forms: against PyTorch's cells, against each other, and at the edges."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.errors import ExecutionError, MissedDeadline
from nnapi.ir.builder import Builder
from nnapi.ir.verify import feature_level, verify
from nnapi.ops import lstm, recurrent, sequence
from nnapi.ops.types import F16, F32, Operand

torch = pytest.importorskip("torch")
functional = torch.nn.functional

FLOAT32 = 1e-5  # sums of at most 12 products of numbers near 1 and a few steps of exp, in another order
FLOAT16 = 6e-3  # inputs and weights rounded to 11 bits, a few steps
NONE, RELU, RELU1, RELU6, TANH, SIGMOID = 0, 1, 2, 3, 4, 6
FUNCTIONS = {
    NONE: lambda x: x, RELU: torch.relu, RELU1: lambda x: x.clip(-1, 1), RELU6: lambda x: x.clip(0, 6),
    TANH: torch.tanh, SIGMOID: torch.sigmoid,
}  # fmt: skip
TIME, BATCH, INPUT, UNITS, OUTPUT, AUX = 4, 3, 5, 4, 2, 3


def weights(seed, **shapes):
    random = np.random.default_rng(seed)
    return {name: random.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def tensors(values):
    return {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in values.items()}


def as_half(inputs):
    """Arrays in float16, for the float16 forms."""
    return {
        n: Operand(F16).with_value(v.astype(np.float16)) if isinstance(v, np.ndarray) else v for n, v in inputs.items()
    }


def rnn_weights(seed=0, prefix="", source=INPUT):
    named = weights(
        seed, weights=(UNITS, source), recurrent_weights=(UNITS, UNITS), bias=UNITS, hidden_state=(BATCH, UNITS)
    )
    return {prefix + name: value for name, value in named.items()}


def rnn_step(w, x, h, prefix=""):
    total = x @ w[prefix + "weights"].T + h @ w[prefix + "recurrent_weights"].T + w[prefix + "bias"]
    return FUNCTIONS[w["activation"]](total)


class Form(NamedTuple):
    """What an LSTM has."""

    coupled: bool = False
    peephole: bool = False
    projection: bool = False
    projection_bias: bool = False
    norm: bool = False
    activation: int = TANH
    cell_clip: float = 0.0
    proj_clip: float = 0.0


FORMS = {
    "plain": Form(),
    "coupled": Form(coupled=True),
    "peephole": Form(peephole=True),
    "coupled, peephole": Form(coupled=True, peephole=True),
    "projection": Form(projection=True),
    "projection with bias, clipped": Form(projection=True, projection_bias=True, proj_clip=0.1),
    "layer normalization": Form(norm=True),
    "all of it": Form(
        peephole=True, projection=True, projection_bias=True, norm=True, cell_clip=0.2, proj_clip=0.3
    ),
    "all of it, coupled": Form(coupled=True, peephole=True, projection=True, norm=True, cell_clip=0.2),
    "no activation": Form(activation=NONE),
    "relu": Form(activation=RELU),
    "relu6": Form(activation=RELU6),
    "sigmoid": Form(activation=SIGMOID),
}  # fmt: skip


def lstm_weights(form, seed=0, prefix="", source=INPUT):
    gates = lstm.GATES[1:] if form.coupled else lstm.GATES
    output = OUTPUT if form.projection else UNITS
    shapes = {f"input_to_{g}_weights": (UNITS, source) for g in gates}
    shapes |= {f"recurrent_to_{g}_weights": (UNITS, output) for g in gates}
    shapes |= {lstm.BIASES[g]: UNITS for g in gates}
    if form.peephole:
        shapes |= {f"cell_to_{g}_weights": UNITS for g in gates if g != "cell"}
    if form.norm:
        shapes |= {f"{g}_layer_norm_weights": UNITS for g in gates}
    if form.projection:
        shapes["projection_weights"] = (OUTPUT, UNITS)
    if form.projection_bias:
        shapes["projection_bias"] = OUTPUT
    shapes |= {"output_state_in": (BATCH, output), "cell_state_in": (BATCH, UNITS)}
    return {prefix + name: value for name, value in weights(seed, **shapes).items()}


def optional(inputs, prefixes=("",), *, aux=False):
    """None for what is left out."""
    names = [f"{v}_to_input_weights" for v in ("input", "recurrent", "cell")] + [lstm.BIASES["input"]]
    names += ["cell_to_forget_weights", "cell_to_output_weights", "projection_weights", "projection_bias"]
    left_out = {prefix + name: None for prefix in prefixes for name in names}
    if aux:
        left_out |= {f"{p}aux_input_to_{g}_weights": None for p in prefixes for g in lstm.GATES} | {"aux_input": None}
    return left_out | inputs


def lstm_inputs(form, seed=0):
    scalars = {"activation": form.activation, "cell_clip": form.cell_clip, "proj_clip": form.proj_clip}
    left_out = {"input_layer_norm_weights": None} if form.norm and form.coupled else {}
    return optional(left_out | lstm_weights(form, seed)) | scalars | {
        "input": weights(seed + 1, input=(BATCH, INPUT))["input"]
    }  # fmt: skip


def lstm_step(form, w, x, h, c, prefix=""):
    """One step from the specification's equations, in PyTorch."""

    def gate(g, c):
        total = x @ w[f"{prefix}input_to_{g}_weights"].T + h @ w[f"{prefix}recurrent_to_{g}_weights"].T
        if form.peephole and g != "cell":
            total = total + c * w[f"{prefix}cell_to_{g}_weights"]
        if form.norm:
            total = functional.layer_norm(total, (UNITS,), w[f"{prefix}{g}_layer_norm_weights"], eps=1e-12)
        return total + w[prefix + lstm.BIASES[g]]

    def clip(x, limit):
        return x.clip(-limit, limit) if limit else x

    function = FUNCTIONS[form.activation]
    forget = torch.sigmoid(gate("forget", c))
    own = 1 - forget if form.coupled else torch.sigmoid(gate("input", c))
    c = clip(forget * c + own * function(gate("cell", c)), form.cell_clip)
    h = torch.sigmoid(gate("output", c)) * function(c)
    if form.projection:
        h = functional.linear(h, w[f"{prefix}projection_weights"], w.get(f"{prefix}projection_bias"))
        h = clip(h, form.proj_clip)
    return h, c


def stacked(module, inputs, prefix="", suffix="_l0"):
    """A PyTorch LSTM or LSTMCell with the weights of one direction; PyTorch's gates are input, forget, cell, output."""
    parts = {
        "weight_ih": [f"input_to_{g}_weights" for g in lstm.GATES], "bias_ih": [lstm.BIASES[g] for g in lstm.GATES],
        "weight_hh": [f"recurrent_to_{g}_weights" for g in lstm.GATES],
    }  # fmt: skip
    state = {n + suffix: np.concatenate([inputs[prefix + p] for p in names]) for n, names in parts.items()}
    state["bias_hh" + suffix] = np.zeros_like(state["bias_ih" + suffix])
    if f"{prefix}projection_weights" in inputs and inputs[f"{prefix}projection_weights"] is not None:
        state["weight_hr" + suffix] = inputs[f"{prefix}projection_weights"]
    module.load_state_dict({n: torch.from_numpy(v) for n, v in state.items()}, strict=False)
    return module


def close(actual, expected, tolerance=FLOAT32):
    for got, wanted in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got, wanted.detach().numpy() if torch.is_tensor(wanted) else wanted, atol=tolerance)


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_rnn_is_its_equation(apply_all, activation):
    inputs = rnn_weights() | weights(1, input=(BATCH, INPUT)) | {"activation": activation}
    w = tensors(inputs)
    expected = rnn_step(w, w["input"], w["hidden_state"])
    close(apply_all("RNN", inputs), (expected, expected))
    close(apply_all("RNN", as_half(inputs)), (expected, expected), FLOAT16)


@pytest.mark.parametrize(("activation", "nonlinearity"), [(TANH, "tanh"), (RELU, "relu")])
def test_rnn_is_pytorch_s_cell(apply_all, activation, nonlinearity):
    inputs = rnn_weights() | weights(1, input=(BATCH, INPUT)) | {"activation": activation}
    w, cell = tensors(inputs), torch.nn.RNNCell(INPUT, UNITS, nonlinearity=nonlinearity)
    state = {"weight_ih": w["weights"], "weight_hh": w["recurrent_weights"], "bias_ih": w["bias"]}
    cell.load_state_dict(state | {"bias_hh": torch.zeros(UNITS)})
    expected = cell(w["input"], w["hidden_state"])
    close(apply_all("RNN", inputs), (expected, expected))


def test_lstm_is_pytorch_s_cell(apply_all):
    inputs = lstm_inputs(Form())
    w, cell = tensors(inputs), stacked(torch.nn.LSTMCell(INPUT, UNITS), inputs, suffix="")
    h, c = cell(w["input"], (w["output_state_in"], w["cell_state_in"]))
    scratch, *rest = apply_all("LSTM", inputs)
    assert scratch.shape == (BATCH, 4 * UNITS)
    close(rest, (h, c, h))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_lstm_is_its_equations(apply_all, form):
    inputs = lstm_inputs(form)
    w = tensors(inputs)
    h, c = lstm_step(form, w, w["input"], w["output_state_in"], w["cell_state_in"])
    scratch, *rest = apply_all("LSTM", inputs)
    assert scratch.shape == (BATCH, (3 if form.coupled else 4) * UNITS)
    close(rest, (h, c, h))
    # Normalization divides by a deviation that may be small.
    close(apply_all("LSTM", as_half(inputs))[1:], (h, c, h), FLOAT16 * (4 if form.norm else 1))


def test_normalization_of_equal_values_is_zero():
    x = lstm.normalize(np.array([[3.0, 3.0], [1.0, 3.0]], np.float32))
    np.testing.assert_array_equal(x, [[0, 0], [-1, 1]])


def test_svdf_by_hand(apply_all):
    # Two units of rank 2, so 4 filters, each with a memory of 3; the input is 2.
    memory = np.array([[0, 1, 9, 0, 2, 9, 0, 3, 9, 4, 0, 9]], np.float32)
    inputs = {
        "input": np.array([[2.0]], np.float32), "weights_feature": np.array([[1], [2], [3], [-4]], np.float32),
        "weights_time": np.array([[1, 1, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0]], np.float32),
        "bias": np.array([0.5, -10.5], np.float32), "state": memory, "rank": 2, "activation": RELU,
    }  # fmt: skip
    state, output = apply_all("SVDF", inputs)
    np.testing.assert_array_equal(state, [[1, 2, 0, 2, 4, 0, 3, 6, 0, 0, -8, 0]])
    np.testing.assert_array_equal(output, [[0 + 1 + 2 + 2 + 0.5, 0]])  # the second: 6 + 4 - 10.5, below zero
    _, unbiased = apply_all("SVDF", inputs | {"bias": None})
    np.testing.assert_array_equal(unbiased, [[5, 10]])


def steps(form, w, x, prefix="", *, backward=False):
    """The LSTM step by step: outputs [time, batch, output] and the last state."""
    h, c = w[f"{prefix}output_state_in"], w[f"{prefix}cell_state_in"]
    outputs = []
    for x_t in x.flip(0) if backward else x:
        h, c = lstm_step(form, w, x_t, h, c, prefix)
        outputs.append(h)
    return torch.stack(outputs[::-1] if backward else outputs), h, c


def ordered(x, time_major):
    return x if time_major else x.swapaxes(0, 1)


def operands(count, type=F32):
    return [Operand(type)] * count


@pytest.mark.parametrize("time_major", [False, True], ids=["batch-major", "time-major"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_unidirectional_lstm_is_step_after_step(apply_all, form, time_major):
    inputs = lstm_inputs(form) | weights(7, input=(TIME, BATCH, INPUT)) | {"time_major": time_major}
    inputs = {f"{g}_layer_norm_weights": None for g in lstm.GATES} | inputs
    w = tensors(inputs)
    output, h, c = steps(form, w, w["input"])
    inputs["input"] = ordered(inputs["input"], time_major)
    expected = (ordered(output, time_major), h, c)
    close(apply_all("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, operands(3)), expected)
    close(apply_all("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs), expected[:1])
    half = apply_all("UNIDIRECTIONAL_SEQUENCE_LSTM", as_half(inputs), operands(3, F16))
    close(half, expected, FLOAT16 * (10 if form.norm else 2))  # errors add up over the steps


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_unidirectional_lstm_is_pytorch_s(apply_all):
    form = Form(projection=True)
    inputs = lstm_inputs(form) | weights(7, input=(TIME, BATCH, INPUT)) | {"time_major": True}
    inputs = {f"{g}_layer_norm_weights": None for g in lstm.GATES} | inputs
    w, network = tensors(inputs), stacked(torch.nn.LSTM(INPUT, UNITS, proj_size=OUTPUT), inputs)
    output, (h, c) = network(w["input"], (w["output_state_in"][None], w["cell_state_in"][None]))
    close(apply_all("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, operands(3)), (output, h[0], c[0]))


@pytest.mark.parametrize("time_major", [0, 1], ids=["batch-major", "time-major"])
def test_unidirectional_rnn_is_pytorch_s(apply_all, time_major):
    inputs = rnn_weights() | weights(1, input=(TIME, BATCH, INPUT)) | {"activation": TANH, "time_major": time_major}
    w, network = tensors(inputs), torch.nn.RNN(INPUT, UNITS)
    state = {"weight_ih_l0": w["weights"], "weight_hh_l0": w["recurrent_weights"], "bias_ih_l0": w["bias"]}
    network.load_state_dict(state | {"bias_hh_l0": torch.zeros(UNITS)})
    output, h = network(w["input"], w["hidden_state"][None])
    inputs["input"] = ordered(inputs["input"], time_major)
    expected = (ordered(output, time_major), h[0])
    close(apply_all("UNIDIRECTIONAL_SEQUENCE_RNN", inputs, operands(2)), expected)
    close(apply_all("UNIDIRECTIONAL_SEQUENCE_RNN", inputs), expected[:1])
    close(apply_all("UNIDIRECTIONAL_SEQUENCE_RNN", as_half(inputs), operands(2, F16)), expected, FLOAT16)


BOTH = ("fw_", "bw_")


def bidirectional_lstm_inputs(form, *, aux=False):
    norm = {f"{p}{g}_layer_norm_weights": None for p in BOTH for g in lstm.GATES}
    inputs = norm | optional(lstm_weights(form, 1, "fw_") | lstm_weights(form, 2, "bw_"), BOTH, aux=True)
    inputs |= weights(3, input=(TIME, BATCH, INPUT))
    if aux:
        gates = lstm.GATES[1:] if form.coupled else lstm.GATES
        shapes = {f"{p}aux_input_to_{g}_weights": (UNITS, AUX) for p in BOTH for g in gates}
        inputs |= weights(4, aux_input=(TIME, BATCH, AUX), **shapes)
    scalars = {"activation": form.activation, "cell_clip": form.cell_clip, "proj_clip": form.proj_clip}
    return inputs | scalars | {"merge_outputs": False, "time_major": True}


@pytest.mark.parametrize("time_major", [False, True], ids=["batch-major", "time-major"])
@pytest.mark.parametrize("merge", [False, True], ids=["two outputs", "merged"])
@pytest.mark.parametrize("form", [FORMS["plain"], FORMS["all of it"], FORMS["all of it, coupled"]])
def test_bidirectional_lstm_is_step_after_step(apply_all, form, merge, time_major):
    inputs = bidirectional_lstm_inputs(form)
    w = tensors(inputs)
    (fw, *fw_state), (bw, *bw_state) = (
        steps(form, w, w["input"], prefix, backward=prefix == "bw_") for prefix in BOTH
    )  # fmt: skip
    outputs = [ordered(x, time_major) for x in ([torch.cat((fw, bw), -1)] if merge else [fw, bw])]
    inputs |= {"merge_outputs": merge, "time_major": time_major, "input": ordered(inputs["input"], time_major)}
    expected = [*outputs, *fw_state, *bw_state]
    close(apply_all("BIDIRECTIONAL_SEQUENCE_LSTM", inputs, operands(len(expected))), expected)
    close(apply_all("BIDIRECTIONAL_SEQUENCE_LSTM", inputs, operands(len(outputs))), outputs)


def test_bidirectional_lstm_is_pytorch_s(apply_all):
    inputs = bidirectional_lstm_inputs(Form()) | {"merge_outputs": True}
    w, network = tensors(inputs), torch.nn.LSTM(INPUT, UNITS, bidirectional=True)
    stacked(stacked(network, inputs, "fw_"), inputs, "bw_", "_l0_reverse")
    states = (torch.stack([w[f"{p}{n}_state_in"] for p in BOTH]) for n in ("output", "cell"))
    output, (h, c) = network(w["input"], tuple(states))
    close(apply_all("BIDIRECTIONAL_SEQUENCE_LSTM", inputs, operands(5)), (output, h[0], c[0], h[1], c[1]))


@pytest.mark.parametrize("form", [FORMS["plain"], FORMS["all of it, coupled"]], ids=["plain", "coupled"])
def test_cross_linked_lstm_has_both_inputs_side_by_side(apply_all, form):
    inputs = bidirectional_lstm_inputs(form, aux=True)
    joined = bidirectional_lstm_inputs(form)
    joined["input"] = np.concatenate((inputs["input"], inputs["aux_input"]), -1)
    for prefix in BOTH:
        for g in lstm.GATES[1:] if form.coupled else lstm.GATES:
            name = f"input_to_{g}_weights"
            joined[prefix + name] = np.concatenate((inputs[prefix + name], inputs[f"{prefix}aux_{name}"]), 1)
    expected = apply_all("BIDIRECTIONAL_SEQUENCE_LSTM", joined, operands(6))
    close(apply_all("BIDIRECTIONAL_SEQUENCE_LSTM", inputs, operands(6)), expected)


def test_parallel_linked_lstm_runs_backward_on_the_auxiliary_input(apply_all):
    form = Form()
    inputs = bidirectional_lstm_inputs(form) | lstm_weights(form, 2, "bw_", source=AUX)
    inputs |= weights(4, aux_input=(TIME, BATCH, AUX))
    w = tensors(inputs)
    fw, bw = steps(form, w, w["input"], "fw_"), steps(form, w, w["aux_input"], "bw_", backward=True)
    close(apply_all("BIDIRECTIONAL_SEQUENCE_LSTM", inputs, operands(6)), (fw[0], bw[0], *fw[1:], *bw[1:]))


def bidirectional_rnn_inputs():
    inputs = rnn_weights(1, "fw_") | rnn_weights(2, "bw_") | weights(3, input=(TIME, BATCH, INPUT))
    left_out = dict.fromkeys(("aux_input", "fw_aux_weights", "bw_aux_weights"))
    return inputs | left_out | {"activation": TANH, "time_major": True, "merge_outputs": False}


@pytest.mark.parametrize("time_major", [False, True], ids=["batch-major", "time-major"])
@pytest.mark.parametrize("merge", [False, True], ids=["two outputs", "merged"])
def test_bidirectional_rnn_is_pytorch_s(apply_all, merge, time_major):
    inputs = bidirectional_rnn_inputs()
    w, network = tensors(inputs), torch.nn.RNN(INPUT, UNITS, bidirectional=True)
    names = {"weight_ih": "weights", "weight_hh": "recurrent_weights", "bias_ih": "bias"}
    state = {f"{n}_l0{s}": w[p + v] for p, s in zip(BOTH, ("", "_reverse")) for n, v in names.items()}
    network.load_state_dict(state | {f"bias_hh_l0{s}": torch.zeros(UNITS) for s in ("", "_reverse")})
    output, h = network(w["input"], torch.stack([w[f"{p}hidden_state"] for p in BOTH]))
    outputs = [ordered(x, time_major) for x in ([output] if merge else output.split(UNITS, -1))]
    inputs |= {"merge_outputs": merge, "time_major": time_major, "input": ordered(inputs["input"], time_major)}
    count = len(outputs)
    close(apply_all("BIDIRECTIONAL_SEQUENCE_RNN", inputs, operands(count + 2)), (*outputs, *h))
    close(apply_all("BIDIRECTIONAL_SEQUENCE_RNN", inputs, operands(count)), outputs)


def test_cross_linked_rnn_has_both_inputs_side_by_side(apply_all):
    joined = bidirectional_rnn_inputs()
    inputs = joined | weights(
        4, aux_input=(TIME, BATCH, AUX), fw_aux_weights=(UNITS, AUX), bw_aux_weights=(UNITS, AUX)
    )  # fmt: skip
    joined["input"] = np.concatenate((inputs["input"], inputs["aux_input"]), -1)
    for p in BOTH:
        joined[f"{p}weights"] = np.concatenate((inputs[f"{p}weights"], inputs[f"{p}aux_weights"]), 1)
    expected = apply_all("BIDIRECTIONAL_SEQUENCE_RNN", joined, operands(4))
    close(apply_all("BIDIRECTIONAL_SEQUENCE_RNN", inputs, operands(4)), expected)


def test_parallel_linked_rnn_runs_backward_on_the_auxiliary_input(apply_all):
    aux = weights(4, aux_input=(TIME, BATCH, AUX))
    inputs = bidirectional_rnn_inputs() | rnn_weights(2, "bw_", source=AUX) | aux
    swapped = {n.replace("bw_", "fw_"): v for n, v in rnn_weights(2, "bw_", source=AUX).items()}
    swapped = bidirectional_rnn_inputs() | swapped | {"input": aux["aux_input"][::-1].copy()}
    swapped |= rnn_weights(2, "bw_", source=AUX)
    _, backward = apply_all("BIDIRECTIONAL_SEQUENCE_RNN", inputs, operands(2))
    forward_on_aux, _ = apply_all("BIDIRECTIONAL_SEQUENCE_RNN", swapped, operands(2))
    close([backward], [forward_on_aux[::-1]])


def wide(*shape):
    return np.zeros(shape, np.float32)


UNIDIRECTIONAL = lstm_inputs(Form()) | {"time_major": True, "input": wide(TIME, BATCH, INPUT)}
UNIDIRECTIONAL |= {f"{g}_layer_norm_weights": None for g in lstm.GATES}
RNN = rnn_weights() | {"input": wide(BATCH, INPUT), "activation": TANH}
SEQUENCE_RNN = RNN | {"input": wide(TIME, BATCH, INPUT), "time_major": 1}
SVDF = {
    "input": wide(2, 3), "weights_feature": wide(4, 3), "weights_time": wide(4, 5), "bias": wide(2),
    "state": wide(2, 20), "rank": 2, "activation": NONE,
}  # fmt: skip
ALL = FORMS["all of it"]
# operation, valid inputs, change, message
ERRORS = {
    "rnn units": ("RNN", RNN, {"bias": wide(3)}, "bias has units 3, must be 4 as in weights"),
    "rnn recurrent": ("RNN", RNN, {"recurrent_weights": wide(4, 5)}, "recurrent_weights has units 5, must be 4"),
    "rnn input": ("RNN", RNN, {"weights": wide(4, 6)}, "weights has input 6, must be 5 as in input"),
    "rnn batch": ("RNN", RNN, {"hidden_state": wide(2, 4)}, "hidden_state has batch 2, must be 3"),
    "rnn activation": ("RNN", RNN, {"activation": 5}, "activation is 5, must be one of 0, 1, 2, 3, 4, 6"),
    "svdf rank": ("SVDF", SVDF, {"rank": 3}, "rank 3 does not divide the 4 filters"),
    "svdf rank 0": ("SVDF", SVDF, {"rank": 0}, "rank is 0, must be at least 1"),
    "svdf state": ("SVDF", SVDF, {"state": wide(2, 16)}, "state has size 16 in dimension 1, must have 20"),
    "svdf bias": ("SVDF", SVDF, {"bias": wide(4)}, "bias has units 4, must be 2"),
    "lstm units": (
        "LSTM", lstm_inputs(ALL), {"forget_gate_bias": wide(5)}, "forget_gate_bias has units 5, must be 4"
    ),
    "lstm projection": (
        "LSTM", lstm_inputs(ALL), {"projection_weights": wide(3, 4)}, "projection_weights has output 3, must be 2"
    ),
    "lstm relu1": ("LSTM", lstm_inputs(ALL), {"activation": 2}, "activation is 2, must be one of 0, 1, 3, 4, 6"),
    "lstm clip": ("LSTM", lstm_inputs(ALL), {"cell_clip": -1.0}, "cell_clip is -1.0, must be 0"),
    "lstm clip is no number": ("LSTM", lstm_inputs(ALL), {"proj_clip": np.nan}, "proj_clip is nan, must be 0"),
    "lstm output": (
        "LSTM", lstm_inputs(Form()), {
            f"recurrent_to_{g}_weights": wide(4, 3) for g in lstm.GATES
        } | {"output_state_in": wide(3, 3)}, "without projection, has output 4, must be 3",
    ),
    "unidirectional lstm batch": (
        "UNIDIRECTIONAL_SEQUENCE_LSTM", UNIDIRECTIONAL, {"cell_state_in": wide(4, 4)}, "has batch 4, must be 3"
    ),
    "unidirectional rnn order": (
        "UNIDIRECTIONAL_SEQUENCE_RNN", SEQUENCE_RNN, {"time_major": 2}, "time_major is 2, must be 0 or 1"
    ),
    "bidirectional rnn units": (
        "BIDIRECTIONAL_SEQUENCE_RNN", bidirectional_rnn_inputs(), {"bw_bias": wide(5)}, "bw_bias has bw_units 5"
    ),
    "bidirectional lstm auxiliary": (
        "BIDIRECTIONAL_SEQUENCE_LSTM", bidirectional_lstm_inputs(Form(), aux=True), {"aux_input": wide(4, 3, 2)},
        "has aux 3, must be 2 as in aux_input",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "inputs", "change", "message"), ERRORS.values(), ids=ERRORS)
def test_refused(refuses, operation, inputs, change, message):
    count = {"BIDIRECTIONAL_SEQUENCE_RNN": 2, "BIDIRECTIONAL_SEQUENCE_LSTM": 2}.get(operation)
    refuses(operation, inputs, change, message, count and operands(count))


# operation, valid inputs, the inputs left out, message
LEFT_OUT = {
    "half a gate": (
        "LSTM", lstm_inputs(Form()), ["input_to_input_weights"],
        "recurrent_to_input_weights is given and input_to_input_weights is omitted",
    ),
    "half a peephole": (
        "LSTM", lstm_inputs(FORMS["peephole"]), ["cell_to_forget_weights"],
        "cell_to_output_weights is given and cell_to_forget_weights is omitted",
    ),
    "no peephole into the input gate": (
        "LSTM", lstm_inputs(FORMS["peephole"]), ["cell_to_input_weights"],
        "cell_to_forget_weights is given and cell_to_input_weights is omitted",
    ),
    "bias of nothing": (
        "LSTM", lstm_inputs(FORMS["projection with bias, clipped"]), ["projection_weights"],
        "projection_bias is given without projection_weights",
    ),
    "half a normalization": (
        "LSTM", lstm_inputs(FORMS["layer normalization"]), ["output_layer_norm_weights"],
        "forget_layer_norm_weights is given and output_layer_norm_weights is omitted",
    ),
    "normalization of no gate": (
        "LSTM", lstm_inputs(FORMS["layer normalization"]),
        ["input_to_input_weights", "recurrent_to_input_weights", "input_gate_bias"],
        "input_layer_norm_weights is given, must be omitted without an input gate",
    ),
    "required weights": (
        "LSTM", lstm_inputs(Form()), ["forget_gate_bias"], "forget_gate_bias is omitted, must be given"
    ),
    "auxiliary weights alone": (
        "BIDIRECTIONAL_SEQUENCE_LSTM", bidirectional_lstm_inputs(Form(), aux=True), ["aux_input"],
        "auxiliary weights are given without aux_input",
    ),
    "auxiliary weights of no gate": (
        "BIDIRECTIONAL_SEQUENCE_LSTM", bidirectional_lstm_inputs(Form(), aux=True),
        [f"{p}{n}" for p in BOTH for n in ("input_to_input_weights", "recurrent_to_input_weights", "input_gate_bias")],
        "fw_aux_input_to_input_weights is given, must be omitted without an input gate",
    ),
    "half the auxiliary weights": (
        "BIDIRECTIONAL_SEQUENCE_LSTM", bidirectional_lstm_inputs(Form(), aux=True), ["bw_aux_input_to_cell_weights"],
        "fw_aux_input_to_input_weights is given and bw_aux_input_to_cell_weights is omitted",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "inputs", "names", "message"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_belongs_together_is_given_together(single, operation, inputs, names, message):
    count = 2 if operation.startswith("BIDIRECTIONAL") else 4
    model = single(operation, inputs, operands(count))
    call = model.call(model.operations[0])
    left_out = {model.operations[0].inputs[at.start] for param, at in call.slots if param.name in names}
    variables = tuple(i for i, o in enumerate(model.operands) if isinstance(o.value, np.ndarray))
    unknown = [replace(o, value=None) if i in variables else o for i, o in enumerate(model.operands)]
    late = replace(model, operands=tuple(unknown), inputs=variables)
    verify(late)  # an execution may leave out what it likes
    with pytest.raises(ExecutionError, match=message):
        execute(late, [None if i in left_out else model.operands[i].value for i in variables])


# outputs, whether merged -> message, None where fine
COUNTS = {
    (1, False): "1 outputs, gives 2 or, with states, 6", (2, False): None, (6, False): None, (1, True): None,
    (2, True): "2 outputs, gives 1 or, with states, 5", (5, True): None, (6, True): "6 outputs",
}  # fmt: skip


@pytest.mark.parametrize(("count", "merge"), COUNTS)
def test_outputs_are_with_or_without_all_states(single, count, merge):
    inputs = bidirectional_lstm_inputs(Form()) | {"merge_outputs": merge}
    message = COUNTS[count, merge]
    if message is None:
        single("BIDIRECTIONAL_SEQUENCE_LSTM", inputs, operands(count))
    else:
        with pytest.raises(Exception, match=message):
            single("BIDIRECTIONAL_SEQUENCE_LSTM", inputs, operands(count))


LEVELS = [
    ("RNN", RNN, None, 1), ("RNN", as_half(RNN), None, 3), ("SVDF", SVDF, None, 1), ("SVDF", as_half(SVDF), None, 3),
    ("LSTM", lstm_inputs(Form()), None, 1), ("LSTM", as_half(lstm_inputs(Form())), None, 3),
    ("LSTM", lstm_inputs(ALL), None, 3), ("UNIDIRECTIONAL_SEQUENCE_LSTM", UNIDIRECTIONAL, None, 3),
    ("UNIDIRECTIONAL_SEQUENCE_LSTM", UNIDIRECTIONAL, operands(3), 4),
    ("UNIDIRECTIONAL_SEQUENCE_RNN", SEQUENCE_RNN, None, 3),
    ("UNIDIRECTIONAL_SEQUENCE_RNN", SEQUENCE_RNN, operands(2), 4),
    ("BIDIRECTIONAL_SEQUENCE_LSTM", bidirectional_lstm_inputs(Form()), operands(2), 3),
    ("BIDIRECTIONAL_SEQUENCE_LSTM", bidirectional_lstm_inputs(Form()), operands(6), 4),
    ("BIDIRECTIONAL_SEQUENCE_LSTM", bidirectional_lstm_inputs(Form(), aux=True), operands(2), 3),
    ("BIDIRECTIONAL_SEQUENCE_RNN", bidirectional_rnn_inputs(), operands(2), 3),
    ("BIDIRECTIONAL_SEQUENCE_RNN", bidirectional_rnn_inputs(), operands(4), 4),
    (
        "BIDIRECTIONAL_SEQUENCE_RNN", bidirectional_rnn_inputs() | {"aux_input": wide(TIME, BATCH, INPUT)},
        operands(2), 4,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "inputs", "outputs", "level"), LEVELS)
def test_feature_level(single, operation, inputs, outputs, level):
    assert feature_level(single(operation, inputs, outputs)) == level


WORK = [
    ("RNN", RNN, BATCH * UNITS * (INPUT + UNITS)),
    ("SVDF", SVDF, 2 * 4 * (3 + 5)),
    ("LSTM", lstm_inputs(Form()), BATCH * 4 * UNITS * (INPUT + UNITS)),
    ("LSTM", lstm_inputs(FORMS["coupled"]), BATCH * 3 * UNITS * (INPUT + UNITS)),
    ("LSTM", lstm_inputs(FORMS["projection"]), BATCH * (4 * UNITS * (INPUT + OUTPUT) + OUTPUT * UNITS)),
    ("UNIDIRECTIONAL_SEQUENCE_RNN", SEQUENCE_RNN, TIME * BATCH * UNITS * (INPUT + UNITS)),
    ("UNIDIRECTIONAL_SEQUENCE_LSTM", UNIDIRECTIONAL, TIME * BATCH * 4 * UNITS * (INPUT + UNITS)),
    ("BIDIRECTIONAL_SEQUENCE_RNN", bidirectional_rnn_inputs(), 2 * TIME * BATCH * UNITS * (INPUT + UNITS)),
    (
        "BIDIRECTIONAL_SEQUENCE_LSTM", bidirectional_lstm_inputs(Form(), aux=True),
        2 * TIME * BATCH * 4 * UNITS * (INPUT + AUX + UNITS),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "inputs", "macs"), WORK)
def test_work(single, operation, inputs, macs):
    model = single(operation, inputs, operands(2) if operation.startswith("BIDIRECTIONAL") else None)
    call = model.call(model.operations[0])
    assert call.op.macs(call) == macs


def test_a_sequence_stops_at_its_deadline():
    b = Builder()
    inputs = SEQUENCE_RNN | {"input": b.input("x", F32, (10**5, BATCH, INPUT))}
    b.output(b.add("UNIDIRECTIONAL_SEQUENCE_RNN", inputs))
    with pytest.raises(MissedDeadline):
        execute(b.finish(), [wide(10**5, BATCH, INPUT)], deadline=0.05)


def test_every_row_has_a_golden_and_an_error():
    rows = {op.name for family in (recurrent, lstm, sequence) for op in family.OPERATIONS}
    assert {row[0] for row in ERRORS.values()} == rows
    assert {row[0] for row in WORK} == rows
    assert {row[0] for row in LEVELS} == rows
