"""Random uses of the operators with the most parameters, against PyTorch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from .conftest import agree, extensions

SUMS = 1e-5
SOME = settings(max_examples=12, deadline=None, derandomize=True)

sizes = st.integers(1, 7)
few = st.integers(1, 3)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """Any stride, padding, dilation and groups that leave an output."""
    groups, share, filters = draw(few), draw(few), draw(few)
    kernel, stride, dilation = ((draw(few), draw(few)) for _ in range(3))
    padding = (draw(st.integers(0, 4)), draw(st.integers(0, 4)))
    image = [max(draw(sizes), (k - 1) * d + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding)]
    module = nn.Conv2d(
        groups * share, groups * filters, kernel, stride, padding, dilation, groups, draw(st.booleans())
    )  # fmt: skip
    return module, (draw(few), groups * share, *image)


@given(convolutions())
@SOME
def test_convolutions(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    module, shape = case
    assert extensions(agree(module, [shape], SUMS)) == []


@st.composite
def transposed(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """Any output padding below the stride or the dilation, as PyTorch asks."""
    groups, share, filters = draw(st.integers(1, 2)), draw(few), draw(few)
    kernel, stride, dilation = ((draw(few), draw(few)) for _ in range(3))
    extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation))
    image = [draw(st.integers(2, 5)) for _ in range(2)]
    full = [(n - 1) * s + (k - 1) * d + o for n, s, k, d, o in zip(image, stride, kernel, dilation, extra)]
    padding = tuple(draw(st.integers(0, min(f // 2, 3))) for f in full)
    module = nn.ConvTranspose2d(
        groups * share, groups * filters, kernel, stride, padding, extra, groups, draw(st.booleans()), dilation
    )  # fmt: skip
    return module, (draw(few), groups * share, *image)


@given(transposed())
@SOME
def test_transposed_convolutions(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    module, shape = case
    assert extensions(agree(module, [shape], SUMS)) == []


@st.composite
def pools(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    kernel = (draw(few), draw(few))
    given: dict[str, Any] = {
        "stride": (draw(few), draw(few)), "padding": tuple(draw(st.integers(0, k // 2)) for k in kernel),
        "ceil_mode": draw(st.booleans()),
    }  # fmt: skip
    shape = (draw(few), 2, draw(st.integers(3, 8)), draw(st.integers(3, 8)))
    if draw(st.booleans()):
        return nn.MaxPool2d(kernel, **given), shape
    divisor = draw(st.sampled_from([None, 3]))
    return nn.AvgPool2d(kernel, **given, count_include_pad=draw(st.booleans()), divisor_override=divisor), shape


@given(pools())
@SOME
def test_pools(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    module, shape = case
    assert extensions(agree(module, [shape], SUMS)) == []


MODES = ["nearest", "nearest-exact", "bilinear", "bicubic", "area"]


@given(st.sampled_from(MODES), st.tuples(sizes, sizes), st.tuples(sizes, sizes), st.booleans())
@SOME
def test_resizes(mode: str, image: tuple[int, int], size: tuple[int, int], corners: bool) -> None:
    align = corners if mode in ("bilinear", "bicubic") else None
    model = agree(lambda x: F.interpolate(x, size, mode=mode, align_corners=align), [(1, 2, *image)], SUMS)
    assert extensions(model) == []


@given(st.sampled_from(["nearest", "bilinear", "bicubic"]), st.tuples(sizes, sizes), st.floats(0.5, 3.0))
@SOME
def test_resizes_by_a_factor(mode: str, image: tuple[int, int], factor: float) -> None:
    if min(image) * factor < 1:
        return
    agree(lambda x: F.interpolate(x, scale_factor=factor, mode=mode), [(1, 2, *image)], 5e-5)  # weights in float32


@st.composite
def slices(draw: st.DrawFn) -> tuple[tuple[slice | int, ...], tuple[int, ...]]:
    shape = tuple(draw(st.integers(2, 5)) for _ in range(draw(st.integers(1, 4))))
    index: list[slice | int] = []
    for size in shape:
        if draw(st.booleans()):
            index.append(draw(st.integers(-size, size - 1)))
        else:
            start = draw(st.integers(-size, size - 1))
            stop = draw(st.integers(start % size + 1, size + 2))
            index.append(slice(start, stop, draw(few)))
    return tuple(index), shape


@given(slices())
@SOME
def test_slices(case: tuple[tuple[slice | int, ...], tuple[int, ...]]) -> None:
    index, shape = case
    agree(lambda x: x[index] + 0, [shape], 0.0)


@given(st.data(), st.lists(st.integers(1, 3), min_size=1, max_size=6))
@SOME
def test_permutations_between_views(data: st.DataObject, shape: list[int]) -> None:
    order = data.draw(st.permutations(range(len(shape))))
    agree(lambda x: (x.view(shape).permute(order) * 2).flatten(), [(torch.Size(shape).numel(),)], 0.0)


@given(st.data(), st.lists(st.integers(1, 3), min_size=1, max_size=6), st.booleans())
@SOME
def test_reductions_between_views(data: st.DataObject, shape: list[int], keep: bool) -> None:
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    agree(lambda x: x.view(shape).amax(axes, keepdim=keep).flatten(), [(torch.Size(shape).numel(),)], 0.0)


@given(st.data(), st.lists(st.integers(1, 3), min_size=1, max_size=5))
@SOME
def test_broadcasts_between_views(data: st.DataObject, shape: list[int]) -> None:
    masks = [[data.draw(st.booleans()) for _ in shape] for _ in range(2)]
    views = [[d if kept else 1 for d, kept in zip(shape, mask)] for mask in masks]
    counts = [(torch.Size(view).numel(),) for view in views]
    agree(lambda x, y: (x.view(views[0]) - y.view(views[1])).flatten(), counts, 0.0)
