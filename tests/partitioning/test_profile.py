"""Measurements are kept, reused by other processes, and survive damage; tuning keeps what is measured to be fastest."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from models import chain
from nnapi.drivers.driver import DeviceType, Estimate, Prepared, PrepareOptions
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import PreparedReference, execute
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import F32, Array
from nnapi.partitioning import candidate
from nnapi.partitioning.assign import assign
from nnapi.partitioning.candidate import candidates
from nnapi.partitioning.cost import CostModel, Measured
from nnapi.partitioning.database import PATIENCE, Database
from nnapi.partitioning.deny import DenyList
from nnapi.partitioning.digest import digest
from nnapi.partitioning.gate import Gate
from nnapi.partitioning.profile import Profile
from nnapi.partitioning.samples import random_inputs
from nnapi.partitioning.segments import segments
from nnapi.pipeline import compile
from nnapi.runtime.session import Session
from nnapi.runtime.tune import Tuner

OPTIONS = PrepareOptions()


@dataclass
class Timed(FakeDriver):
    """A device that takes the time it takes, whatever it claims."""

    takes: float = 0.0
    claims: float = 1e-6

    def estimate(self, model: Model) -> Estimate:
        return Estimate(self.claims * (1 + len(model.operations)), 0.0, "modelled")

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedReference:  # type: ignore[override]
        return _Slow(model, seconds=self.takes)


@dataclass(frozen=True)
class _Slow(PreparedReference):
    seconds: float = 0.0

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        time.sleep(self.seconds)
        return super().run(inputs, outputs)


def tuned(model: Model, drivers: Sequence[FakeDriver], database: Database) -> Session:
    gate = Gate(random_inputs(model.input_operands), DenyList(database))
    tuner = Tuner(Profile(database, OPTIONS), lambda m: random_inputs(m.input_operands), gate=gate)
    return tuner.choose(model, drivers, fallback=True)


def test_what_is_measured_to_be_fastest_is_kept_whatever_devices_claim(tmp_path: Path) -> None:
    model, database = chain(*["ADD", "MUL"] * 3, size=16), Database(tmp_path / "devices.sqlite")
    boaster, honest = Timed("boaster", takes=0.02, claims=0.0), Timed("honest", claims=1e-3)
    session = tuned(model, [boaster, honest], database)
    assert session.plan.devices == ("honest",)
    assert session.plan.chosen.measured_seconds is not None
    assert {a.measured_seconds is not None for a in session.plan.alternatives} == {True}
    inputs = random_inputs(model.input_operands)
    np.testing.assert_array_equal(session(*inputs)[0], execute(model, inputs)[0])
    # Another process reads the same file: the plan is known without measuring.
    again = assign(model, [boaster, honest], profile=Profile(Database(tmp_path / "devices.sqlite"), OPTIONS))
    assert again.devices == ("honest",)
    assert again.chosen.name == "measured to be the fastest"
    assert again.partitions[0].estimate.source == "measured"


def test_what_the_gate_refused_of_a_tuned_model_is_said_each_time() -> None:
    """Also by the compile that measured it: the fastest of the plans is refused, and another one takes its place."""
    model, database = chain("ADD", "MUL", size=16), Database()
    for _ in range(2):
        session = tuned(model, [Wrong("wrong", claims=1e-9), Timed("honest", takes=1e-3, claims=1e-3)], database)
        assert session.plan.placement[1] == "honest"
        assert any(f.device == "wrong" and "SQNR" in f.reason for f in session.fallbacks), session.fallbacks


@dataclass
class Wrong(Timed):
    """Fast, and wrong wherever there is a MUL."""

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedReference:  # type: ignore[override]
        return _Zeros(model) if any(o.type == "MUL" for o in model.operations) else PreparedReference(model)


class _Zeros(PreparedReference):
    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        return [np.zeros_like(array) for array in super().run(inputs, outputs)]


KEYS = {
    "threads": (PrepareOptions(num_threads=2), FakeDriver("d")),
    "precision": (PrepareOptions("relaxed"), FakeDriver("d")),
    "version": (OPTIONS, FakeDriver("d", version="2")),
    "device": (OPTIONS, FakeDriver("e")),
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_measurements_are_kept_apart_by(key: tuple[PrepareOptions, FakeDriver]) -> None:
    database, (options, driver) = Database(), key
    Profile(database, OPTIONS).record(FakeDriver("d"), "x", 1.0, 3)
    assert Profile(database, OPTIONS).seconds(FakeDriver("d"), "x") == 1.0
    assert Profile(database, options).seconds(driver, "x") is None


def test_a_digest_knows_structure_shapes_and_types_and_no_names() -> None:
    assert digest(chain("ADD", "MUL")) == digest(chain("ADD", "MUL"))
    assert len({digest(m) for m in (chain("ADD"), chain("MUL"), chain("ADD", "ADD"), chain("ADD", size=5))}) == 4


def test_a_sequence_costs_what_was_measured() -> None:
    model = chain("ADD", "MUL", "ADD", "MUL")
    parts = [Measured((0, 1), 5e-3), Measured((0, 1, 2, 3), 6e-3)]
    costs = CostModel(model, {"d": FakeDriver("d")}, {"d": parts})
    assert costs.partition("d", (0, 1, 2, 3)).estimate.seconds == pytest.approx(6e-3)
    assert costs.partition("d", (0, 1, 2, 3)).estimate.source == "measured"
    assert costs.seconds[0, :2].sum() > 100 * costs.seconds[0, 2:].sum()


def test_segments_cover_the_model_in_order() -> None:
    model = chain(*["ADD"] * 40)
    assert sum(segments(model), ()) == tuple(range(40)) and len(segments(model)) > 3
    assert segments(chain("ADD")) == []


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_database_is_set_aside_and_made_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "devices.sqlite"
    path.write_bytes(content)
    Profile(Database(path), OPTIONS).record(FakeDriver("d"), "x", 1.0, 3)
    assert Profile(Database(path), OPTIONS).seconds(FakeDriver("d"), "x") == 1.0
    if content:
        assert path.with_name("devices.sqlite.damaged").read_bytes() == content


def test_without_a_place_to_write_everything_still_works(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    database = Database(tmp_path / "file" / "devices.sqlite")
    Profile(database, OPTIONS).record(FakeDriver("d"), "x", 1.0, 3)
    assert Profile(database, OPTIONS).seconds(FakeDriver("d"), "x") == 1.0


POISON = {
    "text": "1.0",
    "infinity": "9e999",
    "minus infinity": "-9e999",
    "nothing to divide by": "0",
    "negative": "-1.0",
    "bytes": "x'00ff'",
    "no text": "CAST(x'ff' AS TEXT)",
    "ages": "1e300",
}


@pytest.mark.parametrize("value", POISON.values(), ids=POISON)
def test_a_value_of_another_kind_is_ignored_and_replaced(tmp_path: Path, value: str) -> None:
    path = tmp_path / "devices.sqlite"
    model, drivers = chain("ADD", "MUL"), [FakeDriver("d")]
    profile = Profile(Database(path), OPTIONS)
    profile.record(drivers[0], digest(model), 1.0, 3)
    profile.record_plan(model, drivers, ["d", "d"], 1.0)
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute(f"UPDATE times SET seconds={value if value != '1.0' else repr('soon')}, repeats={value}")
        other.execute(f"UPDATE plans SET assignment={value}")
    assert profile.seconds(drivers[0], digest(model)) is None
    assert profile.plan(model, drivers) is None
    assert assign(model, drivers, profile=profile).devices == ("d",)
    profile.record(drivers[0], digest(model), 2.0, 3)
    assert Profile(Database(path), OPTIONS).seconds(drivers[0], digest(model)) == 2.0


ASSIGNMENTS = {"no JSON": "[", "nested": "[" * 100_000, "no list": "{}", "no names": "[1, {}]", "unknown": '["x", "x"]'}


@pytest.mark.parametrize("text", ASSIGNMENTS.values(), ids=ASSIGNMENTS)
def test_a_plan_that_is_none_is_ignored(text: str) -> None:
    database, model, drivers = Database(), chain("ADD", "MUL"), [FakeDriver("d")]
    profile = Profile(database, OPTIONS)
    profile.record_plan(model, drivers, ["d", "d"], 1.0)
    database.write("UPDATE plans SET assignment=?", (text,))
    assert assign(model, drivers, profile=profile).devices == ("d",)


TABLES = {
    "a view that never ends": "DROP TABLE times; CREATE VIEW times AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT"
    " i + 1 FROM n) SELECT i AS seconds FROM n",
    "a trigger": "CREATE TRIGGER t BEFORE INSERT ON times BEGIN SELECT RAISE(ABORT, 'no'); END",
    "other columns": "DROP TABLE times; CREATE TABLE times (seconds)",
    "another version": "PRAGMA user_version=99",
}


@pytest.mark.parametrize("statements", TABLES.values(), ids=TABLES)
def test_other_tables_are_set_aside(tmp_path: Path, statements: str) -> None:
    path = tmp_path / "devices.sqlite"
    Profile(Database(path), OPTIONS).record(FakeDriver("d"), "x", 1.0, 3)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.executescript(statements)
    profile = Profile(Database(path), OPTIONS)
    assert profile.seconds(FakeDriver("d"), "x") is None
    profile.record(FakeDriver("d"), "x", 2.0, 3)
    assert Profile(Database(path), OPTIONS).seconds(FakeDriver("d"), "x") == 2.0
    assert path.with_name("devices.sqlite.damaged").exists()


@pytest.mark.alone
def test_nobody_waits_for_a_database_that_stays_locked(tmp_path: Path) -> None:
    path = tmp_path / "devices.sqlite"
    open_before = Profile(Database(path), OPTIONS)
    open_before.record(FakeDriver("d"), "x", 1.0, 3)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        for profile in (open_before, Profile(Database(path), OPTIONS)):
            for n in range(100):
                profile.record(FakeDriver("d"), f"{n}", 2.0, 3)
                assert profile.seconds(FakeDriver("d"), "x") == 1.0  # readers go on
        assert time.monotonic() - began < 10 * PATIENCE  # 200 statements, and each would wait
        other.execute("ROLLBACK")
    open_before.record(FakeDriver("d"), "x", 2.0, 3)
    assert open_before.seconds(FakeDriver("d"), "x") == 2.0


def test_what_is_no_file_is_done_without(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "log-wal")
    for name in ("pipe", "folder", "log"):
        profile = Profile(Database(tmp_path / name), OPTIONS)
        profile.record(FakeDriver("d"), "x", 1.0, 3)
        assert profile.seconds(FakeDriver("d"), "x") == 1.0


WRITER = """
import sys
from pathlib import Path
from nnapi.drivers.fake import FakeDriver
from nnapi.partitioning.database import Database
from nnapi.partitioning.profile import Profile
profile = Profile(Database(Path(sys.argv[1])))
for n in range(50):
    profile.record(FakeDriver("d"), f"{sys.argv[2]}-{n}", 1.0, 3)
