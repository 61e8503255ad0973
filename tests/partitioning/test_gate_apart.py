"""Third parties' engines that crash, hang or lie are tried in a process of their own, found out and routed around."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import crashing
import nnapi
from models import chain
from nnapi.drivers import registry
from nnapi.drivers.driver import Driver, PrepareOptions
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import ReferenceDriver, execute
from nnapi.partitioning.assign import assign
from nnapi.partitioning.candidate import single
from nnapi.partitioning.database import Database
from nnapi.partitioning.deny import DenyList, denied
from nnapi.partitioning.gate import MAX_DEATHS, Gate
from nnapi.partitioning.isolated import Isolated
from nnapi.partitioning.samples import random_inputs
from nnapi.pipeline import profile
from nnapi.runtime.session import Session, build_session

MODEL = chain("ADD", "SUB", "MUL", "ADD", size=8)


def session_of(
    driver: Driver, database: Database, seconds: float = 20.0, deaths: int = MAX_DEATHS, **options: bool
) -> Session:
    gate = Gate(random_inputs(MODEL.input_operands), DenyList(database, **options), seconds=seconds, deaths=deaths)
    plan = assign(MODEL, [driver], fallback=ReferenceDriver(), denied=gate.denied)
    session = build_session(plan, {driver.name: driver}, PrepareOptions(), fallback=True, gate=gate)
    assert not gate._processes
    return session


def assert_right(session: Session) -> None:
    inputs = random_inputs(MODEL.input_operands, seed=5)
    np.testing.assert_array_equal(session(*inputs)[0], execute(MODEL, inputs)[0])


FOUND = {
    "aborts": "it died of SIGABRT preparing 1 operation",
    "reads nothing": "it died of SIGSEGV running 1 operation",
    "hangs": "running 1 operation did not return within 1 s",
    "lies": r"SQNR -?\d+\.\d dB, limit 60 dB",
}


@pytest.mark.parametrize("how", FOUND)
def test_the_operation_is_found_and_denied(how: str, third_party: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(crashing.VARIABLE, how)
    database = Database()
    session = session_of(third_party, database, seconds=1.0 if how == "hangs" else 20.0)
    assert_right(session)
    assert session.plan.placement[2] == "reference"
    (row,) = denied(database)
    assert row["operation"] == "MUL" and re.search(FOUND[how], row["reason"])
    assert session.fallbacks[0].what == "MUL 'mul2'" and row["reason"] in session.fallbacks[0].reason
    # The next compilation knows: no process is started for what is denied.
    monkeypatch.setattr(Isolated, "start", lambda self: pytest.fail("tried again"))
    again = assign(MODEL, [third_party], fallback=ReferenceDriver(), denied=DenyList(database))
    assert again.placement[2] == "reference"


def test_an_engine_that_does_not_load_is_left_alone(third_party: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(crashing.VARIABLE, "does not load")
    session = session_of(third_party, Database())
    assert_right(session)
    assert session.plan.devices == ("reference",)
    assert "fails its trial: it died of SIGABRT loading its engine" in session.fallbacks[0].reason


def test_the_search_for_operations_ends(third_party: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(crashing.VARIABLE, "aborts")
    database = Database()
    session = session_of(third_party, database, deaths=0)
    assert_right(session)
    assert [row["shapes"] for row in denied(database)] == ["4 operations together"]


def test_what_is_trusted_starts_no_process(third_party: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database()
    assert session_of(third_party, database).plan.devices == (crashing.NAME,)
    monkeypatch.setattr(Isolated, "start", lambda self: pytest.fail("tried again"))
    assert session_of(third_party, database).plan.devices == (crashing.NAME,)


def test_a_crash_is_not_accepted_as_inaccurate(third_party: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(crashing.VARIABLE, "aborts")
    assert_right(session_of(third_party, Database(), accept_inaccurate=True))


def test_without_processes_engines_are_tried_here(third_party: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(crashing.VARIABLE, "lies")
    monkeypatch.setattr(sys, "executable", "")
    session = session_of(third_party, Database())
    assert_right(session)
    assert session.plan.placement[2] == "reference"


def test_who_is_suspect(third_party: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = DenyList(Database())
    gate, builtin = Gate([], denied), registry.get("litert")
    assert gate._is_suspect(third_party, "x")
    assert not gate._is_suspect(FakeDriver("mine"), "x")
    assert not gate._is_suspect(registry.get("reference"), "x")
    assert gate._is_suspect(builtin, "x")
    for driver in (builtin, third_party):
        denied.note_survived(driver, "x")
    assert not gate._is_suspect(builtin, "x") and not gate._is_suspect(single(builtin), "x")
    assert gate._is_suspect(builtin, "y")
    assert gate._is_suspect(third_party, "x")
    with denied.noted(builtin, "x"):
        assert gate._is_suspect(builtin, "x")
    assert not gate._is_suspect(builtin, "x")
    with pytest.raises(KeyboardInterrupt), denied.noted(builtin, "x"):
        raise KeyboardInterrupt
    assert gate._is_suspect(builtin, "x")


PROGRAM = """
import sys
from nnapi.drivers import registry
registry.BUILTIN["crashing"] = "crashing:Crashing"
from nnapi.partitioning.database import database
from nnapi.partitioning.deny import DenyList
import nnapi
from models import chain
from nnapi.partitioning.digest import structure
model = chain("ADD", "MUL", size=8)
DenyList(database()).note_survived(registry.get("crashing"), structure(model))
session = nnapi.compile(model, devices="crashing")
print(session.plan.devices, session.fallbacks[0].reason)
"""


def test_what_killed_one_process_does_not_kill_another(installed: Path, tmp_path: Path) -> None:
    """A structure that an engine of ours survived is run in the process itself, which leaves a note."""
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XDG_CACHE_HOME": str(tmp_path),
        crashing.VARIABLE: "reads nothing",
    }  # fmt: skip
    first, second = (
        subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60)
        for _ in range(2)
    )
    assert first.returncode == -11
    assert second.returncode == 0, second.stderr
    assert "it died of SIGSEGV running 1 operation" in second.stdout


def test_compiling_with_a_third_party(third_party: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(crashing.VARIABLE, "aborts")
    started = time.monotonic()
    session = nnapi.compile(MODEL, devices=crashing.NAME)
    assert_right(session)
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("how", ["aborts", "reads nothing"])
def test_tuning_with_a_third_party(how: str, third_party: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not survive in a process of its own is not measured in this one; the rest of it is."""
    monkeypatch.setenv(crashing.VARIABLE, how)
    assert_right(nnapi.compile(MODEL, devices=[crashing.NAME, "litert"], tune=True))
    measured = profile(MODEL, [crashing.NAME, "litert"])
    assert crashing.NAME not in measured["whole"] and measured["whole"]["litert"] > 0
    monkeypatch.setenv(crashing.VARIABLE, "")
    assert profile(chain("ADD", "SUB"), crashing.NAME)["whole"][crashing.NAME] > 0
