"""The compilation cache on disk: a folder of files per entry, written aside and renamed, verified when read.

    DIRECTORY/nnapi-KEY/entry.json     what was compiled, and the digest of every file
    DIRECTORY/nnapi-KEY/0.artifact     what an engine made, or 0.nnapi: the part as a model

Nothing in it is believed before its digest is checked; what is wrong counts as absent, and is written anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nnapi.errors import NnapiError
from nnapi.ir.reading import parse_json, read_file, read_json
from nnapi.runtime import log
from nnapi.runtime.digest import digest

FORMAT: Final = 1
MAX_BYTES: Final = 512 << 20
"""What all entries of a directory may take; beyond it the ones not used for longest go."""
ABANDONED: Final = 3600.0
"""Seconds after which a half-written entry belongs to a process that is gone."""
_ENTRY: Final = "nnapi-"
_PARTIAL: Final = ".nnapi-"
_MANIFEST: Final = "entry.json"

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """What was found: what `write` was given, and the content of each file."""

    manifest: Manifest
    files: Mapping[str, memoryview]
    directory: Path


@dataclass(frozen=True)
class Cache:
    """Entries by key in a directory, which must exist."""

    directory: Path
    max_bytes: int = MAX_BYTES

    def read(self, key: str) -> Entry | None:
        """The entry, if it is there and whole."""
        directory = self._place(key)
        if not os.path.lexists(directory):
            return None
        try:
            manifest, digests = _read_manifest(directory)
            files = {name: _read(directory, name, digest, self.max_bytes) for name, digest in digests.items()}
            os.utime(directory)
        except (OSError, ValueError) as error:
            log.info(f"cache entry {directory} is damaged and made anew: {error}")
            self.remove(key)
            return None
        return Entry(manifest, files, directory)

    def write(self, key: str, fill: Callable[[Path], Manifest]) -> None:
        """Make an entry of the files that `fill` writes to a folder, and of what it returns.

        A cache that cannot be written is reported and otherwise left alone.
        """
        try:
            self._write(key, fill)
        except (OSError, NnapiError) as error:
            log.info(f"cache {self.directory} is not written: {error}")

    def remove(self, key: str) -> None:
        """Delete the entry, if there is one."""
        _delete(self._place(key))

    def _place(self, key: str) -> Path:
        return self.directory / f"{_ENTRY}{key}"

    def _write(self, key: str, fill: Callable[[Path], Manifest]) -> None:
        partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self.directory))
        try:
            manifest = fill(partial)
            digests = {path.name: digest(path.read_bytes()) for path in sorted(partial.iterdir())}
            body = json.dumps({"format": FORMAT, "manifest": manifest, "files": digests})
            (partial / _MANIFEST).write_text(json.dumps({"digest": digest(body.encode()), "body": body}))
            size = _size(partial)
            if size > self.max_bytes:
                log.info(f"an entry of {size} bytes is not kept, the cache holds {self.max_bytes}")
                return
            # Whoever was first has the same: only a whole folder is ever in place.
            with contextlib.suppress(OSError):
                partial.rename(self._place(key))
        finally:
            _delete(partial)
        self._shrink()

    def _shrink(self) -> None:
        """Delete what was not used for longest until the rest fits, and what nobody finished."""
        entries = []
        for path in self.directory.iterdir():
            with contextlib.suppress(OSError):
                if path.name.startswith(_ENTRY):
                    entries.append((path.stat().st_mtime, _size(path), path))
                elif path.name.startswith(_PARTIAL) and path.stat().st_mtime < time.time() - ABANDONED:
                    _delete(path)
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.max_bytes:
                break
            log.debug(f"cache entry {path} makes place for newer ones")
            _delete(path)
            total -= size


def _read_manifest(directory: Path) -> tuple[Manifest, Mapping[str, str]]:
    try:
        outer = read_json(directory / _MANIFEST)
        body = outer["body"]
        if outer["digest"] != digest(body.encode()):
            raise ValueError(f"{_MANIFEST} is not what was written")
        inner = parse_json(body.encode())
        if inner["format"] != FORMAT:
            raise ValueError(f"format {inner['format']}, this is {FORMAT}")
        manifest, digests = inner["manifest"], inner["files"]
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{_MANIFEST} is none") from error
    return manifest, digests


def _read(directory: Path, name: str, expected: str, limit: int) -> memoryview:
    if Path(name).name != name:
        raise ValueError(f"{name!r} is no file of the entry")
    content = read_file(directory / name, limit)
    if digest(content) != expected:
        raise ValueError(f"{name} is not what was written")
    return content


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


def _delete(directory: Path) -> None:
    # Renamed first: nobody reads an entry of which a half is gone.
    with contextlib.suppress(OSError):
        if directory.is_symlink() or not directory.is_dir():
            directory.unlink(missing_ok=True)
            return
        gone = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=directory.parent))
        with contextlib.suppress(OSError):
            directory.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
