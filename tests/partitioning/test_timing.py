"""Races by a clock of our own: who wins, who is dropped early, and when it ends."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from nnapi.partitioning import timing
from nnapi.partitioning.timing import interleaved, race

REPEATS = 10


class Clock:
    """Functions that take so many seconds each, times noise, on a machine that changes its speed from time to time."""

    def __init__(self, seconds: dict[str, float], noise: float = 0.0, drift: float = 0.0) -> None:
        self.now = 0.0
        self.calls: Counter[str] = Counter()
        self._random = random.Random(1)
        self._noise, self._drift = noise, drift
        self.functions: dict[str, Callable[[], object]] = {
            name: (lambda name=name, s=s: self._spend(name, s)) for name, s in seconds.items()
        }

    def _spend(self, name: str, seconds: float) -> None:
        self.calls[name] += 1
        slower = 1 + self._drift * (self.calls.total() // 40 % 2)
        self.now += seconds * slower * (1 + self._noise * self._random.random())


CASES = [
    pytest.param({"a": 1.0, "b": 2.0}, 0.0, 0.0, "a", id="no noise"),
    pytest.param({"a": 1.1, "b": 1.0, "c": 3.0}, 0.3, 0.0, "b", id="noise beyond the difference"),
    pytest.param({"a": 1.0, "b": 1.1}, 0.05, 2.0, "a", id="a machine that is thrice as slow at times"),
    pytest.param({"a": 1.0}, 0.5, 0.0, "a", id="alone"),
]


@pytest.mark.parametrize(("seconds", "noise", "drift", "winner"), CASES)
def test_the_fastest_wins(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float], noise: float, drift: float, winner: str
) -> None:
    clock = Clock(seconds, noise, drift)
    monkeypatch.setattr(timing, "perf_counter", lambda: clock.now)
    times = race(clock.functions, REPEATS, most=4)
    assert times.keys() == seconds.keys()
    assert min(times, key=times.__getitem__) == winner
    for name, measured in times.items():
        expected = seconds[name] / seconds[winner]
        assert measured / times[winner] == pytest.approx(expected, rel=noise / 2 + 0.01), (
            "half of the noise, by medians"
        )


def test_a_quick_function_runs_before_the_call_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock({"quick": timing.WARM / 2, "slow": timing.QUICK * 2})
    monkeypatch.setattr(timing, "perf_counter", lambda: clock.now)
    times = interleaved(clock.functions, REPEATS, warmup=1)
    assert times == {"quick": pytest.approx([0.001] * REPEATS), "slow": pytest.approx([0.04] * REPEATS)}
    assert clock.calls["slow"] == REPEATS + 1
    assert 3 * REPEATS + 1 <= clock.calls["quick"] <= 4 * REPEATS + 1, "twice or thrice before each that counts"


def test_only_those_that_may_be_the_fastest_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock({"a": 1.0, "b": 1.0, "c": 2.0}, noise=0.1)
    monkeypatch.setattr(timing, "perf_counter", lambda: clock.now)
    race(clock.functions, REPEATS, most=3)
    assert clock.calls["c"] == REPEATS + 1, "once, after one to warm up"
    assert clock.calls["a"] == clock.calls["b"] == 4 * REPEATS + 1, "equals run until the end"


def test_a_clear_result_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock({"a": 1.0, "b": 1.5}, noise=0.1)
    monkeypatch.setattr(timing, "perf_counter", lambda: clock.now)
    race(clock.functions, REPEATS, most=9)
    assert clock.calls.total() == 2 * (REPEATS + 1)
