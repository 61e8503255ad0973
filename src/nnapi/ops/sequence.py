"""The LSTM's and the RNN's sequence forms: the same cell over all time steps, in one or both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nnapi.ops.lstm import (
    GATES,
    SCALARS,
    STATE,
    LstmCell,
    cell_macs,
    cell_params,
    check_cell,
    check_scalars,
    coupled,
    norm_params,
)  # fmt: skip
from nnapi.ops.numeric import quantize
from nnapi.ops.op import Call, Need, Op, Param, Result, Signature, Types
from nnapi.ops.recurrent import (
    Cell,
    RnnCell,
    State,
    all_or_none,
    check_rnn,
    given,
    real,
    rnn_macs,
    rnn_params,
    unroll,
)  # fmt: skip
from nnapi.ops.shape import elements
from nnapi.ops.sizes import Sizes
from nnapi.ops.types import BOOL, F16, F32, FLOAT16, FLOAT32, INT32, Array, Shape

FORWARD, BACKWARD = "fw_", "bw_"
Linking = Literal["none", "cross", "parallel"]
"""The auxiliary input goes nowhere, to both cells beside the input, or to the backward cell instead of it."""


@dataclass(frozen=True)
class Kind:
    """What a sequence operation must know of its cell; `prefix` names the direction."""

    cell: Callable[[Call, str, bool], Cell]
    check: Callable[[Call, Sizes, str, str], None]
    """(call, sizes, prefix, size of the cell's input)"""
    macs: Callable[[Call, Sizes, str, str, int], int]
    """(call, sizes, prefix, size of the cell's input, steps)"""
    aux_weights: Callable[[Call, str], list[str]]
    """The names of a direction's auxiliary weights."""
    state: tuple[tuple[str, str], ...]
    """The inputs that hold the state, the cell's output first, and the name of each one's size."""

    def state_of(self, call: Call, prefix: str = "") -> State:
        return tuple(real(call, prefix + name) for name, _ in self.state)

    def state_shapes(self, sizes: Sizes, prefix: str = "") -> list[Shape]:
        return [(sizes["batch"], sizes[prefix + size]) for _, size in self.state]


def _check_lstm(call: Call, sizes: Sizes, prefix: str, source: str) -> None:
    check_cell(call, sizes, prefix, source)
    check_scalars(call)
    own = f"{prefix}aux_input_to_input_weights"
    call.require(
        not (coupled(call, prefix) and given(call, own)), f"{own} is given, must be omitted without an input gate"
    )


def _lstm_macs(call: Call, sizes: Sizes, prefix: str, source: str, steps: int) -> int:
    return cell_macs(sizes, steps, prefix, source, gates=3 if coupled(call, prefix) else 4)


def _lstm_aux_weights(call: Call, prefix: str) -> list[str]:
    gates = GATES if coupled(call, prefix) is False else GATES[1:]
    return [f"{prefix}aux_input_to_{g}_weights" for g in gates]


LSTM_KIND = Kind(
    LstmCell.of, _check_lstm, _lstm_macs, _lstm_aux_weights, (("output_state_in", "output"), ("cell_state_in", "units"))
)  # fmt: skip
RNN_KIND = Kind(
    RnnCell.of, check_rnn, lambda call, sizes, prefix, source, steps: rnn_macs(sizes, steps, prefix, source),
    lambda call, prefix: [f"{prefix}aux_weights"], (("hidden_state", "units"),),
)  # fmt: skip


def _order(call: Call) -> tuple[str, str]:
    """The names of the first two sizes of inputs and outputs."""
    major = call.scalar("time_major")
    call.require(major in (None, 0, 1), f"time_major is {major}, must be 0 or 1")
    return ("first size", "second size") if major is None else ("time", "batch") if major else ("batch", "time")


def _time_first(call: Call, array: Array) -> Array:
    """array in the call's order <-> [time, batch, ...]."""
    return array if call.scalar("time_major") else array.swapaxes(0, 1)


def _stored(call: Call, arrays: list[Array]) -> list[Array]:
    return [np.ascontiguousarray(quantize(array, operand)) for array, operand in zip(arrays, call.outputs)]


def _require_outputs(call: Call, least: int, states: int) -> int:
    """How many outputs the call has, `least` where it does not say; ModelError unless none or all states are there."""
    count = least if call.declared is None else len(call.outputs)
    call.require(count in (least, least + states), f"{count} outputs, gives {least} or, with states, {least + states}")
    return count


def _one_way(kind: Kind) -> dict[str, Any]:
    """Inference, kernel, work and levels of a sequence in one direction."""

    def sizes_of(call: Call) -> Sizes:
        sizes = Sizes(call)
        sizes.bind("input", *_order(call), "input")
        kind.check(call, sizes, "", "input")
        return sizes

    def infer(call: Call) -> list[Shape]:
        sizes = sizes_of(call)
        first, second = _order(call)
        states = kind.state_shapes(sizes)
        shapes = [(sizes[first], sizes[second], sizes[kind.state[0][1]]), *states]
        for shape in shapes:
            elements(call, shape)
        return shapes[: _require_outputs(call, 1, len(states))]

    def reference(call: Call) -> list[Array]:
        x = _time_first(call, real(call, "input"))
        outputs, state = unroll(call, kind.cell(call, "", False), x, kind.state_of(call))
        return _stored(call, [_time_first(call, outputs), *state])

    def macs(call: Call) -> int:
        sizes = sizes_of(call)
        return kind.macs(call, sizes, "", "input", sizes["time"] or 0)

    def rules(call: Call) -> Iterator[Need]:
        if len(call.outputs) > 1:
            yield Need(4, f"{call.op.name} with its last state as an output")

    return {"infer": infer, "reference": reference, "macs": macs, "rules": rules}


def _two_ways(kind: Kind) -> dict[str, Any]:
    """Inference, kernel, work and levels of a sequence in both directions."""

    def aux_weights(call: Call) -> list[str]:
        return [name for prefix in (FORWARD, BACKWARD) for name in kind.aux_weights(call, prefix)]

    def linking(call: Call) -> Linking | None:
        """None where only an execution tells."""
        weights, aux = all_or_none(call, *aux_weights(call)), given(call, "aux_input")
        call.require(not (weights and aux is False), "auxiliary weights are given without aux_input")
        if aux is False:
            return "none"
        return None if aux is None or weights is None else "cross" if weights else "parallel"

    def sources(call: Call) -> dict[str, str]:
        """The name of the size of each cell's input."""
        backward = {"parallel": "aux", None: "bw_input"}
        return {FORWARD: "input", BACKWARD: backward.get(linking(call), "input")}

    def sizes_of(call: Call) -> Sizes:
        sizes = Sizes(call)
        sizes.bind("input", *_order(call), "input")
        if given(call, "aux_input"):
            sizes.bind("aux_input", *_order(call), "aux")
        for prefix, source in sources(call).items():
            kind.check(call, sizes, prefix, source)
            for name in kind.aux_weights(call, prefix):
                if given(call, name):
                    sizes.bind(name, f"{prefix}units", "aux")
        return sizes

    def infer(call: Call) -> list[Shape]:
        sizes, merge = sizes_of(call), call.scalar("merge_outputs")
        states = [shape for prefix in (FORWARD, BACKWARD) for shape in kind.state_shapes(sizes, prefix)]
        if merge is None:
            allowed = (1, 2, 1 + len(states), 2 + len(states))
            count = 2 if call.declared is None else len(call.outputs)
            call.require(count in allowed, f"{count} outputs, gives one of {', '.join(map(str, allowed))}")
            return [None] * count
        first, second = _order(call)
        fw, bw = (sizes[prefix + kind.state[0][1]] for prefix in (FORWARD, BACKWARD))
        widths = [None if fw is None or bw is None else fw + bw] if merge else [fw, bw]
        shapes: list[Shape] = [*((sizes[first], sizes[second], width) for width in widths), *states]
        for shape in shapes:
            elements(call, shape)
        return shapes[: _require_outputs(call, len(widths), len(states))]

    def reference(call: Call) -> list[Array]:
        x, mode = _time_first(call, real(call, "input")), linking(call)
        aux = _time_first(call, real(call, "aux_input")) if mode in ("cross", "parallel") else None
        outputs: list[Array] = []
        states: list[Array] = []
        for prefix in (FORWARD, BACKWARD):
            own = aux if aux is not None and mode == "parallel" and prefix == BACKWARD else x
            output, state = unroll(
                call, kind.cell(call, prefix, mode == "cross"), own, kind.state_of(call, prefix),
                aux=aux if mode == "cross" else None, backward=prefix == BACKWARD,
            )  # fmt: skip
            outputs.append(_time_first(call, output))
            states += state
        if call.scalar("merge_outputs"):
            outputs = [np.concatenate(outputs, -1)]
        return _stored(call, outputs + states)

    def macs(call: Call) -> int:
        sizes = sizes_of(call)
        steps = sizes["time"] or 0
        aux = steps * (sizes["batch"] or 0) * (sizes["aux"] or 0) if linking(call) == "cross" else 0
        return sum(
            kind.macs(call, sizes, prefix, source, steps)
            + aux * len(kind.aux_weights(call, prefix)) * (sizes[f"{prefix}units"] or 0)
            for prefix, source in sources(call).items()
        )

    def rules(call: Call) -> Iterator[Need]:
        if len(call.outputs) > 2:
            yield Need(4, f"{call.op.name} with its last states as outputs")
        if "aux_input" in call and all_or_none(call, *aux_weights(call)) is False:
            yield Need(4, f"{call.op.name} with aux_input but no weights for it")

    return {"infer": infer, "reference": reference, "macs": macs, "rules": rules}


X = Param("input", "T", rank=3)
AUX_INPUT = Param("aux_input", "T", rank=3, omissible=True)
ACTIVATION, TIME_MAJOR, MERGE_OUTPUTS = (
    Param("activation", INT32),
    Param("time_major", BOOL),
    Param("merge_outputs", BOOL),
)
TYPES = (Types(3, T=F32, F=FLOAT32), Types(3, T=F16, F=FLOAT16))


def _prefixed(prefix: str, params: tuple[Param, ...]) -> tuple[Param, ...]:
    return tuple(Param(prefix + p.name, p.type, p.rank, omissible=p.omissible) for p in params)


def _results(*names: str, required: int) -> tuple[Result, ...]:
    return tuple(Result(name, "T", optional=n >= required) for n, name in enumerate(names))


AUX_WEIGHTS = tuple(Param(f"aux_input_to_{g}_weights", "T", rank=2, omissible=True) for g in GATES)

UNIDIRECTIONAL_SEQUENCE_LSTM = Op(
    "UNIDIRECTIONAL_SEQUENCE_LSTM", 92, 3,
    (Signature((X, *cell_params(), *STATE, *SCALARS, TIME_MAJOR, *norm_params())),),
    _results("output", "output_state_out", "cell_state_out", required=1), TYPES, **_one_way(LSTM_KIND),
    formula="LSTM of each time step in turn",
)  # fmt: skip
UNIDIRECTIONAL_SEQUENCE_RNN = Op(
    "UNIDIRECTIONAL_SEQUENCE_RNN", 93, 3,
    (Signature((X, *rnn_params(), ACTIVATION, Param("time_major", INT32))),),
    _results("output", "hidden_state_out", required=1), TYPES, **_one_way(RNN_KIND),
    formula="RNN of each time step in turn",
)  # fmt: skip
BIDIRECTIONAL_SEQUENCE_LSTM = Op(
    "BIDIRECTIONAL_SEQUENCE_LSTM", 42, 3,
    (
        Signature((
            X, *cell_params(FORWARD), *cell_params(BACKWARD), *_prefixed(FORWARD, STATE), *_prefixed(BACKWARD, STATE),
            AUX_INPUT, *_prefixed(FORWARD, AUX_WEIGHTS), *_prefixed(BACKWARD, AUX_WEIGHTS), *SCALARS, MERGE_OUTPUTS,
            TIME_MAJOR, *norm_params(FORWARD), *norm_params(BACKWARD),
        )),
    ),
    _results(
        "fw_output", "bw_output", "fw_output_state_out", "fw_cell_state_out", "bw_output_state_out",
        "bw_cell_state_out", required=1,
    ),
    TYPES, **_two_ways(LSTM_KIND),
    formula="LSTM of each time step, forward, and with its own weights backward; merged: both in one output",
)  # fmt: skip
BIDIRECTIONAL_SEQUENCE_RNN = Op(
    "BIDIRECTIONAL_SEQUENCE_RNN", 43, 3,
    (
        Signature((
            X, *rnn_params(FORWARD), *rnn_params(BACKWARD), AUX_INPUT,
            *(Param(f"{p}aux_weights", "T", rank=2, omissible=True) for p in (FORWARD, BACKWARD)),
            ACTIVATION, TIME_MAJOR, MERGE_OUTPUTS,
        )),
    ),
    _results("fw_output", "bw_output", "fw_hidden_state_out", "bw_hidden_state_out", required=1), TYPES,
    **_two_ways(RNN_KIND),
    formula="RNN of each time step, forward, and with its own weights backward; merged: both in one output",
)  # fmt: skip

OPERATIONS = (
    UNIDIRECTIONAL_SEQUENCE_LSTM, UNIDIRECTIONAL_SEQUENCE_RNN, BIDIRECTIONAL_SEQUENCE_LSTM, BIDIRECTIONAL_SEQUENCE_RNN,
)  # fmt: skip
