"""Compile libneuralnetworks.so with the machine's C compiler, and find what was compiled.

cffi makes the functions that call Python; starting Python is library.c's own: cffi's embedding code would wait for ever
on a lock that an import of numpy or torch leaves locked (Python < 3.12), and would start Python without its packages.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

import platformdirs

from nnapi.capi.header import (
    OPERATION_TYPE,
    Function,
    Parameter,
    functions,
    handles,
    header_text,
    structure_text,
    structures,
)
from nnapi.errors import NnapiError

SONAME: Final = "libneuralnetworks.so"
HEADER: Final = Path("include", "android", "NeuralNetworks.h")
VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
IS_SHARED: Final = bool(sysconfig.get_config_var("Py_ENABLE_SHARED"))
"""Whether this Python is a shared library; if not, only programs in Python can load what is built here."""
_HANDLE = re.compile(rf"(const )?\b({'|'.join(handles())})\s*\*")


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
    digest = hashlib.sha256("\0".join((*sources().values(), *_flags())).encode()).hexdigest()[:16]
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
        raise NnapiError(f"cannot write {target.directory}: {error}", stage="capi") from error
    return target


@cache
def sources() -> dict[str, str]:
    """The C sources by file name, all but what cffi makes of `bodies()`."""
    return {
        str(HEADER): header_text(),
        "bodies.h": _bodies_text(),
        "calls.h": "\n".join(_call_text(f) for f in functions()),
        "python.h": _python_text(),
        "exports.map": "{ global: ANeuralNetworks*; local: *; };\n",
        "library.c": files("nnapi.capi").joinpath("library.c").read_text(),
    }


def _compile(folder: Path) -> Path:
    """Write the sources to `folder` and compile them there."""
    for name, text in sources().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    _write_bodies(folder / "bodies.c")
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


def _write_bodies(path: Path) -> None:
    from cffi import FFI

    ffi = FFI()
    prototypes = "".join(f"{_body_prototype(f)};\n" for f in functions())
    ffi.cdef("".join(map(structure_text, structures())) + f'extern "Python+C" {{\n{prototypes}}}')
    ffi.set_source("_neuralnetworks", '#include <android/NeuralNetworks.h>\n#include "bodies.h"')
    with contextlib.redirect_stdout(io.StringIO()):  # it says what it writes
        ffi.emit_c_code(str(path))


def _plain(type: str) -> str:
    """A C type as bodies see it: a handle is a number, and so is an operation type.

    >>> _plain("const ANeuralNetworksDevice* const*"), _plain("ANeuralNetworksModel**"), _plain("const char*")
    ('uintptr_t const*', 'uintptr_t*', 'const char*')
    """
    return _HANDLE.sub("uintptr_t", type).replace(OPERATION_TYPE, "int32_t")


def _body_prototype(function: Function) -> str:
    parameters = ", ".join(f"{_plain(p.type)} {p.name}" for p in function.parameters)
    returns = "int" if function.returns == "void" else function.returns
    return f"{returns} python_{function.name}({parameters or 'void'})"


def _bodies_text() -> str:
    return "".join(f"{_body_prototype(f)};\n" for f in functions())


def _call_text(function: Function) -> str:
    """The exported function: null where a handle will be, then whatever Python says, or OP_FAILED."""
    clear = "".join(f"    if ({p.name}) *{p.name} = NULL;\n" for p in function.parameters if p.is_result)
    arguments = ", ".join(_argument(p) for p in function.parameters)
    call = f"python_{function.name}({arguments})"
    if function.returns == "int":
        call = f"return started() ? answer({call}) : ANEURALNETWORKS_OP_FAILED"
    elif function.returns == "void":
        call = f"if (started()) {call}"
    else:
        call = f"return started() ? {call} : 0"
    return f"EXPORT {function.prototype}\n{{\n{clear}    {call};\n}}\n"


def _argument(parameter: Parameter) -> str:
    plain = _plain(parameter.type)
    return parameter.name if plain == parameter.type else f"({plain}){parameter.name}"


def _python_text() -> str:
    """python.h: which interpreter a C program gets, and where nnapi and its dependencies lie."""
    folders = [str(Path(__file__).parent.parent.parent), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    quoted = ", ".join(_quote(folder) for folder in dict.fromkeys(folders))
    return (
        f"#define PYTHON_VERSION {_quote(VERSION)}\n"
        f"#define PYTHON_PROGRAM {_quote(sys.executable)}\n"
        f"#define PYTHON_FOLDERS {quoted}\n"
    )


def _quote(text: str) -> str:
    """A C string literal, whatever bytes the text has.

    >>> print(_quote('a"b'))
    "a\\042b"
    """
    safe = "".join(
        chr(b) if (chr(b).isalnum() and b < 128) or chr(b) in "/._-+ " else f"\\{b:03o}" for b in os.fsencode(text)
    )
    return f'"{safe}"'
