"""Exhaustive search, written apart from the code it judges."""

from __future__ import annotations

import math
from functools import cache

from nnapi.partitioning.problem import Problem


def fewest_launches(problem: Problem, assignment: tuple[str, ...], launches: dict[str, float]) -> float:
    """The cheapest order of all operations, each change of device a launch: every topological order is tried."""
    model, count = problem.model, len(assignment)
    before = [
        sum(1 << model.producers[i] for i in set(o.inputs) if i in model.producers) for o in model.operations
    ]  # fmt: skip

    @cache
    def rest(done: int, device: str) -> float:
        if done == (1 << count) - 1:
            return 0.0
        return min(
            rest(done | 1 << n, assignment[n]) + (launches[assignment[n]] if assignment[n] != device else 0.0)
            for n in range(count)
            if not done >> n & 1 and before[n] & done == before[n]
        )

    return rest(0, "")


def cheapest(problem: Problem) -> float:
    """The cost of the cheapest of all placements, cutting off only what is dearer already."""
    model, names = problem.model, list(problem.verdicts)
    launches = dict(problem.launches)
    readers = [
        (n, [i for i in dict.fromkeys(o.inputs) if i in model.producers]) for n, o in enumerate(model.operations)
    ]
    best = math.inf

    def place(n: int, assignment: tuple[str, ...], spent: float, moved: frozenset[tuple[int, str]]) -> None:
        nonlocal best
        if spent + sum(launches[d] for d in set(assignment)) >= best:
            return
        if n == len(model.operations):
            best = min(best, spent + fewest_launches(problem, assignment, launches))
            return
        for device in names:
            if not problem.verdicts[device].accepts(n):
                continue
            new = {(i, device) for i in readers[n][1] if assignment[model.producers[i]] != device} - moved
            cost = float(problem.unit_costs[device][n]) + sum(float(problem.transfers[device][i]) for i, _ in new)
            place(n + 1, (*assignment, device), spent + cost, moved | new)

    place(0, (), 0.0, frozenset())
    return best
