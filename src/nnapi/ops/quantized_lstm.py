"""QUANTIZED_LSTM and QUANTIZED_16BIT_LSTM: one step in integers, the gates in 16-bit fixed point."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from nnapi.ops.fixed_point import ONE, logistic, multiplier, product, requantize_twice, saturate16, shift_right, tanh
from nnapi.ops.lstm import BIASES, GATES, cell_macs, cell_params, check_cell, coupled, norm_params
from nnapi.ops.numeric import saturate
from nnapi.ops.op import Call, Need, Op, Param, Result, Signature, TypeExpr, Types
from nnapi.ops.shape import elements
from nnapi.ops.sizes import Sizes
from nnapi.ops.types import FLOAT32, I32, INT32, Q8, Q8S, Q8SYMM, Q16SYMM, Array, Operand, Shape

GATE_BITS: Final = 3
"""The integer bits of what goes into a gate's activation."""


def _scaled(call: Call, accumulator: Array, factor: float, what: str) -> Array:
    """accumulator * factor, rounded, in 32 bits."""
    call.require(0 <= factor < 2**31, f"{what} is {factor}, must be below 2**31")
    mantissa, shift = multiplier(float(np.float32(factor)))
    limit = (2**31 - 1) >> max(shift, 0)
    return requantize_twice(np.clip(accumulator, -limit, limit), mantissa, shift)


def _integers(operand: Operand) -> Array:
    """Stored values less the zero point."""
    return operand.value.astype(np.int64) - operand.zero_point


def _matmul(x: Array, weights: Array) -> Array:
    """x [batch, n], weights [units, n] -> [batch, units]; float64 holds these integers exactly, and is quick."""
    return (x.astype(np.float64) @ weights.T.astype(np.float64)).astype(np.int64)


# QUANTIZED_LSTM


def _power_of_two(call: Call) -> int:
    """The cell state's scale as an exponent of two, -15 to -9."""
    scale = call["cell_state_in"].scale
    exponent = round(math.log2(scale)) if scale > 0 else 0
    call.require(
        -15 <= exponent <= -9 and math.isclose(scale, 2.0**exponent, rel_tol=1e-3),
        f"cell_state_in has scale {scale}, must be a power of two from 2**-15 to 2**-9",
    )
    return exponent


def _clip(call: Call, name: str) -> float:
    """A clipping threshold; 0, which is none, where omitted or unknown."""
    return (call.scalar(name) or 0.0) if name in call else 0.0


def _quantized_sizes(call: Call) -> Sizes:
    sizes = Sizes(call)
    sizes.bind("input", "batch", "input")
    check_cell(call, sizes)
    for name in ("cell_clip", "proj_clip"):
        call.require(_clip(call, name) >= 0, f"{name} is {_clip(call, name)}, must be 0 (no clipping) or positive")
    for name in (*(f"{g}_intermediate_scale" for g in GATES), "hidden_state_scale"):
        scale = call.scalar(name)
        # Gates without layer normalization have no intermediate result.
        used = name == "hidden_state_scale" or name.replace("intermediate_scale", "layer_norm_weights") in call
        fine = scale is None or not used or (scale > 0 and math.isfinite(scale))
        call.require(fine, f"{name} is {scale}, must be positive and finite")
    zero_point = call.scalar("hidden_state_zero_point")
    call.require(
        zero_point is None or -128 <= zero_point <= 127, f"hidden_state_zero_point is {zero_point}, must be -128 to 127"
    )
    _power_of_two(call)
    return sizes


def _quantized_shapes(call: Call) -> list[Shape]:
    sizes = _quantized_sizes(call)
    state, cell = (sizes["batch"], sizes["output"]), (sizes["batch"], sizes["units"])
    elements(call, state)
    elements(call, cell)
    return [state, cell, state]


