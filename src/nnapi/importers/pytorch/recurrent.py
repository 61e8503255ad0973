"""Recurrent layers: LSTM and RNN over sequences, in one or both directions, with any number of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from nnapi.errors import ModelError
from nnapi.importers.pytorch.convolution import zeros
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.slicing import join, pieces, window
from nnapi.importers.pytorch.tensor import Inexpressible, Tensor, operand_of
from nnapi.ir import composites
from nnapi.ops.numeric import RELU

TANH: Final = 4
"""NNAPI's code for it in recurrent operations."""
GATES: Final = ("input", "forget", "cell", "output")
"""As PyTorch stacks their weights."""


class Layers(NamedTuple):
    """What all recurrent operators take behind their weights."""

    has_biases: bool
    depth: int
    dropout: float
    train: bool
    is_bidirectional: bool
    is_batch_first: bool

    @property
    def directions(self) -> int:
        return 2 if self.is_bidirectional else 1

    def require_eval(self) -> None:
        if self.train and self.dropout > 0:
            raise ModelError("drops at random, as in training", hint="call module.eval() before loading")


Weights = Callable[[Emitter, Sequence[Tensor], bool], dict[str, Any]]
"""(the weights of one layer in one direction, whether there are biases) -> the operation's inputs."""


def _run(
    e: Emitter,
    operation: str,
    x: Tensor,
    states: dict[str, Tensor],
    params: Sequence[Tensor],
    layers: Layers,
    weights: Weights,
    given: dict[str, Any],
) -> tuple[Tensor | None, ...]:
    """Layer after layer: what the last gives, and the last of each of `states` [layers * directions, N, ...]."""
    layers.require_eval()
    y, is_batch = _as_batch(e, x)
    time_major = not (is_batch and layers.is_batch_first)
    prefixes = ("fw_", "bw_") if layers.is_bidirectional else ("",)
    size = len(params) // (layers.depth * layers.directions)
    last: list[list[Tensor]] = [[] for _ in states]
    for layer in range(layers.depth):
        inputs: dict[str, Any] = {"input": y, **given, "time_major": time_major}
        if layers.is_bidirectional:
            inputs["merge_outputs"] = True
        for d, prefix in enumerate(prefixes):
            at = layer * layers.directions + d
            named = weights(e, params[at * size : (at + 1) * size], layers.has_biases)
            named |= {name: _state(e, state, at) for name, state in states.items()}
            inputs |= {prefix + name: value for name, value in named.items()}
        outputs = [operand_of(x.type, name=e.name)] * (1 + len(states) * layers.directions)
        written = e.add_many(
            f"{'BI' if layers.is_bidirectional else 'UNI'}DIRECTIONAL_SEQUENCE_{operation}",
            outputs if max(e.wanted, default=0) > 0 else None,
            **inputs,
        )
        y = written[0]
        for i, state in enumerate(written[1:]):
            last[i % len(states)].append(e.reshape(state, (1, *state.shape)))
    ends = [e.reshape(join(e, s, 0), e.result[1 + i][0]) if s else None for i, s in enumerate(last)]
    return (e.reshape(y, e.shape), *ends)


def _as_batch(e: Emitter, x: Tensor) -> tuple[Tensor, bool]:
    """x with a batch, and whether it had one."""
    return (x, True) if x.rank == 3 else (e.reshape(x, (x.shape[0], 1, x.shape[1])), False)


def _state(e: Emitter, state: Tensor, at: int) -> Tensor:
    """state [layers * directions, N, size] or without N -> [N, size] of one."""
    batch = state.shape[1] if state.rank == 3 else 1
    return e.reshape(window(e, state, 0, at, 1), (batch, state.shape[-1]))


