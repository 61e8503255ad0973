"""Permutations and shapes of any rank in four dimensions, against NumPy."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nnapi.importers.pytorch import rank

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=6).map(tuple)


@given(SHAPES.flatmap(lambda s: st.tuples(st.just(s), st.permutations(range(len(s))))))
@settings(max_examples=60, deadline=None)
def test_transposes(case: tuple[tuple[int, ...], list[int]]) -> None:
    shape, order = case
    x = np.arange(np.prod(shape)).reshape(shape)
    y, steps = x, rank.transposes(shape, order)
    for view, permutation in steps:
        assert len(view) <= rank.MAX_RANK
        y = y.reshape(view).transpose(permutation)
    assert len(steps) <= 2
    np.testing.assert_array_equal(y.ravel(), x.transpose(order).ravel())


def test_as_few_steps_as_possible() -> None:
    assert rank.transposes((2, 3, 4, 5, 6), (0, 1, 2, 3, 4)) == []
    assert rank.transposes((1, 8, 3, 4, 5), (2, 0, 3, 1, 4)) == [((8, 12, 5), (1, 0, 2))]  # batch 1
    windows = rank.transposes((2, 3, 7, 3, 7, 5), (0, 1, 3, 2, 4, 5))
    assert windows == [((6, 7, 3, 35), (0, 2, 1, 3))]
    assert len(rank.transposes((2, 2, 2, 2, 2, 2, 2), (6, 4, 5, 3, 1, 2, 0))) <= 3


BROADCASTS = SHAPES.flatmap(
    lambda s: st.tuples(st.just(s), st.tuples(*(st.sampled_from([1, d]) for d in s)).map(tuple), st.integers(0, 2))
)


@given(BROADCASTS)
@settings(max_examples=60, deadline=None)
def test_merged_shapes_broadcast_alike(case: tuple[tuple[int, ...], tuple[int, ...], int]) -> None:
    wide, narrow, dropped = case
    narrow = narrow[min(dropped, len(narrow) - 1) :]
    x, y = np.arange(np.prod(wide)).reshape(wide), np.arange(np.prod(narrow)).reshape(narrow) * 1000
    first, second = rank.merged(wide, narrow)
    assert len(first) == len(second) <= len(wide)
    np.testing.assert_array_equal((x + y).ravel(), (x.reshape(first) + y.reshape(second)).ravel())
    assert rank.broadcast(wide, narrow) == (x + y).shape


def test_open_dimensions_stay_open() -> None:
    assert rank.merged((None, 3, 4), (4,)) == [(None, 4), (1, 4)]
    assert rank.around((None, 3, 4, 5, 6), [3]) == ((None, 5, 6), [1])
    assert rank.product([2, None]) is None
