"""Our int8 networks beside the peers' own: latency, interleaved in one process.

python benchmarks/int8.py                          MobileNet-V2 and Inception-V3, 1 and 2 threads
python benchmarks/int8.py --networks mobilenet_v2 --threads 1 --repeats 30 --json

Ours is quantized by the recipe "int8", compiled with tune=True, and with each engine alone. The peers quantize the same
network by their own tools, from our float files: ai-edge-quantizer's static int8 in LiteRT; ONNX Runtime's
quantize_static (QDQ, a scale per channel) in ONNX Runtime and in OpenVINO. Engines of peers run with their defaults,
which on processors without VNNI saturate sums of bytes; ours compute them exactly. SQNR is against the float network.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnxruntime
import openvino
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console
from rich.table import Table

import nnapi
from nnapi import zoo
from nnapi.bench.compare import interleave
from nnapi.errors import NnapiError
from nnapi.exporters.onnx import export_onnx
from nnapi.exporters.tflite import export_tflite
from nnapi.ir.model import Model
from nnapi.ops.numeric import dequantize, quantize
from nnapi.ops.types import Array
from nnapi.quantization.metrics import sqnr
from nnapi.quantization.quantize import quantize_model
from nnapi.zoo.weights import sample

NETWORKS = ("mobilenet_v2", "inception_v3")
ENGINES = ("litert", "openvino", "onnxruntime")
CALIBRATION = 4
Run = Callable[[], Array]
"""One run; real outputs."""


@dataclass(frozen=True)
class Row:
    """One way to run one network: p50 and p10 in milliseconds, and dB."""

    network: str
    threads: int
    who: str
    p50: float
    p10: float
    sqnr: float


class Images(CalibrationDataReader):  # type: ignore[misc]
    """Calibration data as ONNX Runtime asks for it."""

    def __init__(self, name: str, images: Sequence[Array]) -> None:
        self._name, self._images = name, iter(images)

    def get_next(self) -> dict[str, Array] | None:
        image = next(self._images, None)
        return None if image is None else {self._name: image}


def onnx_static(model: Model, images: Sequence[Array], folder: Path) -> Path:
    """`model`, in floats, by ONNX Runtime's quantizer."""
    source, prepared, done = (folder / f"{name}.onnx" for name in ("float", "prepared", "int8"))
    source.write_bytes(export_onnx(model))
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    name = onnxruntime.InferenceSession(str(prepared), providers=["CPUExecutionProvider"]).get_inputs()[0].name
    quantize_static(
        str(prepared), str(done), Images(name, images), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return done


def tflite_static(model: Model, images: Sequence[Array]) -> bytes:
    """`model`, in floats, by ai-edge-quantizer, which wants a signature."""
    file = schema.ModelT.InitFromPackedBuf(bytearray(export_tflite(model)), 0)
    graph = file.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [_named("x", graph.inputs[0])], [_named("y", graph.outputs[0])]
    file.signatureDefs = [signature]
    builder = flatbuffers.Builder(1024)
    builder.Finish(file.Pack(builder), b"TFL3")
    tool = quantizer.Quantizer(bytes(builder.Output()))
    tool.load_quantization_recipe(recipe.static_wi8_ai8())
    with redirect_stdout(sys.stderr):  # it says what it does
        ranges = tool.calibrate({"serving_default": [{"x": image} for image in images]})
        return bytes(tool.quantize(ranges).quantized_model)


def _named(name: str, index: int) -> Any:
    tensor = schema.TensorMapT()
    tensor.name, tensor.tensorIndex = name, int(index)
    return tensor


def litert(content: bytes, image: Array, threads: int) -> Run:
    engine = Interpreter(model_content=content, num_threads=threads)
    engine.allocate_tensors()
    given, result = engine.get_input_details()[0], engine.get_output_details()[0]
    stored = image
    if given["dtype"] == np.int8:
        scale, zero_point = given["quantization"]
        stored = np.clip(np.rint(image / scale) + zero_point, -128, 127).astype(np.int8)
    scale, zero_point = result["quantization"]

    def run() -> Array:
        engine.set_tensor(given["index"], stored)
        engine.invoke()
        y: Array = engine.get_tensor(result["index"])
        return (y.astype(np.float32) - zero_point) * scale if y.dtype == np.int8 else y

    return run


def onnx_runtime(path: Path, image: Array, threads: int) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # or it slows whoever runs next
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: image}
    return lambda: session.run(None, feed)[0]  # type: ignore[no-any-return]


