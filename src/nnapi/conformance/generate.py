"""Random models that are valid by construction, with inputs that they run on: for tests of anything that takes models.

Every operation is tried on values as it is added, so a model that comes out has run, operation by operation.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from nnapi.conformance.proposals import INTEGERS, Proposer
from nnapi.drivers.reference import Context
from nnapi.errors import ExecutionError, ModelError
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model, Operation
from nnapi.ir.verify import check_call, verify
from nnapi.ops.op import Call, Op, Param, Result
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import B8, I32, INT32, MODEL, Array, Operand, Shape

MAX_ELEMENTS: Final = 4096
MAX_RANK: Final = 8
"""How large a tensor of a random model may be."""
ATTEMPTS: Final = 200
"""How many proposals for one operation are tried before another operation is."""


@dataclass(frozen=True)
class Generated:
    """A model, inputs it runs on, and what its operations gave on them one by one."""

    model: Model
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]


def generate(seed: int, *, length: int = 3, operations: Sequence[str] = ()) -> Generated:
    """A random model of `length` operations, of the types named in `operations` (default: all of the table).

    The same seed gives the same model. Raises ModelError where none of the operations can be used at random.

    >>> [o.type for o in generate(0, length=2, operations=["ADD"]).model.operations]
    ['ADD', 'ADD']
    """
    rng = random.Random(seed)
    draft = _Draft(rng, dynamic=rng.random() < 0.3)
    names = list(operations) or list(OPERATIONS)
    misses = 0
    while len(draft.operations) < length:
        if not draft.add(OPERATIONS[rng.choice(names)]):
            misses += 1
            if misses > 10:
                raise ModelError(f"no use of {', '.join(names)} was found in {misses * ATTEMPTS} proposals")
    return draft.finish()


class _Draft:
    """A model under construction: its operands, as declared and with the values they have on the inputs."""

    def __init__(self, rng: random.Random, *, dynamic: bool = False, inputs: Sequence[Operand] = ()) -> None:
        self.rng = rng
        self.dynamic = dynamic
        """Leave some dimensions unknown until the model runs."""
        self.declared: list[Operand] = []
        self.concrete: list[Operand] = []
        self.operations: list[Operation] = []
        self.inputs: list[int] = []
        self.computed: list[int] = []
        for operand in inputs:
            self._new(replace(operand, value=None), operand)

    def add(self, op: Op, first: int | None = None, like: Operand | None = None, *, attempts: int = ATTEMPTS) -> bool:
        """Add one operation that runs on what is there; False where none of many proposals does.

        `first` is its first input, if given, and `like` what its only output must be.
        """
        for _ in range(attempts):
            proposer = Proposer(op, self.rng)
            try:
                if op.name in CONTROL:
                    proposed, outputs = CONTROL[op.name](op, proposer)
                    self.put(op, [self._reuse(*p) for p in proposed], outputs)
                    return True
                inputs = [self._reuse(*p) for p in proposer.inputs()]
                if first is not None:
                    inputs[0] = first
                call = op.bind([self.concrete[i] if isinstance(i, int) else i[1] for i in inputs])
                shapes = [_known(op, shape) for shape in op.infer(call)]
                results = (op.outputs[min(n, len(op.outputs) - 1)] for n in range(len(shapes)))
                outputs = [_output(r, s, call, proposer) for r, s in zip(results, shapes)]
                self.put(op, inputs, outputs if like is None else [like])
            except (ModelError, ExecutionError):
                continue
            return True
        return False

    def put(self, op: Op, inputs: Sequence[int | tuple[Operand, Operand]], outputs: Sequence[Operand]) -> list[int]:
        """Run one operation on the values there are and add it; ModelError, and no change, where it is not allowed.

        An input is the index of an operand, or a new one: as declared, and with its value.
        """
        concrete = [self.concrete[i] if isinstance(i, int) else i[1] for i in inputs]
        declared = [self.declared[i] if isinstance(i, int) else i[0] for i in inputs]
        known = op.bind(concrete, outputs, context=Context())
        for call in (known, op.bind(declared, outputs)):
            check_call(call)
            list(call.needs())
        with np.errstate(all="ignore"):
            arrays = op.reference(known)
        refs = [i if isinstance(i, int) else self._new(*i) for i in inputs]
        results = []
        for operand, array in zip(outputs, arrays, strict=True):
            results.append(len(self.declared))
            self.declared.append(self._declared(operand))
            self.concrete.append(operand.with_value(array))
        self.computed += results
        name = f"{op.name.lower()}{len(self.operations)}"
        self.operations.append(Operation(op.name, tuple(refs), tuple(results), name))
        return results

    def _reuse(self, param: Param, operand: Operand) -> int | tuple[Operand, Operand]:
        """An operand that is there and has the type proposed, or the proposed one, as declared and with its value."""
        fixed = param.constant or param.name in INTEGERS or operand.is_omitted or operand.channel_quant is not None
        if fixed or not operand.type.is_tensor:
            return operand, operand
        fitting = [i for i in (*self.inputs, *self.computed) if self.declared[i].type == operand.type]
        if fitting and self.rng.random() < 0.5:
            return self.rng.choice(fitting)
        return (operand, operand) if self.rng.random() < 0.5 else (self._declared(operand), operand)

    def _declared(self, operand: Operand) -> Operand:
        """A variable as the model declares it: now and then with dimensions that are unknown until it runs."""
        dimensions = operand.dimensions
        if self.dynamic:
            dimensions = tuple(0 if self.rng.random() < 0.3 else d for d in dimensions)
        return replace(operand, dimensions=dimensions, value=None)

    def _new(self, declared: Operand, concrete: Operand) -> int:
        index = len(self.declared)
        if declared.value is None:
            declared = replace(declared, name=f"input{len(self.inputs)}")
            self.inputs.append(index)
        self.declared.append(declared)
        self.concrete.append(concrete)
        return index

    def finish(self) -> Generated:
        """The model: its outputs are what no operation reads, and now and then more."""
        read = {i for operation in self.operations for i in operation.inputs}
        outputs = [i for i in self.computed if i not in read or self.rng.random() < 0.1]
        model = self.model(outputs, "random")
        verify(model)
        return Generated(
            model, tuple(self.concrete[i].value for i in self.inputs), tuple(self.concrete[i].value for i in outputs)
        )

    def model(self, outputs: Sequence[int], name: str) -> Model:
        """What is there, as a model with these outputs."""
        return Model(tuple(self.declared), tuple(self.operations), tuple(self.inputs), tuple(outputs), name)


def _known(op: Op, shape: Shape) -> tuple[int, ...]:
    """A shape as dimensions: 0 where only running the operation will say."""
    dimensions = tuple(d or 0 for d in shape or ())
    if math.prod(dimensions) > MAX_ELEMENTS or len(dimensions) > MAX_RANK:
        raise ModelError(f"output of {dimensions} is too large", operation=op.name)
    return dimensions


def _output(result: Result, dimensions: tuple[int, ...], call: Call, proposer: Proposer) -> Operand:
    """An output with the quantization that the operation asks for, else a random one."""
    operand = Operand(proposer.type_of(result.type), dimensions)
    if operand.type.is_quantized and isinstance(result.quant, str):
        source = call.many(result.quant)[0]
        return replace(operand, scale=source.scale, zero_point=source.zero_point)
    if isinstance(result.quant, Mapping) and operand.type in result.quant:
        scale, zero_point = result.quant[operand.type]
        return replace(operand, scale=scale, zero_point=zero_point)
    return proposer.quantized(operand)


Proposal = tuple[list[tuple[Param, Operand]], list[Operand]]
"""Inputs with their values, and outputs."""


def _branches(op: Op, proposer: Proposer) -> Proposal:
    """IF of two models that each compute something of the same kind as their input."""
    condition, then, otherwise, inputs = op.signatures[0].inputs
    x = proposer.tensor()
    bodies = [Operand(MODEL, value=_step(proposer.rng, [x], name)) for name in ("then", "else")]
    flag = Operand(B8, (1,), value=np.array([proposer.rng.random() < 0.5]))
    given = [(condition, flag), *zip((then, otherwise), bodies), (inputs, x)]
    return given, [replace(x, value=None)]


def _loop(op: Op, proposer: Proposer) -> Proposal:
    """WHILE a counter is less than a small limit, with one more value that each round changes."""
    condition, body, inputs = op.signatures[0].inputs
    counter, x = Operand(I32, (1,), value=np.zeros(1, np.int32)), proposer.tensor()
    b = Builder("condition")
    count, _ = (b.input_operand(o) for o in (counter, x))
    b.output(b.add("LESS", {"input0": count, "input1": [proposer.rng.randrange(4)]}))
    models = [Operand(MODEL, value=m) for m in (b.finish(), _step(proposer.rng, [counter, x], "body"))]
    given = [*zip((condition, body), models), (inputs, counter), (inputs, x)]
    return given, [replace(o, value=None) for o in (counter, x)]


def _step(rng: random.Random, inputs: Sequence[Operand], name: str) -> Model:
    """A model that gives one more than a counter, where there is one, and something of the kind of its last input."""
    draft = _Draft(rng, inputs=inputs)
    *counters, x = draft.inputs
    outputs = []
    for counter in counters:
        one, none = Operand(I32, (1,), value=np.ones(1, np.int32)), Operand(INT32, value=np.array(0, np.int32))
        operands: list[int | tuple[Operand, Operand]] = [counter, (one, one), (none, none)]
        outputs += draft.put(OPERATIONS["ADD"], operands, [replace(draft.declared[counter], name="")])
    like = replace(draft.declared[x], name="")
    for op in rng.sample(list(OPERATIONS.values()), len(OPERATIONS)):
        if op.name not in CONTROL and draft.add(op, x, like, attempts=5):
            return draft.model([*outputs, draft.computed[-1]], name)
    raise ModelError(f"no operation takes and gives {like.type.name} {like.dimensions}")


CONTROL: Final[Mapping[str, Callable[[Op, Proposer], Proposal]]] = MappingProxyType({"IF": _branches, "WHILE": _loop})
"""Operations on models."""
