"""OpenVINO on the CPU: oneDNN's kernels; models go there as ONNX files in memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, Self

import numpy as np

from nnapi.drivers.arrays import deliver
from nnapi.drivers.by_shape import PreparedByShape, PreparedOnce, prepare
from nnapi.drivers.driver import ACCEPT, DeviceType, Estimate, Prepared, PrepareOptions, Reject, Verdict
from nnapi.drivers.openvino_limits import NAME, limit
from nnapi.drivers.roofline import Roofline
from nnapi.drivers.saturation import saturates
from nnapi.errors import CompileError, ExecutionError, MissingExtra, NnapiError
from nnapi.ir.model import COMPOSITE, Model, Operation
from nnapi.ir.names import names_of
from nnapi.ops.types import Q8PC, Q8S, Array, Operand

try:
    import openvino
except ModuleNotFoundError as error:
    raise MissingExtra("device 'openvino'", extra="openvino") from error

from nnapi.exporters.onnx import check_onnx, export_onnx

FLOAT: Final = Roofline(65e9, 12e9, operation_seconds=1e-6, launch_seconds=30e-6)
QUANT8: Final = Roofline(200e9, 12e9, operation_seconds=1e-6, launch_seconds=30e-6)
"""oneDNN on one thread of a server core with AVX-512."""
DEVICE: Final = "CPU"
CONFIG: Final = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
HALVES: Final = (("FP16", "f16"), ("BF16", "bf16"))
"""16-bit floats that a CPU may have, and how they are asked for; the more precise first."""
SMALL: Final = 1 << 15
"""Bytes of a tensor that is copied sooner than handed over."""
ATTENTION: Final = ("BATCH_MATMUL", COMPOSITE + "SCALED_DOT_PRODUCT_ATTENTION")


class OpenVINODriver:
    """OpenVINO's kernels, on the CPU."""

    name = "openvino"
    device_type = DeviceType.CPU
    feature_level = 8
    version = version("openvino")
    layout = "nchw"

    def __init__(self) -> None:
        self._core = openvino.Core()
        capabilities = self._core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        self._half = next((hint for name, hint in HALVES if name in capabilities), "f32")
        self.precisions = ("fp32", "relaxed") if self._half != "f32" else ("fp32",)

    def supported(self, model: Model) -> list[Verdict]:
        verdicts = check_onnx(model, shapes_follow=True)
        return [v if isinstance(v, Reject) else _verdict(model, o) for o, v in zip(model.operations, verdicts)]

    def estimate(self, model: Model) -> Estimate:
        """A roofline on one thread."""
        quantized = any(model.operands[i].type.is_quantized for o in model.operations for i in o.outputs)
        return (QUANT8 if quantized else FLOAT).estimate(model)

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedOnce | PreparedByShape:
        """`relaxed` runs in the 16-bit floats that the CPU has, if any."""

        def build(known: Model) -> _Request:
            for operation in known.operations:  # what could not be told before the shapes were known
                reason = limit(known, operation)
                if reason is not None:
                    raise CompileError(reason, operation=operation.label)
            content, config = export_onnx(known), {**self._config(options), **_workarounds(known)}
            try:
                compiled = self._core.compile_model(self._core.read_model(content), DEVICE, config)
                return _Request(compiled, known.input_operands, known.output_operands)
            except Exception as error:  # its own classes, RuntimeError among them
                raise CompileError(f"{NAME}: {_reason(error)}", hint="save its .onnx file and report it") from error

        return prepare(model, build, name=NAME)

    def artifact(self, prepared: Prepared) -> bytes | None:
        """The compiled model, where there is but one."""
        engine = prepared.engine if isinstance(prepared, PreparedOnce) else None
        return engine.compiled.export_model().getvalue() if isinstance(engine, _Request) else None

    def restore(
        self, artifact: bytes, inputs: Sequence[Operand], outputs: Sequence[Operand], options: PrepareOptions
    ) -> PreparedOnce:
        try:
            compiled = self._core.import_model(artifact, DEVICE, self._config(options))
            return PreparedOnce(_Request(compiled, inputs, outputs), inputs, NAME)
        except Exception as error:
            raise CompileError(f"{NAME}: {_reason(error)}") from error

    def _config(self, options: PrepareOptions) -> dict[str, Any]:
        half = {"INFERENCE_PRECISION_HINT": self._half} if options.precision == "relaxed" else {}
        # One thread is the caller's own; more are a pool of each compiled model, which has one for its callbacks too.
        streams = {"NUM_STREAMS": 0} if options.num_threads == 1 else {}
        return {**CONFIG, **half, **streams, "INFERENCE_NUM_THREADS": options.num_threads}


