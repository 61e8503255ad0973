"""Runs in the peers' environment: the static int8 of ai-edge-quantizer and of ONNX Runtime, SQNR in dB as JSON.

python quantization_peers.py FOLDER COUNT, where FOLDER has images.npy, expected.npy, model.tflite and model.onnx
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnxruntime
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


def sqnr(expected: Any, actual: Any) -> float:
    noise = np.asarray(actual, np.float64).reshape(expected.shape) - expected
    return float(10 * np.log10(np.square(expected, dtype=np.float64).sum() / np.square(noise).sum()))


def ai_edge_quantizer(folder: Path, images: Any, count: int) -> Any:
    """Static int8 with a scale per channel; it wants a signature, which is added first."""
    model = schema.ModelT.InitFromPackedBuf(bytearray((folder / "model.tflite").read_bytes()), 0)
    graph = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = ([_named("x", graph.inputs[0])], [_named("y", graph.outputs[0])])
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    (folder / "signed.tflite").write_bytes(bytes(builder.Output()))
    tool = quantizer.Quantizer(str(folder / "signed.tflite"))
    tool.load_quantization_recipe(recipe.static_wi8_ai8())
    ranges = tool.calibrate({"serving_default": [{"x": x} for x in images[:count]]})
    engine = Interpreter(model_content=bytes(tool.quantize(ranges).quantized_model))
    engine.allocate_tensors()
    given, result = engine.get_input_details()[0], engine.get_output_details()[0]
    outputs = []
    for x in images[count:]:
        scale, zero = given["quantization"]
        engine.set_tensor(given["index"], np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8))
        engine.invoke()
        scale, zero = result["quantization"]
        outputs.append((engine.get_tensor(result["index"]).astype(np.float64) - zero) * scale)
    return np.stack(outputs)


def _named(name: str, index: int) -> Any:
    tensor = schema.TensorMapT()
    tensor.name, tensor.tensorIndex = name, int(index)
    return tensor


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: Any) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        x = next(self._images, None)
        return None if x is None else {"x": x}


def onnx_runtime(folder: Path, images: Any, count: int) -> Any:
    """Static QDQ with a scale per channel."""
    model, done = str(folder / "prepared.onnx"), str(folder / "quantized.onnx")
    quant_pre_process(str(folder / "model.onnx"), model, skip_symbolic_shape=True)
    quantize_static(
        model, done, Reader(images[:count]), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(done)
    return np.stack([session.run(None, {"x": x})[0] for x in images[count:]])


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    images, expected = np.load(folder / "images.npy"), np.load(folder / "expected.npy")
    peers = {"ai-edge-quantizer": ai_edge_quantizer, "ONNX Runtime": onnx_runtime}
    print(json.dumps({name: sqnr(expected, run(folder, images, count)) for name, run in peers.items()}))


if __name__ == "__main__":
    main()
