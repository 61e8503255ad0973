"""The chosen plan against exhaustive search, schedules against every order, large graphs against the clock."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import BINARY, random_graph
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import ReferenceDriver
from nnapi.partitioning.assign import assign, pose
from nnapi.partitioning.baselines import BASELINES
from nnapi.partitioning.cost import objective
from nnapi.partitioning.schedule import split
from partitioning.placements import cheapest, fewest_launches

QUICK = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
PREFERENCES = ("fast_single_answer", "low_power")


LAUNCHES = (0.0, 1e-6, 2e-5, 2e-4)


def random_drivers(seed: int, count: int, *, sparse: bool = True) -> list[FakeDriver]:
    """Devices that take some or all types, at costs around those of a launch and a transfer."""
    rng = np.random.default_rng(seed)
    return [
        FakeDriver(
            f"d{k}",
            costs={t: float(10 ** rng.uniform(-6, -3.5)) for t in BINARY if not sparse or k == 0 or rng.random() < 0.7},
            default_cost=None,
            launch_cost=float(rng.choice(LAUNCHES)),
            watts=float(rng.uniform(0.1, 10)),
        )
        for k in range(count)
    ]


@QUICK
@given(seed=st.integers(0, 2**20), operations=st.integers(1, 12), preference=st.sampled_from(PREFERENCES))
def test_the_plan_costs_what_the_cheapest_of_all_costs(seed: int, operations: int, preference: str) -> None:
    model, drivers = random_graph(seed, operations), random_drivers(seed, 3)
    plan = assign(model, drivers, preference=preference)  # type: ignore[arg-type]
    assert plan.is_optimal
    wanted = cheapest(pose(model, drivers, preference=preference))  # type: ignore[arg-type]
    assert objective(plan.chosen, plan.preference)[0] == pytest.approx(wanted, rel=1e-6)


@QUICK
@given(seed=st.integers(0, 2**20), operations=st.integers(1, 12), width=st.integers(1, 4))
def test_a_schedule_has_the_cheapest_launches_of_all_orders(seed: int, operations: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    model, drivers = random_graph(seed, operations), random_drivers(seed, width, sparse=False)
    assignment = tuple(f"d{k}" for k in rng.integers(0, width, operations))
    problem = pose(model, drivers)
    launches = {f"d{k}": float(10 ** rng.uniform(-1, 1)) for k in range(width)}
    groups = split(model, assignment, launches)
    assert sum(launches[d] for d, _ in groups) == pytest.approx(fewest_launches(problem, assignment, launches))


@QUICK
@given(seed=st.integers(0, 2**20), operations=st.integers(1, 40), count=st.integers(1, 4))
@pytest.mark.parametrize("preference", [*PREFERENCES, "sustained_speed"])
def test_no_baseline_is_cheaper(seed: int, operations: int, count: int, preference: str) -> None:
    model, drivers = random_graph(seed, operations), random_drivers(seed, count)
    plan = assign(model, drivers, preference=preference)  # type: ignore[arg-type]
    problem = pose(model, drivers, preference=preference)  # type: ignore[arg-type]
    for name, baseline in BASELINES.items():
        assignment = baseline(problem)
        assert all(d in allowed for d, allowed in zip(assignment, problem.allowed, strict=True)), name
        theirs = problem.price(name, assignment).alternative
        assert objective(plan.chosen, plan.preference) <= objective(theirs, plan.preference), name


def test_throughput_spreads_work_over_devices_that_work_side_by_side() -> None:
    model = random_graph(1, 10)
    drivers = [FakeDriver(f"d{k}", default_cost=1e-3, launch_cost=1e-6) for k in range(2)]
    alone = assign(model, drivers)
    spread = assign(model, drivers, preference="sustained_speed")
    assert len(alone.devices) == 1 and len(spread.devices) == 2
    assert spread.chosen.busiest == pytest.approx(5e-3, rel=0.02)


def test_ten_thousand_operations_on_five_devices() -> None:
    model = random_graph(7, 10_000)
    drivers = random_drivers(7, 5)
    calibration = _seconds(lambda: [hash((i, i)) for i in range(3_000_000)])  # about 0.25 s where the limit is 2 s
    seconds = _seconds(lambda: assign(model, drivers, fallback=ReferenceDriver()))
    assert seconds < max(2.0, 8 * calibration)


def _seconds(function) -> float:  # type: ignore[no-untyped-def]
    started = time.process_time()
    function()
    return time.process_time() - started
