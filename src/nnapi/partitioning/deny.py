"""What devices may not run, because it was found wrong there, and what was found right.

A denied operation is refused wherever it appears with these types and shapes; a denied model (of which no single
operation is to blame) wherever just these operations would be one partition. Both hold for one version of a device on
one machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from nnapi.drivers.driver import Driver, PrepareOptions
from nnapi.ir.model import Model
from nnapi.partitioning.candidate import precision_of
from nnapi.partitioning.database import Database
from nnapi.partitioning.digest import signature_digest
from nnapi.partitioning.machine import machine
from nnapi.partitioning.verdict import Denied, Verdicts

WHOLE: Final = "*"
"""The operation of rows about whole partitions."""


MINE: Final = "device=? AND version=? AND precision=? AND machine=?"


@dataclass(frozen=True)
class DenyList:
    """The deny list and the list of trusted placements, at the precision of `options`."""

    database: Database
    options: PrepareOptions = field(default_factory=PrepareOptions)
    accept_inaccurate: bool = False
    """What is only inaccurate is not refused; what crashes or never returns is."""

    def deny(
        self, driver: Driver, model: Model, operations: Iterable[int], reason: str, *, is_inaccurate: bool = False
    ) -> None:
        """Refuse these operations of `model` on the device from now on."""
        for n in operations:
            operation = model.operations[n]
            shapes = ", ".join(
                f"{model.operands[i].type.name}{list(model.operands[i].dimensions)}"
                for i in (*operation.inputs, *operation.outputs)
                if model.operands[i].type.is_tensor
            )
            self._insert(driver, operation.type, signature_digest(model, operation), shapes, reason, is_inaccurate)

    def deny_whole(
        self, driver: Driver, digest: str, operations: int, reason: str, *, is_inaccurate: bool = False
    ) -> None:
        """Refuse a partition, of which no operation alone is to blame, on the device from now on."""
        self._insert(driver, WHOLE, digest, f"{operations} operations together", reason, is_inaccurate)

    def reason(self, driver: Driver, digest: str) -> str | None:
        """Why a whole partition is denied there, if it is."""
        return self._denied(driver).get((WHOLE, digest))

    def has_wholes(self, driver: Driver) -> bool:
        """Whether any whole partition is denied there."""
        statement = f"SELECT 1 FROM denied WHERE {MINE} AND operation=? AND is_inaccurate <= ? LIMIT 1"
        return bool(self.database.query(statement, (*self._key(driver), WHOLE, not self.accept_inaccurate)))

    def applied(self, driver: Driver, model: Model, verdicts: Verdicts) -> Verdicts:
        """`verdicts`, with what is denied refused."""
        reasons = self._denied(driver)
        types = {operation for operation, _ in reasons} - {WHOLE}
        if not types:
            return verdicts
        answers = list(verdicts)
        for n, operation in enumerate(model.operations):
            if operation.type in types and verdicts.accepts(n):
                reason = reasons.get((operation.type, signature_digest(model, operation)))
                if reason is not None:
                    answers[n] = Denied(f"{operation.type.rpartition('/')[2]}: denied: {reason}")
        return Verdicts(verdicts.device, tuple(answers))

    def trusts(self, driver: Driver, digest: str) -> bool:
        """Whether this placement was found right before."""
        return self._has("trusted", driver, digest)

    def trust(self, driver: Driver, digest: str) -> None:
        """Remember that a placement was found right."""
        self._note("trusted", driver, digest)

    def has_trusted(self, driver: Driver) -> bool:
        """Whether anything was found right on this version of the device, at any precision."""
        name, version, _, here = self._key(driver)
        rows = self.database.query(
            "SELECT 1 FROM trusted WHERE device=? AND version=? AND machine=? LIMIT 1", (name, version, here)
        )
        return bool(rows)

    @contextmanager
    def noted(self, driver: Driver, digest: str) -> Iterator[None]:
        """A placement is tried in this process: the note of it stays where the process does not survive."""
        self._note("trying", driver, digest)
        try:
            yield
        except Exception:
            self._forget("trying", driver, digest)
            raise
        self._forget("trying", driver, digest)

    def was_left(self, driver: Driver, digest: str) -> bool:
        """Whether a process began to try this placement, and did not end it (or has not yet)."""
        return self._has("trying", driver, digest)

    def _denied(self, driver: Driver) -> dict[tuple[str, str], str]:
        """(operation, signature) -> reason."""
        rows = self.database.query(
            f"SELECT operation, signature, reason FROM denied WHERE {MINE} AND is_inaccurate <= ?",
            (*self._key(driver), not self.accept_inaccurate),
        )
        return {(operation, signature): str(reason) for operation, signature, reason in rows}

    def _has(self, table: str, driver: Driver, digest: str) -> bool:
        statement = f"SELECT 1 FROM {table} WHERE {MINE} AND digest=?"
        return bool(self.database.query(statement, (*self._key(driver), digest)))

    def _note(self, table: str, driver: Driver, digest: str) -> None:
        self.database.write(
            f"INSERT OR REPLACE INTO {table} (device, version, precision, machine, digest) VALUES (?, ?, ?, ?, ?)",
            (*self._key(driver), digest),
        )

    def _forget(self, table: str, driver: Driver, digest: str) -> None:
        self.database.write(f"DELETE FROM {table} WHERE {MINE} AND digest=?", (*self._key(driver), digest))

    def _insert(
        self, driver: Driver, operation: str, signature: str, shapes: str, reason: str, is_inaccurate: bool
    ) -> None:
        self.database.write(
            "INSERT OR REPLACE INTO denied"
            " (device, version, precision, machine, operation, signature, shapes, reason, is_inaccurate)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*self._key(driver), operation, signature, shapes, reason, is_inaccurate),
        )

    def _key(self, driver: Driver) -> tuple[str, str, str, str]:
        return driver.name, driver.version, precision_of(driver, self.options), machine()


COLUMNS: Final = ("device", "version", "precision", "operation", "shapes", "reason", "at")


def denied(database: Database) -> list[dict[str, Any]]:
    """All rows of the deny list, the latest first."""
    rows = database.query(f"SELECT {', '.join(COLUMNS)} FROM denied ORDER BY at DESC, device, operation")
    return [dict(zip(COLUMNS, row)) for row in rows]


def clear_denied(database: Database) -> int:
    """Forget the deny list, and what was trusted: everything is tried anew; how many rows the deny list had."""
    for table in ("trusted", "trying"):
        database.write(f"DELETE FROM {table}")
    return database.write("DELETE FROM denied")
