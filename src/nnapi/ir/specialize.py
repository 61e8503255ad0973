"""A model for inputs of given shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nnapi.ir.model import Model, Operation
from nnapi.ops.types import Dimensions, Operand, Shape


def specialize(model: Model, shapes: Sequence[Dimensions]) -> Model:
    """`model` for inputs of exactly these shapes: every dimension that follows from them is known.

    Raises ModelError where an operation does not take what it then gets.

    >>> from nnapi.ir.builder import Builder
    >>> from nnapi.ops.types import F32
    >>> b = Builder()
    >>> x = b.input("x", F32, (0, 3))
    >>> b.output(b.add("RELU", {"input": x}))
    >>> specialize(b.finish(), [(5, 3)]).output_operands[0].dimensions
    (5, 3)
    """
    operands = list(model.operands)
    for i, shape in zip(model.inputs, shapes, strict=True):
        operands[i] = _known(operands[i], tuple(shape)) if shape else operands[i]
    for operation in model.operations:
        current = replace(model, operands=tuple(operands)) if operation.is_extension else None
        body = current.body(operation) if current else None
        found: Sequence[Shape]
        if current is not None and body is not None:
            operands[operation.inputs[-1]], found = _specialized_body(current, operation, body)
        elif operation.is_extension:
            continue
        else:
            op = model.call(operation).op
            given, declared = ([operands[i] for i in indexes] for indexes in (operation.inputs, operation.outputs))
            found = op.infer(op.bind(given, declared, label=operation.label))
        for i, result in zip(operation.outputs, found):
            operands[i] = _known(operands[i], result)
    changed = any(new is not old for new, old in zip(operands, model.operands))
    return replace(model, operands=tuple(operands)) if changed else model


def _known(operand: Operand, shape: Shape) -> Operand:
    """The operand with the dimensions that `shape` knows."""
    if not operand.type.is_tensor or shape is None:
        return operand
    declared = operand.dimensions or (0,) * len(shape)
    dimensions = tuple(d or s or 0 for d, s in zip(declared, shape, strict=True))
    return operand if dimensions == operand.dimensions else replace(operand, dimensions=dimensions)


def _specialized_body(model: Model, operation: Operation, body: Model) -> tuple[Operand, list[Shape]]:
    known = specialize(body, [model.operands[i].dimensions for i in operation.inputs[:-1]])
    return replace(model.operands[operation.inputs[-1]], value=known), [o.shape for o in known.output_operands]
