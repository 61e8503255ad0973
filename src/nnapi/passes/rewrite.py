"""Graph rewriting: a model's operations pass by in order, and each is kept, replaced, merged away or dropped.

A pass is mostly one `Rule`, which looks at one operation and what was emitted before it; `rewrite` does the rest:
order, use counts, referenced models, and what became dead. A model that no rule changes comes back as the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nnapi.errors import ModelError
from nnapi.ir.model import COMPOSITE, Model, Operation
from nnapi.ir.verify import check_call
from nnapi.ops.op import Call
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import OMITTED, Array, Operand, OperandType

SMALL = 128
"""Bytes up to which equal constants are recognized by content; larger ones by identity."""

Rule = Callable[["Graph", Operation], bool]
"""Looks at an operation that was not emitted yet; emits a replacement and says True, or does nothing and says False."""


def rewrite(model: Model, rule: Rule, types: Container[str] | None = None) -> Model:
    """`model` after `rule` saw every operation whose type is in `types` (None: all), also in bodies of IF and WHILE."""
    graph = Graph(model)
    for operation in graph:
        operation = graph.map_bodies(operation, lambda body: rewrite(body, rule, types))
        if (types is None or operation.type in types) and rule(graph, operation):
            graph.changed = True
        else:
            graph.emit(operation)
    return graph.finish()


class Graph:
    """A model being rewritten. Operands keep their indexes and new ones follow; iterate over it for its operations.

    While an operation is at hand its own reads are not in `uses`: `uses[i] == 0` says that nobody else reads i.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.operands = list(model.operands)
        self.operations: list[Operation | None] = []
        """What was emitted; None where an operation was dropped again."""
        self.outputs = list(model.outputs)
        self.uses = [0] * len(model.operands)
        self.changed = False
        self._position: dict[int, int] = {}
        self._merged: dict[int, int] = {}
        self._constants: dict[tuple[Any, ...], int] = {}
        self._bodies: dict[int, Model] = {}
        for operation in model.operations:
            self._count(operation.inputs, 1)
        self._count(self.outputs, 1)

    def __iter__(self) -> Iterator[Operation]:
        for operation in self.model.operations:
            self._count(operation.inputs, -1)
            yield self.resolve(operation)

    def resolve(self, operation: Operation) -> Operation:
        """The operation with what its inputs were merged into."""
        if self._merged.keys().isdisjoint(operation.inputs):
            return operation
        inputs = tuple(self._merged.get(i, i) for i in operation.inputs)
        self._count(operation.inputs, 1)
        self._count(inputs, -1)
        return replace(operation, inputs=inputs)

    def call(self, operation: Operation) -> Call:
        """The operation with its operands by name."""
        inputs = [self.operands[i] for i in operation.inputs]
        outputs = [self.operands[i] for i in operation.outputs]
        return OPERATIONS[operation.type].bind(inputs, outputs, label=operation.label)

    def producer(self, i: int, types: Container[str] | None = None) -> Operation | None:
        """The emitted operation that writes operand i, if it is one of `types`."""
        at = self._position.get(i)
        operation = None if at is None else self.operations[at]
        return operation if operation is not None and (types is None or operation.type in types) else None

    def emit(self, operation: Operation) -> None:
        """Append an operation."""
        for i in operation.outputs:
            self._position[i] = len(self.operations)
        self._count(operation.inputs, 1)
        self.operations.append(operation)

    def swap(self, old: Operation, new: Operation) -> None:
        """Put `new` where `old` was emitted; it may read only what `old` could have read."""
        at = self._position[old.outputs[0]]
        for i in old.outputs:
            del self._position[i]
        for i in new.outputs:
            self._position[i] = at
        self._count(new.inputs, 1)
        self._count(old.inputs, -1)
        self.operations[at] = new

    def drop(self, operation: Operation) -> None:
        """Take back an operation whose outputs nobody reads any more."""
        self.operations[self._position.pop(operation.outputs[0])] = None
        self._count(operation.inputs, -1)

    def merge(self, old: int, new: int) -> bool:
        """Let everybody who reads operand `old`, an output of the operation at hand, read `new` instead.

        False, and nothing done, where `old` is an output of the model and `new` cannot take its place.
        """
        return self.merge_all((old,), (new,))

    def merge_all(self, old: Sequence[int], new: Sequence[int]) -> bool:
        """`merge` for several outputs: all or none."""
        named = [(o, n) for o, n in zip(old, new, strict=True) if o in self.outputs]
        if any(n not in self._position or n in self.outputs for _, n in named) or len({n for _, n in named}) < len(
            named
        ):
            return False
        for o, n in named:
            self.outputs[self.outputs.index(o)] = n
            self.operands[n] = replace(self.operands[n], name=self.operands[o].name)
        for o, n in zip(old, new):
            self._merged[o] = n
            self.uses[n] += self.uses[o]
            self.uses[o] = 0
        return True

    def operand(self, operand: Operand) -> int:
        """A new operand."""
        self.operands.append(operand)
        self.uses.append(0)
        return len(self.operands) - 1

    def constant(self, value: Array | Sequence[int] | bool | int, like: Operand) -> int:
        """A constant of the type and quantization of `like`."""
        array = np.asarray(value, like.type.dtype)
        operand = replace(like, dimensions=array.shape if like.type.is_tensor else (), value=array)
        key = constant_key(operand)
        if key not in self._constants:
            self._constants[key] = self.operand(operand)
        return self._constants[key]

    def scalar(self, type: OperandType, value: bool | int | float) -> int:
        """A constant scalar."""
        return self.constant(np.array(value, type.dtype), Operand(type))

    def inputs(self, operation: Operation, **given: int) -> tuple[int, ...]:
        """The inputs of an operation with some replaced, by parameter name, by other operands.

        Missing trailing ones are filled in up to the last given; all are left out where all equal their defaults. Names
        of another overload select that one.
        """
        call = self.call(operation)
        slots = {p.name: operation.inputs[at] for p, at in call.slots} | {k: (i,) for k, i in given.items()}
        params = next(
            s.inputs for s in (call.signature, *call.op.signatures) if given.keys() <= {p.name for p in s.inputs}
        )
        last = max(n for n, p in enumerate(params) if p.name in slots)
        for p in params[:last]:
            if p.name not in slots:
                slots[p.name] = (self.scalar(p.type, p.default),)  # type: ignore[arg-type]
        optional = [p for p in params if not p.required and p.name in slots]
        if all(self._holds(slots[p.name][0], p.default) for p in optional):
            for p in optional:
                del slots[p.name]
        return tuple(i for p in params for i in slots.get(p.name, ()))

    def is_valid(self, operation: Operation) -> bool:
        """Whether NNAPI allows the operation on its operands."""
        try:
            check_call(self.call(operation))
        except ModelError:
            return False
        return True

    def body(self, operation: Operation) -> Model | None:
        """A composite's decomposition; None for any other operation."""
        if not operation.type.startswith(COMPOSITE) or not operation.inputs:
            return None
        value = self.operands[operation.inputs[-1]].value
        return value if isinstance(value, Model) else None

    def infer(self, operation: Operation) -> None:
        """Fill in dimensions of the operation's outputs that are unknown and that its inputs determine."""
        unknown = [i for i in operation.outputs if 0 in (self.operands[i].dimensions or (0,))]
        if not unknown or operation.is_extension or not self.operands[unknown[0]].type.is_tensor:
            return
        call = self.call(operation)
        for i, shape in zip(operation.outputs, call.op.infer(call)):
            if i in unknown and shape is not None:
                self.operands[i] = replace(self.operands[i], dimensions=tuple(d or 0 for d in shape))

    def map_bodies(self, operation: Operation, function: Callable[[Model], Model]) -> Operation:
        """The operation with `function` applied to the models it refers to (IF, WHILE; composites stay as they are)."""
        if operation.is_extension or not any(isinstance(self.operands[i].value, Model) for i in operation.inputs):
            return operation
        inputs = tuple(self._map_body(i, function) for i in operation.inputs)
        if inputs == operation.inputs:
            return operation
        self.changed = True
        return replace(operation, inputs=inputs)

    def _map_body(self, i: int, function: Callable[[Model], Model]) -> int:
        body = self.operands[i].value
        if not isinstance(body, Model):
            return i
        new = self._bodies.get(id(body))
        if new is None:
            new = self._bodies[id(body)] = function(body)
        return i if new is body else self.operand(replace(self.operands[i], value=new))

    def finish(self) -> Model:
        """The new model; the old one where nothing changed."""
        return assemble(self.model, self.operands, self.operations, self.outputs) if self.changed else self.model

    def _count(self, indexes: Sequence[int], by: int) -> None:
        for i in indexes:
            self.uses[i] += by

    def _holds(self, i: int, value: Any) -> bool:
        array = self.operands[i].value
        return isinstance(array, np.ndarray) and array.size == 1 and bool(array.reshape(()) == value)


