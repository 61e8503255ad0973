"""No engine reports to its maker: processes that load them, with their network and their home folder watched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMPILER = shutil.which(os.environ.get("CC", "cc"))
COMPILE = """
import numpy as np
import nnapi
from nnapi.drivers import registry
from nnapi.ops.types import F32

b = nnapi.Builder("twice")
x = b.input("x", F32, (1, 4))
b.output(b.add("ADD", {"input0": x, "input1": x, "activation": 0}))
model = b.finish()
for driver in registry.available():
    session = nnapi.compile(model, devices=[driver.name], fallback=False)
    assert session(np.ones((1, 4), np.float32))[0].tolist() == [[2, 2, 2, 2]], driver.name
"""
PACKAGES = ("ai_edge_litert.interpreter", "ncnn", "openvino", "onnx", "onnxruntime", "torch", "torchao")
IMPORT = f"""
import time
import nnapi
from importlib import import_module
for package in {PACKAGES}:
    try:
        import_module(package)
    except ModuleNotFoundError:
        pass
time.sleep(1)
"""
"""With a second for what a package does in the background."""


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that notes what its process and the children of that ask of the network."""
    if COMPILER is None:
        pytest.skip("there is no C compiler to build the watcher with")
    library = tmp_path_factory.mktemp("watch") / "watch.so"
    source = Path(__file__).with_name("watch.c")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def watched(watch: Path, folder: Path, *arguments: str) -> tuple[list[str], list[str]]:
    """A process of Python in an empty home: the uses of the network, and the files that lie in the home afterwards."""
    home, log = folder / "home", folder / "log"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_")) and k not in ("CI", "HOME")}
    more = {"HOME": str(home), "LD_PRELOAD": str(watch), "WATCH_LOG": str(log), "PYTHONDONTWRITEBYTECODE": "1"}
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, *arguments], env=kept | more | paths, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    uses = log.read_text().splitlines() if log.exists() else []
    return uses, sorted(str(p.relative_to(home)) for p in home.rglob("*") if not p.is_dir())


def test_the_watcher_sees_a_child_s_socket(watch: Path, tmp_path: Path) -> None:
    code = "import os, socket\nif os.fork() == 0: socket.socket(); os._exit(0)\nos.wait()"
    uses, _ = watched(watch, tmp_path, "-c", code)
    assert [line.split()[1] for line in uses] == ["socket"]


RUNS = {"devices": ("-m", "nnapi", "devices"), "compile": ("-c", COMPILE), "import": ("-c", IMPORT)}


@pytest.mark.parametrize("run", RUNS)
def test_nothing_is_sent_and_nothing_lies_in_the_home_but_our_cache(watch: Path, tmp_path: Path, run: str) -> None:
    uses, files = watched(watch, tmp_path, *RUNS[run])
    assert uses == []
    assert [path for path in files if not path.startswith(".cache/nnapi/")] == []
