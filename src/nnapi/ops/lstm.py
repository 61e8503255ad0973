"""LSTM, and the cell that its sequence forms run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from nnapi.ops.numeric import NONE, RELU, RELU6, quantize
from nnapi.ops.op import Call, Op, Param, Result, Signature, TypeExpr, Types
from nnapi.ops.recurrent import (
    SIGMOID,
    TANH,
    Activation,
    State,
    activation_of,
    all_or_none,
    check_activation,
    given,
    real,
    sigmoid,
    unroll,
)  # fmt: skip
from nnapi.ops.shape import elements
from nnapi.ops.sizes import Sizes
from nnapi.ops.types import F16, F32, FLOAT16, FLOAT32, INT32, Array, Shape

GATES: Final = ("input", "forget", "cell", "output")
BIASES: Final[Mapping[str, str]] = {
    "input": "input_gate_bias", "forget": "forget_gate_bias", "cell": "cell_bias", "output": "output_gate_bias",
}  # fmt: skip
ACTIVATIONS: Final = (NONE, RELU, RELU6, TANH, SIGMOID)
FLOATS: Final[Mapping[str, TypeExpr]] = {"weights": "T", "vector": "T", "bias": "T"}
"""The types of a cell's matrices, of its peephole and normalization vectors, and of its biases."""


def cell_params(prefix: str = "", types: Mapping[str, TypeExpr] = FLOATS) -> tuple[Param, ...]:
    """The weights and biases of one cell, in NNAPI's order."""
    w, v, b = types["weights"], types["vector"], types["bias"]
    return (
        *(Param(f"{prefix}input_to_{g}_weights", w, rank=2, omissible=g == "input") for g in GATES),
        *(Param(f"{prefix}recurrent_to_{g}_weights", w, rank=2, omissible=g == "input") for g in GATES),
        *(Param(f"{prefix}cell_to_{g}_weights", v, rank=1, omissible=True) for g in GATES if g != "cell"),
        *(Param(f"{prefix}{BIASES[g]}", b, rank=1, omissible=g == "input") for g in GATES),
        Param(f"{prefix}projection_weights", w, rank=2, omissible=True),
        Param(f"{prefix}projection_bias", b, rank=1, omissible=True),
    )


def norm_params(prefix: str = "", type: TypeExpr = "T", since: int = 1) -> tuple[Param, ...]:
    """The layer normalization weights of one cell."""
    return tuple(
        Param(f"{prefix}{g}_layer_norm_weights", type, rank=1, since=since, omissible=True) for g in GATES
    )  # fmt: skip


def coupled(call: Call, prefix: str = "") -> bool | None:
    """Whether the input gate is 1 - the forget gate (CIFG): its own weights are omitted; None where not known."""
    names = ("input_to_input_weights", "recurrent_to_input_weights", BIASES["input"])
    own = all_or_none(call, *(prefix + name for name in names))
    return None if own is None else not own


def check_cell(call: Call, sizes: Sizes, prefix: str = "", source: str = "input") -> None:
    """ModelError where the inputs of one cell, whose input has size `source`, do not fit together.

    Optional inputs count only where they are known to be there: a model input may be left out of an execution.
    """
    units, output = f"{prefix}units", f"{prefix}output"
    cifg = coupled(call, prefix)
    _check_per_gate(call, prefix, "cell_to_{}_weights", ("forget", "output"), cifg)
    _check_per_gate(call, prefix, "{}_layer_norm_weights", ("forget", "cell", "output"), cifg)
    projects, biased = given(call, f"{prefix}projection_weights"), given(call, f"{prefix}projection_bias")
    call.require(not (biased and projects is False), f"{prefix}projection_bias is given without projection_weights")
    dimensions: dict[str, tuple[str, ...]] = {}
    for g in GATES[::-1]:  # the output gate first: its weights are never omitted
        dimensions[f"input_to_{g}_weights"] = (units, source)
        dimensions[f"recurrent_to_{g}_weights"] = (units, output)
        dimensions |= dict.fromkeys((BIASES[g], f"cell_to_{g}_weights", f"{g}_layer_norm_weights"), (units,))
    dimensions |= {"projection_weights": (output, units), "projection_bias": (output,)}
    dimensions |= {"output_state_in": ("batch", output), "cell_state_in": ("batch", units)}
    optional = {p.name for p in call.signature.inputs if p.omissible}
    for name, symbols in dimensions.items():
        name = prefix + name
        if given(call, name) or (name in call and name not in optional):
            sizes.bind(name, *symbols)
    size = sizes[units]
    if projects is False and size is not None:
        sizes.set(output, size, f"{prefix}input_to_output_weights, without projection,")


