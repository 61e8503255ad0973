"""Small float models to quantize: one per rule."""

from __future__ import annotations

import numpy as np

from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ops.types import F32

EXPLICIT = dict.fromkeys(("padding_left", "padding_right", "padding_top", "padding_bottom"), 1)
WINDOW = {"stride_width": 1, "stride_height": 1}


def conv(b: Builder, x: Ref, channels: int, seed: int = 0, *, activation: int = 0, gain: float = 1.0) -> Ref:
    """A 3x3 convolution of the same size."""
    rng = np.random.default_rng(seed)
    depth = x.operand.dimensions[3]
    filter = (rng.normal(size=(channels, 3, 3, depth)) * gain / np.sqrt(9 * depth)).astype(np.float32)
    bias = rng.normal(size=channels).astype(np.float32) * 0.1
    inputs = {"input": x, "filter": filter, "bias": bias} | EXPLICIT | WINDOW | {"activation": activation}
    return b.add("CONV_2D", inputs, name=f"conv{seed}")


def depthwise(b: Builder, x: Ref, seed: int = 0) -> Ref:
    """A 3x3 depthwise convolution."""
    rng = np.random.default_rng(seed)
    depth = x.operand.dimensions[3]
    inputs = {"input": x, "filter": rng.normal(size=(1, 3, 3, depth)).astype(np.float32) / 3}
    inputs |= {"bias": np.zeros(depth, np.float32)} | EXPLICIT | WINDOW | {"depth_multiplier": 1, "activation": 1}
    return b.add("DEPTHWISE_CONV_2D", inputs, name=f"depthwise{seed}")


def image(b: Builder) -> Ref:
    return b.input("x", F32, (1, 6, 6, 3))


def small(*, float_end: bool = False) -> Model:
    """Convolutions, a residual, a pool, a concatenation, a fully connected layer, SOFTMAX."""
    b = Builder("small")
    x = conv(b, image(b), 8, 1, activation=3)
    y = depthwise(b, x, 2)
    z = b.add("ADD", {"input0": x, "input1": conv(b, y, 8, 3), "activation": 0}, name="residual")
    pool = {"input": z, "padding": 2, "stride_width": 2, "stride_height": 2, "filter_width": 2, "filter_height": 2}
    p = b.add("MAX_POOL_2D", pool | {"activation": 0}, name="pool")
    joined = b.add(
        "CONCATENATION", {"inputs": [p, b.add("LOGISTIC", {"input": p}, name="gate")], "axis": 3}, name="cat"
    )
    rng = np.random.default_rng(9)
    dense = {"input": joined, "filter": rng.normal(size=(5, 144)).astype(np.float32) / 12}
    logits = b.add("FULLY_CONNECTED", dense | {"bias": np.ones(5, np.float32), "activation": 0}, name="dense")
    last = {"input": logits, "beta": 1.0}
    b.output(b.add("LOG_SOFTMAX", last | {"axis": -1}) if float_end else b.add("SOFTMAX", last), names=["y"])
    return b.finish()


def examples(model: Model, count: int = 64, seed: int = 0) -> list[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(seed)
    return [tuple(rng.normal(size=o.dimensions).astype(np.float32) for o in model.input_operands) for _ in range(count)]
