"""LSTMs in integers: against the same equations in floating point, and at the edges."""

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.errors import ExecutionError
from nnapi.ir.verify import feature_level
from nnapi.ops import lstm, quantized_lstm
from nnapi.ops.types import I32, Q8, Q8S, Q8SYMM, Q16SYMM, Operand

BATCH, INPUT, UNITS, OUTPUT = 3, 5, 4, 2
X_SCALE, W_SCALE, H_SCALE, GATE_SCALE, PROJECTED_SCALE = 2.0**-7, 1 / 127, 0.007, 2.0**-12, 0.01
CELL_SCALE, VECTOR_SCALE, ZERO_POINT = 2.0**-13, 2.0**-15, 3
CELL_PLACES = 60  # of 2**-13: the 12 places of tanh and of the logistic function, three products, and gates of 12 bits
OUTPUT_PLACES = 1.6  # one rounding to 8 bits, one to a hidden state of 8 bits where that is projected, and the cell's


def operand(type, values, scale=0.0, zero_point=0):
    values = np.asarray(values)
    return Operand(type, values.shape, scale, zero_point).with_value(values.astype(type.dtype))


def real(o):
    return (o.value.astype(np.float64) - o.zero_point) * o.scale


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def quantized_inputs(*, coupled=False, peephole=False, norm=False, projection=False, cell_clip=0.0, proj_clip=0.0):
    random = np.random.default_rng(5)
    gates = lstm.GATES[1:] if coupled else lstm.GATES
    output, state_scale = (OUTPUT, PROJECTED_SCALE) if projection else (UNITS, H_SCALE)

    def weights(*shape):
        return operand(Q8SYMM, random.integers(-127, 128, shape), W_SCALE)

    def vector():
        return operand(Q16SYMM, random.integers(-(2**15) + 1, 2**15, UNITS), VECTOR_SCALE)

    def bias(scale):
        return operand(I32, random.integers(-int(0.5 / scale), int(0.5 / scale), UNITS), scale)

    inputs = {f"input_to_{g}_weights": weights(UNITS, INPUT) if g in gates else None for g in lstm.GATES}
    inputs |= {f"recurrent_to_{g}_weights": weights(UNITS, output) if g in gates else None for g in lstm.GATES}
    inputs |= {f"cell_to_{g}_weights": vector() if peephole and g in gates else None for g in lstm.GATES if g != "cell"}
    # With normalization, the bias comes after it, in units of the weights / 1024.
    unit = VECTOR_SCALE / 1024 if norm else X_SCALE * W_SCALE
    inputs |= {lstm.BIASES[g]: bias(unit) if g in gates else None for g in lstm.GATES}
    inputs |= {f"{g}_layer_norm_weights": vector() if norm and g in gates else None for g in lstm.GATES}
    inputs |= {f"{g}_intermediate_scale": GATE_SCALE for g in lstm.GATES}
    inputs["projection_weights"] = weights(OUTPUT, UNITS) if projection else None
    inputs["projection_bias"] = operand(I32, [90, -70], W_SCALE * H_SCALE) if projection else None
    return inputs | {
        "input": operand(Q8S, random.integers(-128, 128, (BATCH, INPUT)), X_SCALE, ZERO_POINT),
        "output_state_in": operand(Q8S, random.integers(-100, 100, (BATCH, output)), state_scale, -ZERO_POINT),
        "cell_state_in": operand(Q16SYMM, random.integers(-(2**13), 2**13, (BATCH, UNITS)), CELL_SCALE),
        "cell_clip": cell_clip, "proj_clip": proj_clip, "hidden_state_scale": H_SCALE, "hidden_state_zero_point": -4,
    }  # fmt: skip


def outputs_of(inputs):
    state, cell = inputs["output_state_in"], inputs["cell_state_in"]
    out = Operand(Q8S, (), state.scale, state.zero_point)
    return [out, Operand(Q16SYMM, (), cell.scale), out]


