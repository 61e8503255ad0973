"""Slices, pieces, joins and padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.rank import Dims
from nnapi.importers.pytorch.tensor import Inexpressible, Tensor, empty

LAST = 2**63 - 1
"""Where PyTorch's slices end that go to the end."""


def resized(shape: Dims, axis: int, *sizes: int | None) -> Dims:
    """`shape` with other dimensions, or none, in place of one."""
    return (*shape[:axis], *sizes, *shape[axis + 1 :])


def window(e: Emitter, x: Tensor, axis: int, begin: int, size: int | None) -> Tensor:
    """`size` elements from `begin` on along `axis`; along one whose size is unknown, below 0 counts from its end."""
    shape = resized(x.shape, axis, size)
    if x.shape == shape and not begin:
        return x
    if size == 0:
        return empty(shape, x.type)
    if x.is_constant:
        return Tensor(shape, x.type, value=x.value.narrow(axis, begin, size))
    if begin < 0:
        return _strided(e, x, axis, begin, None if size is None else begin + size or None, size)
    part, (at,) = e.around(x, axis)
    begins, sizes = [0] * part.rank, [-1] * part.rank
    begins[at], sizes[at] = begin, -1 if size is None else size
    return e.viewed(e.add("SLICE", input=part, begin=begins, size=sizes), shape)


def _strided(e: Emitter, x: Tensor, axis: int, begin: int | None, end: int | None, size: int | None) -> Tensor:
    """x[begin:end] along `axis`, `size` elements; bounds below 0 count from the end."""
    part, (at,) = e.around(x, axis)
    others = sum(1 << a for a in range(part.rank) if a != at)
    begins, ends = ([(bound or 0) if a == at else 0 for a in range(part.rank)] for bound in (begin, end))
    y = e.add(
        "STRIDED_SLICE", input=part, begin=begins, end=ends, strides=[1] * part.rank,
        begin_mask=others | (begin is None) << at, end_mask=others | (end is None) << at, shrink_axis_mask=0,
    )  # fmt: skip
    return e.viewed(y, resized(x.shape, axis, size))


def take(e: Emitter, x: Tensor, axis: int, indexes: torch.Tensor | Tensor) -> Tensor:
    """The elements with these indexes [...] along `axis`, whose dimensions come in its place."""
    indexes = indexes if isinstance(indexes, Tensor) else e.indexes(indexes)
    shape = resized(x.shape, axis, *indexes.shape)
    if len(shape) <= 4 and x.rank <= 4:
        return e.viewed(e.add("GATHER", input=x, axis=axis, indices=indexes), shape)
    part, (at,) = e.around(x, axis)
    return e.viewed(e.add("GATHER", input=part, axis=at, indices=e.flat(indexes)), shape)