"""


def test_processes_write_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "devices.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(k)]) for k in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert Database(path).query("SELECT COUNT(*) FROM times") == [(150,)]


def test_an_engine_with_two_precisions_is_two_candidates() -> None:
    driver = FakeDriver("half")
    driver.precisions = ("fp32", "relaxed")  # type: ignore[attr-defined]
    model = chain("ADD")
    assert [d.name for d in candidates([driver], model, PrepareOptions("relaxed"))] == ["half", "half:fp32"]
    assert [d.name for d in candidates([driver], model, PrepareOptions("fp32"))] == ["half"]


@pytest.mark.parametrize(
    ("size", "threads", "type", "count"),
    [
        pytest.param(8, 2, DeviceType.CPU, 2, id="a small model"),
        pytest.param(8, 1, DeviceType.CPU, 1, id="one thread"),
        pytest.param(8, 2, DeviceType.GPU, 1, id="no CPU"),
        pytest.param(candidate.SMALL + 8, 2, DeviceType.CPU, 1, id="a large model"),
    ],
)
def test_a_small_model_may_do_with_one_thread(size: int, threads: int, type: DeviceType, count: int) -> None:
    seen: list[PrepareOptions] = []

    class Watched(FakeDriver):
        def prepare(self, model: Model, options: PrepareOptions) -> Prepared:
            seen.append(options)
            return super().prepare(model, options)

    b = Builder()
    x = b.input("x", F32, (1, size))
    b.output(b.add("MUL", {"input0": x, "input1": x, "activation": 0}))
    model, options = b.finish(), PrepareOptions(num_threads=threads)
    found = candidates([Watched("watched", device_type=type)], model, options)
    for driver in found:
        driver.prepare(model, options)
    assert [d.name for d in found] == ["watched", "watched:1thread"][:count]
    assert [o.num_threads for o in seen] == [threads, 1][:count]


def test_a_plan_with_one_thread_is_found_again() -> None:
    """Measured with more threads allowed, kept, and built from the engine's own name."""
    model = chain("ADD", "MUL")
    session = compile(model, ["litert"], num_threads=2, tune=True)
    assert set(session.plan.devices) <= {"litert", "litert:1thread"}
    again = compile(model, ["litert"], num_threads=2)
    assert again.plan.devices == session.plan.devices and again.plan.chosen.measured_seconds
