"""One operation of the table: its signatures by feature level, shape inference, reference kernel and work.

A row is an `Op`. Its `inputs` are named parameters; a parameter's type is an operand type, a tuple of them, or the name
of a type variable that the rows of `types` bind together ("T" the input, "W" the weights, ...):

    types=(Types(1, T=F32, W=F32, B=F32), Types(3, T=Q8, W=Q8PC, B=I32))

Inference, checks and kernels all see the same thing, a `Call`: one use of the operation with its operands by name.
At verification the operands are descriptions, with values only for constants; at run time every operand has its value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, NoReturn

import numpy as np

from nnapi.errors import ModelError
from nnapi.ops.types import ANDROID, BEYOND, Array, Operand, OperandType, Shape

TypeExpr = str | OperandType | tuple[OperandType, ...]


class Need(NamedTuple):
    """A feature level that one use of an operation needs, and why."""

    level: int
    reason: str

    def __str__(self) -> str:
        if self.level == BEYOND:
            return f"no NNAPI accelerator takes 16x8: {self.reason} runs on TFLite's kernels"
        return f"{self.reason} needs feature level {self.level} ({ANDROID[self.level]})"


@dataclass(frozen=True)
class Param:
    """One named input: its type, rank, the level that added it, and its default when a trailing one is left out."""

    name: str
    type: TypeExpr
    rank: int | tuple[int, int] | None = None
    since: int = 1
    default: Any = None
    """With a default (False, 1, ...) the parameter is trailing and may be absent altogether."""
    omissible: bool = False
    """May be an operand without a value (NNAPI: lifetime NO_VALUE)."""
    variadic: bool = False
    constant: bool = False
    """Must be known when the model is built."""

    @property
    def required(self) -> bool:
        return self.default is None


@dataclass(frozen=True)
class Result:
    """One named output: its type, and what its quantization parameters must be."""

    name: str
    type: TypeExpr
    quant: str | Mapping[OperandType, tuple[float, int]] | None = None
    """None: free. The name of an input: the same as that input's. A table: fixed (scale, zero point) by type."""
    variadic: bool = False
    optional: bool = False
    """May be absent, with all behind it; `infer` says which counts are allowed."""


class Types:
    """One row of types that may be used together: `Types(3, T=F16, B=F16)` since feature level 3.

    Rows of level BEYOND are no part of NNAPI: those that TFLite's kernels take with 16-bit activations.
    """

    __slots__ = ("bind", "since")

    def __init__(self, since: int, **bind: OperandType) -> None:
        self.since = since
        self.bind = bind

    def __repr__(self) -> str:
        return f"Types({self.since}, {', '.join(f'{k}={v.name}' for k, v in self.bind.items())})"


def same(since: Mapping[OperandType, int]) -> tuple[Types, ...]:
    """Rows of one type variable T: `same({F32: 1, Q8: 1, F16: 3})`."""
    return tuple(Types(level, T=t) for t, level in since.items())


@dataclass(frozen=True)
class Signature:
    """One overload: its parameters in order."""

    inputs: tuple[Param, ...]
    name: str = ""

    def match(self, count: int) -> tuple[tuple[Param, slice], ...] | None:
        """Each parameter with the positions it takes of `count` inputs; None where the count does not fit."""
        variadic = next((i for i, p in enumerate(self.inputs) if p.variadic), None)
        if variadic is None:
            required = sum(p.required for p in self.inputs)
            if not required <= count <= len(self.inputs):
                return None
            return tuple((p, slice(i, i + 1)) for i, p in enumerate(self.inputs[:count]))
        after = len(self.inputs) - variadic - 1
        if count < variadic + after:
            return None
        end = count - after
        before = tuple((p, slice(i, i + 1)) for i, p in enumerate(self.inputs[:variadic]))
        behind = tuple((p, slice(end + i, end + i + 1)) for i, p in enumerate(self.inputs[variadic + 1 :]))
        return (*before, (self.inputs[variadic], slice(variadic, end)), *behind)


Infer = Callable[["Call"], Sequence[Shape]]
Kernel = Callable[["Call"], Sequence[Array]]


