"""The cheapest placement there is, by integer programming (HiGHS).

Time is cut into levels. x[n, d, l]: operation n runs on device d at level l. A tensor that stays on its device may be
read at the level it is written, another only later; y[d, l] pays for a launch, t[i, d] for moving tensor i to device d.
So the schedule is part of the solution, and the launches are those of the best one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import product
from typing import Any, Final

import numpy as np

from nnapi.ops.types import Array
from nnapi.partitioning.problem import Assignment, Priced, Problem

MAX_VARIABLES: Final = 440
"""Binary variables (operations x their candidates x levels) up to which the program is solved."""
MAX_BALANCED: Final = 150
"""The same where the busiest device counts, which is harder."""
MAX_LEVELS: Final = 16
MAX_NODES: Final = 200
"""Nodes of the search after which the best placement known is kept, unproven: most need one, of 500 none more than 114.

Never seconds: the same problem has the same plan, however busy the machine is.
"""
_SCALE: Final = 1e4
"""What the best known placement costs inside the program: far above the solver's tolerances."""


def is_optimal(problem: Problem, best: Priced) -> bool:
    """Whether no placement can be cheaper, by a bound that takes no time: all operations where they are cheapest."""
    bound = _bound(problem)
    return problem.preference != "sustained_speed" and problem.cost(best)[0] <= bound * (1 + 1e-12)


def solve(problem: Problem, best: Priced) -> Priced | None:
    """The cheapest placement, `best` or a cheaper one; None where the program or the search for it is too large."""
    if is_optimal(problem, best):
        return best
    if problem.detours.has_cuts:  # it knows no partitions that are cut
        return None
    program = _Program(problem, best)
    limit = MAX_BALANCED if problem.preference == "sustained_speed" else MAX_VARIABLES
    if program.variables > limit or program.levels > MAX_LEVELS:
        return None
    found = program.solve()
    if found is None:
        return None
    assignment, groups = found
    priced = problem.price("improved", assignment)
    if len(priced.groups) > len(groups):
        priced = problem.price("improved", assignment, groups)
    return min(priced, best, key=problem.cost)


def _bound(problem: Problem) -> float:
    """A lower bound of every placement's cost: no device alone is cheaper, and two need two launches and a transfer."""
    costs, launches = problem.unit_costs, problem.launches
    cheapest = sum(min(costs[d][n] for d in allowed) for n, allowed in enumerate(problem.allowed))
    alone = [
        float(costs[d].sum()) + launches[d]
        for d, verdicts in problem.verdicts.items()
        if verdicts.accepted == len(problem.allowed)
    ]
    pair = sum(sorted(launches.values())[:2])
    return min([*alone, float(cheapest) + pair])


class _Program:
    def __init__(self, problem: Problem, best: Priced) -> None:
        self.problem = problem
        self.devices = list(problem.costs.names)
        self.allowed = _undominated(problem)
        self.levels = self._levels(best)
        self.variables = self.levels * sum(len(allowed) for allowed in self.allowed)

    @cached_property
    def x(self) -> dict[tuple[int, str, int], int]:
        """(operation, device, level) -> variable."""
        places = ((n, d) for n, allowed in enumerate(self.allowed) for d in allowed)
        return {(n, d, level): k for k, ((n, d), level) in enumerate(product(places, range(self.levels)))}

    def _levels(self, best: Priced) -> int:
        """How many levels a placement that is no dearer than `best` can have."""
        count = len(self.allowed)
        if self.problem.preference == "sustained_speed":
            return count
        costs, launches = self.problem.unit_costs, self.problem.launches
        cheapest = sum(min(float(costs[d][n]) for d in allowed) for n, allowed in enumerate(self.allowed))
        left = self.problem.cost(best)[0] - cheapest
        first, second = sorted([*launches.values(), *launches.values()][: max(len(launches), 2)])[:2]
        moved = min((float(t[o]) for t in self.problem.transfers.values() for o in self._moving()), default=0.0)
        # Something crosses from each level to the next: two devices at least take turns, and a tensor moves.
        levels = 1
        while levels < count and first * ((levels + 2) // 2) + second * ((levels + 1) // 2) + moved * levels <= (
            left * (1 + 1e-9)
        ):
            levels += 1
        return levels

    def _moving(self) -> list[int]:
        model = self.problem.model
        return [o for o in model.producers if o in model.consumers]

    def solve(self) -> tuple[Assignment, list[tuple[str, tuple[int, ...]]]] | None:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import coo_array

        rows = _Rows(self)
        matrix = coo_array((rows.values, (rows.rows, rows.columns)), shape=(rows.count, rows.variables)).tocsr()
        result = milp(
            rows.objective,
            integrality=rows.integrality,
            bounds=Bounds(0, rows.upper),
            constraints=LinearConstraint(matrix, np.array(rows.lower), np.inf),
            options={"node_limit": MAX_NODES, "mip_rel_gap": 0.0},
        )
        if result.status != 0 or result.x is None:
            return None
        placed: dict[int, tuple[str, int]] = {n: (d, level) for (n, d, level), k in self.x.items() if result.x[k] > 0.5}
        members: dict[tuple[int, str], list[int]] = {}
        for n, (d, level) in sorted(placed.items()):
            members.setdefault((level, d), []).append(n)
        groups = [(d, tuple(members[level, d])) for level, d in sorted(members)]
        return tuple(placed[n][0] for n in range(len(self.allowed))), groups


