"""Many threads at once, many cycles: shortly here, for longer with benchmarks/soak.py."""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
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


@pytest.mark.slow
def test_threads_compile_and_execute_at_once(soak: ModuleType) -> None:
    named = [None, *([device] for device in devices())]
    assert soak.work_at_once(4.0, 8, named) > 20
    until = time.monotonic() + 30  # slots come back and threads end after what they ran for is told
    while QUEUE._free != QUEUE.slots or any(thread.name == "nnapi" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.001)


@pytest.mark.slow
def test_cycles_leave_nothing_behind(soak: ModuleType) -> None:
    # The limit is for 10,000 cycles; what is left of a few is the allocator's.
    assert soak.growth(400, None) < soak.MAX_GROWTH
