"""Many threads at once, many cycles: shortly here, for longer with benchmarks/soak.py."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from nnapi.runtime import devices
from nnapi.runtime.queue import QUEUE

SOAK = Path(__file__).parent.parent.parent / "benchmarks" / "soak.py"


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soak", SOAK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seconds", [1.0, pytest.param(4.0, marks=pytest.mark.slow)])
def test_threads_compile_and_execute_at_once(soak: ModuleType, seconds: float) -> None:
    named = [None, *([device] for device in devices())]
    assert soak.work_at_once(seconds, 8, named) > 20
    assert QUEUE._free == QUEUE.slots
    assert not [thread for thread in threading.enumerate() if thread.name == "nnapi"]


@pytest.mark.parametrize("cycles", [100, pytest.param(400, marks=pytest.mark.slow)])
def test_cycles_leave_nothing_behind(soak: ModuleType, cycles: int) -> None:
    # The limit is for 10,000 cycles; what is left of a few is the allocator's.
    assert soak.growth(cycles, None) < soak.MAX_GROWTH
