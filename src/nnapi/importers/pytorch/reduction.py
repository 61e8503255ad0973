"""Reductions, largest elements and where they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from nnapi.importers.pytorch import rank
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.rank import MAX_RANK
from nnapi.importers.pytorch.shape import transpose
from nnapi.importers.pytorch.tensor import Inexpressible, Tensor
from nnapi.ops.types import B8, F32, I32

Axes = int | Sequence[int] | None


def reduced(e: Emitter, type: str, x: Tensor, axes: Axes, keep: bool = False) -> Tensor:
    """x reduced along `axes` (all where there are none) in its own type."""
    chosen = x.axes(axes)
    kept = tuple(1 if i in chosen else d for i, d in enumerate(x.shape))
    shape = kept if keep else tuple(d for i, d in enumerate(x.shape) if i not in chosen)
    if x.rank > MAX_RANK:
        return e.reshape(_reduced_in_steps(e, type, x, chosen), shape)
    return e.reshape(_written(e, type, x, chosen, keep), shape) if x.rank else x


def _reduced_in_steps(e: Emitter, type: str, x: Tensor, axes: Sequence[int]) -> Tensor:
    """x of any rank reduced along `axes`: at once where few enough dimensions are left of it, else run after run."""
    view, chosen = rank.runs(x.shape, axes)
    y = e.viewed(x, view)
    if len(view) <= MAX_RANK:
        return _written(e, type, y, chosen, keep=False) if chosen else y
    for axis in chosen:
        part, at = e.around(y, axis)
        view = (*view[:axis], 1, *view[axis + 1 :])
        y = e.viewed(_written(e, type, part, at, keep=True), view)
    return y


def _written(e: Emitter, type: str, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return e.add(type, input=x, axes=axes, keep_dims=int(keep) if type == "MEAN" else keep)


def reduction(type: str) -> Callable[..., Tensor]:
    """An operator (x, axes, keepdim) that is one operation."""

    def write(e: Emitter, x: Tensor, axes: Axes = None, keep: bool = False, **_: Any) -> Tensor:
        return reduced(e, type, e.cast(x, e.type), axes, keep)

    return write


def logical_reduction(type: str) -> Callable[..., Tensor]:
    """Whether all or any is true."""

    def write(e: Emitter, x: Tensor, axes: Axes = None, keep: bool = False) -> Tensor:
        return e.cast(reduced(e, type, e.cast(x, B8), axes, keep), e.type)

    return write


def sum(e: Emitter, x: Tensor, axes: Axes = None, keep: bool = False, **_: Any) -> Tensor:
    """NNAPI adds up floats only; integers go through them where they count booleans, and so stay small."""
    if e.type == I32:
        if x.type != B8:
            raise Inexpressible("REDUCE_SUM takes no integers")
        return e.cast(reduced(e, "REDUCE_SUM", e.cast(x, F32), axes, keep), I32)
    return reduced(e, "REDUCE_SUM", e.cast(x, e.type), axes, keep)


def extreme(reduce: str, search: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """The largest or smallest element along an axis, and where it is."""

    def write(e: Emitter, x: Tensor, axis: int, keep: bool = False) -> tuple[Tensor, Tensor]:
        return reduced(e, reduce, x, axis, keep), _found(e, search, x, axis, keep)

    return write


def arg(type: str) -> Callable[..., Tensor]:
    """Where the largest or smallest element is, along an axis or in all."""

    def write(e: Emitter, x: Tensor, axis: int | None = None, keep: bool = False) -> Tensor:
        if axis is None:
            return e.reshape(_found(e, type, e.flat(x), 0, keep), e.shape)
        return _found(e, type, x, axis, keep)

    return write


def _found(e: Emitter, type: str, x: Tensor, axis: int, keep: bool) -> Tensor:
    axis = x.axis(axis)
    shape = (*x.shape[:axis], *([1] if keep else []), *x.shape[axis + 1 :])
    part, (at,) = e.around(x, axis)
    return e.reshape(e.add(type, input=part, axis=at), shape)


def topk(e: Emitter, x: Tensor, k: int, axis: int = -1, largest: bool = True, *_: Any) -> tuple[Tensor, ...]:
    """TOPK_V2 finds the largest along the last axis."""
    axis = x.axis(axis)
    x = x if largest else e.elementwise("NEG", input=x)
    values, indexes = e.add_many("TOPK_V2", input=transpose(e, x, axis, -1), k=k)
    values = values if largest else e.elementwise("NEG", input=values)
    if axis == x.rank - 1:
        return values, indexes
    # TRANSPOSE takes no integers; these are small enough to be floats.
    return transpose(e, values, axis, -1), e.cast(transpose(e, e.cast(indexes, F32), axis, -1), I32)


def sort(e: Emitter, x: Tensor, axis: int = -1, descending: bool = False) -> tuple[Tensor, ...]:
    """All of them, the largest or the smallest first."""
    return topk(e, x, x.size(x.axis(axis)), axis, descending)


def variance(e: Emitter, x: Tensor, axes: Axes = None, keep: bool = False, correction: float = 1) -> Tensor:
    """The mean square distance from the mean, over n - correction."""
    count = rank.product([x.shape[a] for a in x.axes(axes)])
    if count is None:
        raise Inexpressible("over a dimension that is unknown until run time")
    centered = e.binary("SUB", x, reduced(e, "MEAN", x, axes, keep=True))
    y = reduced(e, "MEAN", e.binary("MUL", centered, centered), axes, keep)
    return y if correction == 0 else e.binary("MUL", y, count / (count - correction))


def var(e: Emitter, x: Tensor, axes: Axes = None, *, correction: float | None = 1, keepdim: bool = False) -> Tensor:
    return variance(e, x, axes, keepdim, 1 if correction is None else correction)


def std(e: Emitter, *args: Any, **kwargs: Any) -> Tensor:
    return e.elementwise("SQRT", input=var(e, *args, **kwargs))


def unbiased(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The older overload (x, axes, unbiased, keepdim)."""

    def write(e: Emitter, x: Tensor, axes: Axes = None, unbiased: bool = True, keepdim: bool = False) -> Tensor:
        return function(e, x, axes, correction=int(unbiased), keepdim=keepdim)

    return write


