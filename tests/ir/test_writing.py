"""Where files are written: beside and renamed, through links, into pipes and devices, and what is refused before."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nnapi.errors import UsageError
from nnapi.ir.writing import check_writable, writing


def write(path: Path | str, content: bytes = b"new") -> None:
    check_writable(path)
    with writing(path) as file:
        file.write(content)


def _link(folder: Path, target: str) -> Path:
    (folder / "link").symlink_to(target)
    return folder / "link"


PLACES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "new": (lambda f: f / "new", "new"),
    "there already": (lambda f: f / "old", "old"),
    "a link": (lambda f: _link(f, "old"), "old"),
    "a link to a link": (lambda f: _link(f, str((_link(f / "sub", "../old")).absolute())), "old"),
    "a link to nothing yet": (lambda f: _link(f, "sub/later"), "sub/later"),
    "a long name": (lambda f: f / ("n" * 250), "n" * 250),
}


@pytest.mark.parametrize(("place", "written"), PLACES.values(), ids=PLACES.keys())
def test_files(place: Callable[[Path], Path], written: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "old").chmod(0o640)
    path = place(tmp_path)
    was_link = path.is_symlink()
    before = set(tmp_path.rglob("*"))
    write(path)
    assert (tmp_path / written).read_bytes() == b"new"
    assert path.is_symlink() == was_link
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o640
    assert set(tmp_path.rglob("*")) - before <= {tmp_path / written}


def test_a_device_stays_a_device() -> None:
    null = Path("/dev/null")
    before = null.stat()
    write(null)
    assert null.stat().st_ino == before.st_ino
    assert stat.S_ISCHR(null.stat().st_mode)


def test_a_pipe_gets_all_of_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write(tmp_path / "pipe", b"x" * 100_000)
    reader.join(10)
    assert [len(data) for data in got] == [100_000]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("to_file", [True, False], ids=["a file", "a pipe"])
def test_standard_output(name: str, to_file: bool, tmp_path: Path) -> None:
    program = (
        "import sys; from nnapi.ir.writing import writing\n"
        "print('before')\n"
        "with writing(sys.argv[1]) as file: file.write(b'new\\n')\n"
        "print('after')\n"
    )
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", program, name], check=True, stdout=out if to_file else subprocess.PIPE
        )
    assert ((tmp_path / "out").read_bytes() if to_file else done.stdout) == b"before\nnew\nafter\n"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_block_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    for path in (tmp_path / "old", tmp_path / "new", Path("/dev/null")):
        with pytest.raises(ZeroDivisionError), writing(path) as file:
            file.write(b"half")
            _ = 1 / 0
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("old", b"old")]


def _socket(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(folder / "s"))
    return folder / "s"


REFUSED: dict[str, tuple[Callable[[Path], str | Path], str]] = {
    "a folder": (lambda f: f, "it is a directory"),
    "a link to a folder": (lambda f: _link(f, "."), "it is a directory"),
    "a socket": (_socket, "it is a socket"),
    "no such folder": (lambda f: f / "none" / "x", "No such file or directory"),
    "a file as a folder": (lambda f: Path(__file__) / "x", "Not a directory"),
    "links in a ring": (lambda f: _link(f, "link"), "symbolic links"),
    "a null character": (lambda f: f"{f}/a\0b", "a null character in its name"),
    "no character": (lambda f: f"{f}/a\ud800b", "a character in its name"),
    "a name too long": (lambda f: f / ("n" * 300), "File name too long"),
}


@pytest.mark.parametrize(("path", "reason"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("function", [check_writable, lambda path: writing(path).__enter__()], ids=["before", "then"])
def test_refusals(
    function: Callable[[str | Path], object], path: Callable[[Path], str | Path], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=f"cannot write .*: .*{reason}"):
        function(path(tmp_path))
