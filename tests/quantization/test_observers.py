"""Ranges that observers choose."""

from __future__ import annotations

import numpy as np
import pytest

from nnapi.quantization.observers import BINS, observer
from nnapi.quantization.recipe import OBSERVERS

RNG = np.random.default_rng(0)
NORMAL = [RNG.normal(size=4000).astype(np.float32) for _ in range(8)]
OUTLIER = [*NORMAL, np.array([1000.0], np.float32)]


def ranged(kind: str, arrays: list[np.ndarray]) -> tuple[float, float]:
    seen = observer(kind, 99.9)
    for array in arrays:
        seen.update(array, float(array.min()), float(array.max()))
    return seen.range()


@pytest.mark.parametrize(
    "kind, arrays, low, high",
    [
        pytest.param("min_max", NORMAL, -4.6, 4.6, id="min_max"),
        pytest.param("min_max", OUTLIER, -4.6, 1001, id="min_max keeps an outlier"),
        pytest.param("moving_average", NORMAL, -4.5, 4.5, id="moving_average"),
        pytest.param("percentile", OUTLIER, -4.6, 10, id="percentile drops an outlier"),
        pytest.param("mse", NORMAL, -4.6, 4.6, id="mse"),
        pytest.param("entropy", NORMAL, -4.6, 4.6, id="entropy"),
    ],
)
def test_ranges(kind: str, arrays: list[np.ndarray], low: float, high: float) -> None:
    found = ranged(kind, arrays)
    assert low <= found[0] < -2.5  # normal values: nobody cuts into two and a half deviations
    assert 2.5 < found[1] <= high


def test_the_least_squared_error_is_the_least() -> None:
    x = np.concatenate(NORMAL)

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        return float(np.square(np.clip(np.rint(x / step), round(low / step), round(high / step)) * step - x).mean())

    assert error(*ranged("mse", NORMAL)) <= error(*ranged("min_max", NORMAL)) * 1.01  # bins blur it by 1 %


@pytest.mark.parametrize("kind", OBSERVERS)
@pytest.mark.parametrize("value", [0.0, 3.0, -1e-30, 1e30])
def test_constants(kind: str, value: float) -> None:
    low, high = ranged(kind, [np.full(10, value, np.float32)])
    assert min(low, 0.0) <= value * (1 + 1e-6) if value > 0 else low <= 0
    assert np.isfinite([low, high]).all()


def test_memory_is_bounded() -> None:
    seen = observer("mse", 99.9)
    for k in range(20):
        array = np.array([2.0**k, -(2.0**k)], np.float32)
        seen.update(array, float(array.min()), float(array.max()))
    assert len(vars(seen)["_counts"]) == BINS
    assert vars(seen)["_counts"].sum() == 40
