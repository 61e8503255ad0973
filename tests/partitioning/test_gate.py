"""Devices that lie are found and routed around, and the answer stays right."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from models import chain
from nnapi.drivers.driver import ACCEPT, Estimate, PrepareOptions, Verdict
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import PreparedReference, ReferenceDriver, execute
from nnapi.errors import CompileError
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import F32, I32, Array, Operand
from nnapi.partitioning import gate as gate_module
from nnapi.partitioning.assign import assign
from nnapi.partitioning.candidate import single
from nnapi.partitioning.database import Database
from nnapi.partitioning.deny import DenyList, clear_denied, denied
from nnapi.partitioning.gate import AccuracyWarning, Gate, foreseen
from nnapi.partitioning.samples import random_inputs
from nnapi.runtime.session import Session, build_session

HUNG = 30.0
"""Seconds that a device takes which never returns."""


@dataclass
class Liar(FakeDriver):
    """A fast device on which one type of operation goes wrong."""

    name: str = "liar"
    wrong: str = "MUL"
    how: str = "noise"
    default_cost: float | None = 1e-9
    launch_cost: float = 1e-9

    def estimate(self, model: Model) -> Estimate:
        return Estimate(0.0, 0.0, "modelled") if self.how == "zero" else super().estimate(model)

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedReference:  # type: ignore[override]
        lies = any(operation.type == self.wrong for operation in model.operations)
        if lies and self.how == "hangs while preparing":
            time.sleep(HUNG)
        if lies and self.how == "small" and len(model.operations) == 1:
            raise RuntimeError("too small a model")
        return _Lying(model, how=self.how) if lies else PreparedReference(model)


@dataclass(frozen=True)
class _Lying(PreparedReference):
    how: str = ""

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        if self.how == "crash":
            raise RuntimeError("the driver crashes")
        if self.how == "hangs":
            time.sleep(HUNG)
        if self.how == "nothing":
            return None  # type: ignore[return-value]
        results = super().run(inputs, outputs)
        if self.how == "not a number":
            return [np.full_like(r, np.nan) for r in results]
        if self.how == "one value":
            results[0].flat[0] += 1.0
            return results
        return [np.random.default_rng(99).standard_normal(r.shape).astype(r.dtype) for r in results]


def session_of(
    model: Model, driver: FakeDriver, database: Database, seconds: float = HUNG, **options: bool
) -> tuple[Session, Gate]:
    gate = Gate(random_inputs(model.input_operands), DenyList(database, **options), seconds=seconds)
    plan = assign(model, [driver], fallback=ReferenceDriver(), denied=gate.denied)
    drivers = {driver.name: driver, "reference": ReferenceDriver()}
    return build_session(plan, drivers, PrepareOptions(), fallback=True, gate=gate), gate  # type: ignore[arg-type]


def assert_right(session: Session, model: Model) -> None:
    inputs = random_inputs(model.input_operands, seed=5)
    for got, wanted in zip(session(*inputs), execute(model, inputs), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("how", ["noise", "crash", "not a number", "one value", "zero", "nothing", "small"])
def test_the_operation_that_goes_wrong_is_found_and_placed_elsewhere(how: str) -> None:
    model, database = chain("ADD", "SUB", "MUL", "ADD", "SUB", size=64), Database()
    session, _ = session_of(model, Liar(how=how), database)
    assert_right(session, model)
    assert session.plan.placement[2] == "reference"
    assert "denied" in session.plan.reason(2)
    assert [row["operation"] for row in denied(database)] == ["MUL"]
    assert session.fallbacks


@pytest.mark.parametrize("how", ["hangs", "hangs while preparing"])
def test_a_device_that_never_returns_is_left_within_the_deadline(how: str) -> None:
    model, started = chain("ADD", "MUL", size=8), time.monotonic()
    session, _ = session_of(model, Liar(how=how), Database(), seconds=0.5)
    assert time.monotonic() - started < HUNG / 2
    assert_right(session, model)
    assert session.plan.devices == ("reference",)
    assert "did not return within 0.5 s" in session.fallbacks[0].reason


def test_what_was_found_is_remembered_until_it_is_cleared(tmp_path: Path) -> None:
    model, path = chain("ADD", "MUL", size=8), tmp_path / "devices.sqlite"
    session_of(model, Liar(), Database(path))
    again = assign(model, [Liar()], fallback=ReferenceDriver(), denied=DenyList(Database(path)))
    assert again.placement == {0: "liar", 1: "reference"} or again.devices == ("reference",)
    newer = Liar(version="2")
    assert assign(model, [newer], denied=DenyList(Database(path))).devices == ("liar",)
    assert clear_denied(Database(path)) == 1
    assert assign(model, [Liar()], denied=DenyList(Database(path))).devices == ("liar",)


def test_a_placement_is_checked_once() -> None:
    model, database = chain("ADD", size=8), Database()
    honest = FakeDriver("honest")
    session_of(model, honest, database)
    assert database.query("SELECT device FROM trusted") == [("honest",)]
    gate = Gate([], DenyList(database))  # without samples, nothing could be checked again
    plan = assign(model, [honest])
    assert build_session(plan, {"honest": honest}, PrepareOptions(), fallback=False, gate=gate).plan.devices == (
        "honest",
    )


def test_without_fallback_the_figure_is_the_error() -> None:
    model = chain("MUL", size=64)
    gate = Gate(random_inputs(model.input_operands), DenyList(Database()))
    with pytest.raises(CompileError, match=r"'liar' fails the accuracy gate: .*SQNR -?\d+\.\d dB, limit 60 dB"):
        build_session(assign(model, [Liar()]), {"liar": Liar()}, PrepareOptions(), fallback=False, gate=gate)


def test_inaccurate_placements_can_be_accepted_loudly() -> None:
    model = chain("MUL", size=64)
    with pytest.warns(AccuracyWarning, match="SQNR"):
        session, _ = session_of(model, Liar(), Database(), accept_inaccurate=True)
    assert session.plan.devices == ("liar",)


def test_what_was_denied_can_still_be_accepted() -> None:
    model, database = chain("ADD", "MUL", size=64), Database()
    session, _ = session_of(model, Liar(), database)
    assert session.plan.placement[1] == "reference"
    with pytest.warns(AccuracyWarning, match="'liar' is used although it fails the accuracy gate: output y: SQNR"):
        session, _ = session_of(model, Liar(), database, accept_inaccurate=True)
    assert session.plan.devices == ("liar",)


def test_failures_are_not_accepted_as_inaccurate() -> None:
    model = chain("ADD", "MUL", size=64)
    session, _ = session_of(model, Liar(how="crash"), Database(), accept_inaccurate=True)
    assert session.plan.placement[1] == "reference"


def test_clearing_forgets_what_was_trusted_too() -> None:
    database, honest = Database(), FakeDriver("honest")
    session_of(chain("ADD", size=8), honest, database)
    assert DenyList(database).has_trusted(honest)
    assert clear_denied(database) == 0
    assert not DenyList(database).has_trusted(honest)


@dataclass
class Knowing(FakeDriver):
    """A device that takes an operation that only it knows, which returns what it is given."""

    name: str = "knowing"

    def _verdict(self, type: str) -> Verdict:
        return ACCEPT

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedReference:  # type: ignore[override]
        return _Same(model, fails=self.fails_to_run)


@dataclass(frozen=True)
class _Same(PreparedReference):
    fails: bool = False

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        if self.fails:
            raise RuntimeError("no luck")
        return list(inputs)  # type: ignore[arg-type]


@pytest.mark.parametrize("fails", [False, True])
def test_what_the_reference_does_not_know_goes_unchecked(fails: bool) -> None:
    b = Builder("own")
    x = b.input("x", F32, (4,))
    b.output(*b.add_raw("org.example/OWN", [x], [Operand(F32, (4,))]))
    model, driver = b.finish(), Knowing(fails_to_run=fails)
    gate, plan = Gate([np.zeros(4, np.float32)], DenyList(Database())), assign(model, [driver])
    assert foreseen(plan).keys() == {0}
    session = build_session(plan, {"knowing": driver}, PrepareOptions(), fallback=False, gate=gate)
    assert "the reference knows NNAPI's operations only" in session.plan.unchecked[0]


def reshaped() -> Model:
    """A shape that is computed: no sample says what it may be."""
    b = Builder("reshaped")
    x, shape = b.input("x", F32, (2, 3)), b.input("shape", I32, (1,))
    b.output(b.add("RESHAPE", {"input": x, "shape": shape}))
    return b.finish()


def emptied() -> Model:
    """Nothing is left of x before it is negated."""
    b = Builder("emptied")
    x, size = b.input("x", F32, (2,)), b.input("size", I32, (1,))
    y = b.add("SLICE", {"input": x, "begin": b.constant(np.zeros(1, np.int32)), "size": size})
    b.output(b.add("NEG", {"input": y}))
    return b.finish()


SAMPLES = {
    "what the reference refuses": (reshaped, [np.zeros((2, 3), np.float32), np.array([5], np.int32)], "RESHAPE"),
    "nothing": (emptied, [np.zeros(2, np.float32), np.zeros(1, np.int32)], "an input has no elements"),
}


@pytest.mark.parametrize("case", SAMPLES.values(), ids=SAMPLES.keys())
def test_samples_that_prove_nothing(case: tuple[Callable[[], Model], list[Array], str]) -> None:
    """An engine that refuses them is not to blame."""
    make, samples, reason = case
    model, last = make(), FakeDriver("last", costs={"NEG": 1e-9, "RESHAPE": 1e-9}, default_cost=None, fails_to_run=True)
    gate, drivers = (
        Gate(samples, DenyList(Database())),
        [last, FakeDriver("first", costs={"SLICE": 1e-9}, default_cost=None)],
    )
    plan = assign(model, drivers)
    session = build_session(plan, {d.name: d for d in drivers}, PrepareOptions(), fallback=False, gate=gate)
    assert session.plan.devices[-1] == "last"
    assert reason in list(session.plan.unchecked.values())[-1]


@pytest.mark.parametrize("seconds", [0.0, 1e-9], ids=["foreseen", "late"])
def test_what_takes_the_reference_too_long_goes_unchecked(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model, driver = chain("ADD", size=8), FakeDriver("honest")
    if seconds:
        monkeypatch.setattr(gate_module, "_obstacle", lambda model, seconds: None)
    gate = Gate(random_inputs(model.input_operands), DenyList(Database()), reference_seconds=seconds)
    plan = assign(model, [driver])
    session = build_session(plan, {"honest": driver}, PrepareOptions(), fallback=False, gate=gate)
    (reason,) = session.plan.unchecked.values()
    assert "limit 0 s" in reason if not seconds else "within its deadline" in reason
    assert not gate.denied.has_trusted(driver)


def test_a_compiler_is_given_the_time_it_says_it_takes() -> None:
    gate = Gate([], DenyList(Database(), PrepareOptions()), seconds=1.0)
    slow = FakeDriver("slow")
    slow.prepare_seconds = 90.0  # type: ignore[attr-defined]
    assert gate.patience(slow) == gate.patience(single(slow)) == 90.0
    assert gate.patience(FakeDriver("quick")) == 1.0
