"""Python starts once, whoever calls first and however the library was loaded; where it cannot, every call says so."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _cffi_backend
import pytest

from nnapi.capi import build
from nnapi.capi.build import Library
from nnapi.capi.header import functions

COUNT_DEVICES = """
import sys
{before}
import ctypes
library = ctypes.{loader}(sys.argv[1])
count = ctypes.c_uint32()
assert library.ANeuralNetworks_getDeviceCount(ctypes.byref(count)) == 0
assert count.value > 0
"""
PROCESSES = {
    "plain": ("", "CDLL"),
    # cffi's own start-up waits for ever after these (Python < 3.12): they give PyCapsule_Type a version tag.
    "after-numpy": ("import numpy; numpy.zeros(3) + 1", "CDLL"),
    "after-torch": ("import torch; torch.zeros(3) + 1", "CDLL"),
    "tagged": ("import datetime; c = datetime.datetime_CAPI; [getattr(c, '__doc__') for _ in range(9)]", "CDLL"),
    "with-the-gil": ("", "PyDLL"),
    "after-nnapi": ("import nnapi; from nnapi import runtime; runtime.devices()", "CDLL"),
}


@pytest.mark.parametrize(("before", "loader"), PROCESSES.values(), ids=PROCESSES)
def test_a_python_process(before: str, loader: str, library: Library, run_python: Callable[..., Any]) -> None:
    run_python(COUNT_DEVICES.format(before=before, loader=loader), str(library.path), timeout=60)


def test_calls_after_the_end_of_python(library: Library, run_python: Callable[..., Any]) -> None:
    code = """
import ctypes, sys
library, c = ctypes.CDLL(sys.argv[1]), ctypes.CDLL(None)
assert library.ANeuralNetworks_getRuntimeFeatureLevel() == 1000008
for name in ("ANeuralNetworks_getRuntimeFeatureLevel", "ANeuralNetworksModel_free"):
    last_call = ctypes.cast(getattr(library, name), ctypes.c_void_p)
    assert c.__cxa_atexit(last_call, ctypes.c_void_p(16), None) == 0
"""
    assert run_python(code, str(library.path), timeout=60).stderr == ""


def test_threads_of_python_with_and_without_the_gil(library: Library, run_python: Callable[..., Any]) -> None:
    code = """
import ctypes, sys, threading
def call(loader):
    count = ctypes.c_uint32()
    barrier.wait()
    answers.append(loader(sys.argv[1]).ANeuralNetworks_getDeviceCount(ctypes.byref(count)))
