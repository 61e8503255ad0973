"""The library, built once; C programs compiled against it; and a client in this process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from native import Client
from nnapi.capi.build import Library, build

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
        folder: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "NNAPI_DEVICES": "litert,reference", **(environment or {})}
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=env,
            cwd=folder,
            check=False,
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
def nn(library: Library) -> Client:
    """The functions of the library, called from this process; `nn.ffi` makes their arguments."""
    return Client(library.path)
