"""ncnn on the CPU: Winograd's convolutions in packed layouts; models go there as its pair of files."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from nnapi.drivers.arrays import deliver
from nnapi.drivers.by_shape import PreparedByShape, PreparedOnce, prepare
from nnapi.drivers.driver import DeviceType, Estimate, PrepareOptions, Verdict
from nnapi.drivers.openmp import rest_before_forks
from nnapi.drivers.quiet import quiet
from nnapi.drivers.roofline import Roofline
from nnapi.errors import CompileError, ExecutionError, MissingExtra
from nnapi.exporters.ncnn import check_ncnn, export_ncnn
from nnapi.exporters.ncnn.writer import Net
from nnapi.ir.model import Model
from nnapi.ops.types import Array

SPINS: Final = ("GOMP_SPINCOUNT", "3000")
"""How often ncnn's own OpenMP, which reads this when it is loaded, looks for work before a thread sleeps: some tens of
microseconds. Left alone they spin for milliseconds, and a run takes a hundred times as long beside a busy process."""

_told = os.environ.get(SPINS[0])
os.environ.setdefault(*SPINS)
try:
    import ncnn
except ModuleNotFoundError as error:
    raise MissingExtra("device 'ncnn'", extra="ncnn") from error
finally:
    if _told is None:
        del os.environ[SPINS[0]]

rest_before_forks(ncnn.ncnn.__file__)

NAME: Final = "ncnn"
HINT: Final = "save its files and report it"
FLOAT: Final = Roofline(55e9, 12e9, operation_seconds=2e-6, launch_seconds=12e-6)
"""On one thread, without what Winograd's convolutions save: that depends on shapes, and is measured."""
HALVES: Final = ("use_fp16_storage", "use_fp16_packed", "use_fp16_arithmetic", "use_bf16_storage", "use_bf16_packed")
"""Options that store or compute in 16 bits."""
NOISE: Final = (
    b"parse ", b"param ", b"invalid ", b"layer ", b"ParamDict ", b"find_blob_index_by_name ", b"ModelBin ", b"network ",
    b"too many ",
)  # fmt: skip
"""How what it says of files that it refuses begins."""
READING: Final = [["Convolution"], ["ConvolutionDepthWise"], ["Deconvolution"], ["InnerProduct"], ["Pooling"], ["Gemm"]]
"""Who an input may be given to as it lies: others write over it, or pass it on to those who do."""


class NCNNDriver:
    """ncnn's layers, on the CPU."""

    name = NAME
    device_type = DeviceType.CPU
    feature_level = 8
    version = ncnn.__version__
    layout = "nchw"
    precisions = ("fp32", "relaxed")

    def supported(self, model: Model) -> list[Verdict]:
        return check_ncnn(model)

    def estimate(self, model: Model) -> Estimate:
        """A roofline on one thread."""
        return FLOAT.estimate(model)

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedOnce | PreparedByShape:
        """`relaxed` keeps weights and blobs in 16 bits where the processor can widen them."""

        def build(known: Model) -> _Engine:
            return _Engine(known, options.num_threads, halves=options.precision == "relaxed")

        return prepare(model, build, name=NAME)


class _Engine:
    """One net; executions may overlap."""

    def __init__(self, model: Model, num_threads: int, *, halves: bool) -> None:
        files = export_ncnn(model)
        self._net = ncnn.Net()
        option = self._net.opt
        option.num_threads = num_threads
        option.use_vulkan_compute = False
        for name in HALVES:
            setattr(option, name, halves and "fp16" in name)
        try:
            self._load(files)
        except OSError as error:
            raise CompileError(f"{NAME}'s files cannot be written: {error.strerror or error}") from error
        self._inputs = [
            (o.type.dtype, o.dimensions, b.shape, files.readers(b) in READING and _is_dense(b.shape))
            for o, b in zip(model.input_operands, files.inputs)
        ]
        self._results = model.output_operands
        self._entries = _numbers(self._net.input_names(), self._net.input_indexes(), "in", len(self._inputs))
        self._exits = _numbers(self._net.output_names(), self._net.output_indexes(), "out", len(self._results))

    def _load(self, files: Net) -> None:
        text = (files.text().encode(),)
        for kind, load, parts in (
            ("param", self._net.load_param, text),
            ("bin", self._net.load_model, files.weights()),
        ):
            # A file in memory: one in a folder would stay where the engine ends the process.
            with os.fdopen(os.memfd_create(f"nnapi.{kind}"), "wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                with quiet(NOISE):
                    status = load(f"/proc/self/fd/{file.fileno()}")
            if status != 0:
                raise CompileError(f"{NAME} refuses the .{kind} file", hint=HINT)

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array] | None) -> list[Array]:
        extractor = self._net.create_extractor()
        lent: list[Array] = []  # the engine has no hold on what it is lent
        if len(inputs) != len(self._inputs):
            raise ExecutionError(f"{len(inputs)} inputs given, the model takes {len(self._inputs)}")
        for index, x, (dtype, dimensions, shape, is_lent) in zip(self._entries, inputs, self._inputs):
            if not isinstance(x, np.ndarray) or x.dtype != dtype or x.shape != dimensions:
                raise ExecutionError(f"an input is no array of {dtype} {dimensions}")
            lent.append(np.ascontiguousarray(x).reshape(shape))
            mat = ncnn.Mat(lent[-1])
            extractor.input(index, mat if is_lent else mat.clone())
        results: list[Any] = []
        for index, operand in zip(self._exits, self._results):
            status, mat = extractor.extract(index)
            if status != 0:
                raise ExecutionError(f"{NAME}: code {status}", hint=HINT)
            results.append(np.array(mat).reshape(operand.dimensions))
        return deliver(results, self._results, outputs)


def _is_dense(shape: Sequence[int]) -> bool:
    """Whether ncnn has no gaps between a blob's channels: each starts at a multiple of four numbers.

    Layers that take some channels of a blob look for them there, though what they were lent has no gaps.
    """
    return len(shape) < 3 or math.prod(shape[1:]) % 4 == 0


def _numbers(names: Sequence[str], numbers: Sequence[int], prefix: str, count: int) -> tuple[int, ...]:
    """The blobs' numbers of `in0`, `in1`, ... or `out0`, `out1`, ..."""
    found = dict(zip(names, numbers))
    wanted = [f"{prefix}{n}" for n in range(count)]
    if not found.keys() >= set(wanted):
        raise CompileError(f"{NAME} finds {', '.join(found)}, must find {', '.join(wanted)}", hint=HINT)
    return tuple(found[name] for name in wanted)
