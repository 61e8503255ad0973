"""RNN and SVDF; and what recurrent cells share: activations, inputs left out, one step after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np

from nnapi.ops.deadline import check_deadline
from nnapi.ops.numeric import NONE, RELU, RELU1, RELU6, dequantize, fuse, quantize
from nnapi.ops.op import Call, Op, Param, Result, Signature, same
from nnapi.ops.shape import elements
from nnapi.ops.sizes import Sizes
from nnapi.ops.types import F16, F32, INT32, Array, OperandType, Shape

TANH, SIGMOID = 4, 6
"""What recurrent cells take beside the FuseCode."""
Activation = Callable[[Array], Array]
State = tuple[Array, ...]
"""What one step hands to the next: [batch, size] each, the cell's output first."""
FLOAT_LEVELS: Final[Mapping[OperandType, int]] = {F32: 1, F16: 3}


def sigmoid(x: Array) -> Array:
    """x -> 1 / (1 + e^-x), in float32 without overflow.

    >>> sigmoid(np.array([-1000.0, 0.0], np.float32))
    array([0. , 0.5], dtype=float32)
    """
    return np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1))


_ACTIVATIONS: Final[Mapping[int, Activation]] = {
    NONE: lambda x: x, RELU: lambda x: fuse(x, RELU), RELU1: lambda x: fuse(x, RELU1), RELU6: lambda x: fuse(x, RELU6),
    TANH: np.tanh, SIGMOID: sigmoid,
}  # fmt: skip


def activation_of(call: Call) -> Activation:
    """The activation that the call names."""
    return _ACTIVATIONS[call.scalar("activation")]


def check_activation(call: Call, allowed: Sequence[int]) -> None:
    """ModelError where the activation is none of those allowed."""
    code = call.scalar("activation")
    call.require(
        code is None or code in allowed, f"activation is {code}, must be one of {', '.join(map(str, allowed))}"
    )


def given(call: Call, name: str) -> bool | None:
    """Whether an optional input has a value; None for a variable, which an execution may leave out."""
    if name not in call:
        return False
    return True if isinstance(call[name].value, np.ndarray) else None


def all_or_none(call: Call, *names: str) -> bool | None:
    """Whether optional inputs that belong together are given, None where not known; ModelError where only some are."""
    known = {name: there for name in names if (there := given(call, name)) is not None}
    if len(set(known.values())) > 1:
        first, missing = (next(n for n, t in known.items() if t is wanted) for wanted in (True, False))
        call.fail(f"{first} is given and {missing} is omitted", hint="give both or neither")
    return next(iter(known.values()), None)


def real(call: Call, name: str) -> Array:
    """The values of a floating-point input in float32."""
    return dequantize(call.array(name), call[name])


class Cell(Protocol):
    """A recurrent cell with its weights."""

    def project(self, x: Array, aux: Array | None = None) -> Array:
        """x [time, batch, input], aux [time, batch, aux] -> what the input adds to every step [time, batch, ...]."""
        ...

    def step(self, projected: Array, state: State) -> State:
        """What the input adds [batch, ...] and the state -> the next state."""
        ...


def unroll(
    call: Call, cell: Cell, x: Array, state: State, *, aux: Array | None = None, backward: bool = False
) -> tuple[Array, State]:
    """x [time, batch, input] -> outputs [time, batch, output] and the last state; `backward`: from the last step on."""
    projected = cell.project(x, aux)
    outputs = np.empty((len(x), *state[0].shape), np.float32)
    for t in reversed(range(len(x))) if backward else range(len(x)):
        check_deadline(call)
        state = cell.step(projected[t], state)
        outputs[t] = state[0]
    return outputs, state


RNN_ACTIVATIONS: Final = (NONE, RELU, RELU1, RELU6, TANH, SIGMOID)
"""The FuseCode, and the LSTM's two: NNAPI's clients send TANH, which the FuseCode has not."""


def rnn_params(prefix: str = "") -> tuple[Param, ...]:
    """The inputs of one RNN cell."""
    ranks = {"weights": 2, "recurrent_weights": 2, "bias": 1, "hidden_state": 2}
    return tuple(Param(prefix + name, "T", rank=rank) for name, rank in ranks.items())


def check_rnn(call: Call, sizes: Sizes, prefix: str = "", source: str = "input") -> None:
    """ModelError where the inputs of one RNN cell, whose input has size `source`, do not fit together."""
    units = f"{prefix}units"
    sizes.bind(f"{prefix}weights", units, source)
    sizes.bind(f"{prefix}recurrent_weights", units, units)
    sizes.bind(f"{prefix}bias", units)
    sizes.bind(f"{prefix}hidden_state", "batch", units)
    check_activation(call, RNN_ACTIVATIONS)


