"""What exporters do alike: each operation lowered by a row of the format's table, or refused with the reason."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Generic, NoReturn, TypeVar

import numpy as np

from nnapi.errors import ModelError, UnsupportedOperation
from nnapi.ir.model import Model, Operation
from nnapi.ir.recurrence import unrolled
from nnapi.ir.verdict import ACCEPT, Reject, Verdict
from nnapi.ops.op import Call
from nnapi.ops.types import Array, Operand, OperandType

N = TypeVar("N", bound="BaseNode[Any]")
L = TypeVar("L", bound="BaseLowering[Any]")


class Refused(Exception):
    """The format has no such use of the operation; the message names the limit and the value."""


@dataclass(frozen=True)
class BaseRow(Generic[N]):
    """How one operation is lowered, the types it takes, and what else must be so."""

    lower: Callable[[N], None]
    types: Collection[OperandType]
    """Of the first input; the other types follow from the operation's signature."""
    limits: Sequence[Callable[[N], str | None]] = ()
    """Each gives a reason to refuse, or None."""
    constants: Collection[str] = ()
    """Inputs whose values decide the output's dimensions: kernels trust them, and none may vary."""


class BaseNode(Generic[L]):
    """One operation on its way: its operands by name, and the lowering it is part of."""

    format: ClassVar[str]
    """What it becomes a part of, to say in reasons."""

    def __init__(self, lowering: L, operation: Operation, call: Call | None) -> None:
        self.lowering = lowering
        self.operation = operation
        self._call = call

    @property
    def call(self) -> Call:
        if self._call is None:
            raise Refused(f"{self.operation.type} is an extension")
        return self._call

    def __contains__(self, name: str) -> bool:
        return name in self.call

    def __getitem__(self, name: str) -> Operand:
        return self.lowering.operands[self.indexes(name)[0]]

    @property
    def inputs(self) -> list[Operand]:
        return [self.lowering.operands[i] for i in self.operation.inputs]

    @property
    def outputs(self) -> list[Operand]:
        return [self.lowering.operands[i] for i in self.operation.outputs]

    @property
    def output(self) -> Operand:
        return self.outputs[0]

    def indexes(self, name: str) -> tuple[int, ...]:
        """The model's operand indexes given for a parameter."""
        for param, at in self.call.slots:
            if param.name == name:
                return self.operation.inputs[at]
        raise KeyError(name)

    def scalar(self, name: str) -> Any:
        """A scalar attribute, or its default; refused where it is not known now."""
        value = self.call.scalar(name)
        if value is None:
            self.refuse(f"{name} is not a constant, {self.format} takes an attribute")
        return value

    def array(self, name: str) -> Array:
        """A constant input's value; refused where it is not known now."""
        value = self[name].value
        if not isinstance(value, np.ndarray):
            self.refuse(f"{name} is not a constant, must be")
        return value

    def refuse(self, reason: str) -> NoReturn:
        raise Refused(reason)

    def omissible(self) -> Iterator[str]:
        """Which of its inputs are inputs of the model that may be omitted later: no format here has those."""
        for param, at in self.call.slots:
            variables = set(self.operation.inputs[at]) & set(self.lowering.model.inputs)
            if param.omissible and not param.variadic and variables:
                yield f"{param.name} is an input of the model, which may be omitted"


class BaseLowering(ABC, Generic[N]):
    """One NNAPI model going into one graph.

    `expand`: composites without a row as their bodies. `shapes_follow`: what is unknown now is known when the model is
    lowered again, for the inputs that come; what was made is no model then.
    """

    node: type[N]

    def __init__(
        self, model: Model, rows: Mapping[str, BaseRow[N] | str], *, expand: bool = False, shapes_follow: bool = False
    ) -> None:
        self.model = model
        self.operands: Sequence[Operand] = model.operands
        self.rows = rows
        self.expand = expand
        self.shapes_follow = shapes_follow
        self.absorbed: Collection[int] = ()
        """Outputs of operations that others do on the way: nothing is made of these."""

    def lower(self, operation: Operation) -> Verdict:
        """Lower one operation, or say why not."""
        if operation.outputs[0] in self.absorbed:
            return ACCEPT
        try:
            self.lower_or_refuse(operation)
        except (Refused, ModelError) as refused:
            return Reject(f"{operation.type.rpartition('/')[2]}: {getattr(refused, 'message', refused)}")
        return ACCEPT

    def lower_or_refuse(self, operation: Operation) -> None:
        """Lower one operation by its row, or by its body where there is none."""
        row = self.rows.get(operation.type, f"not mapped to {self.node.format} here")
        body = self.body(operation) if self.expand and isinstance(row, str) else None
        if body is not None:
            self.lower_body(operation, *body)
            return
        if isinstance(row, str):
            raise Refused(row)
        node = self.node(self, operation, None if operation.is_extension else self.model.call(operation))
        reason = next(filter(None, chain(self.problems(node, row), (limit(node) for limit in row.limits))), None)
        if reason is not None:
            raise Refused(reason)
        row.lower(node)

    @abstractmethod
    def problems(self, node: N, row: BaseRow[N]) -> Iterator[str]:
        """Why the operation cannot be lowered, before that is tried."""

    def body(self, operation: Operation) -> tuple[Model, Sequence[int]] | None:
        """The operation in others, and the operands that are the inputs of that; None where there is no such form."""
        steps = unrolled(self.model, operation)
        if steps is not None:
            return steps
        body = self.model.body(operation)
        return None if body is None else (body, operation.inputs[:-1])

    @abstractmethod
    def lower_body(self, operation: Operation, body: Model, inputs: Sequence[int]) -> None:
        """The operations of a body, its inputs the operands given, in the graph around it."""

    def lower_all(self, operations: Iterable[Operation]) -> None:
        """The operations of a body; Refused for the first that cannot be lowered."""
        for verdict in map(self.lower, operations):
            if isinstance(verdict, Reject):
                raise Refused(f"in its body: {verdict.reason}")


def require(model: Model, verdicts: Sequence[Verdict], check: str) -> None:
    """UnsupportedOperation for the first operation that was refused; `check` is what gives every verdict."""
    for operation, verdict in zip(model.operations, verdicts):
        if isinstance(verdict, Reject):
            raise UnsupportedOperation(
                verdict.reason.partition(": ")[2],
                stage="export",
                operation=operation.label,
                hint=f"`{check}` gives every operation's verdict",
            )
