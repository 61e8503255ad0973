import itertools

import numpy as np
import pytest

from nnapi.ops.window import Axis


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_taps_meet_each_pixel_under_the_window_once(stride, dilation):
    for size, filter, before, output in itertools.product(range(1, 6), range(1, 5), range(5), range(1, 7)):
        axis = Axis(size, output, filter, stride, dilation, before)
        met = [
            (tap, at, pixel)
            for tap, positions, pixels in axis.taps()
            for at, pixel in zip(range(output)[positions], range(size)[pixels], strict=True)
        ]
        wanted = [
            (tap, at, pixel)
            for tap in range(filter)
            for at in range(output)
            if 0 <= (pixel := at * stride + tap * dilation - before) < size
        ]
        assert met == wanted, axis
        assert axis.counts().tolist() == [sum(at == o for _, at, _ in wanted) for o in range(output)]


def test_rows_are_the_same_window_from_a_later_start():
    axis = Axis(size=9, output=5, filter=3, stride=2, dilation=1, before=1)
    np.testing.assert_array_equal(axis.rows(2, 5).counts(), axis.counts()[2:5])


def test_a_filter_far_larger_than_the_image_costs_nothing():
    assert len(list(Axis(5, 5, 2**31 - 1, 1, 1, 2**30).taps())) == 9