def in_floats(inputs):
    """Hidden state, cell state and projected output of the specification's equations, in real numbers."""
    x, h, c = (real(inputs[name]) for name in ("input", "output_state_in", "cell_state_in"))

    def gate(g, c):
        total = x @ real(inputs[f"input_to_{g}_weights"]).T + h @ real(inputs[f"recurrent_to_{g}_weights"]).T
        peephole, norm = inputs.get(f"cell_to_{g}_weights"), inputs[f"{g}_layer_norm_weights"]
        if peephole is not None:
            total = total + c * real(peephole)
        if norm is not None:
            total = (total - total.mean(1, keepdims=True)) / total.std(1, keepdims=True) * real(norm)
        return total + real(inputs[lstm.BIASES[g]])

    forget = sigmoid(gate("forget", c))
    own = 1 - forget if inputs["input_to_input_weights"] is None else sigmoid(gate("input", c))
    c = forget * c + own * np.tanh(gate("cell", c))
    clip = inputs["cell_clip"]
    c = np.clip(c, -clip, clip) if clip else c
    h = sigmoid(gate("output", c)) * np.tanh(c)
    if inputs["projection_weights"] is not None:
        h = h @ real(inputs["projection_weights"]).T + real(inputs["projection_bias"])
        clip = inputs["proj_clip"]
        h = np.clip(h, -clip, clip) if clip else h
    return h, c


