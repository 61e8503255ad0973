"""Random networks of residual blocks: layers, convolutions and activations around sums, which compilers fuse."""

from __future__ import annotations

import random
from typing import Final

import numpy as np

from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ops.types import F32

ACTIVATIONS: Final = ("RELU", "RELU6", "LOGISTIC", "TANH", "HARD_SWISH", "ABS")
JOINS: Final = ("ADD", "ADD", "ADD", "MUL", "SUB", "MAXIMUM")
COLUMNS: Final = (1, 3, 4, 8, 16, 17, 32, 64, 128, 256)
ROWS: Final = (1, 2, 4, 7, 16, 49)
SIDES: Final = (1, 2, 4, 7, 14)


def residuals(seed: int, *, blocks: int = 3) -> Model:
    """A random model of one to `blocks` residual blocks of layers (rank 2) or convolutions (rank 4).

    The same seed gives the same model.

    >>> residuals(0).operations == residuals(0).operations
    True
    """
    rng = random.Random(seed)
    network = _Network(rng, is_image=rng.random() < 0.4)
    return network.finish(rng.randint(1, blocks))


class _Network:
    """A network under construction; all its values between blocks have one shape."""

    def __init__(self, rng: random.Random, *, is_image: bool) -> None:
        self.rng, self.is_image = rng, is_image
        self.values = np.random.default_rng(rng.getrandbits(32))
        self.builder = Builder("residuals")
        self.columns = rng.choice(COLUMNS[:-2] if is_image else COLUMNS)
        side = rng.choice(SIDES)
        self.shape = (1, side, side, self.columns) if is_image else (rng.choice(ROWS), self.columns)

    def finish(self, blocks: int) -> Model:
        x = self.builder.input("x", F32, self.shape)
        other = self.builder.input("y", F32, self.shape) if self.rng.random() < 0.5 else x
        z = self.join(x, other) if self.rng.random() < 0.6 else self.activated(x)
        for _ in range(blocks):
            z = self.block(z)
        self.builder.output(z)
        return self.builder.finish()

    def block(self, x: Ref) -> Ref:
        """One to three layers of x, joined with x itself or with another branch."""
        branches = [self.branch(x) for _ in range(1 if self.rng.random() < 0.7 else 2)]
        left = x if len(branches) == 1 else branches[1]
        operands = [left, branches[0]] if self.rng.random() < 0.7 else [branches[0], left]
        y = self.join(*operands)
        return self.activated(y) if self.rng.random() < 0.3 else y

    def branch(self, x: Ref) -> Ref:
        count, columns = self.rng.randint(1, 3), self.columns
        for k in range(count):
            wanted = self.columns if k == count - 1 else self.rng.choice((self.columns, 2 * self.columns, 24))
            x = self.convolution(x, columns, wanted) if self.is_image else self.layer(x, columns, wanted)
            columns = wanted
            if self.rng.random() < 0.5:
                x = self.activated(x)
        return x

    def layer(self, x: Ref, columns: int, wanted: int) -> Ref:
        weights, activation = self.weights((wanted, columns), columns), self.rng.choice((0, 0, 1, 3))
        return self.builder.add("FULLY_CONNECTED", {"input": x, "activation": activation, **weights})

    def convolution(self, x: Ref, columns: int, wanted: int) -> Ref:
        size = self.rng.choice((1, 1, 3))
        weights, activation = (
            self.weights((wanted, size, size, columns), size * size * columns),
            self.rng.choice((0, 1, 3)),
        )
        window = dict.fromkeys(("stride_width", "stride_height", "padding"), 1)
        return self.builder.add("CONV_2D", {"input": x, "activation": activation, **window, **weights})

    def weights(self, shape: tuple[int, ...], terms: int) -> dict[str, Ref]:
        filters = self.values.standard_normal(shape).astype(np.float32) / np.float32(terms**0.5)
        bias = self.values.standard_normal(shape[0]).astype(np.float32) * np.float32(self.rng.random() < 0.8)
        return {"filter": self.builder.constant(filters), "bias": self.builder.constant(bias)}

    def activated(self, x: Ref) -> Ref:
        return self.builder.add(self.rng.choice(ACTIVATIONS), {"input": x})

    def join(self, x: Ref, y: Ref) -> Ref:
        type = self.rng.choice(JOINS)
        if type == "MAXIMUM":
            return self.builder.add(type, {"input0": x, "input1": y})
        return self.builder.add(type, {"input0": x, "input1": y, "activation": self.rng.choice((0, 0, 0, 1))})
