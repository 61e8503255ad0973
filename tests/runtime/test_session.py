"""Sessions: inputs as users give them, engines that fail, names, partitions."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest

import nnapi
from models import chain
from nnapi.drivers.driver import PrepareOptions
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import PreparedReference, ReferenceDriver
from nnapi.errors import CompileError, ExecutionError, NnapiError, UnsupportedOperation, UsageError
from nnapi.ir.model import Model
from nnapi.ops.types import Array
from nnapi.partitioning.assign import assign
from nnapi.report.plan import describe_plan
from nnapi.runtime.session import Session, build_session

X = np.arange(4, dtype=np.float32).reshape(1, 4)


@pytest.fixture(params=["reference", "litert"])
def session(request: pytest.FixtureRequest) -> Session:
    """On a driver whose inputs the session checks, and on one that checks them itself."""
    return nnapi.compile(chain("ADD", "MUL"), devices=request.param)


def test_arrays_in_arrays_out(session: Session) -> None:
    (y,) = session(X)
    np.testing.assert_array_equal(y, (X + X) * X)


def test_by_name(session: Session) -> None:
    assert session.input_names == ("x",)
    np.testing.assert_array_equal(session.run({"x": X})["y"], (X + X) * X)


GOOD = {
    "a list": X.tolist(),
    "float64": X.astype(np.float64),
    "integers": np.arange(4).reshape(1, 4),
    "not contiguous": np.asfortranarray(np.stack([X[0], X[0]], 1))[:, 0].reshape(1, 4),
}


@pytest.mark.parametrize("given", GOOD.values(), ids=GOOD.keys())
def test_what_converts_without_loss_is_converted(session: Session, given: object) -> None:
    np.testing.assert_array_equal(session(given)[0], (X + X) * X)


BAD = {
    "no input": ((), r"0 inputs given, the model takes 1: x"),
    "two inputs": ((X, X), r"2 inputs given"),
    "wrong shape": ((X[:, :3],), r"input 'x' has shape \(1, 3\), must have \(1, 4\)"),
    "wrong rank": ((X[0],), r"has shape \(4,\)"),
    "complex": ((X.astype(np.complex64),), r"input 'x' is complex64, must be float32"),
    "text": (("hello",), r"input 'x' is <U5"),
    "ragged": (([[1], [2, 3]],), r"input 'x' is no array"),
}


@pytest.mark.parametrize(("given", "message"), BAD.values(), ids=BAD.keys())
def test_bad_inputs(session: Session, given: tuple[object, ...], message: str) -> None:
    with pytest.raises(ExecutionError, match=message):
        session(*given)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        pytest.param({"z": X}, "unknown", id="unknown"),
        pytest.param({}, "missing", id="missing"),
    ],
)
def test_bad_names(session: Session, inputs: dict[str, np.ndarray], message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ExecutionError, match=message):
        session.run(inputs)


FRAGILE = FakeDriver("fragile", fails_to_compile=("MUL",))


def test_an_engine_that_fails_to_compile_is_reported_and_replaced() -> None:
    session = nnapi.compile(chain("ADD", "MUL"), devices=[FRAGILE])
    assert session.plan.devices == ("reference",)
    assert "fails on purpose" in session.fallbacks[0].reason
    np.testing.assert_array_equal(session(X)[0], (X + X) * X)


def test_without_fallback_the_failure_is_an_error() -> None:
    with pytest.raises(CompileError, match="device 'fragile': fragile fails on purpose"):
        nnapi.compile(chain("ADD", "MUL"), devices=[FRAGILE], fallback=False)


def test_without_fallback_what_nobody_takes_is_an_error() -> None:
    picky = FakeDriver("picky", costs={"ADD": 1e-6}, default_cost=None)
    with pytest.raises(UnsupportedOperation, match="picky: MUL: takes ADD only"):
        nnapi.compile(chain("ADD", "MUL"), devices=[picky], fallback=False)


def test_an_engine_that_fails_to_run_is_a_typed_error() -> None:
    dead, model = FakeDriver("dead", fails_to_run=True), chain("ADD")
    session = build_session(assign(model, [dead]), {"dead": dead}, PrepareOptions(), fallback=False)
    with pytest.raises(NnapiError, match="dead fails on purpose"):
        session(X)


def test_an_engine_that_fails_to_run_is_found_before_it_is_trusted() -> None:
    session = nnapi.compile(chain("ADD"), devices=[FakeDriver("dead", fails_to_run=True)])
    assert session.plan.devices == ("reference",)
    assert "dead fails on purpose" in session.fallbacks[0].reason


def test_several_partitions_pass_values_on_and_are_timed() -> None:
    adds = FakeDriver("adds", costs={"ADD": 1e-9}, default_cost=None, launch_cost=1e-9)
    muls = FakeDriver("muls", costs={"MUL": 1e-9}, default_cost=None, launch_cost=1e-9)
    model = chain("ADD", "MUL", "ADD")
    plan = assign(model, [adds, muls])
    session = build_session(plan, {"adds": adds, "muls": muls}, PrepareOptions(), fallback=False)
    assert [b.partition.device for b in session.built] == ["adds", "muls", "adds"]
    np.testing.assert_array_equal(session(X)[0], (X + X) * X + X)
    seconds = session.profile(X)
    assert len(seconds) == 3
    assert all(s > 0 for s in seconds)


@dataclass
class Slow(FakeDriver):
    """A device that takes its time, for one at a time."""

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedReference:  # type: ignore[override]
        return _Slow(model, lock=threading.Lock())


@dataclass(frozen=True)
class _Slow(PreparedReference):
    lock: threading.Lock | None = None

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        assert self.lock is not None
        with self.lock:
            time.sleep(0.02)
            return super().run(inputs, outputs)


@pytest.mark.alone
def test_threads_keep_several_devices_busy() -> None:
    """What a plan for sustained speed promises: answers at the pace of the busiest device."""
    adds = Slow("adds", costs={"ADD": 0.02}, default_cost=None, launch_cost=0.0)
    muls = Slow("muls", costs={"MUL": 0.02}, default_cost=None, launch_cost=0.0)
    plan = assign(chain("ADD", "MUL"), [adds, muls], preference="sustained_speed")
    assert plan.chosen.seconds > 1.9 * plan.chosen.busiest
    busiest = f"many answers: {plan.chosen.busiest * 1e3:.2f} ms each"
    assert any(busiest in line for line in describe_plan(plan))
    session = build_session(plan, {"adds": adds, "muls": muls}, PrepareOptions(), fallback=False)
    started = time.perf_counter()
    for _ in range(10):
        session(X)
    alone = time.perf_counter() - started
    started = time.perf_counter()
    with ThreadPoolExecutor(3) as pool:
        for (y,) in pool.map(lambda _: session(X), range(10)):
            np.testing.assert_array_equal(y, (X + X) * X)
    assert time.perf_counter() - started < 0.8 * alone


USAGE = {
    "threads": {"num_threads": 0},
    "precision": {"precision": "fp8"},
    "preference": {"preference": "fastest"},
}


@pytest.mark.parametrize("options", USAGE.values(), ids=USAGE.keys())
def test_wrong_options(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        nnapi.compile(chain("ADD"), devices=[ReferenceDriver()], **options)  # type: ignore[arg-type]
