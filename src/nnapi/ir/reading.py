"""Files from outside, opened and read: regular files only, for a pipe blocks and a device never ends.

What is read lies in memory of this process: a file that is overwritten or cut afterwards changes nothing here. OSError
says why a file cannot be read and ValueError what is wrong with what it holds; the caller says which error that is.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, Final

MAX_TEXT: Final = 16 << 20
"""Bytes of a recipe, a table or a manifest."""
MAX_VALUES: Final = 4_000_000
"""Values in one text of JSON: each takes some hundred bytes of memory, and may take two in the file."""
_KINDS: Final = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISDIR, "a directory"), (stat.S_ISSOCK, "a socket"))


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, open for reading; OSError where it cannot be opened or is something else, and never a wait.

    >>> open_file("/dev/zero")
    Traceback (most recent call last):
    OSError: [Errno 29] is a device, not a regular file: '/dev/zero'
    """
    try:
        # Without O_NONBLOCK the open itself would wait for somebody who writes to the pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except ValueError as error:
        raise OSError(errno.EINVAL, "its name holds a null character", os.fspath(path)) from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "a device")
            advice = "; write it to a file first" if kind == "a pipe" else ""
            raise OSError(errno.ESPIPE, f"is {kind}, not a regular file{advice}", os.fspath(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: str | os.PathLike[str], limit: int | None = None) -> memoryview:
    """The content of a regular file, in memory that starts at a page; OSError where it is larger or just changes."""
    with open_file(path) as file:
        before = os.fstat(file.fileno())
        size = before.st_size
        if limit is not None and size > limit:
            raise OSError(errno.EFBIG, f"has {size} bytes, may have {limit}", os.fspath(path))
        if size == 0:
            return memoryview(b"")
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        view = memoryview(memory)
        done = fill(file, view)
        after = os.fstat(file.fileno())
        if (done, after.st_size, after.st_mtime_ns) != (size, size, before.st_mtime_ns):
            raise OSError(errno.EBUSY, "changed while it was read", os.fspath(path))
        return view


def fill(file: BinaryIO, view: memoryview) -> int:
    """Read from where the file stands until `view` is full or the file ends; how many bytes."""
    done = 0
    while done < len(view) and (count := file.readinto(view[done:])):  # type: ignore[attr-defined]
        done += count
    return done


def parse_json(text: bytes | memoryview, limit: int = MAX_TEXT) -> Any:
    """The value that a text of JSON is; ValueError where it is none, or larger than anybody needs.

    >>> parse_json(b"[" * 100_000)
    Traceback (most recent call last):
    ValueError: its JSON nests too deeply
    """
    data = bytes(text)
    if len(data) > limit:
        raise ValueError(f"its JSON has {len(data)} bytes, may have {limit}")
    values = sum(data.count(mark) for mark in (b",", b"[", b"{"))
    if values > MAX_VALUES:
        raise ValueError(f"its JSON has up to {values} values, may have {MAX_VALUES}")
    try:
        return json.loads(data.decode())  # as UTF-8: given bytes, it would guess
    except RecursionError as error:
        raise ValueError("its JSON nests too deeply") from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a file of JSON; OSError where it cannot be read, ValueError where it is none."""
    return parse_json(read_file(Path(path), MAX_TEXT))
