"""Small models that tests of partitions, sessions and commands share."""

from __future__ import annotations

import numpy as np

from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ops.types import F32

BINARY = ("ADD", "MUL", "SUB", "MAXIMUM")


def chain(*types: str, size: int = 4) -> Model:
    """x -> one operation after the other, each of x and what came before."""
    b = Builder("chain")
    x = b.input("x", F32, (1, size))
    y: Ref = x
    for n, type in enumerate(types):
        y = b.add(type, binary(type, x, y), name=f"{type.lower()}{n}")
    b.output(y, names=["y"])
    return b.finish()


def random_graph(seed: int, operations: int, types: tuple[str, ...] = BINARY) -> Model:
    """A seeded graph of binary operations with forks and joins; everything nobody reads is an output."""
    rng = np.random.default_rng(seed)
    b = Builder(f"random{seed}")
    values = [b.input("x", F32, (2, 3)), b.input("y", F32, (2, 3))]
    read: set[int] = set()
    for n in range(operations):
        recent = values[-6:]
        left, right = (recent[int(i)] for i in rng.integers(0, len(recent), 2))
        read |= {left.index, right.index}
        type = types[int(rng.integers(0, len(types)))]
        values.append(b.add(type, binary(type, left, right), name=f"op{n}"))
    b.output(*(v for v in values[2:] if v.index not in read))
    return b.finish()


def binary(type: str, left: Ref, right: Ref) -> dict[str, object]:
    inputs: dict[str, object] = {"input0": left, "input1": right}
    return inputs if type in ("MAXIMUM", "MINIMUM") else inputs | {"activation": 0}
