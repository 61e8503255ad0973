"""How much work a model is: multiply-accumulates and bytes moved."""

from __future__ import annotations

from nnapi.ir.model import Model


def macs(model: Model) -> int:
    """Multiply-accumulates of one run, composites through their decompositions; unknown shapes count nothing."""
    total = 0
    for operation in model.operations:
        body = model.body(operation)
        if body is not None:
            total += macs(body)
        elif not operation.is_extension and all(
            i.is_constant or i.elements is not None for i in model.operands_of(operation.inputs)
        ):
            call = model.call(operation)
            total += call.op.macs(call)
    return total


def traffic(model: Model) -> int:
    """Bytes that the operations of one run read and write; unknown shapes count nothing."""
    return sum(
        model.operands[i].bytes or 0
        for operation in model.operations
        for i in (*operation.inputs, *operation.outputs)
        if model.operands[i].type.is_tensor
    )
