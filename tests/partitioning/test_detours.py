"""What is refused goes to another fast engine, then in pieces, and to the reference only where nobody else is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

from models import chain
from nnapi import pipeline
from nnapi.drivers.driver import Driver, PrepareOptions
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import PreparedReference, ReferenceDriver, execute
from nnapi.errors import ReferenceWarning
from nnapi.ir.model import Model
from nnapi.ops.types import Array
from nnapi.partitioning.assign import assign
from nnapi.partitioning.database import Database
from nnapi.partitioning.deny import DenyList
from nnapi.partitioning.detours import MOST
from nnapi.partitioning.gate import Gate
from nnapi.partitioning.samples import random_inputs
from nnapi.report.plan import describe_plan
from nnapi.runtime.session import Session, build_session

MODEL = chain("ADD", "SUB", "MUL", "ADD", "SUB", "ADD", "MUL", "SUB", size=64)


@dataclass
class Fusing(FakeDriver):
    """A fast device that is wrong, or fails, where one operation comes right after another; each alone is right."""

    name: str = "fusing"
    pair: tuple[str, str] = ("SUB", "MUL")
    how: str = "wrong"
    default_cost: float | None = 1e-6
    launch_cost: float = 1e-6
    prepared: list[int] = field(default_factory=list)

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedReference:  # type: ignore[override]
        self.prepared.append(len(model.operations))
        types = [o.type for o in model.operations]
        is_hit = self.pair in pairwise(types) or self.pair == ("", "") or (self.pair[0] in types and not self.pair[1])
        if is_hit and self.how == "fails":
            raise RuntimeError("can't start new thread")
        return _Wrong(model) if is_hit else PreparedReference(model)


class _Wrong(PreparedReference):
    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        return [np.zeros_like(array) for array in super().run(inputs, outputs)]


def other(**costs: float) -> FakeDriver:
    """A slower engine, for all types or for some."""
    return FakeDriver("other", costs=costs, default_cost=None if costs else 1e-5, launch_cost=1e-5)


def session_of(drivers: Sequence[Driver], database: Database, model: Model = MODEL) -> Session:
    gate = Gate(random_inputs(model.input_operands), DenyList(database))
    plan = assign(model, drivers, fallback=ReferenceDriver(), denied=gate.denied)
    return build_session(plan, {d.name: d for d in drivers}, PrepareOptions(), fallback=True, gate=gate)


CASES = {
    "wrong, another engine": (lambda: [Fusing(), other()], [("other", 8)]),
    "fails, another engine": (lambda: [Fusing(how="fails"), other()], [("other", 8)]),
    "wrong, alone": (lambda: [Fusing()], [("fusing", 2), ("fusing", 2), ("fusing", 4)]),
    "fails, alone": (lambda: [Fusing(how="fails")], [("fusing", 2), ("fusing", 2), ("fusing", 4)]),
    "another engine takes some": (lambda: [Fusing(), other(MUL=1e-5)], None),
    "both are wrong": (
        lambda: [Fusing(), Fusing("other", default_cost=1e-5)],
        [("fusing", 2), ("fusing", 2), ("fusing", 4)],
    ),
    "one operation": (lambda: [Fusing(pair=("MUL", ""))], None),
    "one operation fails": (lambda: [Fusing(pair=("MUL", ""), how="fails")], None),
    "one operation, another engine": (lambda: [Fusing(pair=("MUL", "")), other()], None),
}


@pytest.mark.parametrize("case", CASES.keys())
def test_where_operations_go(case: str) -> None:
    make, wanted = CASES[case]
    drivers, database = make(), Database()
    session = session_of(drivers, database)
    found = [(p.device, len(p.operations)) for p in session.plan.partitions]
    inputs = random_inputs(MODEL.input_operands, seed=5)
    np.testing.assert_array_equal(session(*inputs)[0], execute(MODEL, inputs)[0])
    assert wanted is None or found == wanted
    last = {MODEL.operations[n].type for n, device in session.plan.placement.items() if device == "reference"}
    assert last == ({"MUL"} if len(drivers) == 1 and case.startswith("one") else set())
    assert {f.device for f in session.fallbacks} >= {"fusing"}


@pytest.mark.parametrize("case", [name for name in CASES if "fails" not in name])
def test_what_was_refused_is_planned_round(case: str) -> None:
    """The next compilation, and whoever only asks for a plan, sees what the first one found, and tries nothing."""
    make, _ = CASES[case]
    database = Database()
    first = session_of(make(), database)
    drivers = make()
    plan = assign(MODEL, drivers, fallback=ReferenceDriver(), denied=DenyList(database))
    assert [p.operations for p in plan.partitions] == [p.operations for p in first.plan.partitions]
    assert [p.device for p in plan.partitions] == [p.device for p in first.plan.partitions]
    assert {f.device for f in plan.deviations()} == {f.device for f in first.fallbacks}
    session_of(drivers, database)
    prepared = sorted(n for d in drivers if isinstance(d, Fusing) for n in d.prepared)
    assert prepared == sorted(len(p.operations) for p in plan.partitions if p.device in ("fusing",))


def test_an_engine_that_fails_at_everything_is_left_soon() -> None:
    model, broken = chain(*["ADD"] * 300, size=4), Fusing(pair=("", ""), how="fails")
    slow = "300 of 300 operations run on the reference, some 50 times slower than an engine: an estimate of 0.015 s"
    with pytest.warns(ReferenceWarning, match=slow):
        session = session_of([broken], Database(), model)
    assert session.plan.devices == ("reference",)
    assert f"  SLOW: {session.plan.burden}" in list(describe_plan(session.plan))
    assert any(line.startswith("  refused: 300 operations on fusing: ") for line in describe_plan(session.plan))
    assert len(broken.prepared) <= MOST + 1


def test_default_devices_are_all_there_when_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan of one engine, built without naming devices, falls back to the others that are here."""
    from nnapi.drivers import registry

    drivers = [Fusing(), other()]
    monkeypatch.setattr(registry, "available", lambda: drivers)
    plan = pipeline.partition(MODEL)
    assert plan.devices == ("fusing",)
    assert pipeline.build(plan).plan.devices == ("other",)
    assert pipeline.partition(MODEL).devices == ("other",)


def test_nobody_is_warned_of_the_reference_that_was_asked_for() -> None:
    model = chain(*["ADD"] * 300, size=4)
    session = build_session(assign(model, [ReferenceDriver()]), {}, PrepareOptions(), fallback=True)
    assert session.plan.burden == ""