answers, barrier = [], threading.Barrier(8)
threads = [threading.Thread(target=call, args=(l,)) for l in (ctypes.CDLL, ctypes.PyDLL) * 4]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert answers == [0] * 8
"""
    run_python(code, str(library.path), timeout=60)


ENVIRONMENTS: dict[str, dict[str, str]] = {
    "usual": {},
    # What the environment says to other Pythons must not reach ours.
    "hostile": {"PYTHONHOME": "/nowhere", "PYTHONPATH": "/nowhere", "PYTHONSTARTUP": "/nowhere", "LC_ALL": "C"},
}


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_a_plain_c_program_with_many_threads_that_loads_it_twice(
    environment: dict[str, str], library: Library, compile_c: Callable[..., Path], run: Callable[..., Any]
) -> None:
    program = compile_c("first_call", linked=False)
    done = run([program, library.path], environment=environment, timeout=60)
    assert (done.stdout, done.stderr) == ("0 failures\n", "")


def _built_with(folder: Path, monkeypatch: pytest.MonkeyPatch, changed: str) -> Library:
    """A library whose python.h is `changed`."""
    usual = build.sources()
    monkeypatch.setattr(build, "sources", lambda: {**usual, "python.h": changed})
    return build.build(folder)


def _settings(version: str = build.VERSION, program: str = sys.executable, folder: str = "/nowhere") -> str:
    return (
        f'#define PYTHON_VERSION "{version}"\n#define PYTHON_PROGRAM "{program}"\n#define PYTHON_FOLDERS "{folder}"\n'
    )


def _calls() -> str:
    """C that calls every function with nulls and zeros, and counts how often the answer is OP_FAILED."""
    lines = []
    for function in functions():
        zeros = ", ".join("0" for _ in function.parameters)
        call = f"{function.name}({zeros})"
        if function.returns == "int":
            lines.append(f'if ({call} != ANEURALNETWORKS_OP_FAILED) printf("{function.name}\\n");')
        elif function.returns == "void":
            lines.append(f"{call};")
        else:
            lines.append(f'if ({call} != 0) printf("{function.name}\\n");')
    body = "\n    ".join(lines)
    return f"#include <android/NeuralNetworks.h>\n#include <stdio.h>\n\nint main(void)\n{{\n    {body}\n}}\n"


BROKEN = {
    "another-python": (_settings(version="3.1"), "built for Python 3.1, the process runs another"),
    "no-packages": (_settings(program=sys.base_prefix + "/bin/python3"), "No module named"),
}


@pytest.mark.parametrize(("settings", "message"), BROKEN.values(), ids=BROKEN)
def test_where_python_does_not_start_every_function_fails_and_says_why_once(
    settings: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compile_c: Callable[..., Path],
    run: Callable[..., Any],
) -> None:
    broken = _built_with(tmp_path, monkeypatch, settings)
    program = compile_c("all_calls", text=_calls())
    done = run([program], environment={"LD_LIBRARY_PATH": str(tmp_path), "LD_PRELOAD": str(broken.path)})
    assert done.stdout == ""
    assert done.stderr.startswith("libneuralnetworks: OP_FAILED: cannot start: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_function_without_a_body_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compile_c: Callable[..., Path], run: Callable[..., Any]
) -> None:
    package = tmp_path / "packages" / "nnapi" / "capi"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "functions.py").write_text("def attach(bodies): pass\n")
    folders = _settings(program=sys.base_prefix + "/bin/python3", folder=str(tmp_path / "packages"))
    assert _cffi_backend.__file__ is not None
    cffi = Path(_cffi_backend.__file__).parent
    broken = _built_with(tmp_path, monkeypatch, folders.rstrip() + f', "{cffi}"\n')
    program = compile_c("all_calls", text=_calls())
    done = run([program], environment={"LD_PRELOAD": str(broken.path)})
    assert done.stdout == ""
    assert "no code was attached" in done.stderr


def test_the_library_is_built_when_first_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]
) -> None:
    environment = {"XDG_DATA_HOME": str(tmp_path)}
    first = run([sys.executable, "-m", "nnapi", "capi", "path"], environment=environment).stdout.strip()
    made = Path(first).stat().st_mtime_ns
    again = run([sys.executable, "-m", "nnapi", "capi", "path"], environment=environment).stdout.strip()
    assert Path(first).name == "libneuralnetworks.so" and Path(first).is_relative_to(tmp_path)
    assert again == first and Path(again).stat().st_mtime_ns == made
    include = run([sys.executable, "-m", "nnapi", "capi", "path", "--include"], environment=environment).stdout.strip()
    assert (Path(include) / "android" / "NeuralNetworks.h").is_file()


@pytest.mark.parametrize(
    ("compiler", "message"),
    [("no-such-compiler", "no C compiler 'no-such-compiler'"), ("false", "the C compiler refused")],
)
def test_a_machine_without_a_compiler_is_told_so(
    compiler: str, message: str, tmp_path: Path, run: Callable[..., Any]
) -> None:
    command = [sys.executable, "-m", "nnapi", "capi", "build", "-o", tmp_path]
    done = run(command, expected=1, environment={"CC": compiler})
    assert done.stderr.startswith(f"nnapi: {message}")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path, run: Callable[..., Any]) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "nnapi", "capi", "build", "-o", tmp_path / "file" / "folder"]
    assert "cannot write" in run(command, expected=1).stderr
