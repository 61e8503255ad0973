"""Files from outside: what is no regular file, archives that two readers could understand differently, arrays."""

from __future__ import annotations

import io
import os
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from nnapi.ir.arrays import read_npy, read_npz
from nnapi.ir.reading import open_file, parse_json, read_file
from nnapi.ir.zipped import RATIO, SLACK, Archive


@pytest.fixture
def special(tmp_path: Path) -> Iterator[dict[str, str]]:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        yield {
            "pipe": str(tmp_path / "pipe"),
            "directory": str(tmp_path),
            "socket": str(tmp_path / "socket"),
            "endless": "/dev/zero",
            "null character": "a\0b",
            "missing": str(tmp_path / "missing"),
        }


SPECIAL = [
    ("pipe", "is a pipe, not a regular file; write it to a file first"),
    ("directory", "is a directory"),
    ("socket", "No such device or address"),
    ("endless", "is a device"),
    ("null character", "null character"),
    ("missing", "No such file"),
]


@pytest.mark.parametrize(("kind", "message"), SPECIAL, ids=[s[0] for s in SPECIAL])
def test_only_regular_files_are_opened(special: dict[str, str], kind: str, message: str) -> None:
    with pytest.raises(OSError, match=message):
        open_file(special[kind])


def test_what_was_read_stays_whatever_becomes_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before" * 10_000)
    content = read_file(path)
    with path.open("r+b") as file:
        file.write(b"after!" * 10_000)
        file.truncate(6)
    assert content == b"before" * 10_000


