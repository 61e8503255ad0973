"""Other programs' reading of the files that are written: networks x recipes x readers, one row of a table each.

A reader gets the file alone, asks for inputs and outputs by name, and is compared with the reference on the very model
that was saved. Not every reader is installed everywhere; what is not there is skipped, and said.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import nnapi
from nnapi.drivers.quiet import quiet
from nnapi.drivers.reference import PreparedReference
from nnapi.ir.model import Model
from nnapi.ir.names import names_of
from nnapi.ops.numeric import dequantize, quantize
from nnapi.ops.types import Array
from nnapi.passes.inline_composites import inline_composites
from nnapi.quantization.metrics import sqnr
from nnapi.quantization.quantize import QuantizeWarning
from nnapi.zoo import build

Named = dict[str, Array]
EXAMPLES = 4


class Recurrent(nn.Module):
    """x [N, T, I] -> the last output through a layer."""

    def __init__(self, cell: type[nn.Module], **options: Any) -> None:
        super().__init__()
        self.cell = cell(8, 12, batch_first=True, **options)
        self.head = nn.Linear(24 if options.get("bidirectional") else 12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(x)[0][:, -1])


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(8, 12)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return self.cell(x, h)


class Tied(nn.Module):
    """A table that an embedding and a linear layer share."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(200, 16)
        self.mix = nn.Linear(16, 16)
        self.head = nn.Linear(16, 200, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.mix(self.embedding(tokens))))


class Upward(nn.Module):
    """Transposed convolutions with a skip connection, as in U-Net; padded pools."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.last = nn.ConvTranspose2d(16, 3, 4, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = self.down(x)
        return self.last(torch.cat([self.up(self.pool(wide)), wide], 1))


class Head(nn.Module):
    """Boxes and scores of two scales, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes, self.scores = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 6, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 40 * self.boxes(x).flatten(2), torch.sigmoid(self.scores(x)).flatten(2)


class Residual(nn.Module):
    """Sums with a constant that is zero, padding with a number, and a difference."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)
        self.register_buffer("zero", torch.zeros(1, 16))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        z = nn.functional.pad(self.a(x) + y, (1, 0), value=0.5)[:, 1:]
        return self.b(torch.relu(z + self.zero)) - z


def _seeded(make: Callable[[], nn.Module], *shapes: tuple[int, ...]) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    return make().eval(), tuple(torch.randn(shape) for shape in shapes)


def _zoo(name: str) -> Callable[[], tuple[nn.Module, tuple[torch.Tensor, ...]]]:
    return lambda: build(name, small=True)


NETWORKS: Mapping[str, Callable[[], tuple[nn.Module, tuple[torch.Tensor, ...]]]] = {
    "digits": _zoo("digits"),
    "mobilenet_v2": _zoo("mobilenet_v2"),
    "mobilenet_v3_small": _zoo("mobilenet_v3_small"),
    "transformer_encoder": lambda: build("transformer_encoder", size=12),
    "mlp": _zoo("mlp"),
    "upward": lambda: _seeded(Upward, (1, 3, 32, 32)),
    "head": lambda: _seeded(Head, (1, 3, 8, 8)),
    "residual": lambda: _seeded(Residual, (1, 16), (1, 16)),
    "gru_cell": lambda: _seeded(Cell, (1, 8), (1, 12)),
    "gru": lambda: _seeded(lambda: Recurrent(nn.GRU), (1, 6, 8)),
    "lstm": lambda: _seeded(lambda: Recurrent(nn.LSTM), (1, 6, 8)),
    "gru both ways": lambda: _seeded(lambda: Recurrent(nn.GRU, bidirectional=True, num_layers=2), (1, 6, 8)),
    "tied": lambda: (_seeded(Tied)[0], (torch.arange(0, 192, 24),)),
}
LARGER = ("inception_v3", "unet", "srgan", "deeplab_v3_plus", "vdsr")
"""Networks of the zoo that take longer: for the benchmark."""
RECIPES = ("float", "fp16", "dynamic_range", "int8", "int8_float_io", "uint8", "int16x8", "mixed")


SHORT = {
    **dict.fromkeys(("mobilenet_v2", "mobilenet_v3_small", "transformer_encoder"), ("float", "fp16", "int8")),
    "gru both ways": ("float", "int8"),
}
"""Networks that take longer, and the recipes that the tests try them by; the benchmark tries all."""


@cache
def saved_model(network: str, recipe: str) -> tuple[Model, tuple[Array, ...]]:
    """A network by a recipe, and inputs that calibration did not see."""
    module, inputs = NETWORKS[network]() if network in NETWORKS else build(network, small=True)
    with torch.no_grad():
        model = nnapi.load(module, inputs)
    rng = np.random.default_rng(1)
    examples = [tuple(_like(rng, x.numpy()) for x in inputs) for _ in range(EXAMPLES + 1)]
    if recipe == "float":
        return model, examples[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuantizeWarning)  # of what stays in floats
        return nnapi.quantize(model, examples[:EXAMPLES], recipe), examples[-1]


def _like(rng: np.random.Generator, x: Array) -> Array:
    if x.dtype.kind == "f":
        return rng.standard_normal(x.shape).astype(x.dtype)
    return rng.integers(0, x.max() + 1, x.shape).astype(np.int32)


def stored_inputs(model: Model, inputs: tuple[Array, ...]) -> Named:
    """Real inputs as the model stores them, by name."""
    stored = (quantize(x, o) for x, o in zip(inputs, model.input_operands, strict=True))
    return dict(zip(names_of(model.input_operands, "input"), stored))


def expected(model: Model, given: Named) -> Named:
    """What the reference computes of the model, by name."""
    results = PreparedReference(inline_composites(model)).run(list(given.values()))
    return dict(zip(names_of(model.output_operands, "output"), results))


def decibels(model: Model, right: Named, found: Named) -> float:
    """The worst output's signal to noise ratio, of real values; minus infinity where a name or a shape is missing."""
    worst = np.inf
    for operand, name in zip(model.output_operands, right):
        if name not in found or found[name].shape != right[name].shape:
            return -np.inf
        worst = min(worst, sqnr(_real(right[name], operand), _real(found[name], operand)))
    return worst


