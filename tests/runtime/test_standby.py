"""An engine that fails in the middle of the work: its error is ours, and its part runs elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

import nnapi
from models import chain
from nnapi.drivers.driver import Estimate, PrepareOptions
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import PreparedReference
from nnapi.errors import DeadObject, ExecutionError, MissedDeadline
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import F32, I32, Array
from nnapi.runtime.standby import OFTEN

X = np.ones((1, 4), np.float32)


@dataclass
class Moody(FakeDriver):
    """A device that raises `mood`, while it has one."""

    name: str = "moody"
    mood: Exception | None = None
    runs: list[int] = field(default_factory=list)

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedReference:  # type: ignore[override]
        return _Moody(model, driver=self)


@dataclass(frozen=True)
class _Moody(PreparedReference):
    driver: Moody = field(default_factory=Moody)

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        self.driver.runs.append(1)
        if self.driver.mood is not None:
            raise self.driver.mood
        return super().run(inputs, outputs)


ERRORS: dict[str, Exception] = {
    "no thread": RuntimeError("can't start new thread"),
    "no memory": MemoryError("no memory"),
    "nothing known": ValueError("segment 7"),
    "its own": ExecutionError("failed"),
    "gone": DeadObject("gone"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS.keys())
@pytest.mark.parametrize("others", [[], [FakeDriver("other", default_cost=1e-3)]], ids=["alone", "another engine"])
@pytest.mark.parametrize("types", [("ADD", "MUL"), ("ADD", "MAXIMUM", "MUL")], ids=["whole", "parts"])
def test_a_part_runs_elsewhere(error: Exception, others: list[FakeDriver], types: tuple[str, ...]) -> None:
    moody = Moody(costs={"ADD": 1e-6, "MUL": 1e-6}, default_cost=None)
    session = nnapi.compile(chain(*types), devices=[moody, *others])
    wanted = session(X)
    assert not any("fails to run" in f.reason for f in session.fallbacks)
    moody.mood = error
    np.testing.assert_array_equal(session(X), wanted)
    said = [f for f in session.fallbacks if f.device == "moody" and f.reason.startswith("fails to run: ")]
    assert said and str(error) in said[0].reason


def test_an_engine_that_recovers_is_used_again_and_one_that_does_not_is_left() -> None:
    moody = Moody()
    session = nnapi.compile(chain("ADD"), devices=[moody])
    for mood, calls in ((RuntimeError("once"), 1), (None, 2), (RuntimeError("always"), OFTEN)):
        moody.mood = mood
        moody.runs.clear()
        for _ in range(calls):
            session(X)
        assert len(moody.runs) == calls
    moody.runs.clear()
    session(X)
    assert not moody.runs


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS.keys())
def test_without_fallback_it_is_our_error(error: Exception) -> None:
    moody = Moody()
    session = nnapi.compile(chain("ADD"), devices=[moody], fallback=False)
    moody.mood = error
    with pytest.raises((ExecutionError, DeadObject), match=str(error)) as raised:
        session(X)
    assert raised.value is error or raised.value.__cause__ is error


def test_time_that_is_over_is_over_everywhere() -> None:
    moody = Moody()
    session = nnapi.compile(chain("ADD"), devices=[moody])
    moody.mood = MissedDeadline("too late")
    with pytest.raises(MissedDeadline, match="too late"):
        session(X)
    assert not session.fallbacks


def test_values_that_nobody_computes_on_are_no_engine_s_fault() -> None:
    b = Builder("rows")
    x, i = b.input("x", F32, (3, 2)), b.input("i", I32, (1,))
    b.output(b.add("GATHER", {"input": x, "axis": 0, "indices": i}))
    session = nnapi.compile(b.finish(), devices=[Moody()])
    for _ in range(OFTEN + 1):
        with pytest.raises(ExecutionError, match="GATHER"):
            session(np.zeros((3, 2), np.float32), np.array([7], np.int32))
    assert not session.fallbacks


@dataclass
class Broken(FakeDriver):
    """A device on which one of the questions fails, in the words of its engine."""

    name: str = "broken"
    where: str = ""

    def supported(self, model: Model) -> list:  # type: ignore[type-arg]
        self._fail("supported")
        return super().supported(model)

    def estimate(self, model: Model) -> Estimate:
        self._fail("estimate")
        return super().estimate(model)

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedReference:  # type: ignore[override]
        self._fail("prepare")
        return super().prepare(model, options)  # type: ignore[return-value]

    def _fail(self, where: str) -> None:
        if where == self.where:
            raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("where", ["supported", "estimate", "prepare"])
def test_whatever_an_engine_raises_before_it_runs(where: str) -> None:
    session = nnapi.compile(chain("ADD", "MUL"), devices=[Broken(where=where), FakeDriver("other")])
    assert session.plan.devices == ("other",)
    np.testing.assert_array_equal(session(X)[0], (X + X) * X)
