"""Fragments: operations that an engine does not survive together, found again in any model, whatever its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from nnapi.ir.model import Model, Operation
from nnapi.ir.subgraph import extract
from nnapi.ir.work import macs
from nnapi.partitioning.digest import kind

STEPS: Final = 100_000
"""Places for an operation that are looked at in one model, before the search ends."""

Source = tuple[int, int] | int | None
"""Source of an input: (operation, output) of the fragment, a tensor from outside by number, or a constant."""


@dataclass(frozen=True)
class Fragment:
    """Operations by type and kind, in an order they can run in, and the sources of each one's inputs."""

    types: tuple[str, ...]
    kinds: tuple[str, ...]
    sources: tuple[tuple[Source, ...], ...]

    @classmethod
    def of(cls, model: Model, operations: Sequence[int]) -> Fragment:
        """The fragment that these operations of `model` are."""
        members = sorted(operations)
        places = {
            o: (k, position) for k, n in enumerate(members) for position, o in enumerate(model.operations[n].outputs)
        }
        outside: dict[int, int] = {}

        def source(i: int) -> Source:
            if model.operands[i].value is not None:
                return None
            return places[i] if i in places else outside.setdefault(i, len(outside))

        chosen = [model.operations[n] for n in members]
        return cls(
            tuple(o.type for o in chosen),
            tuple(_kind(model, o) for o in chosen),
            tuple(tuple(source(i) for i in o.inputs) for o in chosen),
        )

    @classmethod
    def from_json(cls, text: str) -> Fragment | None:
        """The fragment that `to_json` wrote; None for anything else."""
        try:
            rows = json.loads(text)
            types, kinds, sources = zip(*rows, strict=True)
            read = tuple(tuple(tuple(s) if isinstance(s, list) else s for s in row) for row in sources)
            if not all(_is_source(s, n) for n, row in enumerate(read) for s in row):
                return None
            return cls(tuple(map(str, types)), tuple(map(str, kinds)), read)
        except (ValueError, TypeError, RecursionError):
            return None

    def to_json(self) -> str:
        """The fragment as text; equal ones have equal texts."""
        return json.dumps(list(zip(self.types, self.kinds, self.sources)), separators=(",", ":"))

    def __str__(self) -> str:
        return " + ".join(type.rpartition("/")[2] for type in self.types)

    def occurrences(self, model: Model) -> list[tuple[int, ...]]:
        """Each set of operations of `model` that is this fragment; all, or those found until the search ends."""
        named = [n for n, o in enumerate(model.operations) if o.type in self.types]
        if not set(self.types) <= {model.operations[n].type for n in named}:
            return []
        kinds = {n: _kind(model, model.operations[n]) for n in named}
        if not set(self.kinds) <= set(kinds.values()):
            return []
        left = STEPS
        found: dict[tuple[int, ...], None] = {}
        waiting: list[tuple[int, ...]] = [()]
        while waiting and left > 0:
            placed = waiting.pop()
            if len(placed) == len(self.order):
                found[tuple(sorted(placed))] = None
                continue
            for n in self._places(model, placed, kinds):
                left -= 1
                if n not in placed and self._fits(model, (*placed, n)):
                    waiting.append((*placed, n))
        return sorted(found)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """An order of the operations in which each is next to one before it, where there is one."""
        links = [{s[0] for s in row if isinstance(s, tuple)} for row in self.sources]
        order, rest = [0], list(range(1, len(self.types)))
        while rest:
            near = (k for k in rest if links[k] & set(order) or any(k in links[before] for before in order))
            chosen = next(near, rest[0])
            order.append(chosen)
            rest.remove(chosen)
        return tuple(order)

    def _places(self, model: Model, placed: tuple[int, ...], kinds: dict[int, str]) -> Iterator[int]:
        """Operations of `model` that may be the next of the order."""
        k = self.order[len(placed)]
        before = dict(zip(self.order, placed))
        near: Sequence[int] | None = None
        for source in self.sources[k]:
            if isinstance(source, tuple) and source[0] in before:
                near = model.consumers.get(model.operations[before[source[0]]].outputs[source[1]], ())
                break
        else:
            for member, n in before.items():
                for position, source in enumerate(self.sources[member]):
                    if isinstance(source, tuple) and source[0] == k:
                        producer = model.producers.get(model.operations[n].inputs[position])
                        near = () if producer is None else (producer,)
        wanted = self.kinds[k]
        return (n for n in (kinds if near is None else near) if kinds.get(n) == wanted)

    def _fits(self, model: Model, placed: tuple[int, ...]) -> bool:
        """Whether the operations placed read each other, and the same tensors from outside, as the fragment's do."""
        before = {member: model.operations[n] for member, n in zip(self.order, placed)}
        outside: dict[int, int] = {}
        for member, operation in before.items():
            if len(operation.inputs) != len(self.sources[member]):
                return False
            for i, source in zip(operation.inputs, self.sources[member]):
                if isinstance(source, tuple):
                    writer = before.get(source[0])
                    if writer is not None and (source[1] >= len(writer.outputs) or writer.outputs[source[1]] != i):
                        return False
                elif source is not None and outside.setdefault(source, i) != i:
                    return False
        return True


def to_leave_out(model: Model, occurrences: Sequence[tuple[int, ...]]) -> list[int]:
    """A few operations, cheap ones first, without which none of `occurrences` is whole."""
    left, chosen = list(occurrences), []
    work = {n: macs(extract(model, (n,)).model) for n in {n for members in left for n in members}}
    while left:
        hits: dict[int, int] = {}
        for members in left:
            for n in members:
                hits[n] = hits.get(n, 0) + 1
        best = min(hits, key=lambda n: (work[n] > 0, -hits[n], work[n], n))
        chosen.append(best)
        left = [members for members in left if best not in members]
    return sorted(chosen)


def _kind(model: Model, operation: Operation) -> str:
    """The operation with its types, ranks, sizes as powers of two, and parameters, as a short text."""
    operands = model.operands_of((*operation.inputs, *operation.outputs))
    described = [kind(operand, coarse=True) for operand in operands]
    return hashlib.blake2b(repr((operation.type, described)).encode(), digest_size=16).hexdigest()


def _is_source(source: object, operation: int) -> bool:
    if isinstance(source, tuple):
        return len(source) == 2 and all(type(s) is int and s >= 0 for s in source) and source[0] < operation
    return source is None or (type(source) is int and source >= 0)
