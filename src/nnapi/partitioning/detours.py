"""Detours of a plan: partitions that were refused as a whole, though no operation alone is to blame.

The order is: another fast engine; then the engine itself, its partitions cut where their parts are right; the device
of last resort only for single operations that nobody else runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

from nnapi.drivers.driver import Driver, Reject
from nnapi.drivers.reference import ReferenceDriver
from nnapi.ir.model import Model
from nnapi.ir.subgraph import extract
from nnapi.partitioning.candidate import threads_of
from nnapi.partitioning.deny import DenyList
from nnapi.partitioning.digest import digest, structure
from nnapi.partitioning.schedule import Groups
from nnapi.partitioning.verdict import Verdicts

MOST: Final = 16
"""So many refusals of one device are gone round, before it is left alone: halving finds one operation of thousands."""


class Detour(NamedTuple):
    """A refused partition."""

    device: str
    operations: tuple[int, ...]
    reason: str


@dataclass
class Detours:
    """The refusals met while one model is placed, and what follows from them."""

    met: list[Detour] = field(default_factory=list)
    _lent: dict[str, dict[int, str]] = field(default_factory=dict)
    """device -> operation -> why: kept off it as long as another fast engine takes them."""
    _lost: dict[str, dict[int, str]] = field(default_factory=dict)
    """device -> operation -> why: never on it again."""
    _cuts: dict[str, set[int]] = field(default_factory=dict)
    """device -> the operations before which its partitions are cut."""

    def meet(self, detour: Detour, verdicts: Mapping[str, Verdicts], parts: Sequence[Sequence[int]]) -> None:
        """Go round a refused partition, given what each device takes now, and its parts; none where none is right."""
        device, operations, reason = detour
        self.met.append(detour)
        fast = [v for name, v in verdicts.items() if name not in (device, ReferenceDriver.name)]
        lent = [n for n in operations if any(v.accepts(n) for v in fast)]
        lost = range(len(verdicts[device])) if sum(d.device == device for d in self.met) > MOST else operations
        if len(parts) < 2 or lost is not operations:
            self._lost.setdefault(device, {}).update(dict.fromkeys(lost, reason))
        self._cuts.setdefault(device, set()).update(part[0] for part in parts[1:])
        if lent:
            self._lent.setdefault(device, {}).update(dict.fromkeys(lent, reason))
            return
        for waiting in self._lent.values():  # all were refused: the cheapest of them, in pieces
            for n in operations:
                waiting.pop(n, None)

    def applied(self, verdicts: Verdicts) -> Verdicts:
        """`verdicts`, with what is kept off the device refused."""
        reasons = self._lent.get(verdicts.device, {}) | self._lost.get(verdicts.device, {})
        if not reasons:
            return verdicts
        answers = (Reject(f"refused: {reasons[n]}") if n in reasons else v for n, v in enumerate(verdicts))
        return Verdicts(verdicts.device, tuple(answers))

    @property
    def has_cuts(self) -> bool:
        """Whether a device has more partitions than its operations need."""
        return any(self._cuts.values())

    def cut(self, groups: Groups) -> Groups:
        """`groups`, in pieces where their device was refused larger ones."""
        return [
            (device, piece)
            for device, operations in groups
            for piece in _pieces(operations, self._cuts.get(device, ()))
        ]  # fmt: skip


def halves(operations: Sequence[int]) -> list[tuple[int, ...]]:
    """Two parts of a partition of which no more is known."""
    middle = len(operations) // 2
    return [tuple(operations[:middle]), tuple(operations[middle:])] if middle else [tuple(operations)]


def pieces(model: Model, operations: Sequence[int], driver: Driver, denied: DenyList) -> list[tuple[int, ...]]:
    """The largest parts of a denied partition, by halves, that are not denied; none where none of them was right."""
    found: list[tuple[int, ...]] = []
    is_any_right, waiting = False, [halves(operations)]
    while waiting:
        for part in waiting.pop():
            if len(part) > 1 and whole_reason(model, part, driver, denied) is not None:
                waiting.append(halves(part))
            else:
                is_any_right |= denied.trusts(driver, digest(extract(model, part).model, weights=True))
                found.append(part)
    return sorted(found) if is_any_right else []


def whole_reason(model: Model, operations: Sequence[int], driver: Driver, denied: DenyList) -> str | None:
    """Why just these operations are denied as one partition of the device, with these weights or any, if they are."""
    if not denied.has_wholes(driver):
        return None
    part = extract(model, operations).model
    shape = structure(part, threads_of(driver, denied.options))
    return denied.reason(driver, digest(part, weights=True)) or denied.reason(driver, shape)


def _pieces(operations: tuple[int, ...], cuts: Iterable[int]) -> list[tuple[int, ...]]:
    inside = sorted(cut for cut in cuts if operations[0] < cut <= operations[-1])
    bounds = [-1, *inside, operations[-1] + 1]
    parts = [tuple(n for n in operations if a <= n < b) for a, b in pairwise(bounds)]
    return [part for part in parts if part]