def test_a_file_may_be_empty_and_not_too_large(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    assert read_file(path) == b""
    path.write_bytes(b"12345")
    with pytest.raises(OSError, match="has 5 bytes, may have 4"):
        read_file(path, 4)


JSON = [
    ("nested", b"[" * 10_000 + b"]" * 10_000, "nests too deeply"),
    ("large", b" " * 65, "may have 64"),
    ("damaged", b"{", "Expecting"),
    ("no text", b"\xff\xff", "decode"),
]


@pytest.mark.parametrize(("text", "message"), [j[1:] for j in JSON], ids=[j[0] for j in JSON])
def test_json(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text, 64 if message == "may have 64" else 1 << 20)


def test_json_of_too_many_values() -> None:
    with pytest.raises(ValueError, match="up to 5000001 values"):
        parse_json(b"[" + b"," * 5_000_000)


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of members in this order, names as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            info = zipfile.ZipInfo("x" * len(name))
            info.compress_type = method
            info.filename = name
            archive.writestr(info, data)
    return buffer.getvalue()


def patched(data: bytes, at: int, value: bytes, *, every: bytes = b"PK\x01\x02") -> bytes:
    """An archive with bytes changed in each directory entry, or in each header (`every`)."""
    parts = data.split(every)
    changed = [p[: at - 4] + value + p[at - 4 + len(value) :] for p in parts[1:]]
    return every.join([parts[0], *changed])


TWO = zipped(("a/b", b"bb"), ("a/c", b"cc"))
ARCHIVES: list[tuple[str, bytes, str]] = [
    ("names that differ in case", zipped(("a/b", b""), ("a/B", b"")), "same name where case does not matter"),
    ("names that look the same", zipped(("a/ſ", b""), ("a/s", b"")), "same name where case does not matter"),
    ("an absolute name", zipped(("/etc/passwd", b"")), "leads out of the archive"),
    ("a name that leads up", zipped(("a/../../b", b"")), "leads out of the archive"),
    ("a name with a drive", zipped(("C:/b", b"")), "leads out of the archive"),
    ("a name of another system", zipped(("a\\b", b"")), "leads out of the archive"),
    ("a name with control characters", zipped(("a/\x1b[2J", b"")), "leads out of the archive"),
    ("a name with a null character", zipped(("a/b\0c", b"")), "leads out of the archive"),
    ("an empty part", zipped(("a//b", b"")), "leads out of the archive"),
    ("encrypted", patched(TWO, 8, b"\x01\x00"), "'a/b' is encrypted"),
    ("another method", patched(TWO, 10, b"\x0e\x00"), "'a/b' is compressed by method 14"),
    ("another version", patched(TWO, 6, b"\xff\x00"), "version 25.5"),
    ("other sizes", patched(TWO, 24, b"\xff\x00\x00\x00"), "'a/b' is stored in 2 bytes and says that it has 255"),
    ("members that overlap", patched(zipped(("a/b", zipped(("a/c", b"c" * 50)))), 20, b"\xff\x00\x00\x00"), "reaches"),
    ("something before", zipped(("a/b", b"")) + TWO, "before its first member"),
    ("something after", TWO + b"more", "something follows"),
    ("a comment", TWO[:-2] + b"\x02\x00ab", "something follows"),
    ("cut", TWO[: len(TWO) // 2], "truncated"),
    ("nothing", b"", "truncated"),
    ("a bomb", zipped(("a/b", bytes(SLACK + (4 << 20))), method=zipfile.ZIP_DEFLATED), "expand to"),
]


@pytest.mark.parametrize(("data", "message"), [a[1:] for a in ARCHIVES], ids=[a[0] for a in ARCHIVES])
def test_an_archive_that_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Archive(io.BytesIO(data))


def test_members_that_share_bytes() -> None:
    data = bytearray(TWO)
    last = data.rindex(b"PK\x01\x02")
    data[last + 42 : last + 46] = struct.pack("<I", 1)
    with pytest.raises(ValueError, match="'a/b' and 'a/c' share bytes"):
        Archive(io.BytesIO(data))


DEFLATED = zipped(("a/b", bytes(99)), method=zipfile.ZIP_DEFLATED)
DAMAGED: list[tuple[str, bytes, str]] = [
    ("checksum", TWO.replace(b"bb", b"bx", 1), "member 'a/b' is damaged: Bad CRC-32"),
    ("stream", DEFLATED.replace(b"c`", b"\xff\xff", 1), "'a/b' is damaged"),
    ("header", patched(TWO, 30, b"x", every=b"PK\x03\x04"), "'a/b' is damaged: File name in directory"),
    ("shorter than it says", patched(DEFLATED, 24, b"\xff\0\0\0"), "255"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), [d[1:] for d in DAMAGED], ids=[d[0] for d in DAMAGED])
def test_a_member_that_is_damaged(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Archive(io.BytesIO(data)).read("a/b")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_members_are_read(method: int) -> None:
    archive = Archive(io.BytesIO(zipped(("a/", b""), ("a/b", b"bytes"), ("a/empty", b""), method=method)))
    assert archive.names == ("a/b", "a/empty")
    assert archive.read("a/b").tobytes() == b"bytes"
    assert archive.read("a/empty").size == 0
    with pytest.raises(ValueError, match="'a/b' has 5 bytes, may have 4"):
        archive.read("a/b", 4)
    with pytest.raises(ValueError, match="no member 'a/x'"):
        archive.read("a/x")


def test_compression_may_add_as_much_as_is_said() -> None:
    data = zipped(("a/b", bytes(SLACK)), method=zipfile.ZIP_DEFLATED)
    assert Archive(io.BytesIO(data)).size("a/b") == SLACK
    assert RATIO * len(data) < SLACK


ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    np.arange(3, dtype=">f4"),
    np.zeros((0, 3), np.uint8),
    np.array(5.0),
    np.array([True, False]),
]


def test_arrays_are_read_as_numpy_does(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "all.npz", *ARRAYS)
    found = read_npz(tmp_path / "all.npz")
    for n, array in enumerate(ARRAYS):
        np.save(tmp_path / "one.npy", array)
        for read in (read_npy(tmp_path / "one.npy"), found[f"arr_{n}"]):
            assert (read.dtype, read.shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(read, array)


def saved(array: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array), allow_pickle=True)
    return buffer.getvalue()


HEADER = saved(np.zeros(3, np.float32))
NPY: list[tuple[str, Callable[[], bytes], str]] = [
    ("objects", lambda: saved([{}, None]), "it holds object, must hold numbers"),
    ("text", lambda: saved(["a"]), "must hold numbers"),
    ("empty", lambda: b"", "no array"),
    ("cut", lambda: HEADER[:-1], "takes 12 bytes, there are 11"),
    ("a cut header", lambda: HEADER[:40], "no array, or a damaged header"),
    ("more than is there", lambda: HEADER.replace(b"(3,), }      ", b"(1<<40,), }  "), "damaged header"),
    ("far more", lambda: HEADER.replace(b"(3,), }        ", b"(999999999,), }"), "3999999996 bytes, there are 12"),
    ("less than none", lambda: HEADER.replace(b"(3,), } ", b"(-3,), }"), "damaged header"),
    ("code", lambda: HEADER.replace(b"{'descr'", b"exit(3),"), "damaged header"),
    ("another version", lambda: HEADER.replace(b"\x93NUMPY\x01", b"\x93NUMPY\x07"), "no array"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), [n[1:] for n in NPY], ids=[n[0] for n in NPY])
def test_an_array_that_is_refused(tmp_path: Path, content: Callable[[], bytes], message: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content())
    with pytest.raises(ValueError, match=message):
        read_npy(path)
    (tmp_path / "x.npz").write_bytes(zipped(("x.npy", content())))
    with pytest.raises(ValueError, match=f"member 'x.npy': .*{message}"):
        read_npz(tmp_path / "x.npz")