def _verdict(model: Model, operation: Operation) -> Verdict:
    reason = limit(model, operation)
    return ACCEPT if reason is None else Reject(f"{operation.type}: {reason}")


def _workarounds(model: Model) -> dict[str, Any]:
    """Settings that keep results right."""
    return _attention(model) | _integers(model)


def _integers(model: Model) -> dict[str, Any]:
    """In floats what would saturate: kernels for processors without VNNI sum two products of 8 bits in 16."""
    types = {model.operands[i].type for o in model.operations for i in o.inputs}
    return {"LP_TRANSFORMS_MODE": "NO"} if saturates() and {Q8S, Q8PC} & types else {}


def _attention(model: Model) -> dict[str, Any]:
    """Fused attention takes heads for tokens where there are as many of one as of the other."""
    matrices = [model.operands[i] for o in model.operations if o.type in ATTENTION for i in o.outputs]
    mistaken = any(len(m.dimensions) == 4 and m.dimensions[1] == m.dimensions[2] for m in matrices)
    return {"SNIPPETS_MODE": "DISABLE"} if mistaken else {}


@dataclass(frozen=True)
class _Port:
    """An input or output of a request: its number there and in the model, and the request's own small tensor."""

    number: int
    index: int
    own: Array | None

    @classmethod
    def of(cls, number: int, index: int, tensor: Any, fixed: bool = True) -> Self:
        """A large tensor, or one whose shape is not `fixed`, is not its own."""
        return cls(number, index, tensor.data if fixed and tensor.byte_size <= SMALL else None)


class _Request:
    """A compiled model and its one request; one execution at a time, others wait.

    Small tensors are copied to and from the request's own, large ones are handed over where they lie.
    """

    def __init__(self, compiled: Any, inputs: Sequence[Operand], outputs: Sequence[Operand]) -> None:
        self.compiled = compiled
        self._request = request = compiled.create_infer_request()
        self._lock = threading.Lock()
        self._count = len(inputs)
        self._operands = outputs
        # What nobody reads is no input any more, and a port may have further names.
        places = {name: i for i, name in enumerate(names_of(inputs, "input"))}
        read = [next(places[name] for name in port.names if name in places) for port in compiled.inputs]
        self._entries = [_Port.of(k, i, request.get_input_tensor(k)) for k, i in enumerate(read)]
        # A shape may depend on values here where NNAPI's inference knows it.
        fixed = [port.partial_shape.is_static for port in compiled.outputs]
        self._exits = [_Port.of(k, k, request.get_output_tensor(k), f) for k, f in enumerate(fixed)]
        self._shapes = {k: tuple(compiled.outputs[k].shape) for k, is_fixed in enumerate(fixed) if is_fixed}
        self._large = [port for port, f in zip(self._exits, fixed) if f and port.own is None]

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array] | None) -> list[Array]:
        if len(inputs) != self._count:
            raise ExecutionError(f"{len(inputs)} inputs given, the model takes {self._count}")
        with self._lock:
            try:
                held = [self._enter(port, inputs[port.index]) for port in self._entries]
                made = {port.index: self._expect(port) for port in self._large}
                self._request.infer(share_outputs=True)
                del held  # a tensor does not keep its memory alive
                results = [made[p.index] if p.index in made else self._leave(p) for p in self._exits]
            except NnapiError:
                raise
            except Exception as error:
                raise ExecutionError(f"{NAME}: {_reason(error)}") from error
        return deliver(results, self._operands, outputs)

    def _enter(self, port: _Port, array: Array) -> Array | None:
        """Give an input; what comes back must live until the model has run."""
        own = port.own
        if own is not None:
            if not isinstance(array, np.ndarray) or array.shape != own.shape or array.dtype != own.dtype:
                raise ExecutionError(f"an input is no array of {own.dtype} {own.shape}")
            np.copyto(own, array)
            return None
        if not (array.flags.c_contiguous and array.flags.writeable):
            array = np.array(array, order="C")
        self._request.set_input_tensor(port.number, openvino.Tensor(array, shared_memory=True))
        return array

    def _expect(self, port: _Port) -> Array:
        """An array for an output to be written to; the engine may know dimensions that the model leaves open."""
        array = np.empty(self._shapes[port.index], self._operands[port.index].type.dtype)
        self._request.set_output_tensor(port.number, openvino.Tensor(array, shared_memory=True))
        return array

    def _leave(self, port: _Port) -> Array:
        """An output as an array of the caller's."""
        array: Array = self._request.get_output_tensor(port.number).data if port.own is None else port.own
        return array.copy()


def _reason(error: Exception) -> str:
    """What it says after the places in its own source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("Exception from ")]
    return " ".join(said or lines or [type(error).__name__])[:400]