def _check_per_gate(call: Call, prefix: str, name: str, gates: tuple[str, ...], cifg: bool | None) -> None:
    """Weights of several gates are given together; the input gate's where there is an input gate."""
    names = [prefix + name.format(g) for g in gates]
    together, own = all_or_none(call, *names), prefix + name.format("input")
    there = given(call, own)
    if cifg is False:
        all_or_none(call, *names, own)
    elif there:
        call.require(cifg is None, f"{own} is given, must be omitted without an input gate")
        call.require(together is not False, f"{own} is given and {names[0]} is omitted", hint="give both or neither")


def check_scalars(call: Call) -> None:
    """ModelError where the activation or a clipping threshold is not allowed."""
    check_activation(call, ACTIVATIONS)
    for name in ("cell_clip", "proj_clip"):
        clip = call.scalar(name)
        call.require(clip is None or clip >= 0, f"{name} is {clip}, must be 0 (no clipping) or positive")


@dataclass(frozen=True)
class LstmCell:
    """One cell; its gates, side by side: input (unless coupled), forget, cell, output."""

    input_weights: Array
    recurrent_weights: Array
    aux_weights: Array | None
    bias: Array
    peephole: Mapping[str, Array]
    norm: Array | None
    projection: Array | None
    projection_bias: Array | None
    activation: Activation
    cell_clip: float
    proj_clip: float

    @classmethod
    def of(cls, call: Call, prefix: str = "", aux: bool = False) -> Self:
        gates = GATES[1:] if coupled(call, prefix) else GATES

        def optional(name: str) -> Array | None:
            return real(call, prefix + name) if prefix + name in call else None

        def side_by_side(name: str) -> Array:
            return np.concatenate([real(call, prefix + name.format(g)) for g in gates])

        names = {g: f"cell_to_{g}_weights" for g in GATES}
        return cls(
            side_by_side("input_to_{}_weights"),
            side_by_side("recurrent_to_{}_weights"),
            side_by_side("aux_input_to_{}_weights") if aux else None,
            np.stack([real(call, prefix + BIASES[g]) for g in gates]),
            {g: weights for g, name in names.items() if (weights := optional(name)) is not None},
            side_by_side("{}_layer_norm_weights").reshape(len(gates), -1)
            if f"{prefix}output_layer_norm_weights" in call
            else None,
            optional("projection_weights"),
            optional("projection_bias"),
            activation_of(call),
            call.scalar("cell_clip"),
            call.scalar("proj_clip"),
        )

    def project(self, x: Array, aux: Array | None = None) -> Array:
        total = x @ self.input_weights.T
        return total if aux is None or self.aux_weights is None else total + aux @ self.aux_weights.T

    def step(self, projected: Array, state: State) -> State:
        h, c = state
        total = (projected + h @ self.recurrent_weights.T).reshape(len(h), *self.bias.shape)
        forget = sigmoid(self._gate(total, "forget", c))
        own = sigmoid(self._gate(total, "input", c)) if len(self.bias) == len(GATES) else 1 - forget
        c = forget * c + own * self.activation(self._gate(total, "cell", c))
        c = _clip(c, self.cell_clip)
        h = sigmoid(self._gate(total, "output", c)) * self.activation(c)
        if self.projection is not None:
            h = h @ self.projection.T
            h = _clip(h if self.projection_bias is None else h + self.projection_bias, self.proj_clip)
        return h, c

    def _gate(self, total: Array, gate: str, c: Array) -> Array:
        """total [batch, gates, units] -> what goes into the activation of one gate [batch, units]."""
        n = GATES.index(gate) - len(GATES)
        x = total[:, n]
        if gate in self.peephole:
            x = x + c * self.peephole[gate]
        if self.norm is not None:
            x = normalize(x) * self.norm[n]
        return x + self.bias[n]


