"""PyTorch: NNAPI operations as ATen calls, and the ATen operators that came without an NNAPI mapping.

Eager on the CPU and on CUDA's device, where there is one; and compiled by torch.compile, for whoever names it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from nnapi.drivers.arrays import check_inputs, deliver
from nnapi.drivers.driver import (
    ACCEPT,
    LOOP_TIMEOUT,
    Deadline,
    DeviceType,
    Estimate,
    PrepareOptions,
    Reject,
    Verdict,
)  # fmt: skip
from nnapi.drivers.reference import execute
from nnapi.drivers.roofline import Roofline
from nnapi.errors import CompileError, DeviceUnavailable, ExecutionError, MissingExtra, NnapiError
from nnapi.ir.model import ATEN, COMPOSITE, Model, Operation
from nnapi.ir.subgraph import extract
from nnapi.ops.types import MAX_FEATURE_LEVEL, MODEL, Array, Operand

try:
    import torch
except ModuleNotFoundError as error:
    raise MissingExtra("device 'pytorch'", extra="torch") from error

from nnapi.drivers.aten_call import aten_call
from nnapi.drivers.aten_kernels import COMPOSITES, DTYPES, KERNELS, Run, tensor_of
from nnapi.drivers.aten_precision import CPU, EXACT, TF32
from nnapi.drivers.aten_precision import CUDA as CUDA_MULTIPLICATION
from nnapi.drivers.openmp import let_threads_go

NAME: Final = "PyTorch"
Multiply = Callable[[], AbstractContextManager[None]]
"""Precision in which floats are multiplied within."""
EAGER: Final = Roofline(macs_per_second=25e9, bytes_per_second=8e9, operation_seconds=10e-6, launch_seconds=20e-6)
COMPILED: Final = replace(EAGER, operation_seconds=2e-6)
CUDA: Final = Roofline(macs_per_second=5e12, bytes_per_second=500e9, operation_seconds=10e-6, launch_seconds=100e-6)
"""Eager calls on a data center's GPU; every array goes there and back."""


class PyTorchDriver:
    """ATen on the CPU, in eager mode."""

    name = "pytorch"
    device_type = DeviceType.CPU
    feature_level = MAX_FEATURE_LEVEL
    version = torch.__version__
    layout = "nchw"
    extensions = {ATEN.rstrip("/"): ("call",)}  # noqa: RUF012
    roofline = EAGER
    device = "cpu"
    """PyTorch's name of it."""
    compiled = False
    multiplication = CPU
    relaxed = EXACT
    """Precision in which it multiplies where less than float32 is allowed."""

    def supported(self, model: Model) -> list[Verdict]:
        return [_verdict(model, operation) for operation in model.operations]

    def estimate(self, model: Model) -> Estimate:
        return self.roofline.estimate(model)

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedPyTorch:
        multiply = partial(self.multiplication.held, self.relaxed if options.precision == "relaxed" else EXACT)
        try:
            return PreparedPyTorch(
                model, options.num_threads, device=self.device, compiled=self.compiled, multiply=multiply
            )
        except NnapiError:
            raise
        except Exception as error:  # of a device without memory, say
            raise CompileError(f"{NAME}: {type(error).__name__}: {error}") from error


class CompiledPyTorchDriver(PyTorchDriver):
    """ATen on the CPU, compiled by TorchInductor, which wants a C++ compiler and takes its time."""

    name = "pytorch_compiled"
    compiled = True
    roofline = COMPILED
    prepare_seconds = 600.0
    """How long a compilation may take."""

    def __init__(self) -> None:
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise DeviceUnavailable(f"there is no C++ compiler {compiler!r}", hint="install one, or name it in CXX")

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedPyTorch:
        """Compiled on the first run, which this makes on zeros."""
        prepared = super().prepare(model, options)
        operands = model.input_operands
        if all(operand.elements is not None for operand in operands):
            try:
                prepared.run([np.zeros(o.dimensions, o.type.dtype) for o in operands])
            except ExecutionError as error:
                raise CompileError(error.message, operation=error.operation) from error
        return prepared


class CUDAPyTorchDriver(PyTorchDriver):
    """ATen on CUDA's current device, in eager mode."""

    name = "pytorch_cuda"
    device_type = DeviceType.GPU
    roofline = CUDA
    device = "cuda"
    multiplication = CUDA_MULTIPLICATION
    relaxed = TF32
    precisions = ("fp32", "relaxed")

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise DeviceUnavailable("PyTorch finds no CUDA device", hint="install its CUDA build, and a driver")


def _verdict(model: Model, operation: Operation) -> Verdict:
    try:
        _builder(model, operation)
    except NnapiError as error:
        return Reject(f"{operation.type.rpartition('/')[2]}: {error.message}")
    return ACCEPT


def _builder(model: Model, operation: Operation, *, is_nested: bool = False) -> Run:
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
        if composite is not None:
            return composite(operands[: len(operation.inputs) - 1])
        if not is_nested:
            raise CompileError("a composite without a native form here")
        return _bodies(model, operation)[0]
    if operation.type in CONTROL and (is_nested or _has_calls(model, operation)):
        return CONTROL[operation.type](operation, *_bodies(model, operation))
    kernel = KERNELS.get(operation.type)
    if kernel is None:
        raise CompileError("has no ATen call here")
    return kernel(model.call(operation))


