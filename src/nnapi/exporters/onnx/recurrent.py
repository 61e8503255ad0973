"""Recurrent cells: ONNX's own LSTM and RNN where they compute the same, else each time step in plain nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from nnapi.exporters.onnx.lowering import FLOAT, LARGEST, Node, Row
from nnapi.exporters.onnx.writer import ABSENT, Value
from nnapi.ir.model import COMPOSITE
from nnapi.ops.lstm import BIASES, GATES
from nnapi.ops.numeric import NONE, RELU, RELU1, RELU6
from nnapi.ops.recurrent import SIGMOID, TANH
from nnapi.ops.types import F16

MAX_STEPS: Final = 64
"""How many time steps are written one by one."""
SMALLEST_VARIANCE: Final = 1e-12
"""NNAPI's layer normalization leaves a row of equal values at zero."""
STATES: Final = ("output_state_in", "cell_state_in")
NATIVE: Final[Mapping[int, str]] = {TANH: "Tanh", RELU: "Relu", SIGMOID: "Sigmoid"}
"""Activations that ONNX's cells take by name."""
State = tuple[Value, ...]
Step = Callable[[Value, State], State]
"""(input of one time step, state) -> the next state, the output first."""


def _activation(node: Node, x: Value) -> Value:
    code = node.scalar("activation")
    if code in NATIVE:
        return node.emit(NATIVE[code], [x])
    if code == NONE:
        return x
    low, high = {RELU1: (-1, 1), RELU6: (0, 6)}[code]
    return node.emit("Clip", [x, _number(node, low), _number(node, high)])


def _value(node: Node, name: str) -> Value:
    """An input in float32, in which all is computed."""
    value = node.stored(name)
    return node.cast(value, np.float32) if node[name].type == F16 else value


def _write(node: Node, value: Value, n: int) -> None:
    node.write(node.cast(value, np.float16) if node.outputs[n].type == F16 else value, n)


def _number(node: Node, value: float) -> Value:
    return node.constant(value, np.float32)


def _has(node: Node, name: str) -> bool:
    return name in node


def _stacked(node: Node, names: Sequence[str], axis: int = 0) -> Value:
    values = [_value(node, name) for name in names]
    return values[0] if len(values) == 1 else node.emit("Concat", values, axis=axis)


def _product(node: Node, x: Value, weights: Value, bias: Value | None = None) -> Value:
    """x [batch, in], weights [out, in] -> [batch, out]."""
    return node.emit("Gemm", [x, weights] if bias is None else [x, weights, bias], transB=1)


def _weights(node: Node, prefix: str, gates: Sequence[str], aux: bool) -> Value:
    """The gates' weights of the input, one below the other; those of the auxiliary input beside them."""
    own = _stacked(node, [f"{prefix}input_to_{g}_weights" for g in gates])
    if not aux:
        return own
    return node.emit("Concat", [own, _stacked(node, [f"{prefix}aux_input_to_{g}_weights" for g in gates])], axis=1)


def _clipped(node: Node, x: Value, name: str) -> Value:
    limit = node.scalar(name)
    return node.emit("Clip", [x, _number(node, -limit), _number(node, limit)]) if limit > 0 else x


def _lstm_step(node: Node, prefix: str, aux: bool) -> Step:
    gates = [g for g in GATES if _has(node, f"{prefix}input_to_{g}_weights")]
    weights = _weights(node, prefix, gates, aux)
    recurrent = _stacked(node, [f"{prefix}recurrent_to_{g}_weights" for g in gates])

    def step(x: Value, state: State) -> State:
        h, c = state
        total = node.emit("Add", [_product(node, x, weights), _product(node, h, recurrent)])
        parts = dict(zip(gates, node.emit_many("Split", [total], len(gates), axis=1, num_outputs=len(gates))))

        def gate(name: str, c: Value) -> Value:
            y = parts[name]
            if _has(node, f"{prefix}cell_to_{name}_weights"):
                y = node.emit("Add", [y, node.emit("Mul", [c, _value(node, f"{prefix}cell_to_{name}_weights")])])
            bias = _value(node, prefix + BIASES[name])
            if _has(node, f"{prefix}{name}_layer_norm_weights"):
                norm = [y, _value(node, f"{prefix}{name}_layer_norm_weights"), bias]
                return node.emit("LayerNormalization", norm, axis=-1, epsilon=SMALLEST_VARIANCE)
            return node.emit("Add", [y, bias])

        forget = node.emit("Sigmoid", [gate("forget", c)])
        if "input" in gates:
            own = node.emit("Sigmoid", [gate("input", c)])
        else:
            own = node.emit("Sub", [_number(node, 1), forget])
        fresh = node.emit("Mul", [own, _activation(node, gate("cell", c))])
        c = _clipped(node, node.emit("Add", [node.emit("Mul", [forget, c]), fresh]), "cell_clip")
        h = node.emit("Mul", [node.emit("Sigmoid", [gate("output", c)]), _activation(node, c)])
        if _has(node, f"{prefix}projection_weights"):
            bias = _value(node, f"{prefix}projection_bias") if _has(node, f"{prefix}projection_bias") else None
            h = _clipped(node, _product(node, h, _value(node, f"{prefix}projection_weights"), bias), "proj_clip")
        return h, c

    return step


def _rnn_step(node: Node, prefix: str, aux: bool) -> Step:
    weights = _stacked(node, [f"{prefix}weights", *([f"{prefix}aux_weights"] if aux else [])], axis=1)
    recurrent, bias = _value(node, f"{prefix}recurrent_weights"), _value(node, f"{prefix}bias")

    def step(x: Value, state: State) -> State:
        total = node.emit("Add", [_product(node, x, weights, bias), _product(node, state[0], recurrent)])
        return (_activation(node, total),)

    return step


def _lstm(node: Node) -> None:
    h, c = _lstm_step(node, "", False)(_value(node, "input"), tuple(_value(node, name) for name in STATES))
    scratch = np.zeros(node.dims(node.outputs[0]), np.float32)  # the reference's own, means nothing
    for n, value in enumerate((node.constant(scratch), h, c, h)):
        _write(node, value, n)


def _rnn(node: Node) -> None:
    (h,) = _rnn_step(node, "", False)(_value(node, "input"), (_value(node, "hidden_state"),))
    _write(node, h, 0)
    _write(node, h, 1)


def _native_lstm(node: Node, prefix: str, aux: bool) -> dict[str, Any] | None:
    """The inputs and attributes of ONNX's LSTM; None where that computes something else."""
    extras = ("cell_to_output_weights", "output_layer_norm_weights", "projection_weights")
    if node.scalar("activation") != TANH or node.scalar("cell_clip") or any(_has(node, prefix + e) for e in extras):
        return None
    gates = ("input", "output", "forget", "cell")

    def stacked(pattern: Callable[[str], str]) -> Value:
        """A coupled input gate is 1 - the forget gate: the sigmoid of its negative."""
        values = [
            _value(node, pattern(g))
            if g != "input" or _has(node, pattern(g))
            else node.emit("Neg", [_value(node, pattern("forget"))])
            for g in gates
        ]
        return node.emit("Concat", values, axis=0)

    weights = stacked(lambda g: f"{prefix}input_to_{g}_weights")
    if aux:
        weights = node.emit("Concat", [weights, stacked(lambda g: f"{prefix}aux_input_to_{g}_weights")], axis=1)
    bias = stacked(lambda g: prefix + BIASES[g])
    units = node.dims(f"{prefix}forget_gate_bias")[0]
    zeros = node.constant(np.zeros(4 * units), np.float32)
    return {
        "type": "LSTM",
        "weights": [
            weights,
            stacked(lambda g: f"{prefix}recurrent_to_{g}_weights"),
            node.emit("Concat", [bias, zeros], axis=0),
        ],
        "attributes": {"hidden_size": units},
    }


