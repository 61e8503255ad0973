"""The reference device: NumPy kernels from the operation table, one operation after the other. Slow and right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nnapi.drivers.arrays import check_input, deliver
from nnapi.drivers.driver import (
    ACCEPT,
    LOOP_TIMEOUT,
    NO_DEADLINE,
    Deadline,
    DeviceType,
    Estimate,
    Layout,
    PrepareOptions,
    Reject,
    Verdict,
)  # fmt: skip
from nnapi.drivers.roofline import Roofline
from nnapi.errors import ExecutionError, ModelError
from nnapi.ir.model import Model, Operation
from nnapi.ir.verify import compatible
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import MAX_FEATURE_LEVEL, OMITTED, Array, Operand

MAX_BYTES: Final = 2**30
"""The largest tensor that the reference makes: a mistaken size must not take the machine down."""


@dataclass(frozen=True, slots=True)
class Context:
    """What kernels of IF and WHILE need: how to run a referenced model, and when to stop."""

    deadline: Deadline = NO_DEADLINE
    loop_timeout: float = LOOP_TIMEOUT

    def run(self, model: Model, inputs: Sequence[Array]) -> list[Array]:
        """The outputs of a referenced model."""
        return run_model(model, inputs, self)

    def loop_deadline(self) -> Deadline:
        """When a loop that starts now must have ended."""
        return Deadline.after(self.loop_timeout)


def execute(
    model: Model, inputs: Sequence[Array | None], *, deadline: float | None = None, loop_timeout: float = LOOP_TIMEOUT
) -> list[Array]:
    """Run `model` on the reference kernels: one array per output.

    `deadline` and `loop_timeout` are seconds. Raises ExecutionError for inputs the model does not take and values it
    cannot work with, MissedDeadline when time is over.
    """
    return run_model(model, inputs, Context(Deadline.after(deadline), loop_timeout))


def run_model(model: Model, inputs: Sequence[Array | None], context: Context) -> list[Array]:
    """`execute` within a context; an input of None is an omitted optional one."""
    if len(inputs) != len(model.inputs):
        raise ExecutionError(f"{len(inputs)} inputs given, {model.name or 'the model'} takes {len(model.inputs)}")
    values: dict[int, Operand] = {}
    for i, array in zip(model.inputs, inputs):
        array = check_input(model.operands[i], array)
        values[i] = model.operands[i].with_value(OMITTED if array is None else array)
    last_use = {i: n for n, operation in enumerate(model.operations) for i in operation.inputs}
    keep = set(model.outputs)
    for n, operation in enumerate(model.operations):
        context.deadline.check(operation.label)
        for i, array in zip(operation.outputs, _run_operation(model, operation, values, context)):
            values[i] = model.operands[i].with_value(array)
        for i in operation.inputs:
            if last_use[i] == n and i not in keep:
                values.pop(i, None)
    return [values[i].value for i in model.outputs]


def _run_operation(model: Model, operation: Operation, values: dict[int, Operand], context: Context) -> Sequence[Array]:
    inputs = [values.get(i, model.operands[i]) for i in operation.inputs]
    body = model.body(operation)
    if body is not None:
        return run_model(body, [o.value for o in inputs[:-1]], context)
    op = OPERATIONS.get(operation.type)
    if op is None:
        raise ExecutionError("the reference has no such operation", operation=operation.label)
    declared = model.operands_of(operation.outputs)
    try:
        call = op.bind(inputs, declared, label=operation.label, context=context)
        shapes = op.infer(call)
        for operand, shape in zip(declared, shapes):
            bytes = math.prod(d or 0 for d in shape or ()) * operand.type.dtype.itemsize
            call.require(bytes <= MAX_BYTES, f"output of shape {shape} takes {bytes} bytes, limit {MAX_BYTES}")
        with np.errstate(all="ignore"):
            arrays = op.reference(call)
    except ModelError as error:
        raise ExecutionError(error.message, operation=error.operation, hint=error.hint) from error
    except (ArithmeticError, LookupError, TypeError, ValueError, MemoryError) as error:
        raise ExecutionError(f"cannot compute on these values: {error}", operation=operation.label) from error
    for operand, shape, array in zip(declared, shapes, arrays, strict=True):
        if operand.type.is_tensor and not compatible(operand.dimensions, array.shape):
            raise ExecutionError(
                f"output has shape {array.shape}, the model declares {operand.dimensions}", operation=operation.label
            )
        if shape is not None and not compatible(tuple(d or 0 for d in shape), array.shape):
            raise ExecutionError(f"kernel gave {array.shape}, inference {shape}", operation=operation.label)
    return arrays


_ROOFLINE = Roofline(macs_per_second=5e9, bytes_per_second=2e9, operation_seconds=50e-6, launch_seconds=50e-6)


class ReferenceDriver:
    """NumPy kernels from the operation table."""

    name = "reference"
    device_type = DeviceType.CPU
    feature_level = MAX_FEATURE_LEVEL
    version = np.__version__
    layout: Layout | None = None

    def supported(self, model: Model) -> list[Verdict]:
        return [self._verdict(model, operation) for operation in model.operations]

    def _verdict(self, model: Model, operation: Operation) -> Verdict:
        if operation.type not in OPERATIONS and model.body(operation) is None:
            return Reject(f"{operation.type}: an extension, the reference knows NNAPI's operations only")
        for body in model.referenced(operation):
            for inner in body.operations:
                verdict = self._verdict(body, inner)
                if isinstance(verdict, Reject):
                    return Reject(
                        f"{operation.type.rpartition('/')[2]}: in {body.name or 'its model'}: {verdict.reason}"
                    )
        return ACCEPT

    def estimate(self, model: Model) -> Estimate:
        """NumPy reaches about 5 G multiply-accumulates a second; every operation costs 50 us."""
        return _ROOFLINE.estimate(model)

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedReference:
        return PreparedReference(model, options.loop_timeout)


@dataclass(frozen=True, slots=True)
class PreparedReference:
    """A model on the reference kernels."""

    model: Model
    loop_timeout: float = LOOP_TIMEOUT

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        return self.run_until(inputs, outputs, NO_DEADLINE, self.loop_timeout)

    def run_until(
        self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None, deadline: Deadline, loop_timeout: float
    ) -> list[Array]:
        """`run` that stops when its time is over."""
        results = run_model(self.model, inputs, Context(deadline, loop_timeout))
        return deliver(results, self.model.output_operands, outputs)
