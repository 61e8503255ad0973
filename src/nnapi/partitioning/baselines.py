"""How others place operations, to be compared with: the same problem in, an assignment out, the same price for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from nnapi.partitioning.problem import Assignment, Problem

LARGEST: Final = 3
"""How many partitions TFLite gives to a delegate."""

Baseline = Callable[[Problem], Assignment]


def largest(problem: Problem) -> Assignment:
    """TFLite's: the partitions that the first accelerator takes by node count, the largest three kept; the rest on the
    CPU.
    """
    host = problem.host
    delegate = next((d for d in problem.verdicts if d not in (host, problem.last)), host)
    taken = tuple(delegate if delegate in allowed else _home(problem, allowed) for allowed in problem.allowed)
    groups = [g for g in problem.costs.groups(taken, problem.preference) if g[0] == delegate]
    kept = {n for _, operations in sorted(groups, key=lambda g: -len(g[1]))[:LARGEST] for n in operations}
    return tuple(
        delegate if n in kept or allowed == (delegate,) else _home(problem, allowed)
        for n, allowed in enumerate(problem.allowed)
    )


def best_of_each(problem: Problem) -> Assignment:
    """NNAPI's runtime: each operation on the device of the best ratio for its type of operand, whatever its size."""
    model, host = problem.model, problem.host
    kinds = [model.operands[operation.outputs[0]].type for operation in model.operations]
    ratios: dict[tuple[str, object], float] = {}
    for device, verdicts in problem.verdicts.items():
        for kind in dict.fromkeys(kinds):
            members = [n for n, k in enumerate(kinds) if k == kind and verdicts.accepts(n)]
            ours = float(problem.unit_costs[device][members].sum())
            theirs = float(problem.unit_costs[host][members].sum())
            ratios[device, kind] = ours / theirs if theirs else 1.0
    return tuple(min(allowed, key=lambda d: ratios[d, kinds[n]]) for n, allowed in enumerate(problem.allowed))


def tree(problem: Problem) -> Assignment:
    """TVM's: dynamic programming over a tree, values with several readers pinned to the CPU; launches cost nothing."""
    model = problem.model
    cost: list[Mapping[str, float]] = []
    origin: list[Mapping[str, list[tuple[int, str]]]] = []
    for n, operation in enumerate(model.operations):
        allowed = problem.allowed[n]
        if any(len(model.consumers.get(o, ())) > 1 for o in operation.outputs):
            allowed = (_home(problem, allowed),)
        here: dict[str, float] = {}
        chosen: dict[str, list[tuple[int, str]]] = {}
        for device in allowed:
            here[device] = float(problem.unit_costs[device][n])
            chosen[device] = []
            for i in dict.fromkeys(i for i in operation.inputs if i in model.producers):
                before, moving = model.producers[i], float(problem.transfers[device][i])
                source, spent = min(
                    ((d, c + (0.0 if d == device else moving)) for d, c in cost[before].items()), key=lambda x: x[1]
                )
                here[device] += spent
                chosen[device].append((before, source))
        cost.append(here)
        origin.append(chosen)
    placed: dict[int, str] = {}
    for n in reversed(range(len(model.operations))):
        device = placed.setdefault(n, min(cost[n], key=cost[n].__getitem__))
        for before, source in origin[n][device]:
            placed.setdefault(before, source)
    return tuple(placed[n] for n in range(len(model.operations)))


def _home(problem: Problem, allowed: tuple[str, ...]) -> str:
    return problem.host if problem.host in allowed else allowed[0]


BASELINES: Final[Mapping[str, Baseline]] = {
    "TFLite's largest three": largest,
    "NNAPI's best of each type": best_of_each,
    "TVM's tree": tree,
}
