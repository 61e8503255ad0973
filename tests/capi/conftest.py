"""The library, built once; C programs compiled against it; and a client in this process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from cffi import FFI

from nnapi.capi.build import Library, build
from nnapi.capi.header import (
    OPERATION_TYPE,
    PREFIX,
    constants,
    functions,
    handles,
    structure_text,
    structures,
)  # fmt: skip
from nnapi.runtime.codes import ResultCode

PROGRAMS = Path(__file__).parent
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """libneuralnetworks.so, compiled now; the test is skipped where there is no C compiler."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    return build(tmp_path_factory.mktemp("capi"))


@pytest.fixture(scope="session")
def compile_c(library: Library, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compile a program of this folder; it is linked to the library unless `linked` is False."""

    @cache
    def compile_program(name: str, *, linked: bool = True, text: str = "") -> Path:
        program = tmp_path_factory.mktemp(name) / name
        source = PROGRAMS / f"{name}.c"
        if text:
            source = program.with_suffix(".c")
            source.write_text(text)
        command = ["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{library.include}"]
        command += [f"-I{PROGRAMS}", str(source), "-o", str(program), "-ldl", "-lm"]
        if linked:
            command += [str(library.path), f"-Wl,-rpath,{library.directory}"]
        subprocess.run(command, check=True, timeout=60)
        return program

    return compile_program


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a program; it must end, and `expected` is its exit status."""

    def run_program(
        command: Sequence[str | Path],
        *,
        expected: int = 0,
        timeout: float = 120,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "NNAPI_DEVICES": "litert,reference", **(environment or {})}
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=timeout, env=env, check=False
        )
        assert done.returncode == expected, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run_program


@pytest.fixture(scope="session")
def run_python(run: Run) -> Run:
    """Run Python code in a process of its own."""

    def run_code(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return run([sys.executable, "-W", "error", "-c", code, *arguments], **options)

    return run_code


@pytest.fixture(scope="session")
def nn(library: Library) -> Any:
    """The functions of the library, called from this process; `nn.ffi` makes their arguments."""
    return Client(library)


class Client:
    """NNAPI's functions by their names without `ANeuralNetworks`, and the constants without their prefix."""

    def __init__(self, library: Library) -> None:
        self.ffi = FFI()
        opaque = "".join(f"typedef struct {name} {name};\n" for name in handles())
        prototypes = "".join(f"{f.prototype};\n" for f in functions())
        types = "".join(map(structure_text, structures()))
        self.ffi.cdef(f"{opaque}typedef int32_t {OPERATION_TYPE};\n{types}{prototypes}")
        self.library = self.ffi.dlopen(str(library.path))
        self.constants = {name.removeprefix(PREFIX): value for name, value in constants().items()}

    def __getattr__(self, name: str) -> Any:
        if name in self.constants:
            return self.constants[name]
        return getattr(self.library, f"ANeuralNetworks{name}")

    def ok(self, name: str, *arguments: Any) -> None:
        """Call a function that must succeed."""
        code = getattr(self, name)(*arguments)
        assert code == 0, f"{name} answers {ResultCode(code).name}"

    def new(self, name: str, *arguments: Any) -> Any:
        """Call a function that makes something, and return its handle."""
        kind = next(f.parameters[-1].type for f in functions() if f.name == f"ANeuralNetworks{name}")
        result = self.ffi.new(kind.removesuffix("**") + "* *")
        self.ok(name, *arguments, result)
        return result[0]

    def type(self, code: int, dimensions: Sequence[int] = (), scale: float = 0.0, zero_point: int = 0) -> Any:
        """An operand type; it keeps its dimensions alive."""
        held = self.ffi.new("uint32_t[]", list(dimensions)) if dimensions else self.ffi.NULL
        made = self.ffi.new("ANeuralNetworksOperandType*", (code, len(dimensions), held, scale, zero_point))
        self._held[made] = held
        return made

    @cached_property
    def _held(self) -> WeakKeyDictionary[Any, Any]:
        return WeakKeyDictionary()

    def indexes(self, *values: int) -> Any:
        """An array of operand indexes or dimensions."""
        return self.ffi.new("uint32_t[]", values)

    def devices(self) -> dict[str, Any]:
        """Device handles by name."""
        count, name = self.ffi.new("uint32_t*"), self.ffi.new("const char**")
        self.ok("_getDeviceCount", count)
        found = {}
        for i in range(count[0]):
            device = self.new("_getDevice", i)
            self.ok("Device_getName", device, name)
            found[self.ffi.string(name[0]).decode()] = device
        return found