@dataclass(frozen=True)
class RnnCell:
    """output = activation(x weights' + output recurrent_weights' + bias)."""

    weights: Array
    recurrent_weights: Array
    bias: Array
    activation: Activation
    aux_weights: Array | None = None

    @classmethod
    def of(cls, call: Call, prefix: str = "", aux: bool = False) -> Self:
        weights, recurrent, bias = (real(call, prefix + n) for n in ("weights", "recurrent_weights", "bias"))
        return cls(weights, recurrent, bias, activation_of(call), real(call, f"{prefix}aux_weights") if aux else None)

    def project(self, x: Array, aux: Array | None = None) -> Array:
        total = x @ self.weights.T + self.bias
        return total if aux is None or self.aux_weights is None else total + aux @ self.aux_weights.T

    def step(self, projected: Array, state: State) -> State:
        return (self.activation(projected + state[0] @ self.recurrent_weights.T),)


def rnn_macs(sizes: Sizes, steps: int, prefix: str = "", source: str = "input") -> int:
    """Multiply-accumulates of `steps` steps of one cell; 0 where a size is unknown."""
    units, batch = sizes[f"{prefix}units"] or 0, sizes["batch"] or 0
    return steps * batch * units * ((sizes[source] or 0) + units)


def _rnn_sizes(call: Call) -> Sizes:
    sizes = Sizes(call)
    sizes.bind("input", "batch", "input")
    check_rnn(call, sizes)
    return sizes


def _rnn_shapes(call: Call) -> list[Shape]:
    sizes = _rnn_sizes(call)
    shape = (sizes["batch"], sizes["units"])
    elements(call, shape)
    return [shape, shape]


def _rnn(call: Call) -> list[Array]:
    _, state = unroll(call, RnnCell.of(call), real(call, "input")[None], (real(call, "hidden_state"),))
    return [quantize(state[0], call.outputs[0]), quantize(state[0], call.outputs[1])]


def _rnn_macs(call: Call) -> int:
    return rnn_macs(_rnn_sizes(call), steps=1)


def _svdf_sizes(call: Call) -> Sizes:
    sizes = Sizes(call)
    sizes.bind("input", "batch", "input")
    sizes.bind("weights_feature", "filters", "input")
    sizes.bind("weights_time", "filters", "memory")
    rank, filters, memory = call.scalar("rank"), sizes["filters"], sizes["memory"]
    call.require(rank is None or rank > 0, f"rank is {rank}, must be at least 1")
    if rank is not None and filters is not None:
        call.require(filters % rank == 0, f"rank {rank} does not divide the {filters} filters of weights_feature")
        sizes.set("units", filters // rank, "weights_feature")
    if given(call, "bias"):
        sizes.bind("bias", "units")
    if filters is not None and memory is not None:
        # The specification writes (memory - 1); its implementations and cases keep a slot for the newest entry.
        sizes.bind("state", "batch", filters * memory)
    else:
        sizes.bind("state", "batch")
    check_activation(call, RNN_ACTIVATIONS)
    return sizes


def _svdf_shapes(call: Call) -> list[Shape]:
    sizes = _svdf_sizes(call)
    filters, memory = sizes["filters"], sizes["memory"]
    state = (sizes["batch"], None if filters is None or memory is None else filters * memory)
    shape = (sizes["batch"], sizes["units"])
    elements(call, state)
    elements(call, shape)
    return [state, shape]


def _svdf(call: Call) -> list[Array]:
    x, feature, time = (real(call, name) for name in ("input", "weights_feature", "weights_time"))
    memory = real(call, "state").reshape(len(x), *time.shape).copy()
    memory[:, :, -1] = x @ feature.T
    filtered = (memory * time).sum(-1)
    total = filtered.reshape(len(x), -1, call.scalar("rank")).sum(-1)
    if "bias" in call:
        total += real(call, "bias")
    pushed = np.zeros_like(memory)
    pushed[:, :, :-1] = memory[:, :, 1:]
    return [
        quantize(pushed.reshape(len(x), -1), call.outputs[0]), quantize(activation_of(call)(total), call.outputs[1])
    ]  # fmt: skip


def _svdf_macs(call: Call) -> int:
    sizes = _svdf_sizes(call)
    depth = (sizes["input"] or 0) + (sizes["memory"] or 0)
    return (sizes["batch"] or 0) * (sizes["filters"] or 0) * depth


RNN = Op(
    "RNN", 24, 1,
    (Signature((Param("input", "T", rank=2), *rnn_params(), Param("activation", INT32))),),
    (Result("hidden_state_out", "T"), Result("output", "T")), same(FLOAT_LEVELS),
    infer=_rnn_shapes, reference=_rnn, macs=_rnn_macs,
    formula="activation(input weights' + hidden_state recurrent_weights' + bias), twice: as the state and the output",
)  # fmt: skip
SVDF = Op(
    "SVDF", 27, 1,
    (
        Signature((
            Param("input", "T", rank=2), Param("weights_feature", "T", rank=2), Param("weights_time", "T", rank=2),
            Param("bias", "T", rank=1, omissible=True), Param("state", "T", rank=2), Param("rank", INT32),
            Param("activation", INT32),
        )),
    ),
    (Result("state_out", "T"), Result("output", "T")), same(FLOAT_LEVELS),
    infer=_svdf_shapes, reference=_svdf, macs=_svdf_macs,
    formula="memory gets input weights_feature' per filter; "
    "activation(bias + the sum over rank of memory . weights_time), the oldest entry dropped from state_out",
)  # fmt: skip

OPERATIONS = (RNN, SVDF)
