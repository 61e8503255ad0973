"""What is remembered of this machine's devices, in one SQLite file under the user's cache directory.

Several processes may use it at once. One that is damaged is set aside and made anew; one that cannot be written is
done without.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Sequence
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
BUSY_SECONDS: Final = 5.0


def default_path() -> Path:
    """Where it is unless told otherwise."""
    from platformdirs import user_cache_path

    return user_cache_path("nnapi") / "devices.sqlite"


class Database:
    """Rows of the tables of `SCHEMA`; without a path in memory, and gone with the process."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection = self._open()

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a SELECT; none where the file is damaged."""
        return self._execute(statement, values)

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        """How many rows a statement changed; 0 where the file cannot be written."""
        return len(self._execute(statement + " RETURNING 1", values))

    def _execute(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.OperationalError:  # locked for too long, read only, disk full
                return []
            except sqlite3.DatabaseError:
                self._connection.close()
                self._connection = self._anew()
                return []

    def _open(self) -> sqlite3.Connection:
        if self.path is None:
            return _connect(":memory:")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return _connect(str(self.path))
        except (OSError, sqlite3.OperationalError):
            return _connect(":memory:")
        except sqlite3.DatabaseError:
            return self._anew()

    def _anew(self) -> sqlite3.Connection:
        """Set the damaged file aside (`.damaged`) and begin again."""
        if self.path is not None:
            for suffix in ("", "-wal", "-shm"):
                file = self.path.with_name(self.path.name + suffix)
                with contextlib.suppress(OSError):
                    file.replace(self.path.with_name(f"{self.path.name}.damaged{suffix}"))
            with contextlib.suppress(OSError, sqlite3.Error):
                return _connect(str(self.path))
        return _connect(":memory:")


@cache
def database() -> Database:
    """This process's, in the default place."""
    return Database(default_path())


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise sqlite3.DatabaseError(f"version {version}")
        connection.executescript(SCHEMA)
        connection.execute(f"PRAGMA user_version={VERSION}")
        # A file of the right version may still have other columns.
        for table, column in (
            ("times", "seconds"),
            ("plans", "assignment"),
            ("trusted", "machine"),
            ("survived", "machine"),
            ("trying", "machine"),
            ("denied", "is_inaccurate"),
        ):
            connection.execute(f"SELECT {column} FROM {table} LIMIT 1")
    except sqlite3.Error as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError) and "no such column" in str(error):
            raise sqlite3.DatabaseError(str(error)) from error
        raise
    return connection
