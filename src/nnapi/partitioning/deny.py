"""The deny list, of what was found wrong on devices; beside it what was found right, and what they survived.

A denied operation is refused wherever it appears with these types and shapes; a denied model (of which no single
operation is to blame) wherever just these operations would be one partition; of a denied fragment, which an engine did
not survive, one operation wherever it appears, with whatever weights. All hold for one version of a device on one
machine; what an engine survived, and what not, for all candidates of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from nnapi.drivers.driver import Accept, Driver, PrepareOptions, Verdict
from nnapi.ir.model import Model, Operation
from nnapi.partitioning.candidate import engine_name, precision_of
from nnapi.partitioning.database import Database
from nnapi.partitioning.digest import signature_digest
from nnapi.partitioning.fragment import Fragment, to_leave_out
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

    def deny_fragment(self, driver: Driver, model: Model, operations: Iterable[int], reason: str) -> tuple[int, ...]:
        """Refuse these operations of `model` together, of any weights, from now on; those that are left out for it."""
        members = sorted(operations)
        fragment = Fragment.of(model, members)
        sizes = [
            f"{model.operands[o].type.name}{list(model.operands[o].dimensions)}"
            for n in members
            for o in model.operations[n].outputs
        ]
        shapes = f"writing {', '.join(sizes)}, and what is up to twice as large"
        self._insert(driver, str(fragment), fragment.to_json(), shapes, reason, False, device=engine_name(driver.name))
        found = fragment.occurrences(model)
        return tuple(to_leave_out(model, found)) if tuple(members) in found else ()

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
        answers = list(verdicts)
        for n, operation in enumerate(model.operations):
            if operation.type in types and verdicts.accepts(n):
                reason = reasons.get((operation.type, signature_digest(model, operation)))
                if reason is not None:
                    answers[n] = _refused(operation, reason)
        for n, reason in self._fragments(driver, model, answers):
            answers[n] = _refused(model.operations[n], reason)
        return Verdicts(verdicts.device, tuple(answers))

    def survived(self, driver: Driver, structure: str) -> bool:
        """Whether a process of this version of the engine prepared and ran this structure, and lived."""
        return self._has("survived", driver, structure, engine_name(driver.name))

    def note_survived(self, driver: Driver, structure: str) -> None:
        """Remember that it did."""
        self._note("survived", driver, structure, engine_name(driver.name))

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

    def _fragments(self, driver: Driver, model: Model, answers: Sequence[Verdict]) -> Iterator[tuple[int, str]]:
        """The operations to leave out, of fragments that the engine did not survive and would be given; and why."""
        rows = self.database.query(
            f"SELECT signature, reason FROM denied WHERE {MINE} AND signature LIKE '[%' ORDER BY signature",
            self._key(driver, engine_name(driver.name)),
        )
        whole: dict[tuple[int, ...], str] = {}
        for signature, reason in rows:
            fragment = Fragment.from_json(signature)
            for members in fragment.occurrences(model) if fragment is not None else ():
                if all(isinstance(answers[n], Accept) for n in members):
                    together = f" (with {len(members) - 1} operations around it)" if len(members) > 1 else ""
                    whole[members] = f"{reason}{together}"
        for n in to_leave_out(model, list(whole)):
            yield n, next(reason for members, reason in whole.items() if n in members)

    def _has(self, table: str, driver: Driver, digest: str, device: str = "") -> bool:
        statement = f"SELECT 1 FROM {table} WHERE {MINE} AND digest=?"
        return bool(self.database.query(statement, (*self._key(driver, device), digest)))

    def _note(self, table: str, driver: Driver, digest: str, device: str = "") -> None:
        self.database.write(
            f"INSERT OR REPLACE INTO {table} (device, version, precision, machine, digest) VALUES (?, ?, ?, ?, ?)",
            (*self._key(driver, device), digest),
        )

    def _forget(self, table: str, driver: Driver, digest: str) -> None:
        self.database.write(f"DELETE FROM {table} WHERE {MINE} AND digest=?", (*self._key(driver), digest))

    def _insert(
        self,
        driver: Driver,
        operation: str,
        signature: str,
        shapes: str,
        reason: str,
        is_inaccurate: bool,
        device: str = "",
    ) -> None:
        self.database.write(
            "INSERT OR REPLACE INTO denied"
            " (device, version, precision, machine, operation, signature, shapes, reason, is_inaccurate)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*self._key(driver, device), operation, signature, shapes, reason, is_inaccurate),
        )

    def _key(self, driver: Driver, device: str = "") -> tuple[str, str, str, str]:
        return device or driver.name, driver.version, precision_of(driver, self.options), machine()


def _refused(operation: Operation, reason: str) -> Denied:
    return Denied(f"{operation.type.rpartition('/')[2]}: denied: {reason}")


COLUMNS: Final = ("device", "version", "precision", "operation", "shapes", "reason", "at")


def denied(database: Database) -> list[dict[str, Any]]:
    """All rows of the deny list, the latest first."""
    rows = database.query(f"SELECT {', '.join(COLUMNS)} FROM denied ORDER BY at DESC, device, operation")
    return [dict(zip(COLUMNS, row)) for row in rows]


def clear_denied(database: Database) -> int:
    """Forget the deny list, and what was trusted: everything is tried anew; how many rows the deny list had."""
    for table in ("trusted", "survived", "trying"):
        database.write(f"DELETE FROM {table}")
    return database.write("DELETE FROM denied")
