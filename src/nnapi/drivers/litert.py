"""LiteRT on the CPU: TFLite's kernels with the XNNPACK delegate; models go there as flatbuffers in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from ai_edge_litert.interpreter import Interpreter

from nnapi.drivers.arrays import are_stored, check_inputs, deliver
from nnapi.drivers.driver import DeviceType, Estimate, Prepared, PrepareOptions, Verdict
from nnapi.drivers.quiet import quiet
from nnapi.drivers.roofline import Roofline
from nnapi.errors import CompileError, ExecutionError, NnapiError
from nnapi.exporters.tflite import check_tflite, export_tflite
from nnapi.ir.model import Model
from nnapi.ir.specialize import specialize
from nnapi.ops.types import Array, Dimensions, Operand

NAME: Final = "LiteRT"
FLOAT: Final = Roofline(60e9, 12e9, operation_seconds=1.5e-6, launch_seconds=10e-6)
QUANT8: Final = Roofline(120e9, 12e9, operation_seconds=1.5e-6, launch_seconds=10e-6)
"""XNNPACK on one thread of a server core with AVX-512."""
MAX_SHAPES: Final = 4
"""How many interpreters a model of unknown dimensions keeps: each has the weights packed for itself."""

NOISE: Final = (b"INFO: ", b"WARNING: ", b"VERBOSE: ")


class LiteRTDriver:
    """TFLite's kernels with XNNPACK, on the CPU."""

    name = "litert"
    device_type = DeviceType.CPU
    feature_level = 7
    version = version("ai-edge-litert")
    layout = "nhwc"

    def supported(self, model: Model) -> list[Verdict]:
        return check_tflite(model, shapes_follow=True)

    def estimate(self, model: Model) -> Estimate:
        """A roofline on one thread."""
        quantized = any(model.operands[i].type.is_quantized for o in model.operations for i in o.outputs)
        return (QUANT8 if quantized else FLOAT).estimate(model)

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedLiteRT:
        """The interpreter offers no 16-bit floats, so `relaxed` runs in float32, which NNAPI allows."""
        return PreparedLiteRT(model, options.num_threads)

    def artifact(self, prepared: Prepared) -> bytes | None:
        """The .tflite file that was made of a model whose dimensions are all known."""
        return prepared.content if isinstance(prepared, PreparedLiteRT) else None

    def restore(
        self, artifact: bytes, inputs: Sequence[Operand], outputs: Sequence[Operand], options: PrepareOptions
    ) -> RestoredLiteRT:
        return RestoredLiteRT(_Engine(inputs, outputs, artifact, options.num_threads), inputs)


class PreparedLiteRT:
    """A model in an interpreter, one for each choice of unknown dimensions; one execution at a time, others wait."""

    checks_inputs = True

    def __init__(self, model: Model, num_threads: int) -> None:
        self._model = model
        self._num_threads = num_threads
        self._operands = model.input_operands
        self._lock = threading.Lock()
        self._engines: OrderedDict[tuple[Dimensions, ...], _Engine] = OrderedDict()
        self._engine: _Engine | None = None
        if all(operand.elements is not None for operand in self._operands):
            self._engine = self._engine_for(tuple(operand.dimensions for operand in self._operands))

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        with self._lock:
            results = None if self._engine is None else self._engine.run(inputs, outputs)
            if results is None:
                arrays = check_inputs(self._operands, inputs, NAME)
                try:
                    self._engine = self._engine_for(tuple(array.shape for array in arrays))
                except CompileError as error:  # the model as such was accepted: it is these shapes
                    raise ExecutionError(error.message, operation=error.operation) from error
                results = self._engine.run_checked(arrays, outputs)
            return results

    def _engine_for(self, shapes: tuple[Dimensions, ...]) -> _Engine:
        if shapes not in self._engines:
            try:
                model = specialize(self._model, shapes)
                content = export_tflite(model)
            except NnapiError as error:
                raise CompileError(error.message, operation=error.operation, hint=error.hint) from error
            self._engines[shapes] = _Engine(model.input_operands, model.output_operands, content, self._num_threads)
            if len(self._engines) > MAX_SHAPES:
                self._engines.popitem(last=False)
        self._engines.move_to_end(shapes)
        return self._engines[shapes]

    @property
    def content(self) -> bytes | None:
        """The .tflite file, where there is but one."""
        known = all(operand.elements is not None for operand in self._operands)
        return self._engine.content if known and self._engine is not None else None


class RestoredLiteRT:
    """A model from the .tflite file that a `PreparedLiteRT` had; one execution at a time, others wait."""

    checks_inputs = True

    def __init__(self, engine: _Engine, inputs: Sequence[Operand]) -> None:
        self._engine = engine
        self._operands = tuple(inputs)
        self._lock = threading.Lock()

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        with self._lock:
            results = self._engine.run(inputs, outputs)
            if results is None:
                results = self._engine.run_checked(check_inputs(self._operands, inputs, NAME), outputs)
            return results


class _Engine:
    """One interpreter, its shapes fixed; `content` is its .tflite file."""

    def __init__(self, inputs: Sequence[Operand], outputs: Sequence[Operand], content: bytes, num_threads: int) -> None:
        self.content = content
        try:
            with quiet(NOISE):
                self._interpreter = Interpreter(model_content=content, num_threads=num_threads)
                self._interpreter.allocate_tensors()
        except Exception as error:  # RuntimeError and ValueError, MemoryError where there is none
            raise CompileError(f"{NAME}: {_first_line(error)}", hint="save its .tflite file and report it") from error
        self._operands = tuple(inputs)
        self._inputs = [int(d["index"]) for d in self._interpreter.get_input_details()]
        self._outputs = [int(d["index"]) for d in self._interpreter.get_output_details()]
        self._results = tuple(outputs)
        self._views = [self._interpreter.tensor(index) for index in self._outputs]

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None) -> list[Array] | None:
        """One array per output; None for inputs that are not what the tensors take, as they are."""
        interpreter = self._interpreter
        if not are_stored(self._operands, inputs):
            return None
        try:
            try:
                for index, array in zip(self._inputs, inputs, strict=True):
                    interpreter.set_tensor(index, array)
            except ValueError:  # another number, type or shape; which one it is, `check_inputs` says better
                return None
            interpreter.invoke()
            if outputs is None:
                return [interpreter.get_tensor(index) for index in self._outputs]
            # A view that outlived this line would keep the interpreter from running again.
            return deliver([view() for view in self._views], self._results, outputs)
        except NnapiError:
            raise
        except Exception as error:
            raise ExecutionError(f"{NAME}: {_first_line(error)}") from error

    def run_checked(self, inputs: Sequence[Array], outputs: Sequence[Array] | None) -> list[Array]:
        """One array per output, for inputs that the model takes."""
        results = self.run(inputs, outputs)
        if results is None:
            given = ", ".join(f"{x.dtype} {x.shape}" for x in inputs)
            raise ExecutionError(f"{NAME} takes no inputs {given}", hint="save its .tflite file and report it")
        return results


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
