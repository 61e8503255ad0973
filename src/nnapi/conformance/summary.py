"""What a run of conformance cases came to, by operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from nnapi.conformance.runner import Outcome


@dataclass(frozen=True)
class Summary:
    """Counts of outcomes by the operations under test, and the cases that did not pass."""

    by_operation: dict[str, Counter[str]]
    failed: tuple[Outcome, ...]
    declined: tuple[Outcome, ...]

    @property
    def totals(self) -> Counter[str]:
        return sum(self.by_operation.values(), Counter())

    def __str__(self) -> str:
        totals = self.totals
        return f"{totals['passed']} passed, {totals['failed']} failed, {totals['declined']} declined"

    def to_json(self) -> dict[str, object]:
        return {
            "totals": _record(self.totals),
            "operations": {name: _record(counts) for name, counts in self.by_operation.items()},
            "failed": [{"case": o.case, "difference": o.detail} for o in self.failed],
            "declined": [{"case": o.case, "reason": o.detail} for o in self.declined],
        }


def summarize(outcomes: Iterable[Outcome]) -> Summary:
    """The summary of some outcomes.

    >>> print(summarize([Outcome("a", ("ADD",), "passed"), Outcome("b", ("ADD",), "failed", "ran")]))
    1 passed, 1 failed, 0 declined
    """
    outcomes = list(outcomes)
    counts: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        counts.setdefault(", ".join(outcome.operations), Counter())[outcome.status] += 1
    return Summary(
        dict(sorted(counts.items())),
        tuple(o for o in outcomes if o.status == "failed"),
        tuple(o for o in outcomes if o.status == "declined"),
    )


def _record(counts: Counter[str]) -> dict[str, int]:
    return {status: counts[status] for status in ("passed", "failed", "declined")}