def no_macs(call: Call) -> int:
    """Operations that multiply nothing."""
    return 0


def no_needs(call: Call) -> Iterable[Need]:
    """Operations whose types and parameters say it all."""
    return ()


@dataclass(frozen=True)
class Op:
    """One row of the operation table."""

    name: str
    code: int
    since: int
    signatures: tuple[Signature, ...]
    outputs: tuple[Result, ...]
    types: tuple[Types, ...]
    infer: Infer
    """call -> one shape per output; raises through `call.require` what the specification forbids."""
    reference: Kernel
    """call (every operand with its value) -> one array per output, in the outputs' types."""
    formula: str
    """What it computes, on one line, for docs/operations.md."""
    macs: Callable[[Call], int] = no_macs
    """Multiply-accumulates of one execution, shapes known."""
    rules: Callable[[Call], Iterable[Need]] = no_needs
    """Checks beyond types and shapes, and the levels that particular uses need."""

    def bind(
        self,
        inputs: Sequence[Operand],
        outputs: Sequence[Operand] | None = None,
        *,
        label: str = "",
        context: Any = None,
    ) -> Call:
        """The call of this operation with these operands; ModelError where no overload fits them.

        Without `outputs` only the inputs are matched (to infer what the outputs must be).
        """
        reasons: list[tuple[int, str]] = []
        for signature in self.signatures:
            slots = signature.match(len(inputs))
            if slots is None:
                continue
            call = Call(
                self,
                signature,
                slots,
                tuple(inputs),
                None if outputs is None else tuple(outputs),
                label or self.name,
                context,
            )
            problem = call._match_types()
            if problem is None:
                return call
            reasons.append(problem)
        if not reasons:
            wanted = " or ".join(sorted({_count(s) for s in self.signatures}))
            raise ModelError(f"{len(inputs)} inputs, takes {wanted}", operation=label or self.name)
        raise ModelError(max(reasons)[1], operation=label or self.name)


def _count(signature: Signature) -> str:
    required = sum(p.required and not p.variadic for p in signature.inputs)
    if any(p.variadic for p in signature.inputs):
        return f"{required} or more"
    return str(required) if required == len(signature.inputs) else f"{required} to {len(signature.inputs)}"


