"""Choose a device for every operation: price whole plans and keep the cheapest.

The candidates contain every device that takes the model alone, so the plan is never worse than the best single
device under the same costs. Small graphs are solved exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from nnapi.drivers.driver import Driver, Preference, Reject
from nnapi.errors import PartitionError, UnsupportedOperation
from nnapi.ir.model import Model
from nnapi.partitioning.cost import CostModel
from nnapi.partitioning.detours import Detour, Detours, pieces, whole_reason
from nnapi.partitioning.exact import solve
from nnapi.partitioning.plan import Plan
from nnapi.partitioning.problem import Priced, Problem
from nnapi.partitioning.search import search
from nnapi.partitioning.verdict import Verdicts, judge

if TYPE_CHECKING:
    from nnapi.partitioning.deny import DenyList
    from nnapi.partitioning.profile import Profile


def assign(
    model: Model,
    drivers: Sequence[Driver],
    *,
    preference: Preference = "fast_single_answer",
    fallback: Driver | None = None,
    profile: Profile | None = None,
    denied: DenyList | None = None,
    detours: Detours | None = None,
) -> Plan:
    """The cheapest plan found for `model` on `drivers`; `fallback` joins them where none of them takes an operation.

    `profile` has what was measured; what `denied` lists is refused, and gone round with what `detours` has already.
    Raises UnsupportedOperation where no device takes an operation, with each one's reason.
    """
    placed = place(
        model, drivers, preference=preference, fallback=fallback, profile=profile, denied=denied, detours=detours
    )
    plan = plan_of(placed.problem, placed.priced, is_optimal=placed.is_optimal)
    if placed.measured_seconds is None:
        return plan
    return replace(plan, chosen=replace(plan.chosen, measured_seconds=placed.measured_seconds))


class Placed(NamedTuple):
    """A problem with its best placement."""

    problem: Problem
    priced: Priced
    is_optimal: bool = False
    measured_seconds: float | None = None
    """Of a placement that was measured to be the fastest before."""


def place(
    model: Model,
    drivers: Sequence[Driver],
    *,
    preference: Preference = "fast_single_answer",
    fallback: Driver | None = None,
    profile: Profile | None = None,
    denied: DenyList | None = None,
    detours: Detours | None = None,
    remembers: bool = True,
) -> Placed:
    """The cheapest placement that is found, as `assign` makes a plan of; what was measured before if it `remembers`."""
    detours = Detours() if detours is None else detours
    everyone = _named(drivers)
    judged = {name: _judge(driver, model, denied) for name, driver in everyone.items()}
    while True:
        problem = _pose(model, everyone, judged, preference, fallback, profile, detours)
        remembered = profile.plan(model, drivers) if remembers and profile is not None else None
        if remembered is not None and _is_allowed(problem, remembered[0]):
            placed = Placed(problem, problem.price("measured to be the fastest", remembered[0]), False, remembered[1])
        else:
            best = search(problem)
            exact = solve(problem, best)
            placed = Placed(problem, exact or best, exact is not None)
        if denied is None or not _meets(placed, denied):
            return placed


def pose(
    model: Model,
    drivers: Sequence[Driver],
    *,
    preference: Preference = "fast_single_answer",
    fallback: Driver | None = None,
    profile: Profile | None = None,
    denied: DenyList | None = None,
) -> Problem:
    """Takers of each operation of `model`, and its costs there; without what is gone round."""
    everyone = _named(drivers)
    judged = {name: _judge(driver, model, denied) for name, driver in everyone.items()}
    return _pose(model, everyone, judged, preference, fallback, profile, Detours())


def _pose(
    model: Model,
    drivers: Mapping[str, Driver],
    judged: Mapping[str, Verdicts],
    preference: Preference,
    fallback: Driver | None,
    profile: Profile | None,
    detours: Detours,
) -> Problem:
    everyone = dict(drivers)
    verdicts = {name: detours.applied(v) for name, v in judged.items()}
    last = None
    homeless = any(not any(v.accepts(n) for v in verdicts.values()) for n in range(len(model.operations)))
    if homeless and fallback is not None and fallback.name not in everyone:
        last = fallback.name
        everyone[last] = fallback
        verdicts[last] = _judge(fallback, model, None)
    _require_takers(model, verdicts)
    if profile is None:
        return Problem(model, verdicts, CostModel(model, everyone), preference, last, detours=detours)
    known = list(everyone.values())
    measured = profile.sequences(model, known)
    costs = CostModel(model, everyone, measured, profile.launches(known), profile.transfers(known))
    return Problem(model, verdicts, costs, preference, last, profile.options.precision, detours)


def _meets(placed: Placed, denied: DenyList) -> bool:
    """Whether a partition is denied as a whole; then it is gone round from now on."""
    problem = placed.problem
    for device, operations in placed.priced.groups:
        driver = problem.costs.drivers[device]
        reason = whole_reason(problem.model, operations, driver, denied)
        if reason is not None:
            parts = pieces(problem.model, operations, driver, denied)
            problem.detours.meet(Detour(device, operations, reason), problem.verdicts, parts)
            return True
    return False


def plan_of(problem: Problem, chosen: Priced, *, is_optimal: bool = False) -> Plan:
    """The plan of one placement; what else was priced are its alternatives."""
    partitions = tuple(problem.costs.partition(device, operations) for device, operations in chosen.groups)
    last_seconds, engine_seconds = problem.costs.burden(chosen.assignment, problem.last)
    ranked = sorted(problem.priced.values(), key=problem.cost)
    others = [p.alternative for p in ranked if p.assignment != chosen.assignment]
    return Plan(
        problem.model,
        partitions,
        problem.verdicts,
        problem.preference,
        chosen.alternative,
        (chosen.alternative, *others),
        problem.last,
        problem.precision,
        is_optimal,
        refused=tuple(problem.detours.met),
        last_seconds=last_seconds,
        engine_seconds=engine_seconds,
    )


def _named(drivers: Sequence[Driver]) -> dict[str, Driver]:
    if not drivers:
        raise PartitionError("no device to place operations on", hint="name one, see `nnapi devices`")
    return {d.name: d for d in drivers}


def _judge(driver: Driver, model: Model, denied: DenyList | None) -> Verdicts:
    verdicts = judge(driver, model)
    return verdicts if denied is None else denied.applied(driver, model, verdicts)


def _is_allowed(problem: Problem, assignment: Sequence[str]) -> bool:
    return len(assignment) == len(problem.allowed) and all(d in a for d, a in zip(assignment, problem.allowed))


def _require_takers(model: Model, verdicts: Mapping[str, Verdicts]) -> None:
    for n, operation in enumerate(model.operations):
        answers = {name: v[n] for name, v in verdicts.items()}
        if all(isinstance(answer, Reject) for answer in answers.values()):
            reasons = "; ".join(f"{name}: {a.reason}" for name, a in answers.items() if isinstance(a, Reject))
            raise UnsupportedOperation(
                f"no device takes it ({reasons})",
                operation=operation.label,
                hint="add a device that does, see `nnapi devices`",
            )