def lstm(e: Emitter, x: Tensor, states: Sequence[Tensor], params: Sequence[Tensor], *layers: Any) -> Any:
    """x [T, N, I] or [N, T, I] -> the outputs, and the last output and cell of each layer and direction."""
    given = {"activation": TANH, "cell_clip": 0.0, "proj_clip": 0.0}
    start = dict(zip(("output_state_in", "cell_state_in"), states))
    return _run(e, "LSTM", x, start, params, Layers(*layers), _lstm_weights, given)


def _lstm_weights(e: Emitter, params: Sequence[Tensor], has_biases: bool) -> dict[str, Any]:
    """Gate by gate; PyTorch's two biases as their sum."""
    own, recurrent, *rest = params
    units = recurrent.size(0) // len(GATES)
    bias = _sum(e, rest[:2]) if has_biases else zeros(e, recurrent.size(0), own)
    result: dict[str, Any] = {}
    for prefix, suffix, stacked in (("input_to_", "_weights", own), ("recurrent_to_", "_weights", recurrent)):
        for gate, part in zip(GATES, pieces(e, stacked, 0, [units] * len(GATES))):
            result[f"{prefix}{gate}{suffix}"] = part
    for gate, part in zip(("input_gate", "forget_gate", "cell", "output_gate"), pieces(e, bias, 0, [units] * 4)):
        result[f"{gate}_bias"] = part
    for projection in rest[2:] if has_biases else rest:
        result["projection_weights"] = projection
    return result


def rnn(activation: int) -> Callable[..., Any]:
    """x [T, N, I] or [N, T, I] -> the outputs, and the last one of each layer and direction."""

    def write(e: Emitter, x: Tensor, state: Tensor, params: Sequence[Tensor], *layers: Any) -> Any:
        return _run(
            e, "RNN", x, {"hidden_state": state}, params, Layers(*layers), _rnn_weights, {"activation": activation}
        )

    return write


def _rnn_weights(e: Emitter, params: Sequence[Tensor], has_biases: bool) -> dict[str, Any]:
    own, recurrent, *biases = params
    bias = _sum(e, biases) if has_biases else zeros(e, own.size(0), own)
    return {"weights": own, "recurrent_weights": recurrent, "bias": bias}


def gru(e: Emitter, x: Tensor, state: Tensor, params: Sequence[Tensor], *rest: Any) -> Any:
    """x [T, N, I] or [N, T, I] -> the outputs, and the last one of each layer and direction; a composite each."""
    layers = Layers(*rest)
    layers.require_eval()
    y, is_batch = _as_batch(e, x)
    swapped = is_batch and layers.is_batch_first
    y = e.permute(y, (1, 0, 2)) if swapped else y
    size = len(params) // (layers.depth * layers.directions)
    last: list[Tensor] = []
    for layer in range(layers.depth):
        outputs: list[Tensor] = []
        for d in range(layers.directions):
            at = layer * layers.directions + d
            own, recurrent, *biases = params[at * size : (at + 1) * size]
            biases = biases or [zeros(e, own.size(0), own)] * 2
            inputs = [e.operand(t) for t in (y, own, recurrent, *biases, _state(e, state, at))]
            try:
                written = composites.gru(e.builder, *inputs, backward=d == 1, name=e.name)
            except ModelError as error:
                raise Inexpressible(error.message) from error
            outputs.append(e.unwrap(written[0]))
            last.append(e.reshape(e.unwrap(written[1]), (1, *e.unwrap(written[1]).shape)))
        y = join(e, outputs, 2)
    y = e.permute(y, (1, 0, 2)) if swapped else y
    return e.reshape(y, e.shape), e.reshape(join(e, last, 0), e.result[1][0])


def _sum(e: Emitter, biases: Sequence[Tensor]) -> Tensor:
    if any(b.value is None for b in biases):
        raise Inexpressible("its biases are not constant")
    return e.like(biases[0].value + biases[1].value, biases[0])


FUNCTIONS = {
    "aten.gru.input": gru,
    "aten.lstm.input": lstm,
    "aten.rnn_tanh.input": rnn(TANH),
    "aten.rnn_relu.input": rnn(RELU),
}
