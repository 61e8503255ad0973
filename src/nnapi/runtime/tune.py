"""Measure a model on every device, whole and in parts; then the best few plans, of which the fastest is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Final, TypeVar

import numpy as np

from nnapi.drivers import registry
from nnapi.drivers.driver import Driver, Estimate, PrepareOptions
from nnapi.drivers.reference import ReferenceDriver
from nnapi.errors import NnapiError
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ir.subgraph import extract
from nnapi.ops.types import F32, Array
from nnapi.partitioning.assign import place, plan_of
from nnapi.partitioning.candidate import engine_name
from nnapi.partitioning.deadline import within
from nnapi.partitioning.digest import digest
from nnapi.partitioning.gate import RUN_SECONDS, Gate
from nnapi.partitioning.plan import Fallback, Partition, Plan
from nnapi.partitioning.problem import Priced, Problem
from nnapi.partitioning.profile import LAUNCH, TRANSFER, Profile
from nnapi.partitioning.segments import segments
from nnapi.partitioning.timing import interleaved, race
from nnapi.runtime.build import build_partition, legalize
from nnapi.runtime.session import Session, build_session

FEW: Final = 3
"""How many plans are measured, besides the fastest single device."""
NOISE: Final = 0.01
"""What each further partition must gain, of the whole time, to be kept."""
SLOW: Final = 3.0
"""A device that is so many times slower than the fastest is not measured in parts."""
SECONDS: Final = 1.5
"""How long one model is measured on all devices, about."""
ROUNDS: Final = 4
"""How often plans that may be equally fast are measured again, at most."""
REPEATS: Final = (3, 50)
"""At least and at most so many runs of each."""

K = TypeVar("K")
Samples = Callable[[Model], list[Array]]
"""Sample inputs of any model."""


@dataclass(frozen=True)
class Tuner:
    """Measures models at the options of `profile`; `samples` gives their inputs.

    What `gate` does not admit is not used, and what does not survive a process of its own is not measured in this one.
    """

    profile: Profile
    samples: Samples
    seconds: float = RUN_SECONDS
    gate: Gate | None = None

    def measure(self, model: Model, drivers: Sequence[Driver]) -> dict[str, dict[str, float]]:
        """Measure `model`, and its segments where a device is fast enough: part -> device -> seconds; all is kept."""
        try:
            return self._measure(model, drivers)
        finally:
            if self.gate is not None:
                self.gate.close()

    def _measure(self, model: Model, drivers: Sequence[Driver]) -> dict[str, dict[str, float]]:
        for size, what in ((1, LAUNCH), (1 << 18, TRANSFER)):
            self._links(drivers, size, what)
        found = {"whole": self._together(model, drivers)}
        fastest = min(found["whole"].values(), default=0.0)
        close = [d for d in drivers if found["whole"].get(d.name, 0.0) <= fastest * SLOW]
        if len(close) > 1:
            for k, part in enumerate(segments(model)):
                found[f"segment {k}"] = self._together(extract(model, part).model, close)
        return found

    def choose(self, model: Model, drivers: Sequence[Driver], *, fallback: bool, few: int = FEW) -> Session:
        """The fastest of the best few plans, and of the devices that take all of `model`; it is remembered."""
        self.measure(model, drivers)
        options, gate = self.profile.options, self.gate
        placed = place(
            model, drivers, preference=options.preference, fallback=ReferenceDriver() if fallback else None,
            profile=self.profile, denied=None if gate is None else gate.denied, remembers=False,
        )  # fmt: skip
        problem, best = placed.problem, placed.priced
        everyone = {d.name: d for d in drivers}
        plans = [plan_of(problem, priced) for priced in _worth_measuring(problem, best, few)]

        refused: list[Fallback] = []

        def built(plan: Plan, gate: Gate | None) -> Session:
            session = build_session(plan, everyone, options, fallback=fallback, gate=gate, profile=self.profile)
            if session.plan.placement != plan.placement:  # another plan may take its place, and know nothing of it
                refused.extend(session.fallbacks)
            return session

        def kept(session: Session) -> Session:
            session.fallbacks = tuple(dict.fromkeys((*session.fallbacks, *refused)))
            return session

        light = None if gate is None else replace(gate, compares=False)
        seconds = self._seconds_of(plans, lambda plan: built(plan, gate if _is_foreign(plan) else light))
        measured = [_measured(plan, seconds[n]) for n, plan in enumerate(plans) if n in seconds]
        # Less than the noise is no reason for another partition.
        measured.sort(key=lambda p: (p.chosen.measured_seconds or 0.0) * (1 + NOISE * (len(p.partitions) - 1)))
        ranking = tuple(sorted((p.chosen for p in measured), key=lambda a: a.measured_seconds or 0.0))
        for plan in measured:
            session = built(plan, gate)
            placement = session.plan.placement
            if placement == plan.placement:
                names = [placement[n] for n in range(len(placement))]
                self.profile.record_plan(model, drivers, names, plan.chosen.measured_seconds or 0.0)
                session.plan = replace(session.plan, chosen=plan.chosen, alternatives=ranking)
                return kept(session)
        # Nothing that was measured passes the gate: what is left is planned without what was refused.
        return kept(built(plan_of(problem, best), gate))

    def _seconds_of(self, plans: Sequence[Plan], build: Callable[[Plan], Session]) -> dict[int, float]:
        """Seconds of the plans that can be built, by number; one placement is measured once."""
        sessions: dict[int, Session] = {}
        seen: list[Mapping[int, str]] = []
        for n, plan in enumerate(plans):
            try:
                session = build(plan)
            except NnapiError:
                continue
            if session.plan.placement == plan.placement and plan.placement not in seen:
                seen.append(plan.placement)
                sessions[n] = session
        inputs = self.samples(plans[0].model)
        return self._race({n: partial(session, *inputs) for n, session in sessions.items()})

    def _links(self, drivers: Sequence[Driver], size: int, what: str) -> None:
        """Seconds of a launch, from a single addition; seconds a byte takes, from one of many values."""
        b = Builder("link")
        x = b.input("x", F32, (1, size))
        b.output(b.add("ADD", {"input0": x, "input1": x, "activation": 0}))
        model = b.finish()
        unknown = [d for d in drivers if self.profile.seconds(d, what) is None]
        for name, seconds in self._times(model, unknown).items():
            driver = next(d for d in drivers if d.name == name)
            launch = self.profile.seconds(driver, LAUNCH) or 0.0
            # Half of what comes on top of a launch: the other half is the addition itself.
            spent = seconds if what == LAUNCH else max(seconds - launch, 1e-9) / (size * 8)
            self.profile.record(driver, what, spent, REPEATS[0])

    def _together(self, model: Model, drivers: Sequence[Driver]) -> dict[str, float]:
        key = digest(model)
        known = {d.name: self.profile.seconds(d, key) for d in drivers}
        if all(seconds is not None for seconds in known.values()):
            return {name: seconds for name, seconds in known.items() if seconds is not None}
        times = self._times(model, drivers)
        for driver in drivers:
            if driver.name in times:
                self.profile.record(driver, key, times[driver.name], REPEATS[0])
        return times

    def _times(self, model: Model, drivers: Sequence[Driver]) -> dict[str, float]:
        """Seconds of a model on each device that takes all of it and does not fail; interleaved."""
        try:
            inputs = self.samples(model)
        except NnapiError:
            return {}
        runs: dict[str, Callable[[], object]] = {}
        for driver in drivers:
            try:
                if self.gate is not None and not self.gate.survives(driver, model, inputs, legalize):
                    continue
                run = self._runner(model, driver)
                within(self.seconds, f"device {driver.name!r}", partial(run, inputs))
            except Exception:  # it does not take the model, or fails on it: nothing to measure
                continue
            runs[driver.name] = partial(run, inputs)
        return self._time(runs)

    def _runner(self, model: Model, driver: Driver) -> Callable[[list[Array]], object]:
        part = extract(model, range(len(model.operations)))
        partition = Partition(driver.name, tuple(range(len(model.operations))), part, Estimate(0.0, 0.0, "modelled"))
        options: PrepareOptions = self.profile.options
        seconds = self.seconds if self.gate is None else self.gate.patience(driver)
        built = within(seconds, f"device {driver.name!r}", lambda: build_partition(partition, driver, options))
        return built.prepared.run

    def _time(self, runs: Mapping[K, Callable[[], object]]) -> dict[K, float]:
        if not runs:
            return {}
        return {name: median(seconds) for name, seconds in interleaved(runs, _repeats(runs), warmup=1).items()}

    def _race(self, runs: Mapping[K, Callable[[], object]]) -> dict[K, float]:
        """Seconds of each, until one is the fastest beyond noise."""
        return race(runs, _repeats(runs), most=ROUNDS) if runs else {}


def _repeats(runs: Mapping[K, Callable[[], object]]) -> int:
    """How often all can run in the time there is."""
    once = sum(seconds[0] for seconds in interleaved(runs, 1, warmup=0).values())
    return int(np.clip(SECONDS / max(once, 1e-9), *REPEATS))


def _worth_measuring(problem: Problem, best: Priced, few: int) -> list[Priced]:
    """The cheapest plans, each of another number of partitions, and the cheapest of a single device."""
    ranked = sorted(problem.priced.values(), key=problem.cost)
    alone = [p for p in ranked if len(set(p.assignment)) == 1]
    mixed: dict[int, Priced] = {}
    for priced in (best, *ranked):
        if len(set(priced.assignment)) > 1:
            mixed.setdefault(len(priced.groups), priced)
    chosen = {p.assignment: p for p in (best, *list(mixed.values())[:few], *alone[:few])}
    return list(chosen.values())


def _is_foreign(plan: Plan) -> bool:
    """Whether an engine of a third party takes part: it is not run before it is checked."""
    return not {engine_name(device) for device in plan.devices} <= registry.BUILTIN.keys()


def _measured(plan: Plan, seconds: float) -> Plan:
    return replace(plan, chosen=replace(plan.chosen, measured_seconds=seconds))
