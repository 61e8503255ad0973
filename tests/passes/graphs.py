"""Random small models: every operation that passes rewrite, in both layouts, with forks and joins."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st

from nnapi.ir import composites
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ops.types import F32, I32, Q8, Q8S, Operand

LIMIT = 256
"""Elements of one value."""
Draw = Callable[[st.SearchStrategy[Any]], Any]


class Grower:
    """Adds drawn operations to a builder. Values are what it may read; a step that does not fit adds nothing."""

    def __init__(self, random: Random, quantized: bool) -> None:
        self.random = random
        self.quantized = quantized
        self.b = Builder("random")
        self.rng = np.random.default_rng(random.randrange(100))
        self.values = [self.input(name) for name in ("x", "y")[: random.randint(1, 2)]]

    def input(self, name: str) -> Ref:
        shape = self.random.choice([(1, 2, 4, 3), (2, 3, 2, 2), (1, 4, 3, 1), (2, 3, 4), (3, 4)])
        if not self.quantized:
            return self.b.input(name, F32, shape)
        return self.b.input(name, self.random.choice([Q8, Q8S]), shape, 0.1, 7)

    def integer(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def flag(self) -> bool:
        return self.random.random() < 0.5

    def pick(self, rank: int | None = None) -> Ref | None:
        fitting = [v for v in self.values if rank in (None, len(v.shape))]
        return fitting[-1 - self.integer(0, min(len(fitting), 4) - 1)] if fitting else None

    def order(self, count: int) -> list[int]:
        return self.random.sample(range(count), count)

    def axis(self, x: Ref) -> int:
        return self.integer(0, len(x.shape) - 1)

    def constant(self, shape: tuple[int, ...], like: Ref) -> Ref:
        if like.type == F32:
            return self.b.constant(self.rng.standard_normal(shape).astype(np.float32))
        values = self.rng.integers(0, 100, shape).astype(like.type.dtype)
        return self.b.constant(values, Operand(like.type, shape, 0.1, 7))

    def result(self, x: Ref) -> Operand | None:
        """The output where its scale must be chosen."""
        return Operand(x.type, (), 0.1, 7) if self.quantized else None

    def add(self, type: str, inputs: dict[str, Any], output: Operand | None = None) -> None:
        self.values += self.b.add_many(type, inputs, None if output is None else (output,))

    def bias(self, channels: int, x: Ref) -> Ref:
        if not self.quantized:
            return self.constant((channels,), x)
        return self.b.constant(self.rng.integers(-9, 9, channels), Operand(I32, (channels,), 0.1 * 0.1))

    # Steps

    def convolution(self) -> None:
        x = self.pick(4)
        if x is None:
            return
        kind = self.random.choice(["CONV_2D", "DEPTHWISE_CONV_2D", "GROUPED_CONV_2D", "TRANSPOSE_CONV_2D"])
        layout = self.flag()
        image = list(x.shape[1:])
        channels = image.pop(0 if layout else -1)
        side = self.integer(1, 2)
        out = self.integer(1, 4)
        given: dict[str, Any] = {"input": x, "activation": self.integer(0, 3), "layout": layout}
        given |= {"stride_width": 1, "stride_height": self.integer(1, 2)}
        depth = channels
        if kind == "DEPTHWISE_CONV_2D":
            given["depth_multiplier"] = factor = self.integer(1, 2)
            out, shape = channels * factor, (1, side, side, channels * factor)
        elif kind == "GROUPED_CONV_2D":
            given["num_groups"] = groups = self.random.choice([g for g in (1, 2, 3) if channels % g == 0])
            out, depth = out * groups, channels // groups
        if kind != "DEPTHWISE_CONV_2D":
            shape = (out, side, side, depth)
        if min(image) < side:
            return
        padding = self.integer(0, side - 1) if kind != "TRANSPOSE_CONV_2D" else 0
        given |= dict.fromkeys(("padding_left", "padding_bottom"), padding)
        given |= dict.fromkeys(("padding_right", "padding_top"), 0)
        given |= {"filter": self.constant(shape, x), "bias": self.bias(out, x)}
        self.add(kind, given, self.result(x))

    def pool(self) -> None:
        x = self.pick(4)
        if x is not None and min(x.shape) > 0:
            sizes = dict.fromkeys(
                ("stride_width", "stride_height", "filter_width", "filter_height"), self.integer(1, 2)
            )
            kind = self.random.choice(["AVERAGE_POOL_2D", "MAX_POOL_2D"])
            self.add(kind, {"input": x, "padding": 1, "activation": 0, "layout": self.flag(), **sizes})

    def resize(self) -> None:
        x = self.pick(4)
        if x is not None:
            size = {"width": self.integer(1, 3), "height": self.integer(1, 3)}
            self.add("RESIZE_BILINEAR", {"input": x, "layout": self.flag(), **size})

    def shuffle(self) -> None:
        x, layout = self.pick(4), self.flag()
        if x is not None and x.shape[1 if layout else 3] % 4 == 0:
            self.add("DEPTH_TO_SPACE", {"input": x, "block_size": 2, "layout": layout})

    def unary(self) -> None:
        x = self.pick()
        kinds = ["RELU", "RELU1", "RELU6"] if self.quantized else ["RELU", "RELU6", "RELU1", "TANH", "ABS", "LOGISTIC"]
        self.add(self.random.choice(kinds), {"input": x})

    def binary(self) -> None:
        x, y = self.pick(), self.pick()
        if x.shape != y.shape or x.type != y.type:
            shape = tuple(d if self.flag() else 1 for d in x.shape)
            y = self.constant(shape[self.integer(0, len(shape) - 1) :], x)
        kind = self.random.choice(["ADD", "SUB", "MUL"])
        x, y = (y, x) if self.flag() else (x, y)
        self.add(kind, {"input0": x, "input1": y, "activation": self.integer(0, 3)}, self.result(x))

    def neutral(self) -> None:
        x = self.pick()
        if not self.quantized:
            one = self.random.choice(["ADD", "MUL"])
            constant = np.full(1, float(one == "MUL"), np.float32)
            self.add(one, {"input0": x, "input1": constant, "activation": 0})

    def prelu(self) -> None:
        x = self.pick()
        alpha = self.constant((x.shape[-1],) if self.flag() else (1, *x.shape[1:2], 1, 1)[: len(x.shape)], x)
        if len(alpha.shape) <= len(x.shape) and all(a in (1, d) for a, d in zip(alpha.shape[::-1], x.shape[::-1])):
            self.add("PRELU", {"input": x, "alpha": alpha}, self.result(x))

    def concatenation(self) -> None:
        x, y = self.pick(), self.pick()
        axis = self.axis(x)
        same = len(x.shape) == len(y.shape) and all(
            a == b for i, (a, b) in enumerate(zip(x.shape, y.shape)) if i != axis
        )
        inputs = [x, y if same and x.type == y.type else x]
        if sum(math.prod(v.shape) for v in inputs) <= LIMIT:
            self.add("CONCATENATION", {"inputs": inputs, "axis": axis}, self.result(x))

    def reshape(self) -> None:
        x = self.pick()
        rest, shape = math.prod(x.shape), []
        for _ in range(self.integer(0, 3)):
            shape.append(self.random.choice([d for d in range(1, rest + 1) if rest % d == 0]))
            rest //= shape[-1]
        self.add("RESHAPE", {"input": x, "shape": [*shape, -1]})

    def merge(self) -> None:
        """Neighbouring dimensions become one: what layouts can follow."""
        x = self.pick()
        at = self.axis(x)
        if at:
            shape = [*x.shape[: at - 1], x.shape[at - 1] * x.shape[at], *x.shape[at + 1 :]]
            self.add("RESHAPE", {"input": x, "shape": shape})

    def squeeze(self) -> None:
        x = self.pick()
        if 1 in x.shape and len(x.shape) > 1:
            self.add("SQUEEZE", {"input": x, "axes": [x.shape.index(1)]})
        elif len(x.shape) < 4:
            self.add("EXPAND_DIMS", {"input": x, "axis": self.integer(0, len(x.shape))})

    def transpose(self) -> None:
        x = self.pick()
        perm = self.order(len(x.shape))
        self.add("TRANSPOSE", {"input": x, "perm": perm})

    def softmax(self) -> None:
        x = self.pick()
        if not self.quantized:
            self.add("SOFTMAX", {"input": x, "beta": 0.5, "axis": self.axis(x) - len(x.shape)})

    def mean(self) -> None:
        x = self.pick()
        axes = sorted({self.axis(x), self.axis(x)})
        kind, keep = self.random.choice([("MEAN", 1), ("REDUCE_MAX", True), ("MEAN", 0)])
        self.add(kind, {"input": x, "axes": axes, "keep_dims": keep})

    def part(self) -> None:
        x = self.pick()
        begin = [self.integer(0, d - 1) for d in x.shape]
        self.add("SLICE", {"input": x, "begin": begin, "size": [-1] * len(begin)})

    def strided(self) -> None:
        x = self.pick()
        given = {"begin": [0] * len(x.shape), "end": list(x.shape), "strides": [self.integer(1, 2) for _ in x.shape]}
        dropped = 1 << self.axis(x) if self.flag() else 0
        given["end"] = [1 if dropped >> i & 1 else d for i, d in enumerate(x.shape)]
        masks = {"begin_mask": self.integer(0, 15), "end_mask": 0, "shrink_axis_mask": dropped}
        self.add("STRIDED_SLICE", {"input": x, **given, **masks})

    def pad(self) -> None:
        x = self.pick()
        paddings = np.array([[0, self.integer(0, 1)] for _ in x.shape], np.int32)
        if math.prod(d + 1 for d in x.shape) <= LIMIT:
            self.add("PAD", {"input": x, "paddings": paddings})

    def split(self) -> None:
        x = self.pick()
        axis = self.axis(x)
        self.values += self.b.add_many(
            "SPLIT", {"input": x, "axis": axis, "num_splits": x.shape[axis]},
            [Operand(x.type, (), x.operand.scale, x.operand.zero_point)] * x.shape[axis],
        )[:2]  # fmt: skip

    def gather(self) -> None:
        x = self.pick()
        axis = self.axis(x)
        indices = np.array(self.order(x.shape[axis]), np.int32)
        self.add("GATHER", {"input": x, "axis": axis, "indices": indices})

    def fully_connected(self) -> None:
        x = self.pick()
        if len(x.shape) > 1:
            if len(x.shape) == 4 and self.flag():
                x = self.b.add("RESHAPE", {"input": x, "shape": [x.shape[0], -1]})
            out = self.integer(1, 3)
            given = {"filter": self.constant((out, x.shape[-1]), x), "bias": self.bias(out, x)}
            self.add("FULLY_CONNECTED", {"input": x, **given, "activation": self.integer(0, 3)}, self.result(x))

    def product(self) -> None:
        x = self.pick()
        if len(x.shape) > 1 and not self.quantized:
            order = [*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2]
            y = self.b.add("TRANSPOSE", {"input": x, "perm": order})
            self.add("BATCH_MATMUL", {"input0": x, "input1": y, "adj_x": False, "adj_y": False})

    def select(self) -> None:
        x = self.pick()
        threshold = self.constant((1,), x)
        less = self.b.add("LESS", {"input0": x, "input1": threshold})
        y = self.b.add("RELU", {"input": x})
        if not self.quantized:
            self.add("SELECT", {"condition": less, "input0": x, "input1": y})

    def constants(self) -> None:
        x = self.pick()
        if not self.quantized:
            shape = x.shape[-1:]
            y = self.b.add("ABS", {"input": self.constant(shape, x)})
            self.add("MAXIMUM", {"input0": x, "input1": y})

    def composite(self) -> None:
        x = self.pick()
        kind = self.random.choice(["gelu", "silu", "layer_norm"])
        if self.quantized:
            return
        if kind == "layer_norm":
            gamma, beta = self.constant(x.shape[-1:], x), self.constant(x.shape[-1:], x)
            self.values.append(composites.layer_norm(self.b, x, gamma, beta, epsilon=0.1))
        else:
            self.values.append(getattr(composites, kind)(self.b, x))


STEPS = (
    Grower.convolution, Grower.pool, Grower.resize, Grower.shuffle, Grower.unary, Grower.binary, Grower.neutral,
    Grower.prelu, Grower.concatenation, Grower.reshape, Grower.merge, Grower.squeeze, Grower.transpose, Grower.softmax,
    Grower.mean, Grower.part, Grower.strided, Grower.pad, Grower.split, Grower.gather, Grower.fully_connected,
    Grower.product, Grower.select, Grower.constants, Grower.composite,
)  # fmt: skip


@st.composite
def models(draw: Draw, *, quantized: bool = False, most: int = 10) -> Model:
    """A valid model of up to about `most` operations, some of them perhaps dead."""
    grower = Grower(Random(draw(st.integers(0, 2**32))), quantized)
    inputs = len(grower.values)
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=3, max_size=most)):
        step(grower)
        grower.values = grower.values[:inputs] + [v for v in grower.values[inputs:] if math.prod(v.shape) <= LIMIT]
    if len(grower.values) == inputs:
        grower.add("RELU", {"input": grower.values[0]})
    results = grower.values[inputs:]
    kept = [v for v in results[:-1] if grower.random.random() < 0.2]
    grower.b.output(*kept, results[-1])
    return grower.b.finish()
