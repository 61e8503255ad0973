"""Choose a device for every operation: price whole plans and keep the cheapest.

The candidates contain every device that takes the model alone, so the plan is never worse than the best single
device under the same costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

from nnapi.drivers.driver import Driver, Preference, Reject
from nnapi.errors import PartitionError, UnsupportedOperation
from nnapi.ir.model import Model
from nnapi.partitioning.cost import CostModel, objective
from nnapi.partitioning.plan import Alternative, Partition, Plan
from nnapi.partitioning.verdict import Verdicts, judge

MAX_ORDERED = 4
"""Up to so many devices, every order of preference among them is tried."""
MAX_MOVES = 200
"""How many moves of a partition to another device are priced."""


def assign(
    model: Model,
    drivers: Sequence[Driver],
    *,
    preference: Preference = "fast_single_answer",
    fallback: Driver | None = None,
) -> Plan:
    """The cheapest plan found for `model` on `drivers`; `fallback` takes only what none of them takes.

    Raises UnsupportedOperation where no device takes an operation, with each one's reason.
    """
    if not drivers:
        raise PartitionError("no device to place operations on", hint="name one, see `nnapi devices`")
    everyone = {d.name: d for d in drivers}
    verdicts = {name: judge(driver, model) for name, driver in everyone.items()}
    last = None
    homeless = any(not any(v.accepts(n) for v in verdicts.values()) for n in range(len(model.operations)))
    if homeless and fallback is not None and fallback.name not in everyone:
        last = fallback.name
        everyone[last] = fallback
        verdicts[last] = judge(fallback, model)
    _require_takers(model, verdicts)
    costs = CostModel(model, everyone)
    priced: dict[tuple[str, ...], tuple[Alternative, tuple[Partition, ...]]] = {}

    def price(name: str, assignment: tuple[str, ...]) -> Alternative:
        if assignment not in priced:
            partitions = costs.partitions(assignment)
            priced[assignment] = (costs.price(name, partitions), partitions)
        return priced[assignment][0]

    for name, assignment in _candidates(model, verdicts, costs, preference, last):
        price(name, assignment)
    best = min(priced, key=lambda a: objective(priced[a][0], preference))
    best = _improve(best, priced, price, verdicts, preference)
    chosen, partitions = priced[best]
    alternatives = sorted((a for a, _ in priced.values()), key=lambda a: objective(a, preference))
    return Plan(model, partitions, verdicts, preference, chosen, tuple(alternatives), last)


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


def _candidates(
    model: Model, verdicts: Mapping[str, Verdicts], costs: CostModel, preference: Preference, last: str | None
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Assignments worth pricing, by name."""
    operations = range(len(model.operations))
    names = [name for name in verdicts if name != last]
    orders = permutations(names) if len(names) <= MAX_ORDERED else (names[i:] + names[:i] for i in range(len(names)))
    for order in orders:
        ranked = (*order, last) if last is not None else tuple(order)
        assignment = tuple(next(d for d in ranked if verdicts[d].accepts(n)) for n in operations)
        used = dict.fromkeys(assignment)
        yield (f"{next(iter(used))} alone" if len(used) == 1 else f"{', then '.join(used)}"), assignment
    if len(names) > 1:
        yield (
            "each operation where it is cheapest",
            tuple(
                min(
                    (d for d in verdicts if verdicts[d].accepts(n)),
                    key=lambda d: objective(costs.price(d, [costs.partition(d, (n,))]), preference),
                )
                for n in operations
            ),
        )


def _improve(  # type: ignore[no-untyped-def]
    best: tuple[str, ...], priced, price, verdicts: Mapping[str, Verdicts], preference: Preference
) -> tuple[str, ...]:
    """Move one partition at a time to another device while that helps."""
    moves, improved = 0, True
    while improved and moves < MAX_MOVES:
        improved = False
        for partition in priced[best][1]:
            for device, taken in verdicts.items():
                if device == partition.device or not all(taken.accepts(n) for n in partition.operations):
                    continue
                inside = set(partition.operations)
                moved = tuple(device if n in inside else d for n, d in enumerate(best))
                moves += 1
                if objective(price("improved", moved), preference) < objective(priced[best][0], preference):
                    best, improved = moved, True
                    break
            if improved:
                break
    return best
