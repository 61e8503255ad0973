"""Files are written whole or not at all: beside their place first, or kept until a stream can have all of it."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from nnapi.errors import UsageError

_DESCRIPTORS: Final = re.compile(r"/proc/\d+/(task/\d+/)?fd")
"""Folders of open files: what `/dev/stdout` leads to is not found by a name."""
_MAX_LINKS: Final = 40
_unfinished: Final[set[Path]] = set()


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file that takes the place of the one at `path` when the block ends well, and is removed when it does not.

    A link stays, and what it leads to is replaced; a device, a pipe or standard output gets the content. Raises
    UsageError where that cannot be.
    """
    try:
        place = _place(path)
        if _is_stream(place):
            with tempfile.TemporaryFile() as kept:
                yield kept
                kept.seek(0)
                with _stream(place) as stream:
                    shutil.copyfileobj(kept, stream)
            return
        temporary, file = _beside(place)
        try:
            with file:
                yield file
            temporary.chmod(_mode(place))
            temporary.replace(place)
        finally:
            _remove(temporary)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """UsageError where `writing` would fail: tried before the work, so that none is lost."""
    try:
        place = _place(path)
        if not _is_stream(place):
            temporary, file = _beside(place)
            file.close()
            _remove(temporary)
        elif not os.access(place, os.W_OK):
            raise UsageError(f"cannot write {path}: Permission denied")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def _place(path: str | os.PathLike[str]) -> Path:
    """The target of `path`, or the open file in /proc that it names."""
    place = Path(path)
    try:
        if b"\0" in os.fsencode(place):
            raise OSError("a null character in its name")
    except UnicodeEncodeError as error:
        raise OSError("a character in its name that the file system has not") from error
    for _ in range(_MAX_LINKS):
        if not place.is_symlink() or _DESCRIPTORS.fullmatch(str(place.parent.resolve())):
            break
        place = place.parent / place.readlink()
    return place


def _is_stream(place: Path) -> bool:
    """Whether it is written to, and not replaced."""
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise OSError("it is a directory")
    if stat.S_ISSOCK(mode):
        raise OSError("it is a socket")
    return place.is_symlink() or not stat.S_ISREG(mode)


def _stream(place: Path) -> IO[bytes]:
    """The open file, device or pipe; what was printed before comes before."""
    if str(place.parent.resolve()) == f"/proc/{os.getpid()}/fd":
        sys.stdout.flush()
        return os.fdopen(os.dup(int(place.name)), "wb")
    return place.open("wb")


def _beside(place: Path) -> tuple[Path, IO[bytes]]:
    """A new file in the same folder, with a name of its own."""
    descriptor, name = tempfile.mkstemp(prefix=".nnapi-", dir=place.parent)
    temporary = Path(name)
    _unfinished.add(temporary)
    return temporary, os.fdopen(descriptor, "wb")


def _remove(temporary: Path) -> None:
    temporary.unlink(missing_ok=True)
    _unfinished.discard(temporary)


@atexit.register
def _remove_unfinished() -> None:
    """Leavings of a process that ends in the middle."""
    for temporary in [*_unfinished]:
        _remove(temporary)


def _mode(place: Path) -> int:
    """The permissions that the file has, or that a new one gets."""
    try:
        return stat.S_IMODE(place.stat().st_mode)
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask
