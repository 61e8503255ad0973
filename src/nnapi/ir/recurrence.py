"""Recurrent layers in plain operations, one step after the other: for whoever has no such layer, and no loop.

Inputs are projected for all steps at once; what is known of a first state is computed here, not in the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from nnapi.errors import ModelError
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import COMPOSITE, Model, Operation
from nnapi.ops.lstm import BIASES, GATES
from nnapi.ops.numeric import NONE, RELU, RELU1, RELU6
from nnapi.ops.recurrent import SIGMOID, TANH
from nnapi.ops.types import F32, Array, Operand

MAX_STEPS: Final = 512
"""Beyond, some ten operations for each step make a model that is slower to load than to run."""
SMALLEST_VARIANCE: Final = 1e-12
"""NNAPI's layer normalization leaves a row of equal values at zero."""
ACTIVATIONS: Final = {RELU: "RELU", RELU1: "RELU1", RELU6: "RELU6", TANH: "TANH", SIGMOID: "LOGISTIC"}
GRU: Final = COMPOSITE + "GRU"

Value = Ref | Array
"""A tensor of the model, or a constant that is known here."""
State = tuple[Value, ...]
"""State that one step hands to the next: [batch, size] each, the output first."""


class Unrolled(NamedTuple):
    """A recurrent operation as a model of its own."""

    body: Model
    inputs: tuple[int, ...]
    """The operation's operands that the body's inputs stand for."""


@dataclass(frozen=True)
class Plain:
    """Plain operations on tensors and constants."""

    b: Builder
    half: bool = False
    """Whether weights are stored in 16 bits and cast."""
    _cast: dict[int, tuple[Array, Ref]] = field(default_factory=dict)

    def dense(self, x: Value, weights: Value, bias: Value) -> Value:
        """x [N, I], weights [O, I] -> [N, O]."""
        if isinstance(x, np.ndarray) and isinstance(weights, np.ndarray) and isinstance(bias, np.ndarray):
            with np.errstate(all="ignore"):  # as the reference computes: what is not finite goes on
                return x @ weights.T + bias
        if self.half and isinstance(weights, np.ndarray):
            if id(weights) not in self._cast:
                stored = self.b.constant(weights.astype(np.float16))
                self._cast[id(weights)] = weights, self.b.add("CAST", {"input": stored}, Operand(F32))
            weights = self._cast[id(weights)][1]
        return self.b.add("FULLY_CONNECTED", {"input": x, "filter": weights, "bias": bias, "activation": NONE})

    def binary(self, kind: str, x: Value, y: Value) -> Ref:
        return self.b.add(kind, {"input0": x, "input1": y, "activation": NONE})

    def function(self, kind: str, x: Value) -> Ref:
        return self.b.add(kind, {"input": x})

    def activation(self, code: int, x: Ref) -> Ref:
        return x if code == NONE else self.function(ACTIVATIONS[code], x)

    def clipped(self, x: Ref, limit: float) -> Ref:
        """x within limit of zero; a limit of 0 is none."""
        for kind, bound in (("MAXIMUM", -limit), ("MINIMUM", limit)) if limit > 0 else ():
            x = self.b.add(kind, {"input0": x, "input1": np.full(1, bound, np.float32)})
        return x

    def normalized(self, x: Ref) -> Ref:
        """x [N, size] with mean 0 and variance 1 in each row."""
        mean = self.b.add("MEAN", {"input": x, "axes": [1], "keep_dims": 1})
        centered = self.binary("SUB", x, mean)
        squares = self.b.add("MEAN", {"input": self.binary("MUL", centered, centered), "axes": [1], "keep_dims": 1})
        deviation = self.function("RSQRT", self.binary("ADD", squares, np.full(1, SMALLEST_VARIANCE, np.float32)))
        return self.binary("MUL", centered, deviation)

    def split(self, x: Value, count: int, axis: int) -> list[Value]:
        if isinstance(x, np.ndarray):
            return list(np.split(x, count, axis))
        return [x] if count == 1 else list(self.b.add_many("SPLIT", {"input": x, "axis": axis, "num_splits": count}))

    def joined(self, parts: Sequence[Value], axis: int) -> Ref:
        """One behind the other, all of them tensors."""
        tensors = [p if isinstance(p, Ref) else self.b.constant(p) for p in parts]
        return tensors[0] if len(tensors) == 1 else self.b.add("CONCATENATION", {"inputs": tensors, "axis": axis})

    def reshape(self, x: Value, shape: Sequence[int]) -> Ref:
        return self.b.add("RESHAPE", {"input": x, "shape": list(shape)})

    def swapped(self, x: Value) -> Ref:
        """x [N, T, size] <-> [T, N, size]."""
        return self.b.add("TRANSPOSE", {"input": x, "perm": [1, 0, 2]})


class Cell(NamedTuple):
    """One step of a layer."""

    project: Callable[[Ref], Value]
    """x [steps * N, I] -> what each step needs of it [steps * N, ...]."""
    step: Callable[[Value, State], State]


def sequence(p: Plain, x: Ref, cell: Cell, state: State, *, backward: bool = False) -> tuple[Ref, State]:
    """x [T, N, I] -> the outputs [T, N, O], and the last state; ModelError where T is not known, or too large."""
    steps, _, size = x.shape or (None, None, None)
    if steps is None or size is None:
        raise ModelError("the number of time steps is not known")
    if steps > MAX_STEPS:
        raise ModelError(f"{steps} time steps, {MAX_STEPS} are written one by one")
    parts = p.split(cell.project(p.reshape(x, (-1, size))), steps, 0)
    outputs: dict[int, Value] = {}
    for t in reversed(range(steps)) if backward else range(steps):
        state = cell.step(parts[t], state)
        outputs[t] = state[0]
    whole = p.joined([outputs[t] for t in range(steps)], 0)
    return p.reshape(whole, (steps, -1, (whole.shape or ())[-1] or 0)), state


def gru_cell(p: Plain, weights: Value, recurrent: Value, bias: Value, recurrent_bias: Value) -> Cell:
    """The gates reset, update and new below one another, as PyTorch has them; reset applies to the product."""

    def step(x: Value, state: State) -> State:
        (h,) = state
        own, fed = (p.split(v, 3, 1) for v in (x, p.dense(h, recurrent, recurrent_bias)))
        reset, update = (p.function("LOGISTIC", p.binary("ADD", own[g], fed[g])) for g in (0, 1))
        new = p.function("TANH", p.binary("ADD", own[2], p.binary("MUL", reset, fed[2])))
        return (p.binary("ADD", new, p.binary("MUL", update, p.binary("SUB", h, new))),)

    return Cell(lambda x: p.dense(x, weights, bias), step)


class _Named:
    """The inputs of one direction of an NNAPI operation, by name; the weights are constants."""

    def __init__(self, model: Model, operation: Operation, prefix: str = "") -> None:
        self.call = model.call(operation)
        self._model, self._prefix = model, prefix
        self.indexes = {param.name: operation.inputs[at.start] for param, at in self.call.slots}

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self.call

    def __getitem__(self, name: str) -> Array:
        value = _constant(self._model, self.indexes[self._prefix + name])
        if value is None:
            raise ModelError(f"{self._prefix}{name} is not a constant, must be")
        return value


def _constant(model: Model, i: int) -> Array | None:
    """A constant's value, also of one that is stored in 16 bits and cast."""
    n = model.producers.get(i)
    cast = n is not None and model.operations[n].type == "CAST"
    value = model.operands[model.operations[n].inputs[0] if cast and n is not None else i].value
    return value.astype(np.float32, copy=False) if isinstance(value, np.ndarray) else None


def _lstm_cell(p: Plain, given: _Named, aux: bool) -> Cell:
    call = given.call
    gates = [g for g in GATES if f"input_to_{g}_weights" in given]
    weights = _beside_aux(given, [f"input_to_{g}_weights" for g in gates], aux, "aux_")
    recurrent = np.concatenate([given[f"recurrent_to_{g}_weights"] for g in gates])
    bias = np.concatenate([given[BIASES[g]] for g in gates])
    has_norm = "forget_layer_norm_weights" in given
    nothing = np.zeros_like(bias)

    def step(x: Value, state: State) -> State:
        h, c = state
        total = p.binary("ADD", x, p.dense(h, recurrent, nothing))
        parts = dict(zip(gates, p.split(total, len(gates), 1)))

        def gate(name: str, c: Value) -> Ref:
            y = parts[name]
            assert isinstance(y, Ref)
            if f"cell_to_{name}_weights" in given:
                y = p.binary("ADD", y, _product(p, c, given[f"cell_to_{name}_weights"]))
            if not has_norm:
                return y
            scaled = p.binary("MUL", p.normalized(y), given[f"{name}_layer_norm_weights"])
            return p.binary("ADD", scaled, given[BIASES[name]])

        code = call.scalar("activation")
        forget = p.function("LOGISTIC", gate("forget", c))
        if "input" in gates:
            own = p.function("LOGISTIC", gate("input", c))
        else:
            own = p.binary("SUB", np.ones(1, np.float32), forget)
        fresh = p.binary("MUL", own, p.activation(code, gate("cell", c)))
        after = p.clipped(p.binary("ADD", p.binary("MUL", forget, c), fresh), call.scalar("cell_clip"))
        y = p.binary("MUL", p.function("LOGISTIC", gate("output", after)), p.activation(code, after))
        if "projection_weights" in given:
            projection = given["projection_weights"]
            shift = given["projection_bias"] if "projection_bias" in given else np.zeros(len(projection), np.float32)
            projected = p.dense(y, projection, shift)
            assert isinstance(projected, Ref)
            y = p.clipped(projected, call.scalar("proj_clip"))
        return y, after

    return Cell(lambda x: p.dense(x, weights, nothing if has_norm else bias), step)


def _rnn_cell(p: Plain, given: _Named, aux: bool) -> Cell:
    weights, recurrent, bias = _beside_aux(given, ["weights"], aux, "aux_"), given["recurrent_weights"], given["bias"]

    def step(x: Value, state: State) -> State:
        total = p.binary("ADD", x, p.dense(state[0], recurrent, np.zeros_like(bias)))
        return (p.activation(given.call.scalar("activation"), total),)

    return Cell(lambda x: p.dense(x, weights, bias), step)


def _product(p: Plain, x: Value, y: Array) -> Value:
    return x * y if isinstance(x, np.ndarray) else p.binary("MUL", x, y)


def _beside_aux(given: _Named, names: Sequence[str], aux: bool, prefix: str) -> Array:
    """Matrices below one another; those of the auxiliary input beside them."""
    own = np.concatenate([given[name] for name in names])
    return np.concatenate([own, np.concatenate([given[prefix + name] for name in names])], 1) if aux else own


class _Kind(NamedTuple):
    states: tuple[str, ...]
    cell: Callable[[Plain, _Named, bool], Cell]
    aux_weights: str


_LSTM = _Kind(("output_state_in", "cell_state_in"), _lstm_cell, "aux_input_to_output_weights")
_RNN = _Kind(("hidden_state",), _rnn_cell, "aux_weights")
KINDS: Final = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _LSTM, "BIDIRECTIONAL_SEQUENCE_LSTM": _LSTM,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _RNN, "BIDIRECTIONAL_SEQUENCE_RNN": _RNN,
}  # fmt: skip


def unrolled(model: Model, operation: Operation) -> Unrolled | None:
    """A recurrent operation of float32 and constant weights in plain ones; None where it is no such operation.

    Raises ModelError where a weight is not constant, and where there are too many steps, or nobody knows how many.
    """
    if operation.type == GRU:
        return _unrolled_gru(model, operation)
    kind = KINDS.get(operation.type)
    if kind is None or model.operands[operation.inputs[0]].type != F32:
        return None
    named, entries = _Named(model, operation), _Entries(model)
    call, at = named.call, named.indexes
    p = Plain(entries.b, any(map(entries.is_half, operation.inputs)))
    both = operation.type.startswith("BI")
    time_major = call.scalar("time_major")

    def timed(name: str) -> Ref:
        x = entries.tensor(at[name])
        return x if time_major else p.swapped(x)

    x = timed("input")
    sources, aux = {"fw_": x, "bw_": x} if both else {"": x}, False
    if both and "aux_input" in call:
        other = timed("aux_input")
        aux = f"fw_{kind.aux_weights}" in call
        sources = dict.fromkeys(sources, p.joined([x, other], 2)) if aux else {**sources, "bw_": other}
    outputs: list[Value] = []
    states: list[Value] = []
    for prefix, source in sources.items():
        state = tuple(entries.value(at[prefix + name]) for name in kind.states)
        y, last = sequence(
            p, source, kind.cell(p, _Named(model, operation, prefix), aux), state, backward=prefix == "bw_"
        )
        outputs.append(y if time_major else p.swapped(y))
        states += last
    if both and call.scalar("merge_outputs"):
        outputs = [p.joined(outputs, 2)]
    return entries.finish([*outputs, *states][: len(operation.outputs)])


def _unrolled_gru(model: Model, operation: Operation) -> Unrolled | None:
    entries = _Entries(model)
    *given, h, backward, _ = operation.inputs[1:]
    p = Plain(entries.b, any(map(entries.is_half, given)))
    weights = [entries.value(i) for i in given]
    y, last = sequence(
        p, entries.tensor(operation.inputs[0]), gru_cell(p, *weights), (entries.value(h),),
        backward=bool(model.operands[backward].value),
    )  # fmt: skip
    return entries.finish([y, *last][: len(operation.outputs)])


class _Entries:
    """The operands of a model that a body reads: constants as they are, others as its inputs."""

    def __init__(self, model: Model) -> None:
        self.b = Builder("unrolled")
        self._model = model
        self._refs: dict[int, Ref] = {}

    def is_half(self, i: int) -> bool:
        """Whether a constant is stored in 16 bits and cast."""
        return not self._model.operands[i].is_constant and _constant(self._model, i) is not None

    def value(self, i: int) -> Value:
        known = _constant(self._model, i)
        if known is not None:
            return known
        if i not in self._refs:
            self._refs[i] = self.b.input_operand(self._model.operands[i])
        return self._refs[i]

    def tensor(self, i: int) -> Ref:
        value = self.value(i)
        return value if isinstance(value, Ref) else self.b.constant(value)

    def finish(self, outputs: Sequence[Value]) -> Unrolled:
        self.b.output(*(y if isinstance(y, Ref) else self.b.constant(y) for y in outputs))
        return Unrolled(self.b.finish(check=False), tuple(self._refs))