FORMS = {
    "plain": {},
    "coupled": {"coupled": True},
    "peephole": {"peephole": True},
    "coupled, peephole": {"coupled": True, "peephole": True},
    "normalized": {"norm": True},
    "projected": {"projection": True},
    "projected, clipped": {"projection": True, "proj_clip": 0.2, "cell_clip": 0.5},
    "all of it": {"peephole": True, "norm": True, "projection": True, "cell_clip": 0.7},
    "all of it, coupled": {"coupled": True, "peephole": True, "norm": True, "projection": True},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_quantized_lstm_is_near_the_real_one(apply_all, form):
    inputs = quantized_inputs(**form)
    h, c = in_floats(inputs)
    state, cell, output = apply_all("QUANTIZED_LSTM", inputs, outputs_of(inputs))
    np.testing.assert_array_equal(state, output)
    np.testing.assert_allclose(cell, c / CELL_SCALE, atol=CELL_PLACES)
    # Without a projection the output is the hidden state as it is stored.
    scale, zero_point = (PROJECTED_SCALE, -ZERO_POINT) if form.get("projection") else (H_SCALE, -4)
    np.testing.assert_allclose(output, np.clip(h / scale + zero_point, -128, 127), atol=OUTPUT_PLACES)


def weights_16bit(random, *shape):
    return operand(Q8, random.integers(0, 256, shape), 0.004, 100)


def inputs_16bit():
    random = np.random.default_rng(6)
    inputs = {f"input_to_{g}_weights": weights_16bit(random, UNITS, INPUT) for g in lstm.GATES}
    inputs |= {f"recurrent_to_{g}_weights": weights_16bit(random, UNITS, UNITS) for g in lstm.GATES}
    inputs |= {lstm.BIASES[g]: operand(I32, random.integers(-20000, 20000, UNITS), 0.004 / 128) for g in lstm.GATES}
    return inputs | {
        "input": operand(Q8, random.integers(0, 256, (BATCH, INPUT)), 1 / 128, 128),
        "prev_output": operand(Q8, random.integers(0, 256, (BATCH, UNITS)), 1 / 128, 128),
        "prev_cell_state": operand(Q16SYMM, random.integers(-4000, 4000, (BATCH, UNITS)), 2.0**-11),
    }  # fmt: skip


def test_16bit_lstm_is_near_the_real_one(apply_all):
    inputs = inputs_16bit()
    both = np.concatenate([real(inputs[name]) for name in ("input", "prev_output")], 1)

    def gate(g):
        # Recurrent weights first: see the kernel.
        weights = np.concatenate([real(inputs[f"{source}_to_{g}_weights"]) for source in ("recurrent", "input")], 1)
        return both @ weights.T + real(inputs[lstm.BIASES[g]])

    own, forget, output = (sigmoid(gate(g)) for g in ("input", "forget", "output"))
    c = forget * real(inputs["prev_cell_state"]) + own * np.tanh(gate("cell"))
    cell, stored = apply_all("QUANTIZED_16BIT_LSTM", inputs)
    np.testing.assert_allclose(cell, c * 2**11, atol=3)  # CELL_PLACES in units of 2**-11, and two roundings
    np.testing.assert_allclose(stored, output * np.tanh(c) * 128 + 128, atol=0.6)  # one rounding to 8 bits


def test_16bit_lstm_by_hand(apply_all):
    # Gates of 0: the cell state halves, and half of its tanh comes out.
    inputs = {
        f"{source}_to_{g}_weights": operand(Q8, [[100]], 0.004, 100)
        for source in ("input", "recurrent")
        for g in lstm.GATES
    }
    inputs |= {lstm.BIASES[g]: operand(I32, [0], 0.004 / 128) for g in lstm.GATES}
    inputs |= {"input": operand(Q8, [[7]], 1 / 128, 128), "prev_output": operand(Q8, [[250]], 1 / 128, 128)}
    cell, output = apply_all(
        "QUANTIZED_16BIT_LSTM", inputs | {"prev_cell_state": operand(Q16SYMM, [[4096]], 2.0**-11)}
    )  # fmt: skip
    assert cell == [[2048]]
    assert output == [[128 + round(np.tanh(1) / 2 * 128)]]


PLAIN, FIXED = quantized_inputs(), inputs_16bit()
# operation, valid inputs, change, message
ERRORS = {
    "cell scale": (
        "QUANTIZED_LSTM", PLAIN, {"cell_state_in": operand(Q16SYMM, np.zeros((3, 4)), 0.001)},
        "cell_state_in has scale 0.001, must be a power of two from 2",
    ),
    "cell scale too large": (
        "QUANTIZED_LSTM", PLAIN, {"cell_state_in": operand(Q16SYMM, np.zeros((3, 4)), 2.0**-8)},
        "must be a power of two",
    ),
    "units": (
        "QUANTIZED_LSTM", PLAIN, {"cell_bias": np.zeros(3)}, "cell_bias has units 3, must be 4"
    ),
    "clip": ("QUANTIZED_LSTM", PLAIN, {"cell_clip": -0.5}, "cell_clip is -0.5, must be 0"),
    "hidden scale": ("QUANTIZED_LSTM", PLAIN, {"hidden_state_scale": 0.0}, "hidden_state_scale is 0.0, must be"),
    "hidden scale is no number": ("QUANTIZED_LSTM", PLAIN, {"hidden_state_scale": np.nan}, "is nan, must be positive"),
    "intermediate scale": (
        "QUANTIZED_LSTM", quantized_inputs(norm=True), {"forget_intermediate_scale": np.inf},
        "forget_intermediate_scale is inf, must be positive and finite",
    ),
    "hidden zero point": (
        "QUANTIZED_LSTM", PLAIN, {"hidden_state_zero_point": 200}, "hidden_state_zero_point is 200, must be -128 to 127"
    ),
    "types": ("QUANTIZED_LSTM", PLAIN, {"input": operand(Q8, np.zeros((3, 5)), 0.1, 3)}, "input is TENSOR_QUANT8_A"),
    "16 bit: units": ("QUANTIZED_16BIT_LSTM", FIXED, {"cell_bias": np.zeros(3)}, "cell_bias has units 3, must be 4"),
    "16 bit: input": (
        "QUANTIZED_16BIT_LSTM", FIXED, {"input": operand(Q8, np.zeros((3, 5)), 0.01, 128)},
        r"input has scale and zero point \(0.01, 128\), must have \(0.0078125, 128\)",
    ),
    "16 bit: weights": (
        "QUANTIZED_16BIT_LSTM", FIXED, {"input_to_cell_weights": operand(Q8, np.zeros((4, 5)), 0.005, 100)},
        r"input_to_cell_weights has scale and zero point \(0.005, 100\), must have input_to_input_weights's",
    ),
    "16 bit: bias": (
        "QUANTIZED_16BIT_LSTM", FIXED, {"cell_bias": operand(I32, np.zeros(4), 0.1)}, "cell_bias has scale 0.1, must"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "inputs", "change", "message"), ERRORS.values(), ids=ERRORS)
def test_refused(refuses, operation, inputs, change, message):
    refuses(operation, inputs, change, message, outputs_of(inputs) if operation == "QUANTIZED_LSTM" else None)


@pytest.mark.parametrize("scale", [1e-38, 1e30])
def test_scales_far_apart_saturate_or_are_refused(single, scale):
    inputs = quantized_inputs() | {"input": operand(Q8S, np.full((BATCH, INPUT), 100), scale)}
    model = single("QUANTIZED_LSTM", inputs, outputs_of(inputs))
    if scale < 1:
        assert execute(model, [])[1].shape == (BATCH, UNITS)
    else:
        with pytest.raises(ExecutionError, match=r"effective scale is .*, must be below 2"):
            execute(model, [])


def test_feature_level(single):
    assert feature_level(single("QUANTIZED_LSTM", PLAIN, outputs_of(PLAIN))) == 4
    assert feature_level(single("QUANTIZED_16BIT_LSTM", FIXED)) == 3


def test_every_row_has_an_error():
    assert {row[0] for row in ERRORS.values()} == {op.name for op in quantized_lstm.OPERATIONS}
