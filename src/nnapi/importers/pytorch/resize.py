"""Upsampling and other resampling of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.linear import linear
from nnapi.importers.pytorch.tensor import Inexpressible, Tensor
from nnapi.ops.types import Q8

MAX_MATRIX = 1 << 24
"""Elements of the largest matrix that resampling may become."""
Resampling = Callable[[torch.Tensor], torch.Tensor]


def resampled(e: Emitter, x: Tensor, axis: int, function: Resampling) -> Tensor:
    """x with `function` applied along one axis, which is linear and so a matrix: what it makes of unit vectors.

    `function` takes an image [1, 1, size, size] and resamples its height only.
    """
    size = x.size(axis)
    matrix = function(torch.eye(size)[None, None])[0, 0]
    if matrix.numel() > MAX_MATRIX:
        raise Inexpressible(f"a matrix of {tuple(matrix.shape)} would be too large")
    order = [*(a for a in range(x.rank) if a != axis), axis]
    y = linear(e, e.permute(x, order), e.like(matrix, x))
    return e.permute(y, [order.index(a) for a in range(x.rank)])


def upsample(kind: str, dimensions: int, nnapi: str = "") -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """The two overloads of an upsampling: scales as one list (vec), or one by one behind the other arguments (default).

    `nnapi` is the operation that does the same, where there is one; else it becomes two matrix products.
    """
    has_corners = "nearest" not in kind

    def vec(e: Emitter, x: Tensor, size: Any, *args: Any) -> Tensor:
        *corners, scales = args
        return write(e, x, bool(corners and corners[0]), scales or [None] * dimensions)

    def default(e: Emitter, x: Tensor, size: Any, *args: Any) -> Tensor:
        corners, scales = (args[:1], args[1:]) if has_corners else ((), args)
        return write(e, x, bool(corners and corners[0]), [*scales, *[None] * dimensions][:dimensions])

    def write(e: Emitter, x: Tensor, corners: bool, scales: Sequence[float | None]) -> Tensor:
        if x.type == Q8 and has_corners:
            raise Inexpressible("weighs bytes, which PyTorch rounds in a way of its own")
        if None in e.shape[2:]:
            return by_scale(e, x, corners, scales)
        image = x if dimensions == 2 else e.reshape(x, (*x.shape[:2], 1, x.shape[2]))
        target = [d or 0 for d in e.shape[2:]] if dimensions == 2 else [1, e.shape[2] or 0]
        factors = [*[None] * (2 - dimensions), *scales]
        if nnapi and (corners or _is_plain(image, target, factors)):
            half = kind in ("bilinear", "nearest_exact") and not corners
            y = e.add(
                nnapi, input=image, width=target[1], height=target[0], layout=True, **_centers(corners, half)
            )  # fmt: skip
        else:
            y = image
            for axis, size, factor in zip((2, 3), target, factors):
                if image.shape[axis] != size or (factor is not None and not corners):
                    y = resampled(e, y, axis, _resampling(kind, size, corners if has_corners else None, factor))
        return e.reshape(y, e.shape)

    def by_scale(e: Emitter, x: Tensor, corners: bool, scales: Sequence[float | None]) -> Tensor:
        if not nnapi or dimensions != 2 or corners or None in scales:
            raise Inexpressible("resizes to a size that is unknown until run time")
        given = {"width_scale": scales[1], "height_scale": scales[0]}
        half = kind in ("bilinear", "nearest_exact")
        return e.reshape(e.add(nnapi, input=x, **given, layout=True, **_centers(corners, half)), e.shape)

    return vec, default


def _centers(corners: bool, half: bool) -> dict[str, bool]:
    """Left out where both are false: then a lower feature level does."""
    return {"align_corners": corners, "half_pixel_centers": half} if corners or half else {}


def _is_plain(x: Tensor, target: Sequence[int], factors: Sequence[float | None]) -> bool:
    """Whether the sizes say the scale: PyTorch uses a given one even where the size it leads to was rounded."""
    return all(f is None or x.size(2 + i) * f == target[i] for i, f in enumerate(factors))


def _resampling(kind: str, size: int, corners: bool | None, factor: float | None) -> Resampling:
    name = {"nearest_exact": "_upsample_nearest_exact2d"}.get(kind, f"upsample_{kind}2d")
    name = f"_upsample_{kind.removesuffix('_aa')}2d_aa" if kind.endswith("_aa") else name
    overload = getattr(torch.ops.aten, name).default
    between = () if corners is None else (corners,)
    return lambda eye: overload(eye, [size, eye.shape[-1]], *between, factor, None)


def _functions() -> dict[str, Callable[..., Tensor]]:
    table: dict[str, Callable[..., Tensor]] = {}
    for name, kind, dimensions, nnapi in (
        ("upsample_nearest2d", "nearest", 2, "RESIZE_NEAREST_NEIGHBOR"),
        ("upsample_nearest1d", "nearest", 1, "RESIZE_NEAREST_NEIGHBOR"),
        ("_upsample_nearest_exact2d", "nearest_exact", 2, "RESIZE_NEAREST_NEIGHBOR"),
        ("_upsample_nearest_exact1d", "nearest_exact", 1, "RESIZE_NEAREST_NEIGHBOR"),
        ("upsample_bilinear2d", "bilinear", 2, "RESIZE_BILINEAR"),
        ("upsample_linear1d", "bilinear", 1, "RESIZE_BILINEAR"),
        ("upsample_bicubic2d", "bicubic", 2, ""),
        ("_upsample_bilinear2d_aa", "bilinear_aa", 2, ""),
        ("_upsample_bicubic2d_aa", "bicubic_aa", 2, ""),
    ):
        vec, default = upsample(kind, dimensions, nnapi)
        table |= {f"aten.{name}.vec": vec, f"aten.{name}.default": default}
    return table


FUNCTIONS = _functions()
