"""Zip archives from outside: names, places and sizes of all members are checked before any of them is read.

An archive is refused that two readers could understand differently, or that holds far more than its size: names that
differ only in their case, that lead elsewhere or appear twice, members that share bytes, data around the archive.
"""

from __future__ import annotations

import lzma
import os
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from struct import error as StructError
from typing import BinaryIO, Final

import numpy as np

from nnapi.ir.reading import fill
from nnapi.ops.types import Array

RATIO: Final = 16
SLACK: Final = 64 << 20
MAX_GROWTH: Final = 1 << 30
"""Compression may add RATIO times the file's size and SLACK bytes to it, but no more than MAX_GROWTH."""
MAX_MEMBERS: Final = 100_000
MAX_DIRECTORY: Final = 16 << 20
"""Bytes of the list of members."""
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_END: Final = 22
"""Bytes of the record that ends an archive without a comment."""
_HEADER: Final = 30
"""Bytes before a member's name."""
_ENCRYPTED: Final = 0x1


class Archive:
    """An open archive whose directory was checked: its members' names and what they hold.

    Raises ValueError naming the member that is wrong, OSError where the file cannot be read.
    """

    def __init__(self, file: BinaryIO) -> None:
        size = file.seek(0, os.SEEK_END)
        with _translated():
            _check_end(file, size)
            self._file, self._zip = file, zipfile.ZipFile(file)
            entries = self._zip.infolist()
        _check_places(entries, self._zip.start_dir)
        _check_names(i.orig_filename for i in entries)
        for info in entries:
            _check_entry(info)
        expanded, most = sum(i.file_size for i in entries), size + min(SLACK + RATIO * size, MAX_GROWTH)
        if expanded > most:
            raise ValueError(f"its members expand to {expanded} bytes, of a file of {size} at most {most} are read")
        self._entries = {i.filename: i for i in entries if not i.is_dir()}

    @property
    def names(self) -> tuple[str, ...]:
        """The members that are files."""
        return tuple(self._entries)

    def size(self, name: str) -> int:
        """Bytes that a member holds; ValueError where there is none of that name."""
        if name not in self._entries:
            raise ValueError(f"there is no member {name!r}")
        return self._entries[name].file_size

    def read(self, name: str, limit: int | None = None) -> Array:
        """A member's bytes, checked by its checksum; ValueError where it is damaged, or larger than `limit`."""
        size = self.size(name)
        if limit is not None and size > limit:
            raise ValueError(f"member {name!r} has {size} bytes, may have {limit}")
        data, info = np.empty(size, np.uint8), self._entries[name]
        with _translated(f"member {name!r} is damaged: "), self._zip.open(info) as member:
            if info.compress_type == zipfile.ZIP_STORED:
                # The header was checked by opening it; zipfile itself reads in small pieces.
                self._file.seek(info.header_offset + _HEADER - 4)
                lengths = self._file.read(4)
                self._file.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), 1)
                done = fill(self._file, memoryview(data))  # type: ignore[arg-type]
                if zlib.crc32(data.data) != info.CRC:
                    raise ValueError("Bad CRC-32")
            else:
                done = fill(member, memoryview(data))  # type: ignore[arg-type]
            if done < size or (info.compress_type != zipfile.ZIP_STORED and member.read(1)):
                raise ValueError(f"it holds other than the {size} bytes it says")
        return data


@contextmanager
def _translated(where: str = "") -> Iterator[None]:
    """ValueError for whatever the standard library's reader raises."""
    try:
        yield
    except (
        zipfile.BadZipFile, zlib.error, lzma.LZMAError, StructError, EOFError, NotImplementedError, RuntimeError,
        ValueError, KeyError, IndexError, OverflowError, MemoryError,
    ) as error:  # fmt: skip
        raise ValueError(f"{where}{error}") from error


def _check_end(file: BinaryIO, size: int) -> None:
    """The archive ends where the file ends, and its directory is not larger than anybody needs."""
    if size < _END:
        raise ValueError(f"it is truncated: {size} bytes")
    file.seek(size - _END)
    record = file.read(_END)
    if record[:4] != b"PK\x05\x06" or record[-2:] != b"\0\0":
        raise ValueError("it is truncated, or something follows the archive")
    directory = int.from_bytes(record[12:16], "little")
    if directory > MAX_DIRECTORY:
        raise ValueError(f"its directory has {directory} bytes, may have {MAX_DIRECTORY}")


def _check_places(entries: Iterable[zipfile.ZipInfo], end: int) -> None:
    """Members lie one after the other from the file's first byte: none covers another's bytes."""
    begin, last = 0, ""
    for n, info in enumerate(sorted(entries, key=lambda i: i.header_offset)):
        name = info.orig_filename
        if n >= MAX_MEMBERS:
            raise ValueError(f"it has more than {MAX_MEMBERS} members")
        if n == 0 and info.header_offset != 0:
            raise ValueError(f"something stands before its first member {name!r}")
        if info.header_offset < begin:
            raise ValueError(f"members {last!r} and {name!r} share bytes")
        begin, last = info.header_offset + _HEADER + len(name.encode("ascii", "replace")) + info.compress_size, name
    if begin > end:
        raise ValueError(f"member {last!r} reaches beyond the members' end")


def _check_names(names: Iterable[str]) -> None:
    """Every name leads to one place below the archive, on every system."""
    seen: dict[str, str] = {}
    for name in names:
        parts = name.removesuffix("/").split("/")
        if "\\" in name or ":" in parts[0] or not name.isprintable() or {"", ".", ".."} & {*parts}:
            raise ValueError(f"the name of member {name!r} leads out of the archive, or is no plain path")
        key = unicodedata.normalize("NFKC", name).casefold()
        if key in seen:
            raise ValueError(f"members {seen[key]!r} and {name!r} have the same name where case does not matter")
        seen[key] = name


def _check_entry(info: zipfile.ZipInfo) -> None:
    name = info.orig_filename
    if info.flag_bits & _ENCRYPTED:
        raise ValueError(f"member {name!r} is encrypted")
    if info.compress_type not in _METHODS:
        raise ValueError(f"member {name!r} is compressed by method {info.compress_type}, must be stored or deflated")
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise ValueError(
            f"member {name!r} is stored in {info.compress_size} bytes and says that it has {info.file_size}"
        )