def normalize(x: Array) -> Array:
    """x [batch, units] with mean 0 and variance 1 per row; a row of equal values becomes 0."""
    x = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt(np.square(x).mean(-1, keepdims=True))
    return x / np.where(deviation == 0, np.float32(1), deviation)


def _clip(x: Array, limit: float) -> Array:
    return np.clip(x, np.float32(-limit), np.float32(limit)) if limit > 0 else x


def cell_macs(sizes: Sizes, steps: int, prefix: str = "", source: str = "input", *, gates: int = 4) -> int:
    """Multiply-accumulates of `steps` steps of one cell; 0 where a size is unknown."""
    units, output, batch = (sizes[s] or 0 for s in (f"{prefix}units", f"{prefix}output", "batch"))
    projection = output * units if output != units else 0
    return steps * batch * (gates * units * ((sizes[source] or 0) + output) + projection)


def _lstm_sizes(call: Call) -> Sizes:
    sizes = Sizes(call)
    sizes.bind("input", "batch", "input")
    check_cell(call, sizes)
    check_scalars(call)
    return sizes


def _lstm_shapes(call: Call) -> list[Shape]:
    sizes, cifg = _lstm_sizes(call), coupled(call)
    batch, units = sizes["batch"], sizes["units"]
    scratch = (batch, None if units is None or cifg is None else units * (3 if cifg else 4))
    state, cell = (batch, sizes["output"]), (batch, units)
    for shape in (scratch, state, cell):
        elements(call, shape)
    return [scratch, state, cell, state]


def _lstm(call: Call) -> list[Array]:
    state = (real(call, "output_state_in"), real(call, "cell_state_in"))
    _, (h, c) = unroll(call, LstmCell.of(call), real(call, "input")[None], state)
    # The scratch buffer is the implementation's own; its content means nothing.
    scratch = np.zeros(tuple(d for d in _lstm_shapes(call)[0] or () if d is not None), np.float32)
    return [quantize(array, operand) for array, operand in zip((scratch, h, c, h), call.outputs)]


def _lstm_macs(call: Call) -> int:
    return cell_macs(_lstm_sizes(call), steps=1, gates=3 if coupled(call) else 4)


SCALARS = (Param("activation", INT32), Param("cell_clip", "F"), Param("proj_clip", "F"))
STATE = (Param("output_state_in", "T", rank=2), Param("cell_state_in", "T", rank=2))
_INPUTS = (Param("input", "T", rank=2), *cell_params(), *STATE, *SCALARS)

LSTM = Op(
    "LSTM", 16, 1,
    (Signature(_INPUTS), Signature((*_INPUTS, *norm_params(since=3)), "layer normalization")),
    tuple(Result(name, "T") for name in ("scratch_buffer", "output_state_out", "cell_state_out", "output")),
    (Types(1, T=F32, F=FLOAT32), Types(3, T=F16, F=FLOAT16)),
    infer=_lstm_shapes, reference=_lstm, macs=_lstm_macs,
    formula="i, f, o = sigmoid(gate); cell' = clip(f * cell + i * g(gate)); output = clip(o * g(cell') projected); "
    "gate = norm(input W' + output R' + cell P) + bias",
)  # fmt: skip

OPERATIONS = (LSTM,)
