"""A plan for people: its partitions, what they cost, and why operations are where they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from nnapi.drivers.driver import Reject
from nnapi.ir.model import Model
from nnapi.ir.work import macs
from nnapi.partitioning.plan import Alternative, Plan
from nnapi.partitioning.verdict import Verdicts

MAX_REASONS = 8


def describe_plan(plan: Plan) -> Iterator[str]:
    """The plan in lines of 76 columns at most, reasons of many words aside."""
    total = len(plan.model.operations)
    parts = "1 partition" if len(plan.partitions) == 1 else f"{len(plan.partitions)} partitions"
    source = "measured" if all(p.estimate.source == "measured" for p in plan.partitions) else "modelled"
    took = plan.chosen.measured_seconds
    yield f"plan: {total} operations in {parts}: {plan.chosen.name}"
    yield f"  {plan.chosen.seconds * 1e3:.2f} ms {source}" + ("" if took is None else f", {took * 1e3:.2f} ms measured")
    if plan.burden:
        yield f"  SLOW: {plan.burden}"
    for deviation in plan.deviations()[:MAX_REASONS]:
        if deviation.device != plan.fallback:
            yield f"  refused: {deviation.what} on {deviation.device}: {deviation.reason}"
    if plan.preference == "sustained_speed":
        yield f"  many answers: {plan.chosen.busiest * 1e3:.2f} ms each, where several threads call the session at once"
    for k, partition in enumerate(plan.partitions):
        model, precision = partition.subgraph.model, plan.precision_of(partition)
        yield (
            f"  {k}  {partition.device} {precision}, {len(partition.operations)} operations, "
            f"{macs(model) / 1e6:.1f} M MACs, {_bytes(model) / 1e3:.1f} kB in and out, "
            f"{partition.estimate.seconds * 1e3:.2f} ms"
        )
        yield f"     {top_operations(model)}"
        if k in plan.unchecked:
            yield f"     not compared with the reference: {plan.unchecked[k]}"
    for reason, operations in reasons(plan).items():
        yield f"  {operations}: {reason}"
    for other in _others(plan):
        took = other.measured_seconds
        time = f"{other.seconds * 1e3:.2f} ms {source}" if took is None else f"{took * 1e3:.2f} ms measured"
        yield f"  not chosen: {other.name}, {time} in {other.partitions}"


def _others(plan: Plan, most: int = 3) -> list[Alternative]:
    """The cheapest plans that were not chosen: one of each name."""
    cheapest = {a.name: a for a in reversed(plan.alternatives) if a.name != plan.chosen.name}
    return sorted(cheapest.values(), key=plan.alternatives.index)[:most]


def _bytes(model: Model) -> int:
    return sum(o.bytes or 0 for o in (*model.input_operands, *model.output_operands))


def reasons(plan: Plan) -> dict[str, str]:
    """Each reason that keeps operations where they are, with how many of which."""
    grouped: dict[str, Counter[str]] = {}
    for n, operation in enumerate(plan.model.operations):
        reason = f"on {plan.placement[n]}: {plan.reason(n)}"
        grouped.setdefault(reason, Counter())[operation.type.rpartition("/")[2]] += 1
    ordered = sorted(grouped.items(), key=lambda item: -sum(item[1].values()))
    return {
        reason: _counted(counts) if len(grouped) > 1 else f"all {sum(counts.values())}"
        for reason, counts in ordered[:MAX_REASONS]
    }


def top_operations(model: Model, most: int = 2) -> str:
    """The most frequent operations of a model: `36 CONV_2D, 17 ADD`."""
    return _counted(Counter(o.type.rpartition("/")[2] for o in model.operations), most)


def _counted(counts: Counter[str], most: int = 3) -> str:
    text = ", ".join(f"{count} {name}" for name, count in counts.most_common(most))
    return text + (", ..." if len(counts) > most else "")


def refusals(verdicts: Verdicts, model: Model) -> list[tuple[int, str, str]]:
    """(operation index, its label, the reason) of each operation that a device refuses."""
    return [
        (n, model.operations[n].label, verdict.reason)
        for n, verdict in enumerate(verdicts)
        if isinstance(verdict, Reject)
    ]
