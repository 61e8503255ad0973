"""The C sources of libneuralnetworks.so: library.c, and what is made around it for each function of the API.

cffi makes the functions that call Python; starting Python is library.c's own: cffi's embedding code would wait for ever
on a lock that other packages leave locked (Python < 3.12), and would start Python without nnapi's packages.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import sysconfig
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

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

HEADER: Final = Path("include", "android", "NeuralNetworks.h")
VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
_HANDLE = re.compile(rf"(const )?\b({'|'.join(handles())})\s*\*")


@cache
def sources() -> dict[str, str]:
    """The C sources by file name, all but bodies.c."""
    return {
        str(HEADER): header_text(),
        "bodies.h": _bodies_text(),
        "calls.h": "\n".join(_call_text(f) for f in functions()),
        "python.h": _python_text(),
        "exports.map": "{ global: ANeuralNetworks*; local: *; };\n",
        "library.c": files("nnapi.capi").joinpath("library.c").read_text(),
    }


def write_bodies(path: Path) -> None:
    """bodies.c, made by cffi: the functions python_*, each of which calls what attach gave it."""
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
