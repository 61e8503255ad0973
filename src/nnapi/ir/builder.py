"""Build models: operands and operations by name, with types, shapes and defaults filled in from the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nnapi.errors import ModelError
from nnapi.ir.model import Model, Operation
from nnapi.ir.verify import verify
from nnapi.ops.op import Op, Param, Signature, Types
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import (
    B8,
    F16,
    F32,
    FLOAT16,
    FLOAT32,
    I32,
    INT32,
    MODEL,
    OMITTED,
    UINT32,
    Array,
    Operand,
    OperandType,
    Shape,
)  # fmt: skip

_SCALAR_OF = {F32: FLOAT32, F16: FLOAT16}
_TENSOR_OF = {"f4": F32, "f8": F32, "f2": F16, "i4": I32, "i8": I32, "b1": B8}


@dataclass(frozen=True, slots=True)
class Ref:
    """An operand of the model being built."""

    index: int
    operand: Operand

    @property
    def shape(self) -> Shape:
        return self.operand.shape

    @property
    def type(self) -> OperandType:
        return self.operand.type


Value = Ref | Array | bool | int | float | Sequence[int] | Model | None
"""What an input may be given as: an operand, or a constant; None is an omitted operand."""


class Builder:
    """Builds one model.

    >>> from nnapi.ops.types import F32
    >>> b = Builder("double")
    >>> x = b.input("x", F32, (2, 2))
    >>> b.output(b.add("ADD", {"input0": x, "input1": x, "activation": 0}))
    >>> [o.type for o in b.finish().operations]
    ['ADD']
    """

    def __init__(self, name: str = "", *, relaxed: bool = False, metadata: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.relaxed = relaxed
        self.metadata = dict(metadata or {})
        self._operands: list[Operand] = []
        self._operations: list[Operation] = []
        self._inputs: list[int] = []
        self._outputs: list[int] = []
        self._constants: dict[tuple[Any, ...], Ref] = {}

    def operand(self, operand: Operand) -> Ref:
        """Any operand as it is."""
        self._operands.append(operand)
        return Ref(len(self._operands) - 1, operand)

    def input(
        self, name: str, type: OperandType, dimensions: Sequence[int], scale: float = 0.0, zero_point: int = 0
    ) -> Ref:
        """A model input; a dimension of 0 is unknown until run time."""
        return self.input_operand(Operand(type, tuple(dimensions), scale, zero_point, name=name))

    def input_operand(self, operand: Operand) -> Ref:
        """A model input of the same type, dimensions, quantization and name as `operand`."""
        ref = self.operand(replace(operand, value=None))
        self._inputs.append(ref.index)
        return ref

    def output(self, *refs: Ref, names: Sequence[str] = ()) -> None:
        """Declare model outputs, in order."""
        for i, ref in enumerate(refs):
            self._outputs.append(ref.index)
            if i < len(names):
                self._operands[ref.index] = replace(self._operands[ref.index], name=names[i])

    def constant(self, value: Array | Sequence[int], like: Operand | None = None, *, name: str = "") -> Ref:
        """A constant tensor; `like` gives type and quantization, else they follow from the array's type.

        Equal small constants are stored once; a large array is shared by identity, never copied.
        """
        if like is None:
            array = np.asarray(value)
            kind = array.dtype.str.lstrip("<|>=")
            if kind not in _TENSOR_OF:
                raise ModelError(f"a constant of {array.dtype} needs an operand type", hint="pass like=Operand(...)")
            type = _TENSOR_OF[kind]
            if kind == "i8" and array.size and not -(2**31) <= int(array.min()) <= int(array.max()) < 2**31:
                raise ModelError(f"constant {name!r} of int64 holds {array.max()}, beyond the 32 bits of TENSOR_INT32")
            array = np.ascontiguousarray(array, type.dtype).reshape(array.shape or (1,))
            like = Operand(type, array.shape)
        else:
            array = np.asarray(value, like.type.dtype)
        operand = replace(like, dimensions=array.shape if like.type.is_tensor else (), value=array)
        operand = replace(operand, name=name or operand.name)
        identity = array.tobytes() if array.nbytes <= 128 else id(array)
        key = (operand.type, operand.dimensions, operand.scale, operand.zero_point, operand.channel_quant, identity)
        if key not in self._constants:
            self._constants[key] = self.operand(operand)
        return self._constants[key]

    def scalar(self, type: OperandType, value: bool | int | float) -> Ref:
        """A constant scalar."""
        if type in (INT32, UINT32) and not -(2**31) <= value < 2**32:
            raise ModelError(f"scalar {value} is beyond 32 bits")
        return self.constant(np.array(value, type.dtype), Operand(type))

    def omitted(self, type: OperandType) -> Ref:
        """An optional operand left out."""
        # Android wants a scale of every quantized operand, also of one without a value.
        return self.operand(Operand(type, scale=1.0 if type.is_quantized else 0.0, value=OMITTED))

    def model(self, model: Model) -> Ref:
        """A MODEL operand (for IF, WHILE and composites)."""
        return self.operand(Operand(MODEL, value=model, name=model.name))

    def add(
        self, type: str, inputs: Mapping[str, Value | Sequence[Ref]], output: Operand | None = None, *, name: str = ""
    ) -> Ref:
        """Add an operation with one output and return it; see `add_many`."""
        return self.add_many(type, inputs, None if output is None else (output,), name=name)[0]

    def add_many(
        self,
        type: str,
        inputs: Mapping[str, Value | Sequence[Ref]],
        outputs: Sequence[Operand] | None = None,
        *,
        name: str = "",
    ) -> tuple[Ref, ...]:
        """Add an operation of the table with its inputs by name; constants and defaults are made as needed.

        `outputs` give the types and quantization of the outputs where the inputs do not determine them (dimensions are
        always inferred). Raises ModelError where the operation does not allow what it is given.
        """
        op = OPERATIONS.get(type)
        if op is None:
            raise ModelError("is no NNAPI operation", operation=type)
        refs = self._inputs_of(op, inputs, name)
        operands = [self._operands[r.index] for r in refs]
        declared = None if outputs is None else [replace(o, dimensions=()) for o in outputs]
        call = op.bind(operands, declared, label=Operation(type, (), (), name).label)
        shapes = op.infer(call)
        if outputs is None:
            outputs = [self._output_operand(op, call.types, operands, i, name) for i in range(len(shapes))]
        results = tuple(
            self.operand(replace(o, dimensions=tuple(d or 0 for d in shape or ()), value=None))
            for o, shape in zip(outputs, shapes, strict=True)
        )
        self._operations.append(Operation(type, tuple(r.index for r in refs), tuple(r.index for r in results), name))
        return results

    def add_raw(
        self, type: str, inputs: Sequence[Ref], outputs: Sequence[Operand], *, name: str = ""
    ) -> tuple[Ref, ...]:
        """Add an operation as it is: extensions, and operations copied from a valid model."""
        results = tuple(self.operand(replace(o, value=None)) for o in outputs)
        self._operations.append(Operation(type, tuple(r.index for r in inputs), tuple(r.index for r in results), name))
        return results

    def mark(self) -> int:
        """Where the model being built stands, for `rollback`."""
        return len(self._operations)

    def rollback(self, mark: int) -> None:
        """Forget the operations added since `mark`; their results must not be used any more."""
        del self._operations[mark:]

    def finish(self, *, check: bool = True) -> Model:
        """The model, without operands that nothing uses; verified unless `check` is False."""
        used = dict.fromkeys(self._inputs)
        for operation in self._operations:
            used |= dict.fromkeys((*operation.inputs, *operation.outputs))
        used |= dict.fromkeys(self._outputs)
        new = {old: i for i, old in enumerate(used)}
        model = Model(
            tuple(self._operands[i] for i in used),
            tuple(
                Operation(o.type, tuple(new[i] for i in o.inputs), tuple(new[i] for i in o.outputs), o.name)
                for o in self._operations
            ),
            tuple(new[i] for i in self._inputs),
            tuple(new[i] for i in self._outputs),
            self.name,
            self.relaxed,
            self.metadata,
        )
        if check:
            verify(model)
        return model

    def _inputs_of(self, op: Op, given: Mapping[str, Any], name: str) -> list[Ref]:
        signature = _signature_for(op, given, name)
        last = max(i for i, p in enumerate(signature.inputs) if p.required or p.name in given)
        row = self._row_for(op, signature, given)
        refs: list[Ref] = []
        for param in signature.inputs[: last + 1]:
            value = given.get(param.name, param.default)
            if param.variadic:
                refs += value
            else:
                refs.append(self._ref(value, _type_of(param, row)))
        return refs

    def _ref(self, value: Any, type: OperandType) -> Ref:
        if isinstance(value, Ref):
            return value
        if value is None:
            return self.omitted(type)
        if isinstance(value, Model):
            return self.model(value)
        if type.is_tensor:
            return self.constant(value, Operand(type)) if not isinstance(value, np.ndarray) else self.constant(value)
        return self.scalar(type, value)

    def _row_for(self, op: Op, signature: Signature, given: Mapping[str, Any]) -> Types:
        """The types that the operands given select."""

        def fits(row: Types) -> bool:
            for param in signature.inputs:
                value = given.get(param.name)
                values = value if param.variadic else (value,)
                if isinstance(param.type, str):
                    for v in values or ():
                        if isinstance(v, Ref) and v.type != row.bind[param.type]:
                            return False
            return True

        return next((row for row in op.types if fits(row)), op.types[0] if op.types else Types(op.since))

    def _output_operand(self, op: Op, row: Types, inputs: Sequence[Operand], i: int, name: str) -> Operand:
        result = op.outputs[min(i, len(op.outputs) - 1)]
        type = row.bind[result.type] if isinstance(result.type, str) else result.type
        if isinstance(type, tuple):
            raise ModelError(f"output {result.name} may have several types", operation=op.name, hint="pass outputs=")
        if not type.is_quantized:
            return Operand(type, name=name)
        if isinstance(result.quant, str):
            call = op.bind(inputs, label=op.name)
            source = call.many(result.quant)[0]
            return Operand(type, (), source.scale, source.zero_point, name=name)
        if result.quant and type in result.quant:
            scale, zero_point = result.quant[type]
            return Operand(type, (), scale, zero_point, name=name)
        raise ModelError(
            f"output {result.name} is {type.name}, its scale must be chosen", operation=op.name, hint="pass outputs="
        )


def _type_of(param: Param, row: Types) -> OperandType:
    type = row.bind[param.type] if isinstance(param.type, str) else param.type
    return type[0] if isinstance(type, tuple) else type


def _signature_for(op: Op, given: Mapping[str, Any], name: str) -> Signature:
    """The overload that has every name given and is given every name it requires; the rest may be left out."""
    for signature in op.signatures:
        names = {p.name for p in signature.inputs}
        needed = {p.name for p in signature.inputs if p.required and not p.omissible}
        if needed <= given.keys() <= names:
            return signature
    known = " or ".join("(" + ", ".join(p.name for p in s.inputs) + ")" for s in op.signatures)
    raise ModelError(f"given {', '.join(given)}, takes {known}", operation=f"{op.name} {name!r}" if name else op.name)
