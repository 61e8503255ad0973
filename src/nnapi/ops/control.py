"""IF, WHILE: control flow over referenced models.

A referenced model is a Model of `nnapi.ir`, which this layer cannot import: it is known here by its `input_operands`
and `output_operands`, and run by the call's context.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from nnapi.ops.op import Call, Op, Param, Result, Signature
from nnapi.ops.types import B8, MODEL, Array, Operand, OperandType, Shape

ANY = tuple(t for t in OperandType if t != MODEL and not t.is_oem)
INPUTS = Param("inputs", ANY, variadic=True, omissible=True)
OUTPUTS = (Result("outputs", ANY, variadic=True),)


class Referenced(Protocol):
    """What of a referenced model counts here."""

    @property
    def input_operands(self) -> tuple[Operand, ...]: ...
    @property
    def output_operands(self) -> tuple[Operand, ...]: ...


def _model(call: Call, name: str) -> Referenced:
    model: Referenced = call[name].value
    call.require(hasattr(model, "output_operands"), f"{name} holds no model", hint="set its value to one")
    return model


def _agree(one: Shape, other: Shape) -> bool:
    """Whether two shapes may be the same."""
    if one is None or other is None:
        return True
    return len(one) == len(other) and all(a is None or b is None or a == b for a, b in zip(one, other))


def _common(one: Shape, other: Shape) -> Shape:
    """What is sure of a tensor that has either shape."""
    if one is None or other is None or len(one) != len(other):
        return None
    return tuple(a if a == b else None for a, b in zip(one, other))


def _check_same(call: Call, what: str, here: Sequence[Operand], there: Sequence[Operand]) -> None:
    """ModelError unless operand by operand types, quantization and what is known of the shapes are the same."""
    call.require(len(here) == len(there), f"has {len(here)} {what}s, there are {len(there)} in the referenced model")
    for n, (h, t) in enumerate(zip(here, there)):
        call.require(h.type == t.type, f"{what} {n} is {h.type.name}, {t.type.name} in the referenced model")
        if h.is_omitted:
            continue
        for field, one, other in (
            ("scale", h.scale, t.scale),
            ("zero point", h.zero_point, t.zero_point),
            ("per-channel quantization", h.channel_quant, t.channel_quant),
        ):
            call.require(one == other, f"{what} {n} has {field} {one}, {other} in the referenced model")
        call.require(_agree(h.shape, t.shape), f"{what} {n} has shape {h.shape}, {t.shape} in the referenced model")


def _context(call: Call) -> Any:
    call.require(call.context is not None, "runs other models, which only an execution can")
    return call.context


def _values(call: Call) -> list[Array | None]:
    return [None if o.is_omitted else o.value for o in call.many("inputs")]


def _if_shapes(call: Call) -> list[Shape]:
    condition = call.shape("condition")
    call.require(condition == (1,), f"condition has shape {condition}, must be declared and have (1,)")
    branches = [_model(call, name) for name in ("then_model", "else_model")]
    for branch in branches:
        _check_same(call, "input", call.many("inputs"), branch.input_operands)
        if call.declared is not None:
            _check_same(call, "output", call.outputs, branch.output_operands)
    if call.known("condition"):
        return [o.shape for o in _branch(call).output_operands]
    then, otherwise = (branch.output_operands for branch in branches)
    call.require(len(then) == len(otherwise), f"the models have {len(then)} and {len(otherwise)} outputs")
    return [_common(a.shape, b.shape) for a, b in zip(then, otherwise)]


def _branch(call: Call) -> Referenced:
    return _model(call, "then_model" if call.scalar("condition") else "else_model")


def _if(call: Call) -> list[Array]:
    results: list[Array] = _context(call).run(_branch(call), _values(call))
    return results


IF = Op(
    "IF", 96, 4,
    (Signature((Param("condition", B8, rank=1), Param("then_model", MODEL), Param("else_model", MODEL), INPUTS)),),
    OUTPUTS, (), infer=_if_shapes, reference=_if,
    formula="then_model(inputs) if condition else else_model(inputs)",
)  # fmt: skip


def _while_shapes(call: Call) -> list[Shape]:
    condition, body = _model(call, "condition_model"), _model(call, "body_model")
    inputs, next_values = call.many("inputs"), body.output_operands
    for model in (condition, body):
        _check_same(call, "input", inputs, model.input_operands)
    call.require(
        len(condition.output_operands) == 1,
        f"condition_model has {len(condition.output_operands)} outputs, must have 1",
    )
    verdict = condition.output_operands[0]
    call.require(
        verdict.type == B8 and verdict.shape == (1,),
        f"condition_model gives {verdict.type.name} {verdict.shape}, must give TENSOR_BOOL8 (1,)",
    )
    carried, results = len(next_values), len(next_values) if call.declared is None else len(call.outputs)
    call.require(
        1 <= results <= carried <= len(inputs),
        f"gives {results} of the {carried} outputs of body_model, which are carried among {len(inputs)} inputs; "
        f"must give 1 to {min(carried, len(inputs))}",
    )
    for n, operand in enumerate(inputs[:carried]):
        call.require(not operand.is_omitted, f"input {n} is omitted, but the loop changes it")
    _check_same(call, "output", call.outputs, next_values[: len(call.outputs)])
    # Shapes may change from one iteration to the next, so only what the models declare must fit together.
    for model in (condition, body):
        _check_same(call, "value carried by body_model", next_values, model.input_operands[:carried])
    return [
        _final(*shapes)
        for shapes in zip(
            (o.shape for o in inputs[:results]),
            (o.shape for o in next_values),
            (o.shape for o in condition.input_operands),
        )
    ]


def _final(initial: Shape, next_value: Shape, tested: Shape) -> Shape:
    """The shape of a loop's result: the first value's or a later one's, and the one that the condition takes."""
    either = _common(initial, next_value)
    if either is None or tested is None:
        return tested if either is None else either
    return tuple(b if a is None else a for a, b in zip(either, tested))


def _while(call: Call) -> list[Array]:
    condition, body, values = _model(call, "condition_model"), _model(call, "body_model"), _values(call)
    context = _context(call)
    deadline = context.loop_deadline()
    while context.run(condition, values)[0].item():
        deadline.check(call.label)
        values[: len(body.output_operands)] = context.run(body, values)
    return [np.array(value) for value in values[: len(call.outputs)]]


WHILE = Op(
    "WHILE", 97, 4, (Signature((Param("condition_model", MODEL), Param("body_model", MODEL), INPUTS)),), OUTPUTS, (),
    infer=_while_shapes, reference=_while,
    formula="while condition_model(values): the first values = body_model(values); gives the first of the values",
)  # fmt: skip

OPERATIONS = (IF, WHILE)