@dataclass(frozen=True)
class Call:
    """One use of an operation: operands by parameter name, declared outputs, and the types in force.

    `context` is what runs referenced models (IF, WHILE) and carries deadlines; None outside an execution.
    """

    op: Op
    signature: Signature
    slots: tuple[tuple[Param, slice], ...]
    inputs: tuple[Operand, ...]
    declared: tuple[Operand, ...] | None
    label: str
    context: Any = None
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def _positions(self) -> dict[str, slice]:
        return {p.name: s for p, s in self.slots}

    def __contains__(self, name: str) -> bool:
        """Whether the input is there and not omitted."""
        at = self._positions.get(name)
        return at is not None and at.start < at.stop and not self.inputs[at.start].is_omitted

    def __getitem__(self, name: str) -> Operand:
        """The operand given for a parameter."""
        return self.inputs[self._positions[name].start]

    def many(self, name: str) -> tuple[Operand, ...]:
        """The operands given for a variadic parameter."""
        return self.inputs[self._positions[name]]

    def shape(self, name: str) -> Shape:
        """The input's shape: None where unknown."""
        return self[name].shape

    def known(self, name: str) -> bool:
        """Whether the input's value is at hand: a constant, a default, or an execution's."""
        return name not in self._positions or isinstance(self[name].value, np.ndarray) or self[name].is_omitted

    def array(self, name: str) -> Array:
        """The input's value as stored."""
        value = self[name].value
        if not isinstance(value, np.ndarray):
            self.fail(f"{name} must be known here", hint="make it a constant")
        return value

    def scalar(self, name: str) -> Any:
        """A scalar input as a Python number, its parameter's default where it is absent; None where unknown."""
        if name not in self:
            return self._defaults[name]
        value = self[name].value
        if not isinstance(value, np.ndarray):
            return None
        if value.size != 1:
            self.fail(f"{name} has {value.size} values, must have 1")
        return value.reshape(()).item()

    @cached_property
    def _defaults(self) -> dict[str, Any]:
        return {p.name: p.default for s in self.op.signatures for p in s.inputs if p.default is not None}

    @property
    def outputs(self) -> tuple[Operand, ...]:
        """The outputs as the model declares them: types and quantization."""
        return self.declared or ()

    @property
    def output(self) -> Operand:
        return self.outputs[0]

    def require(self, condition: bool, message: str, *, hint: str = "") -> None:
        """Raise a ModelError naming the operation unless `condition`."""
        if not condition:
            self.fail(message, hint=hint)

    def fail(self, message: str, *, hint: str = "") -> NoReturn:
        raise ModelError(message, operation=self.label, hint=hint)

    @cached_property
    def types(self) -> Types:
        """The row of the operation's types that this call uses."""
        found = self._find_types()
        assert isinstance(found, Types)
        return found

    def needs(self) -> Iterator[Need]:
        """Every feature level above 1 that this use needs, and why; raises what no level allows."""
        op, name = self.op, self.op.name
        if op.since > 1:
            yield Need(op.since, name)
        if self.types.since == BEYOND:
            yield Need(BEYOND, name)
        elif self.types.since > op.since:
            types = ", ".join(dict.fromkeys(t.name for t in self.types.bind.values()))
            yield Need(self.types.since, f"{name} of {types}")
        for param, at in self.slots[: self._significant]:
            if param.since > op.since and at.start < at.stop:
                yield Need(param.since, f"{name} with {param.name}")
        yield from op.rules(self)

    @property
    def _significant(self) -> int:
        """How many slots matter to the feature level: NNAPI drops trailing constants that equal their defaults."""
        count = len(self.slots)
        while count and (param := self.slots[count - 1][0]).default is not None:
            if not isinstance(self[param.name].value, np.ndarray) or self.scalar(param.name) != param.default:
                break
            count -= 1
        return count

    def _given(self) -> Iterator[tuple[str, TypeExpr, Operand]]:
        for param, at in self.slots:
            for operand in self.inputs[at]:
                if not (operand.is_omitted and param.omissible):
                    yield param.name, param.type, operand
        results = self.op.outputs
        for i, operand in enumerate(self.outputs):
            result = results[min(i, len(results) - 1)]
            yield result.name, result.type, operand

    def _find_types(self) -> Types | tuple[int, str]:
        """The first row that fits, else how far the best one got and why it does not."""
        best = (-1, "")
        for row in self.op.types or (Types(self.op.since),):
            for n, (name, expr, operand) in enumerate(self._given()):
                allowed = row.bind[expr] if isinstance(expr, str) else expr
                if operand.type == allowed or (isinstance(allowed, tuple) and operand.type in allowed):
                    continue
                names = " or ".join(t.name for t in (allowed if isinstance(allowed, tuple) else (allowed,)))
                best = max(best, (n, f"{name} is {operand.type.name}, must be {names} here"))
                break
            else:
                return row
        return best

    def _match_types(self) -> tuple[int, str] | None:
        for param, at in self.slots:
            for operand in self.inputs[at]:
                if operand.is_omitted and not param.omissible:
                    return at.start, f"{param.name} is omitted, must be given"
                shape = operand.shape
                if param.rank is None or shape is None or not operand.type.is_tensor or operand.is_omitted:
                    continue
                if param.omissible and operand.value is None:
                    continue  # an execution may leave it out, whatever its dimensions
                low, high = (param.rank, param.rank) if isinstance(param.rank, int) else param.rank
                if not low <= len(shape) <= high:
                    wanted = str(low) if low == high else f"{low} to {high}"
                    return 1000 + at.start, f"{param.name} has rank {len(shape)}, must have {wanted}"
        results = self.op.outputs
        least, most = sum(not (r.variadic or r.optional) for r in results), len(results)
        count, variadic = len(self.outputs), any(r.variadic for r in results)
        if self.declared is not None and not (least <= count and (variadic or count <= most)):
            wanted = f"{least} or more" if variadic else str(most) if least == most else f"{least} to {most}"
            return 1000, f"{count} outputs, gives {wanted}"
        found = self._find_types()
        return None if isinstance(found, Types) else found
