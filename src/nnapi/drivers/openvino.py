"""OpenVINO on the CPU: oneDNN's kernels; models go there as ONNX files in memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

import numpy as np

from nnapi.drivers.by_shape import PreparedByShape, PreparedOnce, check_output, prepare
from nnapi.drivers.driver import DeviceType, Estimate, Prepared, PrepareOptions, Reject, Verdict
from nnapi.drivers.roofline import Roofline
from nnapi.errors import CompileError, ExecutionError, MissingExtra
from nnapi.ir.model import COMPOSITE, Model, Operation
from nnapi.ops.types import Array, Operand

try:
    import openvino
except ModuleNotFoundError as error:
    raise MissingExtra("device 'openvino'", extra="openvino") from error

from nnapi.exporters.onnx import check_onnx, export_onnx, input_names

NAME: Final = "OpenVINO"
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
GROUPED: Final = ("DEPTHWISE_CONV_2D", "GROUPED_CONV_2D")


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
        return [_refusal(model, o) or verdict for o, verdict in zip(model.operations, verdicts)]

    def estimate(self, model: Model) -> Estimate:
        """A roofline on one thread."""
        quantized = any(model.operands[i].type.is_quantized for o in model.operations for i in o.outputs)
        return (QUANT8 if quantized else FLOAT).estimate(model)

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedOnce | PreparedByShape:
        """`relaxed` runs in the 16-bit floats that the CPU has, if any."""

        def build(known: Model) -> _Request:
            content, config = export_onnx(known), self._config(options) | _workarounds(known)
            try:
                compiled = self._core.compile_model(self._core.read_model(content), DEVICE, config)
                return _Request(compiled, known.input_operands, known.output_operands)
            except Exception as error:  # its own classes, RuntimeError among them
                raise CompileError(f"{NAME}: {_reason(error)}", hint="save its .onnx file and report it") from error

        return prepare(model, build, name=NAME)

    def artifact(self, prepared: Prepared) -> bytes | None:
        """The compiled model, where there is but one."""
        engine = prepared.engine if isinstance(prepared, PreparedOnce) else None
        return bytes(engine.compiled.export_model()) if isinstance(engine, _Request) else None

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
        return {**CONFIG, **half, "INFERENCE_NUM_THREADS": options.num_threads}


def _refusal(model: Model, operation: Operation) -> Reject | None:
    """Why the engine does not take what ONNX can express; None where it does."""
    if operation.type == "WHILE":
        return Reject(f"WHILE: {NAME} cannot stop a loop when its time is over")
    tensors = [o for o in model.operands_of(operation.inputs) if o.type.is_tensor]
    if not tensors or not tensors[0].type.is_quantized:
        return None
    if tensors[0].is_constant:
        return Reject(f"{operation.type}: its data is a quantized constant, which {NAME} folds wrongly")
    if operation.type in GROUPED and tensors[0].scale == 1.0:
        return Reject(f"{operation.type}: its input has scale 1, on which {NAME}'s 8-bit passes crash")
    if operation.type == "BATCH_MATMUL" and tensors[1].is_constant:
        return Reject(f"BATCH_MATMUL: input1 is a quantized constant, which {NAME} takes for compressed weights")
    return None


def _workarounds(model: Model) -> dict[str, Any]:
    """Fused attention takes heads for tokens where there are as many of one as of the other."""
    matrices = [model.operands[i] for o in model.operations if o.type in ATTENTION for i in o.outputs]
    mistaken = any(len(m.dimensions) == 4 and m.dimensions[1] == m.dimensions[2] for m in matrices)
    return {"SNIPPETS_MODE": "DISABLE"} if mistaken else {}


class _Request:
    """A compiled model and its one request; one execution at a time, others wait.

    Small tensors are copied to and from the request's own, large ones are handed over where they lie.
    """

    def __init__(self, compiled: Any, inputs: Sequence[Operand], outputs: Sequence[Operand]) -> None:
        self.compiled = compiled
        self._request = request = compiled.create_infer_request()
        self._lock = threading.Lock()
        # What nobody reads is no input any more, and a port may have further names.
        places = {name: i for i, name in enumerate(input_names(inputs))}
        used = [next(places[name] for name in port.names if name in places) for port in compiled.inputs]
        self._count = len(inputs)
        self._entries = [(k, i, _own(request.get_input_tensor(k))) for k, i in enumerate(used)]
        # A shape may depend on values here that NNAPI's inference knows.
        known = [port.partial_shape.is_static for port in compiled.outputs]
        self._exits = [
            (k, operand, known[k], _own(request.get_output_tensor(k)) if known[k] else None)
            for k, operand in enumerate(outputs)
        ]

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array] | None) -> list[Array]:
        if len(inputs) != self._count:
            raise ExecutionError(f"{len(inputs)} inputs given, the model takes {self._count}")
        with self._lock:
            try:
                held = [self._enter(k, inputs[i], own) for k, i, own in self._entries]
                expected = [
                    self._expect(k, operand) if known and own is None else None
                    for k, operand, known, own in self._exits
                ]
                self._request.infer(share_outputs=True)
                del held  # tensors do not keep their memory alive
                results = [self._leave(k, array, own) for array, (k, _, _, own) in zip(expected, self._exits)]
            except Exception as error:
                raise ExecutionError(f"{NAME}: {_reason(error)}") from error
        if outputs is None:
            return results
        for given, result, (_, operand, _, _) in zip(outputs, results, self._exits, strict=True):
            check_output(given, operand, result.shape)
            given[...] = result
        return list(outputs)

    def _enter(self, k: int, array: Array, own: Array | None) -> Array | None:
        """Give input `k`; what comes back must live until the model has run."""
        if own is not None and array.shape == own.shape and array.dtype == own.dtype:
            np.copyto(own, array)
            return None
        if not (array.flags.c_contiguous and array.flags.writeable):
            array = np.array(array, order="C")
        self._request.set_input_tensor(k, openvino.Tensor(array, shared_memory=True))
        return array

    def _expect(self, k: int, operand: Operand) -> Array:
        """Where output `k` is to be written."""
        array = np.empty(operand.dimensions, operand.type.dtype)
        self._request.set_output_tensor(k, openvino.Tensor(array, shared_memory=True))
        return array

    def _leave(self, k: int, result: Array | None, own: Array | None) -> Array:
        """Output `k` as an array of the caller's."""
        if result is not None:
            return result
        array: Array = self._request.get_output_tensor(k).data if own is None else own
        return array.copy()


def _own(tensor: Any) -> Array | None:
    """The request's own memory for a small tensor; None for a large one."""
    return tensor.data if tensor.byte_size <= SMALL else None


def _reason(error: Exception) -> str:
    """What it says after the places in its own source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("Exception from ")]
    return " ".join(said or lines or [type(error).__name__])[:400]