def slice(
    e: Emitter, x: Tensor, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """x[start:end:step] along `axis`."""
    axis = x.axis(axis)
    if not start and end in (None, LAST) and step == 1:
        return x
    if x.shape[axis] is None and step == 1:
        return _open_slice(e, x, axis, start or 0, end)
    inside = range(x.size(axis))[start:end]
    if step == 1:
        return window(e, x, axis, inside.start, len(inside))
    return take(e, x, axis, torch.tensor(inside[::step]))


def _open_slice(e: Emitter, x: Tensor, axis: int, start: int, end: int | None) -> Tensor:
    """x[start:end] along an axis whose size is unknown until run time."""
    size = e.shape[axis]
    if size is not None or end in (None, LAST):
        return window(e, x, axis, start, size)
    if start == 0 and end is not None and end < 0:
        return _strided(e, x, axis, None, end, None)
    raise Inexpressible(f"x[{start}:{end}] of a size that is unknown until run time")


def select(e: Emitter, x: Tensor, axis: int, index: int) -> Tensor:
    """x[index] along `axis`, which goes."""
    axis = x.axis(axis)
    size = x.shape[axis]
    return e.reshape(window(e, x, axis, index if size is None else index % size, 1), resized(x.shape, axis))


def narrow(e: Emitter, x: Tensor, axis: int, start: int, length: int) -> Tensor:
    axis = x.axis(axis)
    return window(e, x, axis, start % x.size(axis) if start < 0 else start, length)


def pieces(e: Emitter, x: Tensor, axis: int, sizes: Sequence[int]) -> list[Tensor]:
    """x cut along `axis`: one SPLIT where all pieces are equal, else slices."""
    if len(sizes) > 1 and len(set(sizes)) == 1 and not x.is_constant:
        part, (at,) = e.around(x, axis)
        written = e.add_many("SPLIT", input=part, axis=at, num_splits=len(sizes))
        return [e.viewed(p, resized(x.shape, axis, sizes[0])) for p in written]
    return [window(e, x, axis, sum(sizes[:i]), size) for i, size in enumerate(sizes)]


def split(e: Emitter, x: Tensor, size: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    axis = x.axis(axis)
    if not isinstance(size, int):
        return pieces(e, x, axis, size)
    total = x.size(axis)
    return pieces(e, x, axis, [min(size, total - start) for start in range(0, total, size)])


def chunk(e: Emitter, x: Tensor, count: int, axis: int = 0) -> list[Tensor]:
    return split(e, x, -(-x.size(x.axis(axis)) // count), axis)


def tensor_split(e: Emitter, x: Tensor, count: int, axis: int = 0) -> list[Tensor]:
    """So many pieces, the first ones larger by one where it does not divide."""
    axis = x.axis(axis)
    size, rest = divmod(x.size(axis), count)
    return pieces(e, x, axis, [size + (i < rest) for i in range(count)])


def unbind(e: Emitter, x: Tensor, axis: int = 0) -> list[Tensor]:
    axis = x.axis(axis)
    return [e.reshape(p, resized(x.shape, axis)) for p in pieces(e, x, axis, [1] * x.size(axis))]


def join(e: Emitter, tensors: Sequence[Tensor], axis: int) -> Tensor:
    """All of them, one behind the other along `axis`."""
    if len(tensors) == 1:
        return tensors[0]
    sizes = [t.shape[axis] for t in tensors]
    shape = resized(tensors[0].shape, axis, None if None in sizes else sum(s for s in sizes if s))
    parts = [e.around(t, axis) for t in tensors]
    joined = e.add("CONCATENATION", inputs=[part for part, _ in parts], axis=parts[0][1][0])
    return e.viewed(joined, shape)


def cat(e: Emitter, tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """`join` of what has elements."""
    tensors = [e.cast(t, e.type) for t in tensors if not t.is_empty]
    return join(e, tensors, tensors[0].axis(axis))


def stack(e: Emitter, tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    axis = axis % len(e.shape)
    return join(e, [e.reshape(e.cast(t, e.type), resized(e.shape, axis, 1)) for t in tensors], axis)


def roll(e: Emitter, x: Tensor, shifts: int | Sequence[int], axes: int | Sequence[int] = ()) -> Tensor:
    """What leaves at one end comes back at the other."""
    amounts = [shifts] if isinstance(shifts, int) else list(shifts)
    places = [axes] if isinstance(axes, int) else list(axes)
    y = x if places else e.flat(x)
    for amount, place in zip(amounts, places or [0]):
        axis = y.axis(place)
        size = y.size(axis)
        at = -amount % size
        if at:
            y = join(e, [window(e, y, axis, at, size - at), window(e, y, axis, 0, at)], axis)
    return e.reshape(y, x.shape)


def slice_scatter(
    e: Emitter, x: Tensor, part: Tensor, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """x with x[start:end] replaced."""
    if step != 1:
        raise Inexpressible(f"step is {step}, must be 1")
    axis = x.axis(axis)
    inside = range(x.size(axis))[start:end]
    before = window(e, x, axis, 0, inside.start)
    behind = window(e, x, axis, inside.stop, x.size(axis) - inside.stop)
    return join(e, [t for t in (before, e.cast(part, x.type), behind) if not t.is_empty], axis)


def select_scatter(e: Emitter, x: Tensor, part: Tensor, axis: int, index: int) -> Tensor:
    """x with x[index] along `axis` replaced."""
    axis = x.axis(axis)
    index = index % x.size(axis)
    return slice_scatter(e, x, e.reshape(part, resized(x.shape, axis, 1)), axis, index, index + 1)


def pad(e: Emitter, x: Tensor, amounts: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Amounts from the last dimension to the first, in front and behind; negative ones cut."""
    given = list(zip(amounts[::2], amounts[1::2]))[::-1]
    edges = dict(enumerate(given, x.rank - len(given)))
    if mode != "constant":
        return _pad_with_itself(e, x, edges, mode)
    for axis, (front, behind) in edges.items():
        if min(front, behind) < 0:
            x = window(e, x, axis, max(-front, 0), x.size(axis) + min(front, 0) + min(behind, 0))
    return padded(e, x, {a: (max(front, 0), max(behind, 0)) for a, (front, behind) in edges.items()}, value or 0.0)


def padded(e: Emitter, x: Tensor, edges: dict[int, tuple[int, int]], value: float = 0.0) -> Tensor:
    """So many constants in front and behind along each axis: PAD, or PAD_V2 where they are not 0."""
    edges = {axis: amounts for axis, amounts in edges.items() if any(amounts)}
    if not edges:
        return x
    shape = tuple(None if d is None else d + sum(edges.get(i, ())) for i, d in enumerate(x.shape))
    part, places = e.around(x, *edges)
    rows = [[0, 0] for _ in range(part.rank)]
    for place, amounts in zip(places, edges.values()):
        rows[place] = list(amounts)
    given = {"input": part, "paddings": e.indexes(torch.tensor(rows))}
    return e.viewed(e.add("PAD_V2", **given, pad_value=value) if value else e.add("PAD", **given), shape)


def _pad_with_itself(e: Emitter, x: Tensor, edges: dict[int, tuple[int, int]], mode: str) -> Tensor:
    """Reflected, replicated or wrapped: along each axis a GATHER of the elements that come there."""
    for axis, (front, behind) in edges.items():
        size = x.size(axis)
        at = torch.arange(-front, size + behind)
        if mode == "reflect":
            at = size - 1 - (size - 1 - at.abs()).abs()
        elif mode == "replicate":
            at = at.clamp(0, size - 1)
        else:
            at = at % size
        if front or behind:
            x = take(e, x, axis, at)
    return x


def padding(mode: str) -> Callable[[Emitter, Tensor, Sequence[int]], Tensor]:
    """An operator that says its mode in its name."""
    return lambda e, x, amounts: pad(e, x, amounts, mode)


FUNCTIONS = {
    "aten.slice.Tensor": slice,
    "aten.slice_copy.Tensor": slice,
    "aten.select.int": select,
    "aten.select_copy.int": select,
    "aten.narrow.default": narrow,
    "aten.narrow_copy.default": narrow,
    "aten.split.Tensor": split,
    "aten.split.sizes": split,
    "aten.split_copy.Tensor": split,
    "aten.split_with_sizes.default": split,
    "aten.split_with_sizes_copy.default": split,
    "aten.unsafe_split.Tensor": split,
    "aten.chunk.default": chunk,
    "aten.unsafe_chunk.default": chunk,
    "aten.tensor_split.sections": tensor_split,
    "aten.unbind.int": unbind,
    "aten.unbind_copy.int": unbind,
    "aten.cat.default": cat,
    "aten.concat.default": cat,
    "aten.concatenate.default": cat,
    "aten.stack.default": stack,
    "aten.roll.default": roll,
    "aten.slice_scatter.default": slice_scatter,
    "aten.select_scatter.default": select_scatter,
    "aten.pad.default": pad,
    "aten.constant_pad_nd.default": lambda e, x, amounts, value=0: pad(e, x, amounts, "constant", float(value)),
    **{f"aten.reflection_pad{n}d.default": padding("reflect") for n in (1, 2, 3)},
    **{f"aten.replication_pad{n}d.default": padding("replicate") for n in (1, 2, 3)},
}  # fmt: skip