class _Rows:
    """The program's matrix: rows . variables >= lower."""

    def __init__(self, program: _Program) -> None:
        self.program, self.problem = program, program.problem
        self.rows: list[int] = []
        self.columns: list[int] = []
        self.values: list[float] = []
        self.lower: list[float] = []
        self.variables = program.variables
        self.y = {key: self._new() for key in product(program.devices, range(program.levels))}
        model = self.problem.model
        self.readers = {
            o: model.consumers[o] for n, operation in enumerate(model.operations) for o in operation.outputs
            if o in model.consumers
        }  # fmt: skip
        self.t: dict[tuple[int, str], int] = {}
        self._place_each_once()
        self._respect_order()
        self._pay_launches()
        self._pay_transfers()
        self.objective, self.upper, self.integrality = self._price()

    @property
    def count(self) -> int:
        return len(self.lower)

    def _new(self) -> int:
        self.variables += 1
        return self.variables - 1

    def _row(self, terms: Sequence[tuple[int, float]], lower: float) -> None:
        for column, value in terms:
            self.rows.append(len(self.lower))
            self.columns.append(column)
            self.values.append(value)
        self.lower.append(lower)

    def _at(self, n: int, device: str | None = None, before: int | None = None) -> list[int]:
        """Variables of operation n: on a device (None: any), at levels below `before` (None: any)."""
        x, program = self.program.x, self.program
        stop = program.levels if before is None else before
        return [x[n, d, k] for d in program.allowed[n] if device in (None, d) for k in range(stop)]

    def _place_each_once(self) -> None:
        for n in range(len(self.program.allowed)):
            self._row([(k, 1.0) for k in self._at(n)], 1.0)
            self._row([(k, -1.0) for k in self._at(n)], -1.0)

    def _respect_order(self) -> None:
        """At a level and device only if each input was made at an earlier level, or here."""
        for o, readers in self.readers.items():
            u = self.problem.model.producers[o]
            for n in readers:
                for d, level in product(self.program.allowed[n], range(self.program.levels)):
                    made = [(k, 1.0) for k in self._at(u, before=level)]
                    if d in self.program.allowed[u]:
                        made.append((self.program.x[u, d, level], 1.0))
                    self._row([*made, (self.program.x[n, d, level], -1.0)], 0.0)

    def _pay_launches(self) -> None:
        for (n, d, level), k in self.program.x.items():
            del n
            self._row([(self.y[d, level], 1.0), (k, -1.0)], 0.0)

    def _pay_transfers(self) -> None:
        for o, readers in self.readers.items():
            u = self.problem.model.producers[o]
            for n in readers:
                for d in self.program.allowed[n]:
                    paid = self.t.setdefault((o, d), self.variables)
                    self.variables = max(self.variables, paid + 1)
                    here = [(k, 1.0) for k in self._at(u, d)]
                    self._row([(paid, 1.0), *here, *((k, -1.0) for k in self._at(n, d))], 0.0)

    def _price(self) -> tuple[Array, Array, Array]:
        problem, program = self.problem, self.program
        cost = np.zeros(self.variables + 1)
        for (n, d, _), k in program.x.items():
            cost[k] = problem.unit_costs[d][n]
        for (d, _), k in self.y.items():
            cost[k] = problem.launches[d]
        for (o, d), k in self.t.items():
            cost[k] = problem.transfers[d][o]
        upper: Any = np.append(np.ones(self.variables), np.inf)
        integrality = np.append(np.ones(self.variables), 0)
        integrality[list(self.t.values())] = 0
        busiest = self.variables
        self.variables += 1
        largest = problem.cost(problem.best)[0] or 1.0
        cost *= _SCALE / largest
        if problem.preference == "sustained_speed":
            resources = {d: problem.costs.rates[d].resource for d in program.devices}
            owner = {k: d for (_, d, _), k in program.x.items()} | {k: d for (d, _), k in self.y.items()}
            owner |= {k: d for (_, d), k in self.t.items()}
            for resource in dict.fromkeys(resources.values()):
                load = [(k, -float(cost[k])) for k, d in owner.items() if resources[d] == resource]
                self._row([(busiest, 1.0), *load], 0.0)
            cost = np.zeros(self.variables)
            cost[busiest] = 1.0
        return cost, upper, integrality


def _undominated(problem: Problem) -> list[tuple[str, ...]]:
    """Candidates that can be part of a cheapest placement.

    Where an operation alone on another device, with two more launches and all its tensors moved, is still cheaper, it
    never is worth it.
    """
    if problem.preference == "sustained_speed":
        return problem.allowed
    model, costs, launches, transfers = problem.model, problem.unit_costs, problem.launches, problem.transfers
    kept = []
    for n, allowed in enumerate(problem.allowed):
        inputs = [i for i in dict.fromkeys(model.operations[n].inputs) if i in model.producers]
        outputs = [o for o in model.operations[n].outputs if o in model.consumers]
        away = {
            d: float(costs[d][n]) + launches[d] + sum(float(transfers[d][i]) for i in inputs) for d in allowed
        }  # fmt: skip
        back = {d: launches[d] + sum(float(transfers[d][o]) for o in outputs) for d in allowed}
        kept.append(
            tuple(
                d for d in allowed
                if not any(float(costs[d][n]) > away[other] + back[d] for other in allowed if other != d)
            )
        )  # fmt: skip
    return kept
