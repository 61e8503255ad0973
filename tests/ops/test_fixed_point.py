"""16-bit fixed point: every number there is, against floating point."""

import numpy as np
import pytest

from nnapi.ops import fixed_point

ALL = np.arange(-(2**15), 2**15)
LAST_PLACES = 13  # of 16 bits: what four terms of a series and three Newton steps in 16 bits leave


@pytest.mark.parametrize("integer_bits", range(7))
def test_tanh_and_logistic_are_near_the_real_ones(integer_bits):
    real = ALL / 2.0 ** (15 - integer_bits)
    np.testing.assert_allclose(fixed_point.tanh(ALL, integer_bits), np.tanh(real) * 2**15, atol=LAST_PLACES)
    np.testing.assert_allclose(
        fixed_point.logistic(ALL, integer_bits), 2**15 / (1 + np.exp(-real)), atol=LAST_PLACES
    )  # fmt: skip


@pytest.mark.parametrize("integer_bits", range(7))
def test_tanh_is_odd_and_logistic_symmetric(integer_bits):
    x = ALL[1:]
    np.testing.assert_array_equal(fixed_point.tanh(-x, integer_bits), -fixed_point.tanh(x, integer_bits))
    total = fixed_point.logistic(x, integer_bits) + fixed_point.logistic(-x, integer_bits)
    np.testing.assert_array_equal(total, np.where(x == 0, 2**15, fixed_point.ONE))


@pytest.mark.parametrize("function", [fixed_point.tanh, fixed_point.logistic])
@pytest.mark.parametrize("integer_bits", range(7))
def test_results_have_16_bits(function, integer_bits):
    result = function(ALL, integer_bits)
    assert fixed_point.LOW <= result.min() <= result.max() <= fixed_point.HIGH


@pytest.mark.parametrize(
    ("x", "bits", "expected"), [(6, 2, 2), (-6, 2, -2), (5, 2, 1), (-5, 2, -1), (7, 0, 7), (3, -2, 12)]
)
def test_shift_right_rounds_half_away_from_zero(x, bits, expected):
    assert fixed_point.shift_right(np.array([x]), bits) == [expected]


# a, b -> a * b / 2**15
PRODUCTS = [
    (2**14, 2**14, 2**13),
    (-(2**14), 2**14, -(2**13)),
    (3, 2**14, 2),
    (-3, 2**14, -1),
    (-(2**15), -(2**15), 2**15 - 1),
]


@pytest.mark.parametrize(("a", "b", "expected"), PRODUCTS)
def test_product_rounds_and_saturates(a, b, expected):
    assert fixed_point.product(a, b) == expected
