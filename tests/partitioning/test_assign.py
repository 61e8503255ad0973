"""Plans: every operation once, in an order that runs, with a reason, and never worse than one device."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import BINARY, chain, random_graph
from nnapi.drivers.driver import Driver, PrepareOptions
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import ReferenceDriver, execute
from nnapi.errors import PartitionError, UnsupportedOperation
from nnapi.ir.model import Model
from nnapi.ir.verify import verify
from nnapi.partitioning.assign import assign
from nnapi.partitioning.cost import CostModel, objective
from nnapi.partitioning.plan import Plan, split
from nnapi.runtime.session import build_session

costs = st.dictionaries(st.sampled_from(BINARY), st.floats(1e-7, 1e-3), min_size=0, max_size=4)
devices = st.lists(costs, min_size=1, max_size=3).map(
    lambda tables: [
        FakeDriver(f"d{k}", costs=table, default_cost=None, launch_cost=1e-5 * (k + 1), watts=3.0 - k)
        for k, table in enumerate(tables)
    ]
)


def check_plan(plan: Plan) -> None:
    """Each operation is placed once, on a device that takes it, after what it reads."""
    placed = [n for p in plan.partitions for n in p.operations]
    assert sorted(placed) == list(range(len(plan.model.operations)))
    written = set(plan.model.inputs)
    for partition in plan.partitions:
        verify(partition.subgraph.model)
        assert set(partition.subgraph.inputs) <= written
        written |= set(partition.subgraph.outputs)
        for n in partition.operations:
            assert plan.verdicts[partition.device].accepts(n)
            assert plan.reason(n)
    assert set(plan.model.outputs) <= written


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), operations=st.integers(1, 25), drivers=devices)
def test_any_plan_is_valid_deterministic_and_no_worse_than_one_device(
    seed: int, operations: int, drivers: list[FakeDriver]
) -> None:
    model = random_graph(seed, operations)
    plan = assign(model, drivers, fallback=ReferenceDriver())
    check_plan(plan)
    again = assign(model, drivers, fallback=ReferenceDriver())
    assert [(p.device, p.operations) for p in again.partitions] == [(p.device, p.operations) for p in plan.partitions]
    everyone: list[Driver] = [*drivers, ReferenceDriver()] if plan.fallback else [*drivers]
    for driver in everyone:
        if all(plan.verdicts[driver.name].accepts(n) for n in range(operations)):
            alone = CostModel(model, {driver.name: driver})
            price = alone.price("alone", alone.partitions([driver.name] * operations))
            assert objective(plan.chosen, plan.preference) <= objective(price, plan.preference)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), operations=st.integers(1, 15), drivers=devices)
def test_a_session_computes_what_the_reference_does(seed: int, operations: int, drivers: list[FakeDriver]) -> None:
    model = random_graph(seed, operations)
    plan = assign(model, drivers, fallback=ReferenceDriver())
    everyone: dict[str, Driver] = {d.name: d for d in drivers} | {"reference": ReferenceDriver()}
    session = build_session(plan, everyone, PrepareOptions(), fallback=True)
    rng = np.random.default_rng(seed)
    inputs = [rng.standard_normal((2, 3)).astype(np.float32) for _ in model.inputs]
    for got, expected in zip(session(*inputs), execute(model, inputs), strict=True):
        np.testing.assert_array_equal(got, expected)


@settings(deadline=None)
@given(seed=st.integers(0, 2**16), operations=st.integers(1, 30), width=st.integers(1, 4))
def test_split_keeps_dependencies(seed: int, operations: int, width: int) -> None:
    model = random_graph(seed, operations)
    rng = np.random.default_rng(seed)
    assignment = [f"d{k}" for k in rng.integers(0, width, operations)]
    groups = split(model, assignment)
    done: set[int] = set()
    for device, members in groups:
        assert all(assignment[n] == device for n in members)
        done |= set(members)
        for n in members:
            assert all(model.producers[i] in done for i in model.operations[n].inputs if i in model.producers)
    assert done == set(range(operations))


def place(model: Model, *drivers: FakeDriver, **options: object) -> list[tuple[str, int]]:
    plan = assign(model, drivers, **options)  # type: ignore[arg-type]
    return [(p.device, len(p.operations)) for p in plan.partitions]


FAST = FakeDriver("fast", costs={"ADD": 1e-6, "MUL": 1e-6}, default_cost=None, launch_cost=1e-6, watts=10)
SLOW = FakeDriver("slow", default_cost=1e-4, launch_cost=1e-6, watts=1e-3)
CASES = {
    "one device that takes everything gives one partition": (chain("ADD", "MUL", "ADD"), (FAST,), {}, [("fast", 3)]),
    "one operation off the fast device is cheaper than all": (
        chain("ADD", "MAXIMUM", "MUL"),
        (FAST, SLOW),
        {},
        [("fast", 1), ("slow", 1), ("fast", 1)],
    ),
    "low power prefers the frugal one": (
        chain("ADD", "MUL"),
        (FAST, SLOW),
        {"preference": "low_power"},
        [("slow", 2)],
    ),
    "a launch that costs more than it saves is not made": (
        chain("ADD", "MAXIMUM"),
        (FakeDriver("late", costs={"ADD": 1e-6}, default_cost=None, launch_cost=1e-2), SLOW),
        {},
        [("slow", 2)],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_choice(case: tuple[Model, tuple[FakeDriver, ...], dict[str, object], list[tuple[str, int]]]) -> None:
    model, drivers, options, expected = case
    assert place(model, *drivers, **options) == expected


def test_an_operation_nobody_takes_is_named_with_every_reason() -> None:
    with pytest.raises(
        UnsupportedOperation, match=r"MAXIMUM 'maximum0': no device takes it \(fast: MAXIMUM: takes ADD"
    ):
        assign(chain("MAXIMUM"), [FAST])


def test_the_last_resort_takes_only_what_nobody_takes_and_says_why() -> None:
    plan = assign(chain("ADD", "MAXIMUM"), [FAST], fallback=ReferenceDriver())
    assert plan.fallback == "reference"
    assert plan.fallbacks() == [(1, "fast: MAXIMUM: takes ADD, MUL only")]
    assert plan.placement == {0: "fast", 1: "reference"}


def test_no_device_at_all() -> None:
    with pytest.raises(PartitionError, match="no device"):
        assign(chain("ADD"), [])


def test_a_driver_that_crashes_when_asked_takes_nothing() -> None:
    class Crashing(FakeDriver):
        def supported(self, model: Model) -> list:  # type: ignore[type-arg]
            raise RuntimeError("boom")

    plan = assign(chain("ADD"), [Crashing("bad")], fallback=ReferenceDriver())
    assert plan.reason(0) == "bad: the driver failed to answer: RuntimeError: boom"


def test_the_level_of_a_device_is_respected() -> None:
    old = FakeDriver("old", feature_level=2)
    plan = assign(chain("ADD", "MAXIMUM"), [old], fallback=ReferenceDriver())
    assert plan.placement == {0: "old", 1: "reference"}
    assert "MAXIMUM needs feature level 3 (Android 10)" in plan.reason(1)