def _nested(model: Model, operation: Operation) -> Run:
    """The kernel of an operation of a referenced model, which has to be here: the reference, if need be."""
    try:
        return _builder(model, operation, is_nested=True)
    except NnapiError:
        if operation.is_extension:
            raise
    part, device = extract(model, [model.operations.index(operation)]), torch.get_default_device()
    alone = replace(part.model, outputs=part.model.operations[0].outputs)
    at = [operation.inputs.index(i) for i in part.inputs]

    def run(values: Sequence[Any]) -> list[Any]:
        return [tensor_of(x, device.type) for x in execute(alone, [values[k].cpu().numpy() for k in at])]

    return run


def _has_calls(model: Model, operation: Operation) -> bool:
    """Whether ATen calls are in the referenced models: others know control flow, but not these."""
    return any(
        inner.type.startswith(ATEN) or _has_calls(body, inner)
        for body in model.referenced(operation)
        for inner in body.operations
    )


def _bodies(model: Model, operation: Operation) -> list[Run]:
    """The referenced models, as functions of tensors."""
    device = torch.get_default_device()
    return [
        PreparedPyTorch(body, 1, device=device.type, is_nested=True).compute for body in model.referenced(operation)
    ]


def _if(operation: Operation, then: Run, otherwise: Run) -> Run:
    return lambda values: (then if values[0].item() else otherwise)(values[3:])


def _while(operation: Operation, condition: Run, body: Run) -> Run:
    def loop(values: Sequence[Any]) -> Any:
        deadline, carried = Deadline.after(LOOP_TIMEOUT), list(values[2:])
        while condition(carried)[0].item():
            deadline.check(operation.label)
            results = body(carried)
            carried[: len(results)] = results
        return carried[: len(operation.outputs)]

    return loop


CONTROL: Final = {"IF": _if, "WHILE": _while}


@dataclass(frozen=True)
class _Step:
    run: Run
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    dtypes: tuple[Any, ...]
    release: tuple[int, ...]
    """Operands nobody reads after this step."""
    label: str

    def into(self, values: dict[int, Any]) -> None:
        """Compute the step, its inputs from and its outputs to `values`."""
        result = self.run([values.get(i) for i in self.inputs])
        results = result if isinstance(result, (tuple, list)) else (result,)
        for o, tensor, dtype in zip(self.outputs, results, self.dtypes):
            values[o] = tensor if tensor.dtype == dtype else tensor.to(dtype)
        for i in self.release:
            values.pop(i, None)


class PreparedPyTorch:
    """A model as a list of ATen calls."""

    def __init__(
        self,
        model: Model,
        num_threads: int,
        *,
        device: str = "cpu",
        compiled: bool = False,
        is_nested: bool = False,
        multiply: Multiply = contextlib.nullcontext,
    ) -> None:
        self._model = model
        self._threads = num_threads
        self._device = device
        self._multiply = multiply
        self._constants: dict[int, Any] = {
            i: tensor_of(o.value, device)
            for i, o in enumerate(model.operands)
            if o.is_constant and not o.is_omitted and o.type != MODEL and o.type.is_tensor
        }
        keep = {*model.outputs, *model.inputs, *self._constants}
        last = {i: n for n, operation in enumerate(model.operations) for i in operation.inputs}
        with torch.device(device):
            self._steps = [
                _Step(
                    (_nested if is_nested else _builder)(model, operation),
                    operation.inputs,
                    operation.outputs,
                    tuple(_torch_type(model.operands[o]) for o in operation.outputs),
                    tuple(i for i in set(operation.inputs) if last[i] == n and i not in keep),
                    operation.label,
                )
                for n, operation in enumerate(model.operations)
            ]
        self._compute = torch.compile(self._compute_all, dynamic=False) if compiled else self._compute_in_turn

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array] | None = None) -> list[Array]:
        arrays = check_inputs(self._model.input_operands, inputs, NAME)
        try:
            with torch.inference_mode(), _threads(self._threads), self._multiply():
                tensors = self._compute([tensor_of(x, self._device) for x in arrays])
                results = [self._result(i, tensor) for i, tensor in zip(self._model.outputs, tensors)]
        except NnapiError:
            raise
        except Exception as error:  # whatever moving tensors or a compiled model raises
            raise ExecutionError(f"{NAME}: {type(error).__name__}: {error}") from error
        if self._threads > 1:
            let_threads_go()
        return deliver(results, self._model.output_operands, outputs)

    def compute(self, inputs: Sequence[Any]) -> list[Any]:
        """Tensors for tensors, as a referenced model: none comes back that was given."""
        known = {*self._model.inputs, *self._constants}
        results = zip(self._model.outputs, self._compute_in_turn(inputs))
        return [tensor.clone() if i in known else tensor for i, tensor in results]

    def _compute_in_turn(self, inputs: Sequence[Any]) -> list[Any]:
        """Outputs as tensors; an ExecutionError names the operation that fails."""
        values = self._constants | dict(zip(self._model.inputs, inputs))
        for step in self._steps:
            try:
                step.into(values)
            except NnapiError:
                raise
            except Exception as error:  # whatever ATen raises on these values
                raise ExecutionError(f"{type(error).__name__}: {error}", operation=step.label) from error
        return [values[i] for i in self._model.outputs]

    def _compute_all(self, inputs: Sequence[Any]) -> list[Any]:
        values = self._constants | dict(zip(self._model.inputs, inputs))
        for step in self._steps:
            step.into(values)
        return [values[i] for i in self._model.outputs]

    def _result(self, i: int, tensor: Any) -> Array:
        operand = self._model.operands[i]
        tensor = tensor.reshape(1) if tensor.ndim == 0 and operand.type.is_tensor else tensor
        array: Array = tensor.cpu().contiguous().numpy()
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
