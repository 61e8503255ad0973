"""Tensors of five dimensions and more in NNAPI's four: neighbouring dimensions that stay together become one.

A reshape moves no data, so it costs nothing to look at the same elements with fewer dimensions.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

MAX_RANK = 4
"""What every NNAPI operation takes."""

Dims = tuple[int | None, ...]
"""A shape as the importer knows it: None is a dimension that is unknown until run time."""
Axes = tuple[int, ...]
Step = tuple[Dims, Axes]
Move = tuple[tuple[Axes, ...], Axes]
"""Blocks of axes, and the order they are put in."""


def broadcast(*shapes: Dims) -> Dims:
    """The shape of tensors broadcast together from the right; PyTorch has checked that they do.

    >>> broadcast((2, 1, 4), (3, 1))
    (2, 3, 4)
    """
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    return tuple(next((d for d in sizes if d != 1), 1) for sizes in zip(*padded))


def product(dims: Sequence[int | None]) -> int | None:
    """How many elements; None where a dimension is unknown."""
    return None if None in dims else math.prod(dims)  # type: ignore[arg-type]


def merged(*shapes: Dims) -> list[Dims]:
    """The same shapes with fewer dimensions, which still broadcast together element by element.

    >>> merged((2, 3, 1, 4, 5), (2, 3, 7, 1, 1))
    [(6, 1, 20), (6, 7, 1)]
    """
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    columns = [sizes for sizes in zip(*padded) if any(d != 1 for d in sizes)]
    groups = [list(group) for _, group in itertools.groupby(columns, key=lambda sizes: [d == 1 for d in sizes])]
    if not groups:
        return [(1,)] * len(shapes)
    return [tuple(product([sizes[k] for sizes in group]) for group in groups) for k in range(len(shapes))]


def around(shape: Dims, axes: Sequence[int]) -> tuple[Dims, list[int]]:
    """The shape with all dimensions but `axes` merged with their neighbours, and where `axes` then are.

    >>> around((2, 3, 4, 5, 6), [2])
    ((6, 4, 30), [1])
    """
    groups = [[i] for i in range(len(shape))]
    for i in range(len(shape) - 1, 0, -1):
        if i not in axes and i - 1 not in axes:
            groups[i - 1 : i + 1] = [groups[i - 1] + groups[i]]
    return tuple(product([shape[i] for i in g]) for g in groups), [groups.index([a]) for a in axes]


def runs(shape: Dims, chosen: Sequence[int]) -> tuple[Dims, list[int]]:
    """The shape with neighbours merged that are all chosen, or all not, and which of its dimensions are chosen.

    Dimensions of size 1 go.

    >>> runs((2, 3, 4, 1, 5, 6), [1, 2, 5])
    ((2, 12, 5, 6), [1, 3])
    """
    long = [i for i, d in enumerate(shape) if d != 1]
    groups = [(k, list(group)) for k, group in itertools.groupby(long, key=lambda i: i in chosen)]
    dims = tuple(product([shape[i] for i in group]) for _, group in groups)
    return dims or (1,), [i for i, (k, _) in enumerate(groups) if k]


def transposes(shape: Dims, order: Sequence[int]) -> list[Step]:
    """A permutation of any rank as few steps of rank 4 at most: the shape to look at the data with, the permutation.

    >>> transposes((2, 3, 4), (0, 2, 1))
    [((2, 3, 4), (0, 2, 1))]
    >>> transposes((2, 8, 3, 4, 5), (2, 0, 3, 1, 4))  # [N, T, 3, H, D] -> [3, N, H, T, D]
    [((2, 24, 20), (1, 0, 2)), ((8, 24, 5), (1, 0, 2))]
    """
    if len(shape) <= MAX_RANK:
        return [] if list(order) == sorted(order) else [(shape, tuple(order))]
    kept = [i for i in range(len(shape)) if shape[i] != 1]
    groups: list[list[int]] = []
    for i in (i for i in order if i in kept):
        if groups and kept.index(i) == kept.index(groups[-1][-1]) + 1:
            groups[-1].append(i)
        else:
            groups.append([i])
    rows = sorted(groups)
    sizes = [product([shape[i] for i in group]) for group in rows]
    moves = _moves(tuple(rows.index(group) for group in groups))
    return [(tuple(product([sizes[i] for i in block]) for block in blocks), order) for blocks, order in moves]


@functools.cache
def _moves(goal: Axes) -> tuple[Move, ...]:
    """The moves of at most four blocks of axes that turn 0, 1, 2, ... into `goal`; two do for up to six axes.

    Of those with the fewest moves, ones that leave the last block where it is: then whole rows are copied.
    """
    axes, path = tuple(range(len(goal))), []
    while axes != goal:
        blocks = _runs_of(goal, axes)
        order = tuple(sorted(range(len(blocks)), key=lambda i: goal.index(blocks[i][0])))
        if len(blocks) > MAX_RANK:
            blocks, order = min(
                ((cut, order) for cut in _cuts(axes) for order in itertools.permutations(range(len(cut)))),
                key=lambda move: _cost(move, goal),
            )
        path.append((blocks, order))
        axes = _moved((blocks, order))
    return tuple(path)


def _cost(move: Move, goal: Axes) -> tuple[int, int, int]:
    """How many blocks are left to move (beyond what one more move does), rows torn apart here and then, blocks."""
    (blocks, order), after = move, _moved(move)
    torn = (order[-1] != len(blocks) - 1) + (after[-1] != goal[-1])
    return max(len(_runs_of(goal, after)), MAX_RANK), torn, len(blocks)


def _moved(move: Move) -> Axes:
    blocks, order = move
    return tuple(itertools.chain.from_iterable(blocks[i] for i in order))


def _runs_of(goal: Axes, axes: Axes) -> tuple[Axes, ...]:
    """`axes` cut into those that are neighbours in `goal` too."""
    edges = [i for i in range(1, len(axes)) if goal.index(axes[i]) != goal.index(axes[i - 1]) + 1]
    return tuple(axes[a:b] for a, b in itertools.pairwise((0, *edges, len(axes))))


def _cuts(axes: Axes) -> list[tuple[Axes, ...]]:
    """Every way to cut `axes` into two to four blocks."""
    edges = (
        (0, *at, len(axes))
        for count in range(1, min(MAX_RANK, len(axes)))
        for at in itertools.combinations(range(1, len(axes)), count)
    )
    return [tuple(axes[a:b] for a, b in itertools.pairwise(edge)) for edge in edges]
