"""What was measured on this machine: seconds of models on devices, and the plans that won."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from nnapi.drivers.driver import Driver, PrepareOptions
from nnapi.ir.model import Model
from nnapi.ir.reading import parse_json
from nnapi.ir.subgraph import extract
from nnapi.partitioning.candidate import precision_of
from nnapi.partitioning.cost import Measured
from nnapi.partitioning.database import Database
from nnapi.partitioning.digest import digest
from nnapi.partitioning.machine import machine
from nnapi.partitioning.segments import segments

LAUNCH: Final = "launch"
"""The digest under which the cost of a launch is kept."""
TRANSFER: Final = "transfer"
"""The digest under which the seconds a byte takes to an engine are kept."""


@dataclass(frozen=True)
class Profile:
    """Measured costs, by everything that changes them."""

    database: Database
    options: PrepareOptions = field(default_factory=PrepareOptions)

    def seconds(self, driver: Driver, what: str) -> float | None:
        """What was measured for a digest on a device at these options, if anything was."""
        rows = self.database.query(
            "SELECT seconds FROM times WHERE device=? AND version=? AND precision=? AND threads=? AND machine=?"
            " AND digest=?",
            (*self._key(driver), what),
        )
        return float(rows[0][0]) if rows else None

    def record(self, driver: Driver, what: str, seconds: float, repeats: int) -> None:
        """Keep a measurement; a newer one replaces it."""
        self.database.write(
            "INSERT OR REPLACE INTO times (device, version, precision, threads, machine, digest, seconds, repeats)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*self._key(driver), what, seconds, repeats),
        )

    def sequences(self, model: Model, drivers: Sequence[Driver]) -> dict[str, list[Measured]]:
        """What is known of `model` and of its segments on each device, whole model last."""
        known = {d.name: d for d in drivers if self._knows(d)}
        if not known:
            return {}
        parts = [*segments(model), tuple(range(len(model.operations)))]
        keys = [digest(model if n == len(parts) - 1 else extract(model, p).model) for n, p in enumerate(parts)]
        found: dict[str, list[Measured]] = {}
        for name, driver in known.items():
            measured = [(part, self.seconds(driver, key)) for part, key in zip(parts, keys)]
            found[name] = [Measured(part, seconds) for part, seconds in measured if seconds is not None]
        return found

    def launches(self, drivers: Sequence[Driver]) -> dict[str, float]:
        """Measured seconds of a launch, by device."""
        found = {d.name: self.seconds(d, LAUNCH) for d in drivers}
        return {name: seconds for name, seconds in found.items() if seconds is not None}

    def transfers(self, drivers: Sequence[Driver]) -> dict[str, float]:
        """Measured seconds a byte takes to an engine, by device."""
        found = {d.name: self.seconds(d, TRANSFER) for d in drivers}
        return {name: seconds for name, seconds in found.items() if seconds is not None}

    def plan(self, model: Model, drivers: Sequence[Driver]) -> tuple[list[str], float] | None:
        """The assignment that was measured to be the best, and its seconds."""
        rows = self.database.query(
            "SELECT assignment, seconds FROM plans WHERE key=?", (self._plan_key(model, drivers),)
        )
        if not rows:
            return None
        try:
            names = parse_json(rows[0][0].encode())
        except ValueError:
            return None
        is_assignment = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return (names, rows[0][1]) if is_assignment else None

    def record_plan(self, model: Model, drivers: Sequence[Driver], assignment: Sequence[str], seconds: float) -> None:
        """Keep what was measured to be the best assignment on exactly these devices."""
        self.database.write(
            "INSERT OR REPLACE INTO plans (key, assignment, seconds) VALUES (?, ?, ?)",
            (self._plan_key(model, drivers), json.dumps(list(assignment)), seconds),
        )

    def clear(self) -> int:
        """Forget all measurements; how many there were."""
        return self.database.write("DELETE FROM times") + self.database.write("DELETE FROM plans")

    def _key(self, driver: Driver) -> tuple[str, str, str, int, str]:
        precision = precision_of(driver, self.options)
        return driver.name, driver.version, precision, self.options.num_threads, machine()

    def _knows(self, driver: Driver) -> bool:
        return bool(
            self.database.query(
                "SELECT 1 FROM times WHERE device=? AND version=? AND precision=? AND threads=? AND machine=? LIMIT 1",
                self._key(driver),
            )
        )

    def _plan_key(self, model: Model, drivers: Sequence[Driver]) -> str:
        keys = sorted(self._key(d) for d in drivers)
        text = repr((digest(model), keys, self.options.preference))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
