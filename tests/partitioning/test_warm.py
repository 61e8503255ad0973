"""Processes that wait for the next trial: the same one serves again, and nothing of them stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import crashing
from models import chain
from nnapi.drivers.driver import Driver, PrepareOptions
from nnapi.errors import DeadObject
from nnapi.partitioning import warm
from nnapi.partitioning.candidate import exact
from nnapi.partitioning.isolated import Isolated

MODEL = chain("ADD")
INPUTS = [np.arange(4, dtype=np.float32).reshape(1, 4)]


@pytest.fixture(autouse=True)
def _nothing_waits() -> Iterator[None]:
    warm.close()
    yield
    warm.close()
    warm._broken.clear()


def tried(driver: Driver) -> tuple[Isolated, int]:
    """A process that ran a model, and its number."""
    process = warm.borrow(driver)
    process.run(MODEL, INPUTS, PrepareOptions(), 20)
    assert process._process is not None
    return process, process._process.pid


def assert_gone(number: int) -> None:
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_the_same_process_serves_again(third_party: Driver) -> None:
    process, number = tried(third_party)
    warm.give_back(process)
    again, same = tried(exact(third_party))
    assert same == number and again is process
    warm.give_back(again)
    warm.close()
    assert_gone(number)
    assert not process._folder.exists()


def test_another_environment_is_another_process(third_party: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    process, number = tried(third_party)
    warm.give_back(process)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    other, another = tried(third_party)
    assert another != number
    other.close()


def test_two_at_a_time_are_two_processes(third_party: Driver) -> None:
    (first, a), (second, b) = tried(third_party), tried(third_party)
    assert a != b
    warm.give_back(first)
    warm.give_back(second)
    assert_gone(b)
    os.kill(a, 0)


def test_it_waits_for_a_while_only(third_party: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "IDLE_SECONDS", 0.2)
    process, number = tried(third_party)
    warm.give_back(process)
    until = time.monotonic() + 30
    while process._folder.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert_gone(number)


def test_it_outlives_the_thread_that_started_it(third_party: Driver) -> None:
    found: list[tuple[Isolated, int]] = []
    thread = threading.Thread(target=lambda: found.append(tried(third_party)))
    thread.start()
    thread.join()
    ((process, number),) = found
    warm.give_back(process)
    time.sleep(0.1)
    assert tried(third_party)[1] == number
    process.close()


def test_one_that_is_busy_is_not_kept(third_party: Driver) -> None:
    """An interrupt came between a request and its answer."""
    process, number = tried(third_party)
    process.is_idle = False
    warm.give_back(process)
    assert_gone(number)


def test_one_that_died_meanwhile_is_not_lent(third_party: Driver) -> None:
    process, number = tried(third_party)
    warm.give_back(process)
    os.kill(number, signal.SIGKILL)
    until = time.monotonic() + 30
    while process.is_alive:
        assert time.monotonic() < until
    other, another = tried(third_party)
    assert another != number
    other.close()


def test_what_served_before_is_not_blamed_on_the_next(third_party: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    process, number = tried(third_party)
    os.kill(number, signal.SIGSEGV)
    assert len(process.run(MODEL, INPUTS, PrepareOptions(), 20)) == 1
    process.close()


def test_an_engine_that_does_not_load_is_left_alone_for_a_while(
    third_party: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(crashing.VARIABLE, "does not load")
    process = warm.borrow(third_party)
    with pytest.raises(DeadObject):
        process.run(MODEL, INPUTS, PrepareOptions(), 20)
    warm.give_back(process)
    assert "died of SIGABRT loading its engine" in warm.failure(third_party)
    monkeypatch.setattr(warm, "BROKEN_SECONDS", 0.0)
    assert not warm.failure(third_party)


PROGRAM = """
import os, signal, sys, time
import numpy as np
from nnapi.drivers import registry
from nnapi.drivers.driver import PrepareOptions
from nnapi.partitioning import warm
from models import chain
inputs = [np.zeros((1, 4), np.float32)]
process = warm.borrow(registry.get("crashing"))
process.run(chain("ADD"), inputs, PrepareOptions(), 20)
print(process._process.pid, process._folder, flush=True)
warm.give_back(process)
"""
ENDS = {
    "returns": "",
    "raises": "raise SystemExit(3)",
    "is interrupted": "os.kill(os.getpid(), signal.SIGINT); time.sleep(9)",
    "is killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "forks": """
child = os.fork()
if not child:
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
again = warm.borrow(registry.get("crashing"))
assert again is process and again.is_alive and again._folder.exists()
again.run(chain("ADD"), inputs, PrepareOptions(), 20)
""",
    "forks, and the child tries": """
child = os.fork()
if not child:
    own = warm.borrow(registry.get("crashing"))
    assert own is not process
    own.run(chain("ADD"), inputs, PrepareOptions(), 20)
    warm.give_back(own)
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert warm.borrow(registry.get("crashing")) is process
""",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_nothing_stays_when_a_process_ends(end: str, third_party: Driver, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + end], env=environment, capture_output=True, text=True, timeout=60
    )
    assert "AssertionError" not in done.stderr, done.stderr
    number, folder = done.stdout.split()
    until = time.monotonic() + 30
    while Path(f"/proc/{number}").exists() and "Z" not in Path(f"/proc/{number}/stat").read_text().split()[2]:
        assert time.monotonic() < until
        time.sleep(0.01)
    if done.returncode == -signal.SIGKILL:  # nobody was there to remove it: the next one does
        assert Path(folder).exists()
        command = "from nnapi.partitioning.isolated import _new_folder; _new_folder()"
        subprocess.run([sys.executable, "-c", command], env=environment, check=True, timeout=60)
    assert not Path(folder).exists()