def open_vino(path: Path, image: Array, threads: int) -> Run:
    core = openvino.Core()
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    request = core.compile_model(core.read_model(path), "CPU", config).create_infer_request()
    return lambda: request.infer([image], share_inputs=True, share_outputs=True)[0]  # type: ignore[no-any-return]


def ours(model: Model, image: Array, threads: int, devices: Sequence[str] | None) -> tuple[Run, str]:
    """Tuned among all devices, or on one."""
    session = nnapi.compile(model, devices=devices, num_threads=threads, tune=devices is None, accept_inaccurate=True)
    example, operand = (quantize(image, model.input_operands[0]),), model.output_operands[0]
    return lambda: dequantize(session(*example)[0], operand), ", ".join(session.plan.devices)


def rows(network: str, threads: Sequence[int], repeats: int, small: bool) -> list[Row]:
    module, inputs = zoo.build(network, small=small)
    shape = tuple(inputs[0].shape)
    generator = torch.Generator().manual_seed(3)
    images = [sample(shape, generator).numpy() for _ in range(CALIBRATION)]
    with torch.inference_mode():
        expected = module(torch.from_numpy(images[0])).numpy()
    floats = nnapi.optimize(nnapi.load(module, inputs))
    quantized = nnapi.optimize(quantize_model(floats, images, "int8").model)
    result = []
    with tempfile.TemporaryDirectory() as name:
        onnx, tflite = onnx_static(floats, images, Path(name)), tflite_static(floats, images)
        for count in threads:
            tuned, devices = ours(quantized, images[0], count, None)
            runs: dict[str, Run] = {f"nnapi: {devices}": tuned}
            for engine in ENGINES:
                try:
                    runs[f"nnapi on {engine}"] = ours(quantized, images[0], count, [engine])[0]
                except NnapiError as error:
                    logging.warning("nnapi on %s: %s", engine, error)
            runs["ai-edge-quantizer in LiteRT"] = litert(tflite, images[0], count)
            runs["quantize_static in ONNX Runtime"] = onnx_runtime(onnx, images[0], count)
            runs["quantize_static in OpenVINO"] = open_vino(onnx, images[0], count)
            quality = {who: sqnr(expected, np.array(run()).reshape(expected.shape)) for who, run in runs.items()}
            latency = interleave(runs, repeats=repeats)
            result += [
                Row(network, count, who, latency[who].p50 * 1e3, latency[who].p10 * 1e3, quality[who]) for who in runs
            ]
    return result


def shown(found: Sequence[Row]) -> Table:
    """Ratios are against the fastest peer of the same network and threads."""
    table = Table("network", "threads", "who", "p50 ms", "p10 ms", "/ best peer", "dB")
    for row in found:
        alike = [r for r in found if (r.network, r.threads) == (row.network, row.threads)]
        best = min(r.p50 for r in alike if not r.who.startswith("nnapi"))
        figures = (f"{row.p50:.2f}", f"{row.p10:.2f}", f"{row.p50 / best:.3f}", f"{row.sqnr:.1f}")
        table.add_row(row.network, str(row.threads), row.who, *figures)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--small", action="store_true", help="small inputs, to try the program")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    logging.disable(logging.INFO)
    console = Console(stderr=given.json)
    found: list[Row] = []
    for network in given.networks:
        with console.status(network):
            found += rows(network, given.threads, given.repeats, given.small)
    if given.json:
        print(json.dumps([asdict(row) for row in found], indent=1))
    else:
        console.print(shown(found))


if __name__ == "__main__":
    main()