def _native_rnn(node: Node, prefix: str, aux: bool) -> dict[str, Any] | None:
    """The inputs and attributes of ONNX's RNN; None where that has no such activation."""
    code = node.scalar("activation")
    if code not in NATIVE:
        return None
    weights = _stacked(node, [f"{prefix}weights", *([f"{prefix}aux_weights"] if aux else [])], axis=1)
    units = node.dims(f"{prefix}bias")[0]
    zeros = node.constant(np.zeros(units), np.float32)
    bias = node.emit("Concat", [_value(node, f"{prefix}bias"), zeros], axis=0)
    return {
        "type": "RNN",
        "weights": [weights, _value(node, f"{prefix}recurrent_weights"), bias],
        "attributes": {"hidden_size": units, "activations": [NATIVE[code]]},
    }


class _Kind:
    """What a sequence must know of its cell."""

    def __init__(self, states: Sequence[str], step: Any, native: Any, aux_weights: str) -> None:
        self.states = states
        self.step = step
        self.native = native
        self.aux_weights = aux_weights


LSTM = _Kind(STATES, _lstm_step, _native_lstm, "aux_input_to_output_weights")
RNN = _Kind(("hidden_state",), _rnn_step, _native_rnn, "aux_weights")


def _direction(node: Node, kind: _Kind, prefix: str, x: Value, steps: int | None, aux: bool) -> tuple[Value, State]:
    """x [time, batch, input] -> outputs [time, batch, output] and the last state."""
    backward = prefix == "bw_"
    state = tuple(_value(node, prefix + name) for name in kind.states)
    native = kind.native(node, prefix, aux)
    zeroth = node.ints([0])
    if native is not None:
        return _run_native(node, native, x, state, backward=backward)
    if steps is None:
        node.unknown("the number of time steps is not known")
    if steps > MAX_STEPS:
        node.refuse(f"{steps} time steps of a cell that ONNX has not, {MAX_STEPS} are written one by one")
    step = kind.step(node, prefix, aux)
    parts = node.emit_many("Split", [x], steps, axis=0, num_outputs=steps)
    outputs_at: dict[int, Value] = {}
    for t in reversed(range(steps)) if backward else range(steps):
        state = step(node.emit("Squeeze", [parts[t], zeroth]), state)
        outputs_at[t] = node.emit("Unsqueeze", [state[0], zeroth])
    return node.emit("Concat", [outputs_at[t] for t in range(steps)], axis=0), state


def _run_native(
    node: Node, native: Mapping[str, Any], x: Value, state: State, *, backward: bool
) -> tuple[Value, State]:
    """ONNX's own layer, whose weights and states have a dimension for the direction.

    Backward it gets the steps of x the other way round: OpenVINO mixes up the samples of a batch otherwise.
    """
    zeroth = node.ints([0])
    if backward:
        x = _turned_round(node, x)
    given = [node.emit("Unsqueeze", [v, zeroth]) for v in (*native["weights"], *state)]
    results = node.emit_many(
        native["type"], [x, *given[:3], ABSENT, *given[3:]], 1 + len(state), **native["attributes"]
    )
    outputs = node.emit("Squeeze", [results[0], node.ints([1])])
    if backward:
        outputs = _turned_round(node, outputs)
    return outputs, tuple(node.emit("Squeeze", [v, zeroth]) for v in results[1:])


def _turned_round(node: Node, x: Value) -> Value:
    """x [T, ...], the last step first."""
    return node.emit("Slice", [x, node.ints([-1]), node.ints([-LARGEST]), node.ints([0]), node.ints([-1])])


def _gru(node: Node) -> None:
    """The composite: x, weights, recurrent weights, two biases, state, backward. ONNX has the update gate first."""
    x, weights, recurrent, bias, recurrent_bias, h = (node.lowering.form(i) for i in node.operation.inputs[:6])
    backward = node.inputs[6].value
    if not isinstance(backward, np.ndarray):
        node.refuse("the direction is not a constant, must be")

    def gates(value: Value) -> Value:
        reset, update, new = node.emit_many("Split", [value], 3, axis=0, num_outputs=3)
        return node.emit("Concat", [update, reset, new], axis=0)

    native = {
        "type": "GRU",
        "weights": [
            gates(weights),
            gates(recurrent),
            node.emit("Concat", [gates(bias), gates(recurrent_bias)], axis=0),
        ],
        "attributes": {"hidden_size": node.inputs[2].dimensions[1], "linear_before_reset": 1},
    }
    y, (last,) = _run_native(node, native, x, (h,), backward=bool(backward))
    for n, value in enumerate((y, last)[: len(node.outputs)]):
        node.write(value, n)


