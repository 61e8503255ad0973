"""Looking up by index: embeddings, selections, reversals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nnapi.importers.pytorch import rank
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.slicing import take
from nnapi.importers.pytorch.tensor import Inexpressible, Tensor
from nnapi.ops.types import B8, I32


def embedding(e: Emitter, weight: Tensor, indexes: Tensor, *_: Any) -> Tensor:
    """weight [V, D], indexes [...] -> [..., D]; the padding index matters in training only."""
    return take(e, weight, 0, indexes)


def index_select(e: Emitter, x: Tensor, axis: int, indexes: Tensor) -> Tensor:
    return take(e, x, x.axis(axis), indexes if indexes.rank else e.reshape(indexes, (1,)))


def index(e: Emitter, x: Tensor, indexes: Sequence[Tensor | None]) -> Tensor:
    """x[:, i, j]: neighbouring dimensions by tensors of indexes, the others whole.

    The indexed dimensions become one, and the indexes places in that: i * size + j.
    """
    given = [(axis, i) for axis, i in enumerate(indexes) if i is not None]
    first, count = given[0][0], len(given)
    if any(i.type == B8 for _, i in given) or [axis for axis, _ in given] != list(range(first, first + count)):
        raise Inexpressible("GATHER takes indexes along one dimension or neighbours, and no masks")
    places = _from_the_front(e, given[0][1], x.size(first))
    for axis, i in given[1:]:
        places = _sum(e, _scaled(e, places, x.size(axis)), _from_the_front(e, i, x.size(axis)))
    merged = (*x.shape[:first], rank.product(x.shape[first : first + count]), *x.shape[first + count :])
    return take(e, e.viewed(x, merged), first, places)


def _scaled(e: Emitter, indexes: Tensor, factor: int) -> Tensor:
    return e.indexes(indexes.value * factor) if indexes.is_constant else e.binary("MUL", indexes, factor)


def _sum(e: Emitter, x: Tensor, y: Tensor) -> Tensor:
    return e.indexes(x.value + y.value) if x.is_constant and y.is_constant else e.binary("ADD", x, y)


def _from_the_front(e: Emitter, indexes: Tensor, size: int) -> Tensor:
    """Indexes of which negative ones count from the end, which NNAPI's do not."""
    if indexes.is_constant:
        return e.indexes(indexes.value % size)
    is_negative = e.elementwise("LESS", input0=indexes, input1=e.like(0, indexes))
    return e.binary("ADD", indexes, e.binary("MUL", e.cast(is_negative, I32), size))


def repeat_interleave(e: Emitter, x: Tensor, count: int, axis: int | None = None, **_: Any) -> Tensor:
    """Each element `count` times."""
    if axis is None:
        x, axis = e.flat(x), 0
    axis = x.axis(axis)
    return take(e, x, axis, torch.arange(x.size(axis)).repeat_interleave(count))


def flip(e: Emitter, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Backwards along each axis: a GATHER, for REVERSE needs a far higher feature level."""
    for axis in x.axes(axes) if axes else ():
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
