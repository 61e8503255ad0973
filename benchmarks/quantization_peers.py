"""Static int8 of ai-edge-quantizer and of ONNX Runtime: models from files, outputs as real numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import flatbuffers
import numpy as np
import onnxruntime
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

Images = Sequence[Any]


def ai_edge_quantizer(folder: Path, calibration: Images, images: Images) -> Any:
    """Static int8 with a scale per channel of `model.tflite`; it wants a signature, which is added first."""
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
    ranges = tool.calibrate({"serving_default": [{"x": x} for x in calibration]})
    engine = Interpreter(model_content=bytes(tool.quantize(ranges).quantized_model))
    engine.allocate_tensors()
    given, result = engine.get_input_details()[0], engine.get_output_details()[0]
    outputs = []
    for x in images:
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
    def __init__(self, images: Images) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        x = next(self._images, None)
        return None if x is None else {"x": x}


def onnx_runtime(folder: Path, calibration: Images, images: Images) -> Any:
    """Static QDQ with a scale per channel of `model.onnx`."""
    model, done = str(folder / "prepared.onnx"), str(folder / "quantized.onnx")
    quant_pre_process(str(folder / "model.onnx"), model, skip_symbolic_shape=True)
    quantize_static(
        model, done, Reader(calibration), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(done)
    return np.stack([session.run(None, {"x": x})[0] for x in images])


PEERS: Final[Mapping[str, Callable[[Path, Images, Images], Any]]] = {
    "ai-edge-quantizer": ai_edge_quantizer,
    "ONNX Runtime": onnx_runtime,
}
