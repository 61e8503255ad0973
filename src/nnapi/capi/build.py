"""Compile libneuralnetworks.so with the machine's C compiler, and find what was compiled."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

import platformdirs

from nnapi.capi.source import HEADER, VERSION, sources, write_bodies
from nnapi.errors import NnapiError

SONAME: Final = "libneuralnetworks.so"
IS_SHARED: Final = bool(sysconfig.get_config_var("Py_ENABLE_SHARED"))
"""Whether this Python is a shared library; if not, only programs in Python can load what is built here."""


@dataclass(frozen=True)
class Library:
    """Where a compiled library and its header lie."""

    directory: Path

    @property
    def path(self) -> Path:
        return self.directory / SONAME

    @property
    def include(self) -> Path:
        """For `cc -I`; programs say `#include <android/NeuralNetworks.h>`, as they do for Android."""
        return self.directory / "include"


def library() -> Library:
    """The library for this Python, in the user's data directory; compiled when there is none yet."""
    made_of = (*sources().values(), *_flags(), metadata.version("cffi"))
    digest = hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:16]
    found = Library(Path(platformdirs.user_data_dir("nnapi")) / "capi" / f"python{VERSION}-{digest}")
    return found if found.path.is_file() else build(found.directory)


def build(directory: str | os.PathLike[str]) -> Library:
    """Compile the library and put it and its header into `directory`.

    Raises NnapiError, with the compiler's words, where there is no C compiler or Python's headers are missing.
    """
    target = Library(Path(directory).absolute())
    try:
        target.directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.directory, prefix=".build-") as name:
            made = _compile(Path(name))
            (target.directory / HEADER).parent.mkdir(parents=True, exist_ok=True)
            for part in (HEADER, Path(SONAME)):
                (made / part).replace(target.directory / part)
    except OSError as error:
        raise NnapiError(f"cannot write {target.directory}: {error.strerror or error}", stage="capi") from error
    return target


def _compile(folder: Path) -> Path:
    """Write the sources to `folder` and compile them there."""
    for name, text in sources().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    write_bodies(folder / "bodies.c")
    command = [*_compiler(), "bodies.c", "library.c", "-o", SONAME, *_flags()]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NnapiError(
            f"no C compiler {command[0]!r}: {error}", stage="capi", hint="install one, or name it in CC"
        ) from error
    if done.returncode:
        missing = "Python.h" in done.stderr
        raise NnapiError(
            f"the C compiler refused:\n{done.stderr.strip()}",
            stage="capi",
            hint=f"install the headers of Python {VERSION} (python3-dev)" if missing else "",
        )
    return folder


def _compiler() -> list[str]:
    """CC, `cc`, or the compiler that Python was built with."""
    given = os.environ.get("CC") or ("cc" if shutil.which("cc") else sysconfig.get_config_var("CC") or "cc")
    return shlex.split(given)


def _flags() -> list[str]:
    """Compiler flags: only NNAPI's functions are exported, and the library stays loaded, as Python refers to it."""
    flags = ["-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-pthread", "-Iinclude"]
    flags += [f"-I{sysconfig.get_path('include')}", f"-Wl,-soname,{SONAME}", "-Wl,-z,nodelete"]
    flags += ["-Wl,--version-script=exports.map", "-ldl"]
    if IS_SHARED:
        folder = sysconfig.get_config_var("LIBDIR")
        flags += [f"-L{folder}", f"-l:{sysconfig.get_config_var('INSTSONAME')}", f"-Wl,-rpath,{folder}"]
    return flags
