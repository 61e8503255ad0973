"""Where the values of a model are while a pass reorders their dimensions.

An order is a permutation as TRANSPOSE takes it: a value in order p is stored as TRANSPOSE(value, p), so that dimension
k of what is stored is dimension p[k] of the value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import I32, Dimensions, Operand, OperandType
from nnapi.passes.fold_transposes import moves_ones_only
from nnapi.passes.rewrite import Graph, living

Order = tuple[int, ...]
MOVABLE: frozenset[OperandType] = frozenset(row.bind["T"] for row in OPERATIONS["TRANSPOSE"].types)
"""What TRANSPOSE takes."""


def straight(rank: int) -> Order:
    """The order in which nothing moves."""
    return tuple(range(rank))


def reordered(operand: Operand, order: Order) -> Operand:
    """The operand as it is stored in `order`: a constant's value is transposed, a variable loses its name.

    >>> from nnapi.ops.types import F32
    >>> reordered(Operand(F32, (1, 8, 5, 6)), (0, 2, 3, 1)).dimensions
    (1, 5, 6, 8)
    """
    dimensions = tuple(operand.dimensions[d] for d in order)
    quant, value = operand.channel_quant, operand.value
    if quant is not None:
        quant = replace(quant, axis=order.index(quant.axis))
    if isinstance(value, np.ndarray):
        value = np.ascontiguousarray(value.transpose(order))
        return replace(operand, dimensions=dimensions, channel_quant=quant, value=value)
    return replace(operand, dimensions=dimensions, channel_quant=quant, name="")


class Placement:
    """Which operand of the new model holds each operand of the old one, and in which orders.

    What nothing moves keeps its index. A value gets a TRANSPOSE, once, where somebody needs it in an order in which
    nobody made it.
    """

    def __init__(self, model: Model, preferred: Order) -> None:
        self.model = model
        self.graph = Graph(model)
        self.preferred = preferred
        """The order that wins where several cost the same."""
        self.columns: dict[int, tuple[int, Dimensions, Order]] = {}
        """Matrices that were flattened as they were stored: operand, dimensions and order before."""
        self.remade: dict[int, Callable[[Order], Operation]] = {}
        """What TRANSPOSE cannot move, and the operation that makes it in another order."""
        self._made: dict[int, Order] = {}
        self._held: dict[int, dict[Order, int]] = {}
        self._absorbed: dict[int, Operation] = {}

    def operand(self, i: int) -> Operand:
        """The old model's operand i."""
        return self.graph.operands[i]

    def rank(self, i: int) -> int:
        return len(self.operand(i).dimensions)

    def order(self, i: int) -> Order:
        """The order in which operand i was made."""
        return self._made.get(i) or straight(self.rank(i))

    def is_straight(self, i: int) -> bool:
        """Whether operand i was made as it is in the old model."""
        return i not in self._made and i not in self.columns

    def can_move(self, *indexes: int) -> bool:
        """Whether each operand can be had in another order."""
        return all(
            o.is_constant or i in self.remade or (o.type in MOVABLE and 0 < len(o.dimensions) <= 4)
            for i, o in ((i, self.operand(i)) for i in indexes)
        )

    def holds(self, i: int, order: Order) -> bool:
        """Whether operand i is there in `order` at no cost."""
        return order in self._versions(i) or self.operand(i).is_constant or self._is_free(i, order)

    def straight(self, i: int) -> int:
        """Operand i as it is in the old model."""
        return self.at(i, straight(self.rank(i)))

    def at(self, i: int, order: Order) -> int:
        """The operand that holds i in `order`."""
        versions = self._versions(i)
        if order not in versions:
            versions[order] = self._move(i, order)
        return versions[order]

    def define(self, i: int, order: Order) -> int:
        """The operand that the operation at hand shall write for its output i, in `order`."""
        if order == straight(self.rank(i)):
            new = i
        else:
            new = self.graph.operand(reordered(self.operand(i), order))
            self._made[i] = order
        self._held[i] = {order: new}
        return new

    def alias(self, i: int, order: Order, held: int, operation: Operation) -> None:
        """Output i of `operation` is there already, in `order`, as operand `held`."""
        self._made[i] = order
        self._held[i] = {order: held}
        self._absorbed[i] = operation

    def cheapest(self, indexes: Sequence[int], rank: int) -> Order:
        """The order in which the fewest elements must move to bring variables of `rank` dimensions together."""
        variables = [i for i in indexes if self.rank(i) == rank and not self.operand(i).is_constant]
        orders = dict.fromkeys(self.order(i) for i in variables)
        if len(orders) < 2:
            return next(iter(orders), straight(rank))

        def cost(order: Order) -> tuple[int, bool, bool]:
            moved = sum(self.operand(i).elements or 1 for i in variables if not self.holds(i, order))
            return moved, order != self.preferred, order != straight(rank)

        return min(orders, key=cost)

    def finish(self) -> Model:
        """The new model, its inputs and outputs as in the old one; the old one where nothing changed."""
        graph = self.graph
        for k, i in enumerate(self.model.outputs):
            held = self.straight(i)
            if held == i:
                continue
            if graph.producer(held) is None or held in graph.outputs:  # an alias of an input, or of another output
                dimensions = self.operand(i).dimensions
                unknown = 0 in dimensions  # no shape to give, but nothing was reshaped either
                type, how = ("TRANSPOSE", straight(len(dimensions))) if unknown else ("RESHAPE", dimensions)
                self._emit(type, held, how, i, self.operand(i).name)
            else:
                graph.operands[held] = replace(graph.operands[held], name=self.operand(i).name)
                graph.outputs[k] = held
        graph.changed = set(living(graph.operations, graph.outputs)) != set(self.model.operations)
        return graph.finish()

    def _versions(self, i: int) -> dict[Order, int]:
        return self._held.setdefault(i, {straight(self.rank(i)): i})

    def _is_free(self, i: int, order: Order) -> bool:
        """Whether bringing operand i into `order` leaves every element in its place."""
        dimensions, made = self.operand(i).dimensions, self.order(i)
        if not dimensions or 0 in dimensions:
            return False
        return moves_ones_only([dimensions[d] for d in made], [made.index(d) for d in order])

    def _move(self, i: int, order: Order) -> int:
        operand, made, source = self.operand(i), self.order(i), self._versions(i)[self.order(i)]
        if operand.is_constant:
            return self.graph.operand(reordered(operand, order))
        back = order == straight(self.rank(i))
        absorbed = self._absorbed.get(i)
        if back and absorbed is not None and absorbed.inputs[0] == source:
            self.graph.emit(absorbed)
            return i
        new = i if back else self.graph.operand(reordered(operand, order))
        if i in self.remade:
            self.graph.emit(replace(self.remade[i](order), outputs=(new,)))
        elif self._is_free(i, order):
            self._emit("RESHAPE", source, self.graph.operands[new].dimensions, new, operand.name)
        else:
            self._emit("TRANSPOSE", source, tuple(made.index(d) for d in order), new, operand.name)
        return new

    def _emit(self, type: str, source: int, how: Sequence[int], result: int, name: str) -> None:
        self.graph.emit(Operation(type, (source, self.graph.constant(how, Operand(I32))), (result,), name))
