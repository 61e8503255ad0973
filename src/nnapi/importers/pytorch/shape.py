"""Views, transposes, expansion and type changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NoReturn

import torch

from nnapi.errors import ModelError
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.tensor import Inexpressible, Tensor, Unknown


def view(e: Emitter, x: Tensor, *_: Any) -> Tensor:
    """Any reshape: the shape of the result says it all."""
    return e.reshape(x, e.shape)


def expand(e: Emitter, x: Tensor, *_: Any, **__: Any) -> Tensor:
    return e.expand(x, e.shape)


def permute(e: Emitter, x: Tensor, order: Sequence[int]) -> Tensor:
    return e.permute(x, order)


def transpose(e: Emitter, x: Tensor, one: int = 0, other: int = 1) -> Tensor:
    if x.rank < 2:
        return x
    order = list(range(x.rank))
    one, other = x.axis(one), x.axis(other)
    order[one], order[other] = other, one
    return e.permute(x, order)


def matrix_transpose(e: Emitter, x: Tensor) -> Tensor:
    return transpose(e, x, -1, -2)


def movedim(e: Emitter, x: Tensor, source: int | Sequence[int], target: int | Sequence[int]) -> Tensor:
    sources, targets = ([x.axis(a) for a in ([v] if isinstance(v, int) else v)] for v in (source, target))
    places = dict(zip(targets, sources))
    rest = iter(a for a in range(x.rank) if a not in sources)
    return e.permute(x, [places[a] if a in places else next(rest) for a in range(x.rank)])


def identity(e: Emitter, x: Tensor, *_: Any, **__: Any) -> Tensor:
    """Memory, autograd and devices are no part of a model."""
    return x


def to(e: Emitter, x: Tensor, *_: Any, **__: Any) -> Tensor:
    """Another type; the device and the memory format are no part of a model."""
    return e.cast(x, e.type)


def repeat(e: Emitter, x: Tensor, counts: Sequence[int]) -> Tensor:
    """The whole tensor, so many times along each dimension."""
    x = e.viewed(x, (1,) * (len(counts) - x.rank) + x.shape)
    if any(isinstance(c, Unknown) for c in counts):
        shape = tuple(e.shape[i] if isinstance(c, Unknown) else d for i, (d, c) in enumerate(zip(x.shape, counts)))
        x = e.expand(x, shape) if all(a == b or a == 1 for a, b in zip(x.shape, shape)) else _refuse_counts()
        counts = [1 if isinstance(c, Unknown) else c for c in counts]
    return _tiled(e, x, counts)


def _refuse_counts() -> NoReturn:
    raise ModelError(
        "repeats a dimension as often as is known at run time only", hint="export with fixed sizes, or expand size 1"
    )


def _tiled(e: Emitter, x: Tensor, counts: Sequence[int]) -> Tensor:
    if all(c == 1 for c in counts):
        return x
    if x.is_constant:
        return Tensor(e.shape, x.type, value=x.value.repeat(*counts))
    return e.add("TILE", input=x, multiples=list(counts))


def tile(e: Emitter, x: Tensor, counts: Sequence[int]) -> Tensor:
    return repeat(e, x, [1] * (x.rank - len(counts)) + list(counts))


def pixel_shuffle(e: Emitter, x: Tensor, factor: int) -> Tensor:
    """x [N, C * f * f, H, W] -> [N, C, H * f, W * f].

    NNAPI's DEPTH_TO_SPACE has the channels last in a block's depth, PyTorch first: a GATHER puts them in order.
    """
    x = _as_image(e, x)
    channels = x.size(1) // factor**2
    order = torch.arange(x.size(1)).reshape(channels, factor, factor).permute(1, 2, 0).flatten()
    x = gathered(e, x, order)
    y = e.add("DEPTH_TO_SPACE", input=x, block_size=factor, layout=True)
    return e.reshape(y, e.shape)


def pixel_unshuffle(e: Emitter, x: Tensor, factor: int) -> Tensor:
    """x [N, C, H * f, W * f] -> [N, C * f * f, H, W]."""
    x = _as_image(e, x)
    y = e.add("SPACE_TO_DEPTH", input=x, block_size=factor, layout=True)
    order = torch.arange(y.size(1)).reshape(factor, factor, x.size(1)).permute(2, 0, 1).flatten()
    return e.reshape(gathered(e, y, order), e.shape)


def gathered(e: Emitter, x: Tensor, order: torch.Tensor) -> Tensor:
    """x's channels in another order."""
    if torch.equal(order, torch.arange(len(order))):
        return x
    return e.add("GATHER", input=x, axis=1, indices=e.indexes(order))


def channel_shuffle(e: Emitter, x: Tensor, groups: int) -> Tensor:
    return e.add("CHANNEL_SHUFFLE", input=x, num_groups=groups, axis=1)


def _as_image(e: Emitter, x: Tensor) -> Tensor:
    """x [..., C, H, W] -> [N, C, H, W]."""
    if x.rank < 3:
        raise Inexpressible(f"rank {x.rank}, takes images")
    return e.images(x, 3)


OF_THE_RESULT: Final = frozenset((view, expand, repeat))
"""They look at the result's shape, and at sizes given only where these are known."""

FUNCTIONS = {
    **dict.fromkeys((
        "aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.flatten.using_ints",
        "aten.unflatten.int", "aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims", "aten.unsqueeze.default",
        "aten.view_as.default", "aten.reshape_as.default", "aten.ravel.default", "aten.atleast_1d.default",
        "aten.view_copy.default", "aten._reshape_alias.default", "aten.squeeze_copy.dim", "aten.unsqueeze_copy.default",
    ), view),
    "aten.expand.default": expand,
    "aten.expand_as.default": expand,
    "aten.expand_copy.default": expand,
    "aten.broadcast_to.default": expand,
    "aten.permute.default": permute,
    "aten.permute_copy.default": permute,
    "aten.transpose.int": transpose,
    "aten.swapaxes.default": transpose,
    "aten.swapdims.default": transpose,
    "aten.t.default": transpose,
    "aten.numpy_T.default": lambda e, x: e.permute(x, range(x.rank)[::-1]),
    "aten.mT.default": matrix_transpose,
    "aten.adjoint.default": matrix_transpose,
    "aten.movedim.int": movedim,
    "aten.movedim.intlist": movedim,
    "aten.moveaxis.int": movedim,
    "aten.moveaxis.intlist": movedim,
    **dict.fromkeys((
        "aten.contiguous.default", "aten.clone.default", "aten.detach.default", "aten.alias.default",
        "aten.lift_fresh.default", "aten.lift_fresh_copy.default", "aten.lift.default", "aten.detach_.default",
        "aten.positive.default", "aten.resolve_conj.default", "aten.resolve_neg.default", "aten.real.default",
        "aten.view.dtype", "aten.cpu.default",
    ), identity),
    **dict.fromkeys((
        "aten.to.dtype", "aten.to.dtype_layout", "aten.to.device", "aten.to.other", "aten._to_copy.default",
        "aten.type_as.default", "aten._to_cpu.default",
    ), to),
    "aten.repeat.default": repeat,
    "aten.tile.default": tile,
    "aten.pixel_shuffle.default": pixel_shuffle,
    "aten.pixel_unshuffle.default": pixel_unshuffle,
    "aten.channel_shuffle.default": channel_shuffle,
    "aten.native_channel_shuffle.default": channel_shuffle,
}  # fmt: skip
