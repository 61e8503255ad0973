"""The geometry of a window that slides over images: layout, strides, dilation, explicit and implicit padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from nnapi.ops.op import Call, Need, Param
from nnapi.ops.types import BOOL, INT32, Array, Shape

SAME, VALID = 1, 2
"""NNAPI's PaddingCode."""

PADDINGS = tuple(Param(f"padding_{side}", INT32) for side in ("left", "right", "top", "bottom"))
PADDING = Param("padding", INT32)
STRIDES = (Param("stride_width", INT32), Param("stride_height", INT32))
ACTIVATION = Param("activation", INT32)
LAYOUT = Param("layout", BOOL)
"""False: images are [N, H, W, C]; True: [N, C, H, W]."""
OPTIONAL_LAYOUT = Param("layout", BOOL, since=3, default=False)

Size = int | None


class Axis(NamedTuple):
    """One spatial axis of a window that slides over `size` pixels and stops at `output` positions."""

    size: int
    output: int
    filter: int
    stride: int
    dilation: int
    before: int
    """Padding in front; what is behind follows from `output`."""

    def rows(self, start: int, stop: int) -> Axis:
        """The same axis for positions start..stop only."""
        return self._replace(output=stop - start, before=self.before - start * self.stride)

    def taps(self) -> Iterator[tuple[int, slice, slice]]:
        """Each tap of the filter with the positions at which it meets a pixel, and those pixels; padding has none.

        >>> list(Axis(size=3, output=3, filter=3, stride=1, dilation=1, before=1).taps())[0]
        (0, slice(1, 3, None), slice(0, 2, 1))
        """
        # Only taps that can meet a pixel: a filter may be far larger than the image.
        low = max(0, -(((self.output - 1) * self.stride - self.before) // self.dilation))
        high = min(self.filter - 1, (self.size - 1 + self.before) // self.dilation)
        for tap in range(low, high + 1):
            offset = tap * self.dilation - self.before
            first = max(-(offset // self.stride), 0)
            last = min((self.size - 1 - offset) // self.stride, self.output - 1)
            if first <= last:
                pixel = first * self.stride + offset
                yield tap, slice(first, last + 1), slice(pixel, last * self.stride + offset + 1, self.stride)

    def counts(self) -> Array:
        """How many pixels the window covers at each position: [output] int64."""
        counts = np.zeros(self.output, np.int64)
        for _, at, _ in self.taps():
            counts[at] += 1
        return counts


def at_least(call: Call, name: str, low: int, default: int | None = None) -> Size:
    """A scalar input, None where unknown, `default` where the call has none; ModelError below `low`."""
    value: Size = call.scalar(name) if name in call or default is None else default
    call.require(value is None or value >= low, f"{name} is {value}, must be at least {low}")
    return value


def check_activation(call: Call) -> None:
    """ModelError where the fused activation is no FuseCode."""
    activation = call.scalar("activation")
    call.require(activation in (None, 0, 1, 2, 3), f"activation is {activation}, must be 0 to 3")


def check_equal(call: Call, what: str, size: Size, other: str, expected: Size) -> None:
    """ModelError where two sizes are known and differ."""
    call.require(
        size is None or expected is None or size == expected, f"{what} is {size}, must equal {other} {expected}"
    )


def sizes(call: Call, name: str, rank: int) -> tuple[Size, ...]:
    """The input's dimensions; all None where its rank is unknown."""
    shape = call.shape(name)
    return (None,) * rank if shape is None else shape


def image_sizes(call: Call) -> tuple[Size, Size, Size, Size]:
    """Batch, height, width and channels of `input` in either layout; ModelError where one but the batch is 0."""
    n, *rest = sizes(call, "input", 4)
    layout = _layout(call)
    h, w, c = (None, None, None) if layout is None else (*rest[1:], rest[0]) if layout else rest
    for name, size in (("height", h), ("width", w), ("channels", c)):
        call.require(size is None or size > 0, f"input {name} is 0, only the batch may be")
    return n, h, w, c


def image_shape(call: Call, n: Size, h: Size, w: Size, c: Size) -> Shape:
    """An output shape in the call's layout."""
    layout = _layout(call)
    if layout is None:
        return (n, None, None, None)
    return (n, c, h, w) if layout else (n, h, w, c)


def channels_last(call: Call, array: Array) -> Array:
    """array in the call's layout -> [N, H, W, C]."""
    return array.transpose(0, 2, 3, 1) if _layout(call) else array


def in_layout(call: Call, array: Array) -> Array:
    """array [N, H, W, C] -> in the call's layout, contiguous."""
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2) if _layout(call) else array)


def _layout(call: Call) -> Any:
    return call.scalar("layout")


def zero_batch_needs(call: Call, name: str = "input") -> Iterator[Need]:
    """An empty batch needs level 3."""
    shape = call.shape(name)
    if shape and shape[0] == 0:
        yield Need(3, f"{call.op.name} of an empty batch")


def window(call: Call, image: tuple[Size, Size], filter: tuple[Size, Size]) -> tuple[Axis | None, Axis | None]:
    """The window's two axes (height, width) over an image; None where something about one is unknown.

    ModelError for sizes, strides, dilations and paddings that NNAPI does not allow.
    """
    if "padding" in call:
        check_padding(call)
    call.require(
        ("dilation_width" in call) == ("dilation_height" in call), "one dilation is given, must be both or none"
    )
    height = _axis(call, "height", ("top", "bottom"), image[0], filter[0])
    width = _axis(call, "width", ("left", "right"), image[1], filter[1])
    return height, width


def check_padding(call: Call) -> None:
    """ModelError where the padding scheme is no PaddingCode."""
    scheme = call.scalar("padding")
    call.require(scheme in (None, SAME, VALID), f"padding is {scheme}, must be {SAME} (same) or {VALID} (valid)")


def _axis(call: Call, side: str, ends: tuple[str, str], size: Size, filter: Size) -> Axis | None:
    stride = at_least(call, f"stride_{side}", 1)
    dilation = at_least(call, f"dilation_{side}", 1, default=1)
    call.require(filter is None or filter > 0, f"filter {side} is {filter}, must be at least 1")
    implicit = "padding" in call
    scheme = call.scalar("padding") if implicit else VALID
    before, after = (0, 0) if implicit else (at_least(call, f"padding_{end}", 0) for end in ends)
    if size is None or filter is None or stride is None or dilation is None or scheme is None:
        return None
    if before is None or after is None:
        return None
    extent = (filter - 1) * dilation + 1
    if scheme == SAME:
        output = -(-size // stride)
        return Axis(size, output, filter, stride, dilation, max((output - 1) * stride + extent - size, 0) // 2)
    for end, padding in zip(ends, (before, after)):
        call.require(
            padding < extent,
            f"padding_{end} is {padding}, must be below the filter's {side} {extent}",
            hint="put a PAD in front",
        )
    room = size + before + after
    call.require(extent <= room, f"filter {side} {extent} exceeds the padded input's {room}")
    return Axis(size, (room - extent) // stride + 1, filter, stride, dilation, before)
