"""What is remembered of this machine's devices, in one SQLite file under the user's cache directory.

Several processes may use it at once. One that is damaged, or holds other tables, is set aside and made anew; one that
cannot be opened or written is done without, and nobody waits for one that stays locked. A row with a value that is not
of its column's kind counts as absent, whoever wrote it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

VERSION: Final = 2
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS times (
    device TEXT, version TEXT, precision TEXT, threads INTEGER, machine TEXT, digest TEXT,
    seconds REAL NOT NULL, repeats INTEGER NOT NULL, at TEXT DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (device, version, precision, threads, machine, digest));
CREATE TABLE IF NOT EXISTS plans (
    key TEXT PRIMARY KEY, assignment TEXT NOT NULL, seconds REAL NOT NULL, at TEXT DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS trusted (
    device TEXT, version TEXT, precision TEXT, machine TEXT, digest TEXT, at TEXT DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (device, version, precision, machine, digest));
CREATE TABLE IF NOT EXISTS survived (
    device TEXT, version TEXT, precision TEXT, machine TEXT, digest TEXT, at TEXT DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (device, version, precision, machine, digest));
CREATE TABLE IF NOT EXISTS trying (
    device TEXT, version TEXT, precision TEXT, machine TEXT, digest TEXT, at TEXT DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (device, version, precision, machine, digest));
CREATE TABLE IF NOT EXISTS denied (
    device TEXT, version TEXT, precision TEXT, machine TEXT, operation TEXT, signature TEXT, shapes TEXT, reason TEXT,
    is_inaccurate INTEGER, at TEXT DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (device, version, precision, machine, operation, signature));
"""
PATIENCE: Final = 0.4
"""Seconds that statements wait for others' locks in all, until one writes again."""
MAX_SECONDS: Final = 1e6
"""No measurement takes longer."""


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int


def _is_seconds(value: object) -> bool:
    return type(value) is float and 0 < value < MAX_SECONDS


_TEXTS: Final = ("device", "version", "precision", "machine", "digest", "key", "assignment", "operation", "signature",
                 "shapes", "reason", "at")  # fmt: skip
_KINDS: Final[Mapping[str, Callable[[object], bool]]] = {
    **dict.fromkeys(_TEXTS, _is_text),
    **dict.fromkeys(("threads", "repeats", "is_inaccurate"), _is_count),
    "seconds": _is_seconds,
}
"""Values that a column may hold: SQLite lets anything into any."""


def default_path() -> Path:
    """Where it is unless told otherwise."""
    from platformdirs import user_cache_path

    return user_cache_path("nnapi") / "devices.sqlite"


class Database:
    """Rows of the tables of `SCHEMA`; without a path in memory, and gone with the process."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._patience = PATIENCE
        self._connection = self._open()

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a SELECT whose values are what their columns hold; none where the file is damaged or locked."""
        return self._execute(statement, values, is_write=False)

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        """How many rows a statement changed; 0 where the file cannot be written."""
        return len(self._execute(statement + " RETURNING 1", values, is_write=True))

    def _execute(self, statement: str, values: Sequence[Any], *, is_write: bool) -> list[tuple[Any, ...]]:
        with self._lock:
            began = time.monotonic()
            try:
                cursor = self._connection.execute(statement, values)
                rows = cursor.fetchall()
            except sqlite3.OperationalError:  # locked for too long, read only, disk full
                self._wait(self._patience - (time.monotonic() - began))
                return []
            except sqlite3.DatabaseError:
                self._connection.close()
                self._connection = self._anew()
                return []
            if is_write:
                self._wait(PATIENCE)
            kinds = [_KINDS.get(column[0]) for column in cursor.description or ()]
            return [row for row in rows if all(kind is None or kind(v) for kind, v in zip(kinds, row))]

    def _wait(self, seconds: float) -> None:
        """Let the next statement wait for so long."""
        if max(seconds, 0.0) != self._patience:
            self._patience = max(seconds, 0.0)
            self._connection.execute(f"PRAGMA busy_timeout={round(1000 * self._patience)}")

    def _open(self) -> sqlite3.Connection:
        if self.path is None:
            return _connect(":memory:")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if any(p.exists() and not p.is_file() for p in self._files()):
                return _connect(":memory:")
            return _connect(str(self.path))
        except (OSError, sqlite3.OperationalError):
            return _connect(":memory:")
        except sqlite3.DatabaseError:
            return self._anew()

    def _anew(self) -> sqlite3.Connection:
        """Set the damaged file aside (`.damaged`) and begin again."""
        if self.path is not None:
            for file in self._files():
                with contextlib.suppress(OSError):
                    file.replace(file.with_name(file.name.replace(self.path.name, f"{self.path.name}.damaged")))
            with contextlib.suppress(OSError, sqlite3.Error):
                return _connect(str(self.path))
        return _connect(":memory:")

    def _files(self) -> list[Path]:
        """The file and those that SQLite keeps beside it."""
        assert self.path is not None
        return [self.path.with_name(self.path.name + suffix) for suffix in ("", "-wal", "-shm")]


@cache
def database() -> Database:
    """This process's, in the default place."""
    return Database(default_path())


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    connection.text_factory = lambda text: text.decode(errors="replace")
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise sqlite3.DatabaseError(f"version {version}")
        found = _tables(connection)
        if not found.keys() >= _wanted().keys() or version == 0:
            connection.executescript(SCHEMA)
            connection.execute(f"PRAGMA user_version={VERSION}")
            found = _tables(connection)
        if found | _wanted() != found:
            raise sqlite3.DatabaseError("other tables")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@cache
def _wanted() -> dict[str, list[Any]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        return _tables(connection)


def _tables(connection: sqlite3.Connection) -> dict[str, list[Any]]:
    """Every table with its columns; DatabaseError where there is a view or a trigger, which would be run."""
    (others,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE type IN ('view', 'trigger')").fetchone()
    if others:
        raise sqlite3.DatabaseError("views or triggers")
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {name: connection.execute("SELECT * FROM pragma_table_info(?)", (name,)).fetchall() for (name,) in names}