def constant_key(operand: Operand) -> tuple[Any, ...]:
    """What two constant operands have in common exactly when either may stand for the other."""
    value = operand.value
    if value is OMITTED or not isinstance(value, np.ndarray):
        identity: Any = id(value)
    else:
        identity = value.tobytes() if value.nbytes <= SMALL else _memory(value)
    return operand.type, operand.dimensions, operand.scale, operand.zero_point, operand.channel_quant, identity


def _memory(array: Array) -> tuple[Any, ...]:
    return array.__array_interface__["data"][0], array.shape, array.strides


def living(operations: Sequence[Operation | None], outputs: Sequence[int]) -> list[Operation]:
    """The operations that some of the outputs depend on, in order."""
    needed = set(outputs)
    alive: list[Operation] = []
    for operation in reversed(operations):
        if operation is not None and not needed.isdisjoint(operation.outputs):
            needed.update(operation.inputs)
            alive.append(operation)
    return alive[::-1]


def assemble(
    model: Model, operands: Sequence[Operand], operations: Sequence[Operation | None], outputs: Sequence[int]
) -> Model:
    """The model of these parts, without operations whose outputs nobody reads and without operands nobody uses."""
    alive = living(operations, outputs)
    used = dict.fromkeys(model.inputs)
    for operation in alive:
        used |= dict.fromkeys((*operation.inputs, *operation.outputs))
    new: Mapping[int, int] = {old: i for i, old in enumerate(used)}
    return replace(
        model,
        operands=tuple(operands[i] for i in used),
        operations=tuple(
            replace(o, inputs=tuple(new[i] for i in o.inputs), outputs=tuple(new[i] for i in o.outputs)) for o in alive
        ),
        inputs=tuple(new[i] for i in model.inputs),
        outputs=tuple(new[i] for i in outputs),
    )
