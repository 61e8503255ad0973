"""Good placements of graphs of any size: starting points, and moves that make them better."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Final

from nnapi.partitioning.baselines import BASELINES
from nnapi.partitioning.problem import Assignment, Priced, Problem

MAX_ORDERED: Final = 4
"""Up to so many devices, every order of preference among them is tried."""
LARGE: Final = 1000
"""Operations from which on only a few of the orders are."""
WORK: Final = 40_000
"""Operations that are priced in all by moves: that many over the number of operations are tried, at most MAX_MOVES."""
MAX_MOVES: Final = 400
SWEEPS: Final = 3


def search(problem: Problem) -> Priced:
    """The cheapest of the starting points, and of what moves make of it."""
    for name, assignment in starting_points(problem):
        problem.price(name, assignment)
    best = problem.best
    improved = problem.price("improved", _settled(problem, best.assignment))
    return _moved(problem, min(best, improved, key=problem.cost))


def starting_points(problem: Problem) -> Iterator[tuple[str, Assignment]]:
    """Assignments worth pricing, by name; each device that takes everything is among them, alone."""
    last = problem.last
    names = [name for name in problem.verdicts if name != last]
    every = len(names) <= MAX_ORDERED and len(problem.model.operations) < LARGE
    orders = permutations(names) if every else (names[i:] + names[:i] for i in range(len(names)))
    for order in orders:
        ranked = (*order, last) if last is not None else tuple(order)
        assignment = tuple(next(d for d in ranked if d in allowed) for allowed in problem.allowed)
        used = dict.fromkeys(assignment)
        yield (f"{next(iter(used))} alone" if len(used) == 1 else f"{', then '.join(used)}"), assignment
    if last is not None and all(last in allowed for allowed in problem.allowed):
        yield f"{last} alone", (last,) * len(problem.allowed)
    if len(problem.verdicts) > 1:
        cheapest = tuple(
            min(allowed, key=lambda d: problem.unit_costs[d][n]) for n, allowed in enumerate(problem.allowed)
        )
        yield "each operation where it is cheapest", cheapest
        for name, baseline in BASELINES.items():
            yield name, baseline(problem)


def _settled(problem: Problem, assignment: Assignment) -> Assignment:
    """Each operation moved, in turn, to where it and the tensors around it are cheapest; a device that none of its
    neighbours is on costs a launch.
    """
    model = problem.model
    sources = [[i for i in dict.fromkeys(o.inputs) if i in model.producers] for o in model.operations]
    costs = {d: c.tolist() for d, c in problem.unit_costs.items()}
    moving = {d: t.tolist() for d, t in problem.transfers.items()}
    placed = list(assignment)
    for sweep in range(SWEEPS):
        changed = False
        order = range(len(placed)) if sweep % 2 == 0 else range(len(placed) - 1, -1, -1)
        for n in order:
            if len(problem.allowed[n]) == 1:
                continue
            before = [(i, placed[model.producers[i]]) for i in sources[n]]
            after = [(o, placed[c]) for o in model.operations[n].outputs for c in model.consumers.get(o, ())]
            near = {d for _, d in before} | {d for _, d in after}
            best, least = placed[n], float("inf")
            for d in problem.allowed[n]:
                cost = costs[d][n] + (0.0 if d in near else problem.launches[d])
                cost += sum(moving[d][i] for i, source in before if source != d)
                cost += sum(moving[reader][o] for o, reader in dict.fromkeys(after) if reader != d)
                if cost < least:
                    best, least = d, cost
            changed |= best != placed[n]
            placed[n] = best
        if not changed:
            break
    return tuple(placed)


def _moved(problem: Problem, best: Priced) -> Priced:
    """Move one partition, or one operation, to another device at a time while that helps."""
    left = min(MAX_MOVES, WORK // max(len(problem.model.operations), 1))
    improved = True
    while improved and left > 0:
        improved = False
        for members, device in _moves(problem, best):
            if left <= 0:
                break
            left -= 1
            inside = set(members)
            moved = problem.price("improved", [device if n in inside else d for n, d in enumerate(best.assignment)])
            if problem.cost(moved) < problem.cost(best):
                best, improved = moved, True
                break
    return best


def _moves(problem: Problem, best: Priced) -> Iterator[tuple[tuple[int, ...], str]]:
    small_first = sorted(best.groups, key=lambda g: len(g[1]))
    for device, operations in small_first:
        for other, verdicts in problem.verdicts.items():
            if other != device and all(verdicts.accepts(n) for n in operations):
                yield operations, other
    for n, allowed in enumerate(problem.allowed):
        for other in allowed:
            if other != best.assignment[n]:
                yield (n,), other
