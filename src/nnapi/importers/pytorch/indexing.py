"""Looking up by index: embeddings, selections, reversals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.slicing import take
from nnapi.importers.pytorch.tensor import Inexpressible, Tensor
from nnapi.ops.numeric import NONE
from nnapi.ops.types import B8, I32


def embedding(e: Emitter, weight: Tensor, indexes: Tensor, *_: Any) -> Tensor:
    """weight [V, D], indexes [...] -> [..., D]; the padding index matters in training only."""
    return take(e, weight, 0, indexes)


def index_select(e: Emitter, x: Tensor, axis: int, indexes: Tensor) -> Tensor:
    return take(e, x, x.axis(axis), indexes if indexes.rank else e.reshape(indexes, (1,)))


def index(e: Emitter, x: Tensor, indexes: Sequence[Tensor | None]) -> Tensor:
    """x[:, i]: one dimension by a tensor of indexes, the others whole."""
    given = [(axis, i) for axis, i in enumerate(indexes) if i is not None]
    if len(given) != 1 or given[0][1].type == B8:
        raise Inexpressible("GATHER takes indexes along one dimension, and no masks")
    axis, at = given[0]
    return take(e, x, axis, _from_the_front(e, at, x.size(axis)))


def _from_the_front(e: Emitter, indexes: Tensor, size: int) -> Tensor:
    """Indexes of which negative ones count from the end, which NNAPI's do not."""
    if indexes.is_constant:
        return e.indexes(indexes.value % size)
    is_negative = e.elementwise("LESS", input0=indexes, input1=e.like(0, indexes))
    shift = e.binary("MUL", e.cast(is_negative, I32), size)
    return e.elementwise("ADD", input0=indexes, input1=shift, activation=NONE)


def repeat_interleave(e: Emitter, x: Tensor, count: int, axis: int | None = None, **_: Any) -> Tensor:
    """Each element `count` times."""
    if axis is None:
        x, axis = e.flat(x), 0
    axis = x.axis(axis)
    return take(e, x, axis, torch.arange(x.size(axis)).repeat_interleave(count))


def flip(e: Emitter, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Backwards along each axis: a GATHER, for REVERSE needs a far higher feature level."""
    for axis in x.axes(axes):
        x = take(e, x, axis, torch.arange(x.size(axis) - 1, -1, -1))
    return x


FUNCTIONS = {
    "aten.embedding.default": embedding,
    "aten.index_select.default": index_select,
    "aten.index.Tensor": index,
    "aten._unsafe_index.Tensor": index,
    "aten.repeat_interleave.self_int": repeat_interleave,
    "aten.flip.default": flip,
    "aten.fliplr.default": lambda e, x: flip(e, x, [1]),
    "aten.flipud.default": lambda e, x: flip(e, x, [0]),
}