def _time_first(node: Node, x: Value) -> Value:
    """x in the operation's order <-> [time, batch, ...]."""
    return x if node.scalar("time_major") else node.transpose(x, (1, 0, 2))


def _steps(node: Node) -> int | None:
    shape = node["input"].shape
    return None if shape is None else shape[0 if node.scalar("time_major") else 1]


def _one_way(kind: _Kind) -> Callable[[Node], None]:
    def lower(node: Node) -> None:
        x = _time_first(node, _value(node, "input"))
        outputs, state = _direction(node, kind, "", x, _steps(node), False)
        for n, value in enumerate((_time_first(node, outputs), *state)[: len(node.outputs)]):
            _write(node, value, n)

    return lower


def _two_ways(kind: _Kind) -> Callable[[Node], None]:
    """An auxiliary input goes beside the input into both cells, or without weights of its own into the second only."""

    def lower(node: Node) -> None:
        x = _time_first(node, _value(node, "input"))
        sources, aux = {"fw_": x, "bw_": x}, False
        if "aux_input" in node:
            other = _time_first(node, _value(node, "aux_input"))
            aux = _has(node, f"fw_{kind.aux_weights}")
            if aux:
                sources = dict.fromkeys(sources, node.emit("Concat", [x, other], axis=2))
            else:
                sources["bw_"] = other
        outputs: list[Value] = []
        states: list[Value] = []
        for prefix, source in sources.items():
            output, state = _direction(node, kind, prefix, source, _steps(node), aux)
            outputs.append(_time_first(node, output))
            states += state
        if node.scalar("merge_outputs"):
            outputs = [node.emit("Concat", outputs, axis=2)]
        for n, value in enumerate((*outputs, *states)[: len(node.outputs)]):
            _write(node, value, n)

    return lower


def _svdf(node: Node) -> None:
    """The memory is a window of the last products of the input and each filter."""
    filters, memory = node.dims("weights_time")
    x, rank, last = _value(node, "input"), node.scalar("rank"), node.ints([-1])
    state = node.reshape(_value(node, "state"), (0, filters, memory))
    fresh = node.emit("Unsqueeze", [_product(node, x, _value(node, "weights_feature")), node.ints([2])])
    kept = node.emit("Slice", [state, node.ints([0]), last, node.ints([2])]) if memory > 1 else None
    window = fresh if kept is None else node.emit("Concat", [kept, fresh], axis=2)
    filtered = node.emit("Mul", [window, _value(node, "weights_time")])
    total = node.emit("ReduceSum", [filtered, node.ints([2])], keepdims=0)
    total = node.emit("ReduceSum", [node.reshape(total, (0, filters // rank, rank)), node.ints([2])], keepdims=0)
    if "bias" in node:
        total = node.emit("Add", [total, _value(node, "bias")])
    pushed = node.emit("Slice", [window, node.ints([1]), node.ints([memory]), node.ints([2])]) if memory > 1 else None
    empty = node.emit("Mul", [fresh, _number(node, 0)])
    pushed = empty if pushed is None else node.emit("Concat", [pushed, empty], axis=2)
    _write(node, node.reshape(pushed, (0, filters * memory)), 0)
    _write(node, _activation(node, total), 1)


ROWS = {
    COMPOSITE + "GRU": Row(_gru, FLOAT),
    "RNN": Row(_rnn, FLOAT),
    "LSTM": Row(_lstm, FLOAT),
    "SVDF": Row(_svdf, FLOAT),
    "UNIDIRECTIONAL_SEQUENCE_RNN": Row(_one_way(RNN), FLOAT),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Row(_one_way(LSTM), FLOAT),
    "BIDIRECTIONAL_SEQUENCE_RNN": Row(_two_ways(RNN), FLOAT),
    "BIDIRECTIONAL_SEQUENCE_LSTM": Row(_two_ways(LSTM), FLOAT),
}
