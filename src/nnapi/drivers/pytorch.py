"""PyTorch on the CPU: NNAPI operations as ATen calls, and the ATen operators that came without an NNAPI mapping."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nnapi.drivers.driver import ACCEPT, DeviceType, Estimate, PrepareOptions, Reject, Verdict
from nnapi.drivers.roofline import Roofline
from nnapi.errors import CompileError, ExecutionError, MissingExtra, NnapiError
from nnapi.ir.model import ATEN, COMPOSITE, Model, Operation
from nnapi.ops.types import MAX_FEATURE_LEVEL, MODEL, Array, Operand

try:
    import torch
except ModuleNotFoundError as error:
    raise MissingExtra("device 'pytorch'", extra="torch") from error

from nnapi.drivers.aten_call import aten_call
from nnapi.drivers.aten_kernels import COMPOSITES, DTYPES, KERNELS, Run, tensor_of

_ROOFLINE = Roofline(macs_per_second=25e9, bytes_per_second=8e9, operation_seconds=10e-6, launch_seconds=20e-6)


class PyTorchDriver:
    """ATen on the CPU, in eager mode."""

    name = "pytorch"
    device_type = DeviceType.CPU
    feature_level = MAX_FEATURE_LEVEL
    version = torch.__version__
    layout = "nchw"
    extensions = {ATEN.rstrip("/"): ("call",)}  # noqa: RUF012

    def supported(self, model: Model) -> list[Verdict]:
        return [_verdict(model, operation) for operation in model.operations]

    def estimate(self, model: Model) -> Estimate:
        return _ROOFLINE.estimate(model)

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedPyTorch:
        return PreparedPyTorch(model, options.num_threads)


def _verdict(model: Model, operation: Operation) -> Verdict:
    try:
        _builder(model, operation)
    except NnapiError as error:
        return Reject(f"{operation.type.rpartition('/')[2]}: {error.message}")
    return ACCEPT


def _builder(model: Model, operation: Operation) -> Run:
    """What runs the operation; an NnapiError that says why it is not taken."""
    operands = model.operands_of((*operation.inputs, *operation.outputs))
    if operation.type.startswith(ATEN):
        return aten_call(model, operation)
    for operand in operands:
        if operand.type.is_tensor and operand.type not in DTYPES and not operand.is_omitted:
            raise CompileError(f"{operand.type.name} is not taken, only {', '.join(t.name for t in DTYPES)}")
        if operand.is_omitted:
            raise CompileError("an omitted operand is not taken")
    if model.body(operation) is not None:
        composite = COMPOSITES.get(operation.type.removeprefix(COMPOSITE))
        if composite is None:
            raise CompileError("a composite without a native form here")
        return composite(operands[: len(operation.inputs) - 1])
    kernel = KERNELS.get(operation.type)
    if kernel is None:
        raise CompileError("has no ATen call here")
    return kernel(model.call(operation))


@dataclass(frozen=True)
class _Step:
    run: Run
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    dtypes: tuple[Any, ...]
    release: tuple[int, ...]
    """Operands nobody reads after this step."""
    label: str


class PreparedPyTorch:
    """A model as a list of ATen calls."""

    def __init__(self, model: Model, num_threads: int) -> None:
        self._model = model
        self._threads = num_threads
        self._constants: dict[int, Any] = {
            i: tensor_of(o.value)
            for i, o in enumerate(model.operands)
            if o.is_constant and not o.is_omitted and o.type != MODEL and o.type.is_tensor
        }
        keep = {*model.outputs, *model.inputs, *self._constants}
        last = {i: n for n, operation in enumerate(model.operations) for i in operation.inputs}
        self._steps = [
            _Step(
                _builder(model, operation),
                operation.inputs,
                operation.outputs,
                tuple(_torch_type(model.operands[o]) for o in operation.outputs),
                tuple(i for i in set(operation.inputs) if last[i] == n and i not in keep),
                operation.label,
            )
            for n, operation in enumerate(model.operations)
        ]

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array] | None = None) -> list[Array]:
        values = dict(self._constants)
        values.update(zip(self._model.inputs, map(tensor_of, inputs)))
        with torch.inference_mode(), _threads(self._threads):
            for step in self._steps:
                try:
                    result = step.run([values.get(i) for i in step.inputs])
                except NnapiError:
                    raise
                except Exception as error:  # whatever ATen raises on these values
                    raise ExecutionError(f"{type(error).__name__}: {error}", operation=step.label) from error
                results = result if isinstance(result, (tuple, list)) else (result,)
                for o, tensor, dtype in zip(step.outputs, results, step.dtypes):
                    values[o] = tensor if tensor.dtype == dtype else tensor.to(dtype)
                for i in step.release:
                    values.pop(i, None)
            results = [self._result(i, values[i]) for i in self._model.outputs]
        if outputs is None:
            return results
        for given, array in zip(outputs, results, strict=True):
            given[...] = array
        return list(outputs)

    def _result(self, i: int, tensor: Any) -> Array:
        operand = self._model.operands[i]
        tensor = tensor.reshape(1) if tensor.ndim == 0 and operand.type.is_tensor else tensor
        array: Array = tensor.contiguous().numpy()
        return array


def _torch_type(operand: Operand) -> Any:
    dtype = DTYPES.get(operand.type)
    if dtype is not None:
        return dtype
    # An ATen call may give any type that NumPy and NNAPI both have.
    return getattr(torch, operand.type.dtype.name)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch's threads are the process's: set for the run, then put back."""
    before: int = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