def _layer_norm(call: Call, x: Array, gate: str) -> Array:
    """x [batch, units] with mean 0 and variance 1 per row, times the gate's weights, plus its bias."""
    weights, bias = call[f"{gate}_layer_norm_weights"], call.array(BIASES[gate])
    units = x.shape[1]
    mean = _truncated(x.sum(1, keepdims=True) << 10, units)
    # As specified: 2**20 / units in integers, so that the variance is right for powers of two only.
    variance = np.square(x).sum(1, keepdims=True) * (2**20 // units) - np.square(mean)
    mantissa, shift = _inverse_root(_truncated(variance, 2**20))
    normalized = requantize_twice((x << 10) - mean, mantissa, shift)
    total = normalized * weights.value.astype(np.int64) + bias
    total = _truncated(total + np.where(total > 0, 512, -512), 1024)
    return saturate16(_scaled(call, total, weights.scale * 2**12, f"scale of {gate}_layer_norm_weights"))


def _truncated(x: Array, divisor: int) -> Array:
    """x / divisor, rounded towards zero."""
    return np.sign(x) * (np.abs(x) // divisor)


def _inverse_root(x: Array) -> tuple[Array, Array]:
    """1 / sqrt(x) of integers as a mantissa and a shift of `requantize_twice`; of 1 and below: 1."""
    x = np.maximum(x, 1)
    pairs = (28 - np.floor(np.log2(x)).astype(np.int64)) // 2
    mantissa = np.rint(2.0 ** (42 - pairs) / np.sqrt(x.astype(np.float64))).astype(np.int64)
    # The mantissa keeps 28 bits or so, no more: where it ends decides how products round.
    mantissa <<= np.maximum(pairs - 11, 0)
    return np.where(x == 1, 2**31 - 1, mantissa), np.where(x == 1, 0, np.minimum(pairs - 11, 0))


def _gate(call: Call, gate: str, x: Array, h: Array, c: Array) -> Array:
    """What goes into the activation of one gate [batch, units], with 3 integer bits."""
    normalized = f"{gate}_layer_norm_weights" in call
    scale = np.float32(call.scalar(f"{gate}_intermediate_scale") if normalized else 2.0 ** (GATE_BITS - 15))
    total = np.zeros_like(c)
    for factor, source, state in (("input", "input", x), ("recurrent", "output_state_in", h)):
        weights = call[f"{factor}_to_{gate}_weights"]
        sums = _matmul(state, _integers(weights))
        if factor == "input" and not normalized:
            sums = sums + call.array(BIASES[gate])
        ratio = np.float32(weights.scale) * np.float32(call[source].scale) / scale
        total = saturate16(total + _scaled(call, sums, float(ratio), f"{factor}_to_{gate}_weights' effective scale"))
    if f"cell_to_{gate}_weights" in call:
        weights = call[f"cell_to_{gate}_weights"]
        ratio = np.float32(2.0 ** _power_of_two(call) * weights.scale) / scale
        products = _scaled(call, c * _integers(weights), float(ratio), f"cell_to_{gate}_weights' effective scale")
        total = saturate16(total + products)
    return _layer_norm(call, total, gate) if normalized else total


def _quantized_lstm(call: Call) -> list[Array]:
    exponent, cell_scale = _power_of_two(call), call["cell_state_in"].scale
    x, h, c = (_integers(call[name]) for name in ("input", "output_state_in", "cell_state_in"))
    forget = logistic(_gate(call, "forget", x, h, c), GATE_BITS)
    own = ONE - forget if coupled(call) else logistic(_gate(call, "input", x, h, c), GATE_BITS)
    modulation = tanh(_gate(call, "cell", x, h, c), GATE_BITS)
    c = saturate16(shift_right(forget * c, 15) + shift_right(own * modulation, 30 + exponent))
    limit = int(min(_clip(call, "cell_clip") / cell_scale, 2**15 - 1))
    if limit > 0:
        c = np.clip(c, -limit, limit)
    output = logistic(_gate(call, "output", x, h, c), GATE_BITS)
    hidden = _hidden(call, output * tanh(c, 15 + exponent))
    if "projection_weights" in call:
        hidden = _projected(call, hidden)
    state = hidden.astype(np.int8)
    return [state, c.astype(np.int16), state.copy()]


def _hidden(call: Call, x: Array) -> Array:
    """x [batch, units] in units of 2**-30 -> as the hidden state is stored, 8 bits."""
    scaled = _scaled(call, x, 2.0**-30 / call.scalar("hidden_state_scale"), "2**-30 / hidden_state_scale")
    return np.clip(scaled + call.scalar("hidden_state_zero_point"), -128, 127)


def _projected(call: Call, hidden: Array) -> Array:
    """hidden [batch, units] -> [batch, output] as the output is stored, clipped."""
    weights, state = call["projection_weights"], call["output_state_in"]
    sums = _matmul(hidden - call.scalar("hidden_state_zero_point"), _integers(weights))
    if "projection_bias" in call:
        sums = sums + call.array("projection_bias")
    ratio = np.float32(weights.scale) * np.float32(call.scalar("hidden_state_scale")) / np.float32(state.scale)
    scaled = _scaled(call, sums, float(ratio), "projection_weights' effective scale")
    limit = int(min(_clip(call, "proj_clip") / state.scale, 2**15 - 1))
    if limit > 0:
        scaled = np.clip(scaled, -limit, limit)
    return np.clip(scaled + state.zero_point, -128, 127)


def _quantized_macs(call: Call) -> int:
    return cell_macs(_quantized_sizes(call), steps=1, gates=3 if coupled(call) else 4)


# QUANTIZED_16BIT_LSTM

ACTIVATION_QUANT: Final = (2.0**-7, 128)
CELL_QUANT: Final = (2.0**-11, 0)
CELL_BITS: Final = 4
_FIXED_QUANT: Final = {
    "input": ACTIVATION_QUANT, "prev_output": ACTIVATION_QUANT, "prev_cell_state": CELL_QUANT,
}  # fmt: skip
_WEIGHTS: Final = tuple(f"{source}_to_{g}_weights" for source in ("input", "recurrent") for g in GATES)


def _16bit_sizes(call: Call) -> Sizes:
    sizes = Sizes(call)
    sizes.bind("input", "batch", "input")
    for g in GATES:
        sizes.bind(f"input_to_{g}_weights", "units", "input")
        sizes.bind(f"recurrent_to_{g}_weights", "units", "units")
        sizes.bind(BIASES[g], "units")
    sizes.bind("prev_cell_state", "batch", "units")
    sizes.bind("prev_output", "batch", "units")
    return sizes


def _16bit_shapes(call: Call) -> list[Shape]:
    sizes = _16bit_sizes(call)
    shape = (sizes["batch"], sizes["units"])
    elements(call, shape)
    return [shape, shape]


def _16bit_rules(call: Call) -> Iterable[Need]:
    for name, wanted in _FIXED_QUANT.items():
        got = (call[name].scale, call[name].zero_point)
        call.require(got == wanted, f"{name} has scale and zero point {got}, must have {wanted}")
    first = call[_WEIGHTS[0]]
    for name in _WEIGHTS[1:]:
        got = (call[name].scale, call[name].zero_point)
        call.require(
            got == (first.scale, first.zero_point),
            f"{name} has scale and zero point {got}, must have {_WEIGHTS[0]}'s {(first.scale, first.zero_point)}",
        )
    for name in BIASES.values():
        scale = call[name].scale
        call.require(
            math.isclose(scale, first.scale / 128, rel_tol=1e-5) and call[name].zero_point == 0,
            f"{name} has scale {scale}, must have the weights' scale / 128 = {first.scale / 128} and zero point 0",
        )
    return ()


def _16bit_lstm(call: Call) -> list[Array]:
    x, h, c = (_integers(call[name]) for name in ("input", "prev_output", "prev_cell_state"))
    # What conforming devices compute: the input first, then the output, but the recurrent weights first.
    both = np.concatenate((x, h), axis=1)

    def gate(name: str) -> Array:
        weights = [_integers(call[f"{source}_to_{name}_weights"]) for source in ("recurrent", "input")]
        bias = call[BIASES[name]]
        sums = _matmul(both, np.concatenate(weights, axis=1)) + bias.value
        return saturate16(_scaled(call, sums, bias.scale * 2 ** (15 - GATE_BITS), f"scale of {BIASES[name]} * 2**12"))

    own, forget, output = (logistic(gate(name), GATE_BITS) for name in ("input", "forget", "output"))
    added = shift_right(product(own, tanh(gate("cell"), GATE_BITS)), CELL_BITS)
    c = saturate16(added + product(forget, c))
    squashed = tanh(saturate16(c << (CELL_BITS - GATE_BITS)), GATE_BITS)
    stored = shift_right(product(output, squashed), 8) + ACTIVATION_QUANT[1]
    return [c.astype(np.int16), saturate(stored, Q8.dtype)]


def _16bit_macs(call: Call) -> int:
    sizes = _16bit_sizes(call)
    units = sizes["units"] or 0
    return 4 * (sizes["batch"] or 0) * units * ((sizes["input"] or 0) + units)


_TYPES: Final[Mapping[str, TypeExpr]] = {"weights": Q8SYMM, "vector": Q16SYMM, "bias": I32}

QUANTIZED_LSTM = Op(
    "QUANTIZED_LSTM", 95, 4,
    (
        Signature((
            Param("input", Q8S, rank=2), *cell_params(types=_TYPES), Param("output_state_in", Q8S, rank=2),
            Param("cell_state_in", Q16SYMM, rank=2), *norm_params(type=Q16SYMM),
            Param("cell_clip", FLOAT32, omissible=True), Param("proj_clip", FLOAT32, omissible=True),
            *(Param(f"{g}_intermediate_scale", FLOAT32) for g in GATES), Param("hidden_state_zero_point", INT32),
            Param("hidden_state_scale", FLOAT32),
        )),
    ),
    (Result("output_state_out", Q8S), Result("cell_state_out", Q16SYMM), Result("output", Q8S)), (Types(4),),
    infer=_quantized_shapes, reference=_quantized_lstm, macs=_quantized_macs,
    formula="LSTM in integers: gates with 3 integer bits, cell state of 16 bits, input and output of 8",
)  # fmt: skip
QUANTIZED_16BIT_LSTM = Op(
    "QUANTIZED_16BIT_LSTM", 73, 3,
    (
        Signature((
            Param("input", Q8, rank=2), *(Param(name, Q8, rank=2) for name in _WEIGHTS),
            *(Param(name, I32, rank=1) for name in BIASES.values()), Param("prev_cell_state", Q16SYMM, rank=2),
            Param("prev_output", Q8, rank=2),
        )),
    ),
    (
        Result("cell_state_out", Q16SYMM, quant={Q16SYMM: CELL_QUANT}),
        Result("output", Q8, quant={Q8: ACTIVATION_QUANT}),
    ),
    (Types(3),), infer=_16bit_shapes, reference=_16bit_lstm, macs=_16bit_macs, rules=_16bit_rules,
    formula="LSTM in integers: gates with 3 integer bits, cell state with 4 of 16, input and output from -1 to 127/128",
)  # fmt: skip

OPERATIONS = (QUANTIZED_LSTM, QUANTIZED_16BIT_LSTM)