def _real(stored: Array, operand: Any) -> Array:
    return dequantize(stored, operand) if operand.type.is_quantized else stored


Run = Callable[[Path, Named, Model], Named]


@dataclass(frozen=True)
class Reader:
    """A program that reads files of a suffix, and what it may be off, in dB by recipe, with the reason."""

    suffix: str
    module: str
    run: Run
    limits: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    """Instead of `LIMITS`."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Recipes whose files it refuses, and why."""

    @property
    def is_here(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def limit(self, network: str, recipe: str) -> tuple[float, str]:
        """The least that it must keep of the reference, and why no more."""
        least, reason = self.limits.get(recipe) or LIMITS[recipe]
        if network == "vdsr":
            return VDSR.get(recipe, least), f"{reason}, through twenty layers alike"
        if recipe in INTEGERS and (network in SHORT or network in LARGER):
            return min(least, DEEP), f"{reason}, through a deep network"
        return least, reason


def _interpreter(module: str, resolver: str = "") -> Run:
    def run(path: Path, given: Named, model: Model) -> Named:
        interpreter = importlib.import_module(f"{module}.interpreter")
        options = {"experimental_op_resolver_type": getattr(interpreter.OpResolverType, resolver)} if resolver else {}
        with quiet((b"INFO: ", b"WARNING: ", b"VERBOSE: ")):
            runner = interpreter.Interpreter(model_path=str(path), **options).get_signature_runner("serving_default")
            return dict(runner(**given))

    return run


def _openvino(path: Path, given: Named, model: Model) -> Named:
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled(given)
    return {name: results[name] for name in names_of(model.output_operands, "output")}


def _onnxruntime(path: Path, given: Named, model: Model) -> Named:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return dict(zip((o.name for o in session.get_outputs()), session.run(None, given)))


def _ncnn(path: Path, given: Named, model: Model) -> Named:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    for arithmetic in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage", "bf16_packed"):
        setattr(net.opt, f"use_{arithmetic}", False)
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        return {}
    extractor = net.create_extractor()
    for name, array in given.items():
        extractor.input(name, ncnn.Mat(np.ascontiguousarray(array[0] if array.ndim > 1 else array)).clone())
    results = {}
    for operand, name in zip(model.output_operands, names_of(model.output_operands, "output")):
        code, mat = extractor.extract(name)
        if code == 0:
            results[name] = np.array(mat).reshape(operand.dimensions)
    return results


INTEGERS = ("int8", "int8_float_io", "uint8", "mixed")
STEP = "a sum that ends between two steps is rounded another way"
LIMITS: Mapping[str, tuple[float, str]] = {
    "float": (95.0, "sums in another order, other approximations of functions"),
    "fp16": (45.0, "16 bits are stored, and some compute in 32"),
    "dynamic_range": (95.0, "as in floats"),
    **dict.fromkeys(INTEGERS, (30.0, STEP)),
    "int16x8": (55.0, "kernels read functions from tables"),
}
"""What is left of each recipe in a reader that computes as the reference does."""
DEEP = 15.0
"""In dB, what is left of integers after many layers of random weights, which make much of a step."""
VDSR = {"float": 85.0, "fp16": 35.0, **dict.fromkeys(INTEGERS, 12.0)}
OWN_8_BITS = (28.0, "it stores activations beside 8-bit weights in 8 bits by itself")
OPENVINO = {"dynamic_range": OWN_8_BITS, "int16x8": OWN_8_BITS}
RUNTIME_2_14 = {"int16x8": "its FULLY_CONNECTED of 16 bits knows no scale per channel: it refuses the version"}
READERS: Mapping[str, Reader] = {
    "litert": Reader(".tflite", "ai_edge_litert", _interpreter("ai_edge_litert")),
    "litert without XNNPACK": Reader(
        ".tflite", "ai_edge_litert", _interpreter("ai_edge_litert", "BUILTIN_WITHOUT_DEFAULT_DELEGATES")
    ),
    "tflite_runtime": Reader(".tflite", "tflite_runtime", _interpreter("tflite_runtime"), unread=RUNTIME_2_14),
    "openvino on tflite": Reader(".tflite", "openvino", _openvino, OPENVINO),
    "onnxruntime": Reader(".onnx", "onnxruntime", _onnxruntime),
    "openvino on onnx": Reader(".onnx", "openvino", _openvino, OPENVINO),
    "ncnn": Reader(".param", "ncnn", _ncnn),
}
SUFFIXES = tuple(dict.fromkeys(reader.suffix for reader in READERS.values()))
UNWRITTEN: Mapping[tuple[str, str], str] = {
    (".onnx", "int16x8"): "TENSOR_QUANT16_SYMM",
    **{(".param", recipe): "ncnn|its layers take" for recipe in RECIPES if recipe != "float"},
}
"""Recipes that a format has no form of, and what the refusal says."""
UNWRITTEN_NETWORKS: Mapping[tuple[str, str], str] = {(".param", "tied"): "GATHER", (".param", "srgan"): "GATHER"}
"""Networks likewise, by any recipe."""
UNREAD: Mapping[tuple[str, str, str], str] = {
    ("openvino on tflite", "upward", "uint8"): "forgets the zero point of a transposed convolution's filter",
    ("openvino on tflite", "unet", "uint8"): "forgets the zero point of a transposed convolution's filter",
}
"""Reader, network and recipe that are wrong through no fault of the file."""


def readings(network: str, recipe: str, folder: Path) -> Iterator[tuple[str, float]]:
    """What each reader that is here makes of a network by a recipe: its name, and dB against the reference."""
    model, inputs = saved_model(network, recipe)
    given = stored_inputs(model, inputs)
    right = expected(model, given)
    for suffix in SUFFIXES:
        readers = {name: r for name, r in READERS.items() if r.suffix == suffix and r.is_here}
        if (suffix, recipe) in UNWRITTEN or (suffix, network) in UNWRITTEN_NETWORKS or not readers:
            continue
        path = folder / f"model{suffix}"
        nnapi.save(model, path)
        for name, reader in readers.items():
            if recipe in reader.unread:
                continue
            yield name, decibels(model, right, reader.run(path, given, model))
