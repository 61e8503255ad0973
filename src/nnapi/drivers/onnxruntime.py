"""ONNX Runtime on the CPU: MLAS's kernels; models go there as ONNX files in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from nnapi.drivers.arrays import deliver
from nnapi.drivers.by_shape import PreparedByShape, PreparedOnce, prepare
from nnapi.drivers.driver import DeviceType, Estimate, Prepared, PrepareOptions, Reject, Verdict
from nnapi.drivers.roofline import Roofline
from nnapi.drivers.saturation import saturates
from nnapi.errors import CompileError, ExecutionError, MissingExtra
from nnapi.ir.model import Model, Operation
from nnapi.ops.types import Array, Operand

try:
    import onnxruntime
except ModuleNotFoundError as error:
    raise MissingExtra("device 'onnxruntime'", extra="onnxruntime") from error

from nnapi.exporters.onnx import check_onnx, export_onnx

NAME: Final = "ONNX Runtime"
FLOAT: Final = Roofline(60e9, 12e9, operation_seconds=2e-6, launch_seconds=8e-6)
QUANT8: Final = Roofline(150e9, 12e9, operation_seconds=2e-6, launch_seconds=8e-6)
"""MLAS on one thread of a server core with AVX-512."""
FATAL: Final = 4
PROVIDERS: Final = ("CPUExecutionProvider",)
SPINNING: Final = ("session.force_spinning_stop", "1")
"""Threads that spin between runs would slow whoever runs next."""
EXACT: Final = ("session.x64quantprecision", "1")
"""Sums of two 8-bit products must not saturate at 16 bits."""


class ONNXRuntimeDriver:
    """ONNX Runtime's kernels, on the CPU."""

    name = "onnxruntime"
    device_type = DeviceType.CPU
    feature_level = 8
    version = onnxruntime.__version__
    layout = "nchw"

    def supported(self, model: Model) -> list[Verdict]:
        verdicts = check_onnx(model, shapes_follow=True)
        return [_refusal(o) or verdict for o, verdict in zip(model.operations, verdicts)]

    def estimate(self, model: Model) -> Estimate:
        """A roofline on one thread."""
        quantized = any(model.operands[i].type.is_quantized for o in model.operations for i in o.outputs)
        return (QUANT8 if quantized else FLOAT).estimate(model)

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedOnce | PreparedByShape:
        """The CPU's kernels have no 16-bit floats, so `relaxed` runs in float32, which NNAPI allows."""

        def build(known: Model) -> _Session:
            return _Session(export_onnx(known), known.output_operands, options.num_threads, known)

        return prepare(model, build, name=NAME, open=True)

    def artifact(self, prepared: Prepared) -> bytes | None:
        """The .onnx file of a model that is in one session."""
        engine = prepared.engine if isinstance(prepared, PreparedOnce) else None
        return export_onnx(engine.model) if isinstance(engine, _Session) and engine.model is not None else None

    def restore(
        self, artifact: bytes, inputs: Sequence[Operand], outputs: Sequence[Operand], options: PrepareOptions
    ) -> PreparedOnce:
        return PreparedOnce(_Session(artifact, outputs, options.num_threads), inputs, NAME)


def _refusal(operation: Operation) -> Reject | None:
    """Why the engine does not take what ONNX can express; None where it does."""
    if operation.type == "WHILE":
        return Reject(f"WHILE: {NAME} stops a whole run, not one loop, when its time is over")
    return None


class _Session:
    """One inference session; executions may overlap. `model` is what it was made of."""

    def __init__(
        self, content: bytes, operands: Sequence[Operand], num_threads: int, model: Model | None = None
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = FATAL
        options.add_session_config_entry(*SPINNING)
        if saturates():
            options.add_session_config_entry(*EXACT)
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=list(PROVIDERS))
        except Exception as error:  # its own classes, of Exception
            raise CompileError(f"{NAME}: {_first_line(error)}", hint="save its .onnx file and report it") from error
        self.model = model
        self._operands = operands
        self._inputs = [x.name for x in self._session.get_inputs()]
        self._outputs = [y.name for y in self._session.get_outputs()]
        self._options = onnxruntime.RunOptions()
        self._options.log_severity_level = FATAL

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array] | None) -> list[Array]:
        try:
            feeds = dict(zip(self._inputs, inputs, strict=True))
            results: list[Any] = self._session.run(self._outputs, feeds, self._options)
        except Exception as error:
            raise ExecutionError(f"{NAME}: {_first_line(error)}") from error
        return deliver(results, self._operands, outputs)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
