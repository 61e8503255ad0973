"""The partitions that an assignment makes: operations grouped by device, in an order that runs, in few launches."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final
from weakref import WeakKeyDictionary

from nnapi.ir.model import Model

Groups = list[tuple[str, tuple[int, ...]]]
"""Devices with the operations of one launch each, one after the other."""
MAX_EXACT: Final = 64
"""Up to so many operations the schedule is the cheapest there is; with two devices, at any size."""
MAX_STATES: Final = 4000
"""So many partial schedules are looked at before the greedy one is kept."""


def split(model: Model, assignment: Sequence[str], launches: Mapping[str, float] | None = None) -> Groups:
    """Group operations by device into few groups that can run one after the other.

    `assignment` names each operation's device, `launches` what a group costs there (1 each). Every operation is in one
    group; no two groups wait for each other.
    """
    devices = list(dict.fromkeys(assignment))
    graph = _Graph(model, assignment, devices)
    price = [1.0 if launches is None else launches[d] for d in devices]
    greedy = min((graph.greedy(first) for first in range(-1, len(devices))), key=lambda s: sum(price[d] for d in s))
    sequence = greedy
    if len(devices) > 2 and len(assignment) <= MAX_EXACT:
        sequence = graph.cheapest(price, sum(price[d] for d in greedy)) or greedy
    return [(devices[d], tuple(sorted(run))) for d, run in zip(sequence, graph.runs(sequence)) if run]


class _Graph:
    """Who waits for whom. A launch always takes all that can run: leaving something for later never helps."""

    def __init__(self, model: Model, assignment: Sequence[str], devices: Sequence[str]) -> None:
        number = {name: d for d, name in enumerate(devices)}
        self.device = [number[name] for name in assignment]
        self.devices = len(devices)
        self.readers, self.waits = _dependencies(model)

    def start(self) -> tuple[list[int], list[deque[int]]]:
        """How many inputs each operation waits for, and what is ready on each device."""
        ready: list[deque[int]] = [deque() for _ in range(self.devices)]
        for n, count in enumerate(self.waits):
            if not count:
                ready[self.device[n]].append(n)
        return self.waits.copy(), ready

    def run(self, device: int, waits: list[int], ready: list[deque[int]]) -> list[int]:
        """Launch all that `device` can run."""
        done: list[int] = []
        queue = ready[device]
        while queue:
            n = queue.popleft()
            done.append(n)
            for reader in self.readers[n]:
                waits[reader] -= 1
                if not waits[reader]:
                    ready[self.device[reader]].append(reader)
        return done

    def greedy(self, first: int) -> list[int]:
        """A sequence of devices: the one with most ready, or in turn from `first` on; linear in the graph."""
        waits, ready = self.start()
        sequence: list[int] = []
        device = first
        while any(ready):
            if first < 0:
                device = max(range(self.devices), key=lambda d: len(ready[d]))
            elif sequence:
                device = (device + 1) % self.devices
            if ready[device]:
                self.run(device, waits, ready)
                sequence.append(device)
            elif not sequence:
                sequence.append(device)  # nothing to run: dropped by `split`
        return sequence

    def cheapest(self, price: Sequence[float], limit: float) -> list[int] | None:
        """The cheapest sequence of devices, by Dijkstra over what is done; None if none found is below `limit`."""
        before = [0] * len(self.device)
        for u, readers in enumerate(self.readers):
            for n in readers:
                before[n] |= 1 << u
        everything = (1 << len(self.device)) - 1
        best = {0: 0.0}
        heap: list[tuple[float, int, int, list[int]]] = [(0.0, 0, 0, [])]
        count = 0
        while heap and count < MAX_STATES:
            cost, _, done, sequence = heapq.heappop(heap)
            if done == everything:
                return sequence
            if cost > best[done]:
                continue
            count += 1
            for device in range(self.devices):
                after = done
                for n, d in enumerate(self.device):
                    if d == device and not after >> n & 1 and before[n] & after == before[n]:
                        after |= 1 << n
                total = cost + price[device]
                if after != done and total < best.get(after, limit):
                    best[after] = total
                    heapq.heappush(heap, (total, -after.bit_count(), after, [*sequence, device]))
        return None

    def runs(self, sequence: Sequence[int]) -> list[list[int]]:
        """The operations of each launch."""
        waits, ready = self.start()
        return [self.run(device, waits, ready) for device in sequence]


_KNOWN: WeakKeyDictionary[Model, tuple[list[list[int]], list[int]]] = WeakKeyDictionary()


def _dependencies(model: Model) -> tuple[list[list[int]], list[int]]:
    """Who reads what each operation writes, and how many operations each waits for; worked out once."""
    if model not in _KNOWN:
        readers: list[list[int]] = [[] for _ in model.operations]
        waits = [0] * len(model.operations)
        for n, operation in enumerate(model.operations):
            before = {model.producers[i] for i in operation.inputs if i in model.producers}
            waits[n] = len(before)
            for u in before:
                readers[u].append(n)
        _KNOWN[model] = readers, waits
    return _KNOWN[model]