def with_mean(function: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """The overload that gives the mean too."""

    def write(e: Emitter, x: Tensor, axes: Axes = None, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        keep = kwargs.get("keepdim", (*args, False, False)[1])
        return function(e, x, axes, *args, **kwargs), reduced(e, "MEAN", x, axes, keep)

    return write


def norm(e: Emitter, x: Tensor, order: float = 2, axes: Axes = None, keep: bool = False, **_: Any) -> Tensor:
    """Of vectors: the largest, the sum, or the root of the sum of powers of absolute values."""
    size = e.elementwise("ABS", input=x) if order != 2 else x
    match float(order):
        case math.inf:
            return reduced(e, "REDUCE_MAX", size, axes, keep)
        case 1.0:
            return reduced(e, "REDUCE_SUM", size, axes, keep)
        case 2.0:
            return e.elementwise("SQRT", input=reduced(e, "REDUCE_SUM", e.binary("MUL", x, x), axes, keep))
    raise Inexpressible(f"a norm of order {order}")


FUNCTIONS = {
    "aten.mean.default": reduction("MEAN"),
    "aten.mean.dim": reduction("MEAN"),
    "aten.sum.default": sum,
    "aten.sum.dim_IntList": sum,
    "aten.amax.default": reduction("REDUCE_MAX"),
    "aten.amin.default": reduction("REDUCE_MIN"),
    "aten.max.default": reduction("REDUCE_MAX"),
    "aten.min.default": reduction("REDUCE_MIN"),
    "aten.prod.default": reduction("REDUCE_PROD"),
    "aten.prod.dim_int": reduction("REDUCE_PROD"),
    "aten.all.default": logical_reduction("REDUCE_ALL"),
    "aten.all.dim": logical_reduction("REDUCE_ALL"),
    "aten.any.default": logical_reduction("REDUCE_ANY"),
    "aten.any.dim": logical_reduction("REDUCE_ANY"),
    "aten.max.dim": extreme("REDUCE_MAX", "ARGMAX"),
    "aten.min.dim": extreme("REDUCE_MIN", "ARGMIN"),
    "aten.argmax.default": arg("ARGMAX"),
    "aten.argmin.default": arg("ARGMIN"),
    "aten.topk.default": topk,
    "aten.sort.default": sort,
    "aten.var_mean.correction": with_mean(var),
    "aten.var_mean.dim": with_mean(unbiased(var)),
    "aten.std_mean.correction": with_mean(std),
    "aten.std_mean.dim": with_mean(unbiased(std)),
    "aten.var.correction": var,
    "aten.var.dim": unbiased(var),
    "aten.var.default": lambda e, x, over_one=True: unbiased(var)(e, x, None, over_one),
    "aten.std.correction": std,
    "aten.std.dim": unbiased(std),
    "aten.std.default": lambda e, x, over_one=True: unbiased(std)(e, x, None, over_one),
    "aten.linalg_vector_norm.default": norm,
}
