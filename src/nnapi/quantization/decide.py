"""Decide: ranges -> scales and zero points that keep NNAPI's rules, and which operations compute in integers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nnapi.errors import QuantizeError
from nnapi.ir.model import Model, Operation
from nnapi.ops.op import Call, Types
from nnapi.ops.types import F16, F32, FLOAT16, FLOAT32, Q8, Q8PC, Q16SYMM
from nnapi.quantization.integer import CHANNEL_AXIS, JOINS, activations, fixed, follows, integer_types
from nnapi.quantization.observers import Range
from nnapi.quantization.params import Choice, Params, Table, at_least, params_for
from nnapi.quantization.parts import apart
from nnapi.quantization.recipe import Recipe
from nnapi.quantization.weights import filter_params

ROUNDS = 32
HALF = {F32: F16, FLOAT32: FLOAT16}
HEADROOM = 1.25
"""What 16 bits keep for values beyond those of calibration: 2 dB of 90, where saturation can cost 30."""
SUMS = ("ADD", "SUB")
FINEST = 2.0**-6
"""Of the scale beside it in a sum: what is smaller by far, such as an epsilon, is lost in its steps anyway."""
MARGIN = 1 + 1e-5
"""Feature levels 1 and 2 want the product of scales below the output's, in float32."""


def decide(model: Model, ranges: Mapping[int, Range], recipe: Recipe, keep: Mapping[int, str] | None = None) -> Table:
    """The table by which `apply` quantizes `model`; `ranges` by operand come from `observe`.

    `keep`: operations that stay in float32, by index, and why. Operations without an integer form do too; so do those
    around a tensor that was zero on every example, which tells nothing about its range, and those that join parts of an
    output too different for one scale.
    """
    kept = dict(keep or {})
    if not recipe.is_integer:
        return _in_floats(model, recipe, kept)
    kept = apart(model, ranges, recipe.type) | kept
    while True:
        plan = _Plan(model, ranges, recipe, kept)
        empty = plan.empty()
        if not empty:
            return plan.table()
        kept |= empty


def integer_row(model: Model, operation: Operation, recipe: Recipe) -> Types | str | None:
    """The row of types an operation takes as integers, why there is none, or None where it has no floats."""
    if not any(model.operands[i].type == F32 for i in (*operation.inputs, *operation.outputs)):
        return None
    override = recipe.override(operation)
    if override is not None:
        return override.reason
    if operation.is_extension:
        return "an extension has no integer form"
    return integer_types(model.call(operation), recipe)


def _in_floats(model: Model, recipe: Recipe, kept: Mapping[int, str]) -> Table:
    """The table of recipes that compute in floats: of 16 bits, or with weights of 8."""
    choices: dict[int, Choice] = {}
    filters: dict[int, tuple[Params, ...]] = {}
    for n, operation in enumerate(model.operations):
        override = recipe.override(operation)
        reason = override.reason if override else kept.get(n, "")
        if recipe.activations == "float16" and not reason and half_types(model, operation) is None:
            reason = "NNAPI has no form of it in TENSOR_FLOAT16"
        choices[n] = Choice("float32" if reason else recipe.activations, reason)
        if recipe.weights != "int8_per_channel" or reason or operation.type not in CHANNEL_AXIS:
            continue
        call = model.call(operation)
        if call["filter"].type == F32 and call["filter"].is_constant:
            axis = CHANNEL_AXIS[operation.type]
            filters[n] = filter_params(call.array("filter"), np.zeros(0), axis, Q8PC)
    return Table(choices, {}, filters)


def half_types(model: Model, operation: Operation) -> Types | None:
    """The row of types that has 16-bit floats where the operation's has 32, if there is one."""
    given = [model.operands[i] for i in operation.inputs]
    # A scalar that comes at run time cannot be cast: CAST takes tensors.
    if (
        operation.is_extension
        or any(model.referenced(operation))
        or any(o.type == FLOAT32 and not o.is_constant for o in given)
    ):
        return None
    call = model.call(operation)
    wanted = {name: HALF.get(t, t) for name, t in call.types.bind.items()}
    return next((row for row in call.op.types if row.bind == wanted), None)


