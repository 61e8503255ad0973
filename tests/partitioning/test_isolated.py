"""Engines in processes of their own: what happens to them is told, and nothing happens to this one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import crashing
from models import chain
from nnapi.drivers.driver import Driver, PrepareOptions
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import execute
from nnapi.errors import CompileError, DeadObject, DeviceUnavailable, MissedDeadline, NnapiError
from nnapi.ir.file import load
from nnapi.partitioning import isolated as module
from nnapi.partitioning.candidate import exact
from nnapi.partitioning.isolated import Isolated, Starved, can_be_isolated, memory_there_is
from nnapi.partitioning.trial import MODEL as MODEL_FILE

OPTIONS = PrepareOptions()
MODEL = chain("ADD", "MUL")
INPUTS = [np.arange(4, dtype=np.float32).reshape(1, 4)]


@pytest.fixture
def process(third_party: Driver) -> Iterator[Isolated]:
    process = Isolated(third_party, memory=2 * crashing.GIGABYTE)
    yield process
    process.close()


LOST = {
    "aborts": (DeadObject, "it died of SIGABRT preparing 2 operations"),
    "exits": (DeadObject, "it ended with status 3 preparing 2 operations"),
    "is killed": (Starved, "it died of SIGKILL, as for want of memory, preparing 2 operations"),
    "refuses": (CompileError, "the engine refuses"),
    "hangs preparing": (MissedDeadline, "preparing 2 operations did not return within 0.5 s"),
    "eats memory": (Starved, "Unable to allocate 3.00 GiB"),
    "reads nothing": (DeadObject, "it died of SIGSEGV running 2 operations"),
    "hangs": (MissedDeadline, "running 2 operations did not return within 0.5 s"),
    "dies in words": (DeadObject, "it died of SIGABRT running 2 operations (what(): no more)"),
    "does not load": (DeadObject, "it died of SIGABRT loading its engine"),
}


@pytest.mark.parametrize("how", LOST)
def test_what_becomes_of_it(how: str, process: Isolated, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, message = LOST[how]
    monkeypatch.setenv(crashing.VARIABLE, how)
    with pytest.raises(NnapiError, match=re.escape(message)) as caught:
        process.run(MODEL, INPUTS, OPTIONS, 0.5 if kind is MissedDeadline else 20)
    assert type(caught.value) is kind
    assert process.has_loaded == (how != "does not load")


@pytest.mark.parametrize("how", ["", "talks"])
def test_outputs_come_back(how: str, process: Isolated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(crashing.VARIABLE, how)
    assert process.is_available()
    for model in (MODEL, chain("SUB")):
        np.testing.assert_array_equal(process.run(model, INPUTS, OPTIONS, 20)[0], execute(model, INPUTS)[0])
    assert process.run(MODEL, None, OPTIONS, 20) == []


def test_an_exact_candidate_is_tried_in_float32(third_party: Driver) -> None:
    process = Isolated(exact(third_party))
    process.run(replace(MODEL, relaxed=True), INPUTS, PrepareOptions("relaxed"), 20)
    assert not load(process._folder / MODEL_FILE).relaxed
    process.close()


def test_it_is_started_again_after_it_died(process: Isolated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(crashing.VARIABLE, "aborts")
    with pytest.raises(DeadObject):
        process.run(MODEL, INPUTS, OPTIONS, 20)
    assert len(process.run(chain("ADD"), INPUTS, OPTIONS, 20)) == 1


def test_it_ends_when_it_is_closed(process: Isolated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(crashing.VARIABLE, "hangs")
    process.run(chain("ADD"), INPUTS, OPTIONS, 20)
    assert process._process is not None
    number, folder = process._process.pid, process._folder
    process.close()
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    assert not folder.exists()


def test_it_ends_with_the_process_that_started_it(installed: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from nnapi.drivers import registry\n"
        "from nnapi.partitioning.isolated import Isolated\n"
        "process = Isolated(registry.get('crashing'))\n"
        "assert process.is_available()\n"
        "print(process._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    number = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 60
    while Path(f"/proc/{number}").exists() and "Z" not in Path(f"/proc/{number}/stat").read_text().split()[2]:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_who_can_be_isolated(third_party: Driver) -> None:
    assert can_be_isolated(third_party) and can_be_isolated(exact(third_party))
    assert not can_be_isolated(FakeDriver("mine"))
    assert not can_be_isolated(crashing.Crashing())  # another object of that name: it may be another driver
    assert memory_there_is() > crashing.GIGABYTE


PROGRAMS = {"an application": "/opt/painter/bin/painter", "nothing": "", "what is not there": "/nowhere/python3"}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_without_a_python_there_is_no_process(program: str, process: Isolated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "executable", program)
    assert not process.is_available()
    with pytest.raises(DeviceUnavailable, match="no process for device 'crashing'"):
        process.start()
