"""The culprit: the fewest operations of a partition that an engine does not survive together."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def smallest(operations: Sequence[int], dies: Callable[[tuple[int, ...]], bool], most: int) -> tuple[int, ...]:
    """A part of `operations`, which the engine dies of, that it dies of too and of which nothing can be left out.

    After `most` parts were tried, the smallest that was found so far.

    >>> smallest(range(100), lambda part: {40, 41, 45} <= set(part), most=50)
    (40, 41, 45)
    """
    found = tuple(sorted(operations))
    left = most
    for side in (_first, _last):
        low, high = 0, len(found)
        while high - low > 1 and left > 0:
            left -= 1
            middle = (low + high) // 2
            low, high = (low, middle) if dies(side(found, middle)) else (middle, high)
        found = side(found, high)
    size = len(found) // 2
    while size and left > 0:
        start = 0
        while start < len(found) and left > 0:
            left -= 1
            part = found[:start] + found[start + size :]
            if part and dies(part):
                found = part
            else:
                start += size
        size //= 2
    return found


def _first(operations: tuple[int, ...], count: int) -> tuple[int, ...]:
    return operations[:count]


def _last(operations: tuple[int, ...], count: int) -> tuple[int, ...]:
    return operations[len(operations) - count :]