class _Plan:
    """Operands that must be stored alike in groups, each with one range or prescribed parameters."""

    def __init__(self, model: Model, ranges: Mapping[int, Range], recipe: Recipe, kept: Mapping[int, str]) -> None:
        self.model, self.ranges, self.recipe = model, ranges, recipe
        self.choices: dict[int, Choice] = {}
        self.rows: dict[int, tuple[Call, Types]] = {}
        self._parent: dict[int, int] = {}
        self._fixed: dict[int, Params] = {}
        self._members: dict[int, set[int]] = {}
        for n, operation in enumerate(model.operations):
            row = integer_row(model, operation, recipe)
            if n in kept and row is not None and not isinstance(row, str):
                row = kept[n]
            if row is None:
                self.choices[n] = Choice("as it is")
            elif isinstance(row, str):
                self.choices[n] = Choice("float32", row)
            else:
                self.choices[n] = Choice(recipe.activations)
                self.rows[n] = model.call(operation), row
                self._constrain(operation, *self.rows[n])

    def _constrain(self, operation: Operation, call: Call, row: Types) -> None:
        inputs = {position: i for _, position, i in activations(call, operation.inputs, row)}
        names = {position: param.name for param, position, _ in activations(call, operation.inputs, row)}
        for i in inputs.values():
            self._find(i)
        for n, i in enumerate(operation.outputs):
            if self.model.operands[i].type != F32:
                continue
            self._find(i)
            prescribed = fixed(call, n, self.recipe.type)
            if prescribed is not None:
                self._fixed[self._find(i)] = Params(self.recipe.type, *prescribed)
            source = follows(call, n)
            joined = call.op.name in JOINS or call.op.name == "CONCATENATION"
            alike = [j for p, j in inputs.items() if joined or names[p] == source]
            for j in alike:
                if len(alike) == 1 or self._find(j) not in self._fixed:
                    self._unite(j, i)

    def _find(self, i: int) -> int:
        if i not in self._parent:
            self._parent[i] = i
            self._members[i] = {i}
        while self._parent[i] != i:
            i = self._parent[i]
        return i

    def _unite(self, i: int, j: int) -> None:
        a, b = self._find(i), self._find(j)
        # A constant that several operations share belongs to none of them.
        if a == b or (self.model.operands[i].is_constant and len(self.model.consumers.get(i, ())) > 1):
            return
        self._parent[b] = a
        self._members[a] |= self._members.pop(b)
        if b in self._fixed:
            self._fixed.setdefault(a, self._fixed.pop(b))

    def _range(self, root: int) -> Range:
        """What the members of a group hold together."""
        ranges = [r for r in map(self._range_of, self._members[root]) if r is not None]
        return min((r[0] for r in ranges), default=0.0), max((r[1] for r in ranges), default=0.0)

    def _with_headroom(self, root: int) -> Range:
        low, high = self._range(root)
        headroom = HEADROOM if self.recipe.type == Q16SYMM else 1.0
        return low * headroom, high * headroom

    def _range_of(self, i: int) -> Range | None:
        value = self.model.operands[i].value
        if value is None:
            return self.ranges.get(i)
        return (float(value.min()), float(value.max())) if value.size else None

    def empty(self) -> dict[int, str]:
        """Operations around tensors whose range is nothing but zero, with the reason to keep them in floats."""
        found: dict[int, str] = {}
        for root, members in self._members.items():
            variables = [i for i in members if not self.model.operands[i].is_constant]
            if root in self._fixed or not variables or self._range(root) != (0.0, 0.0):
                continue
            for n, (_, _) in self.rows.items():
                operation = self.model.operations[n]
                if not members.isdisjoint((*operation.inputs, *operation.outputs)):
                    found[n] = "a tensor is 0 on all calibration data: no range to store it by"
        return found

    def _constant(self, root: int, groups: Mapping[int, Params]) -> Params:
        """Parameters of a constant that are no finer than what is beside it can show.

        One of nothing but zeros says nothing of its scale, by which kernels scale the others: it takes theirs.
        """
        for n in self.model.consumers.get(root, ()):
            operation = self.model.operations[n]
            for i in (*operation.inputs, *operation.outputs):
                if n not in self.rows or i not in self._parent or self.model.operands[i].is_constant:
                    continue
                other = groups[self._find(i)]
                if self._range(root) == (0.0, 0.0):
                    return other
                return at_least(groups[root], other.scale * FINEST) if operation.type in SUMS else groups[root]
        return groups[root]

    def table(self) -> Table:
        """Parameters of all groups, and filters'; groups widen until the products of scales fit."""
        groups = {
            root: self._fixed.get(root) or params_for(*self._with_headroom(root), self.recipe.type)
            for root in self._members
        }
        for root, members in self._members.items():
            if all(self.model.operands[i].is_constant for i in members):
                groups[root] = self._constant(root, groups)
        filters: dict[int, tuple[Params, ...]] = {}
        for _ in range(ROUNDS):
            if not any(self._widened(n, groups, filters) for n in self.rows):
                break
        else:
            raise QuantizeError("scales do not settle below feature level 3's rule", hint="use a recipe of level 3")
        operands = {i: groups[root] for root, members in self._members.items() for i in members}
        return Table(self.choices, operands, filters, self.recipe.boundary)

    def _widened(self, n: int, groups: dict[int, Params], filters: dict[int, tuple[Params, ...]]) -> bool:
        """Choose the scales of one operation's filter; whether its output had to be widened for their product."""
        call, row = self.rows[n]
        operation = self.model.operations[n]
        if call.op.name not in CHANNEL_AXIS and call.op.name != "MUL":
            return False
        x, y = self._find(operation.inputs[0]), self._find(operation.outputs[0])
        if "W" in row.bind:
            axis, type = CHANNEL_AXIS[call.op.name], row.bind["W"]
            filters[n] = filter_params(call.array("filter"), call.array("bias"), axis, type, groups[x], groups[y])
            factor = filters[n][0].scale
        else:
            factor = groups[self._find(operation.inputs[1])].scale
        product = np.float32(groups[x].scale) * np.float32(factor)
        if self.recipe.type != Q8 or row.bind.get("W") == Q8PC or y in self._fixed or product < groups[y].scale:
            return False
        groups[y] = at_least(groups[y], float(product) * MARGIN)
        return True
