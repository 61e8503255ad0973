"""What devices may not run, because it was found wrong there, and what was found right.

A denied operation is refused wherever it appears with these types and shapes; a denied model (of which no single
operation is to blame) wherever just these operations would be one partition. Both hold for one version of a device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from nnapi.drivers.driver import Driver, PrepareOptions, Reject
from nnapi.ir.model import Model
from nnapi.partitioning.candidate import precision_of
from nnapi.partitioning.database import Database
from nnapi.partitioning.digest import signature_digest
from nnapi.partitioning.verdict import Verdicts

WHOLE: Final = "*"
"""The operation of rows about whole partitions."""


@dataclass(frozen=True)
class DenyList:
    """The deny list and the list of trusted placements, at the precision of `options`."""

    database: Database
    options: PrepareOptions = field(default_factory=PrepareOptions)

    def deny(self, driver: Driver, model: Model, operations: Iterable[int], reason: str) -> None:
        """Refuse these operations of `model` on the device from now on."""
        for n in operations:
            operation = model.operations[n]
            shapes = ", ".join(
                f"{model.operands[i].type.name}{list(model.operands[i].dimensions)}"
                for i in (*operation.inputs, *operation.outputs)
                if model.operands[i].type.is_tensor
            )
            self._insert(driver, operation.type, signature_digest(model, operation), shapes, reason)

    def deny_whole(self, driver: Driver, digest: str, operations: int, reason: str) -> None:
        """Refuse a partition, of which no operation alone is to blame, on the device from now on."""
        self._insert(driver, WHOLE, digest, f"{operations} operations together", reason)

    def reason(self, driver: Driver, digest: str) -> str | None:
        """Why a whole partition is denied there, if it is."""
        rows = self.database.query(
            "SELECT reason FROM denied WHERE device=? AND version=? AND precision=? AND operation=? AND signature=?",
            (*self._key(driver), WHOLE, digest),
        )
        return str(rows[0][0]) if rows else None

    def applied(self, driver: Driver, model: Model, verdicts: Verdicts) -> Verdicts:
        """`verdicts`, with what is denied refused."""
        rows = self.database.query(
            "SELECT operation, signature, reason FROM denied WHERE device=? AND version=? AND precision=?",
            self._key(driver),
        )
        reasons = {(operation, signature): reason for operation, signature, reason in rows if operation != WHOLE}
        if not reasons:
            return verdicts
        types = {operation for operation, _ in reasons}
        answers = list(verdicts)
        for n, operation in enumerate(model.operations):
            if operation.type in types and verdicts.accepts(n):
                reason = reasons.get((operation.type, signature_digest(model, operation)))
                if reason is not None:
                    answers[n] = Reject(f"{operation.type.rpartition('/')[2]}: denied: {reason}")
        return Verdicts(verdicts.device, tuple(answers))

    def trusts(self, driver: Driver, digest: str) -> bool:
        """Whether this placement was found right before."""
        return bool(
            self.database.query(
                "SELECT 1 FROM trusted WHERE device=? AND version=? AND precision=? AND digest=?",
                (*self._key(driver), digest),
            )
        )

    def trust(self, driver: Driver, digest: str, figure: str) -> None:
        """Remember that a placement was found right."""
        self.database.write(
            "INSERT OR REPLACE INTO trusted (device, version, precision, digest, figure) VALUES (?, ?, ?, ?, ?)",
            (*self._key(driver), digest, figure),
        )

    def _insert(self, driver: Driver, operation: str, signature: str, shapes: str, reason: str) -> None:
        self.database.write(
            "INSERT OR REPLACE INTO denied (device, version, precision, operation, signature, shapes, reason)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*self._key(driver), operation, signature, shapes, reason),
        )

    def _key(self, driver: Driver) -> tuple[str, str, str]:
        return driver.name, driver.version, precision_of(driver, self.options)


COLUMNS: Final = ("device", "version", "precision", "operation", "shapes", "reason", "at")


def denied(database: Database) -> list[dict[str, Any]]:
    """All rows of the deny list, the latest first."""
    rows = database.query(f"SELECT {', '.join(COLUMNS)} FROM denied ORDER BY at DESC, device, operation")
    return [dict(zip(COLUMNS, row)) for row in rows]


def clear_denied(database: Database) -> int:
    """Forget the deny list; how many rows it had."""
    return database.write("DELETE FROM denied")
