"""Sessions: inputs as users give them, engines that fail, names, partitions."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import nnapi
from models import chain
from nnapi.drivers.driver import PrepareOptions
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import PreparedReference, ReferenceDriver
from nnapi.errors import CompileError, ExecutionError, NnapiError, UnsupportedOperation, UsageError
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import I32, Q8, Q8S, Q16SYMM, Array, OperandType
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
    "big-endian": X.astype(">f4"),
    "big-endian float64": X.astype(">f8"),
    "big-endian integers": X.astype(">i2"),
    "float16": X.astype(np.float16),
    "bfloat16": X.astype(ml_dtypes.bfloat16),
    "booleans": X.astype(bool) * X.astype(np.uint8),
    "read only": np.broadcast_to(X, X.shape),
    "not masked": np.ma.masked_array(X),
    "not contiguous": np.asfortranarray(np.stack([X[0], X[0]], 1))[:, 0].reshape(1, 4),
}


@pytest.mark.parametrize("given", GOOD.values(), ids=GOOD.keys())
def test_what_converts_without_loss_is_converted(session: Session, given: object) -> None:
    np.testing.assert_array_equal(session(given)[0], (X + X) * X)


ROUNDED = {
    "digits that float32 has not": (0.1, np.float32(0.1)),
    "the largest float32 and a little": (3.4028235e38 + 1e30, np.float32(3.4028235e38)),
    "too small": (1e-300, 0.0),
    "NaN": (np.nan, np.nan),
    "infinity": (-np.inf, -np.inf),
    "2**40": (2**40, 2.0**40),
    "-2**63": (-(2**63), -(2.0**63)),
}


@pytest.mark.parametrize(("given", "taken"), ROUNDED.values(), ids=ROUNDED.keys())
@pytest.mark.parametrize("device", ["reference", "litert"])
def test_floats_are_rounded_and_nothing_else_changes(device: str, given: object, taken: float) -> None:
    session = nnapi.compile(chain("MAXIMUM"), devices=device)  # of x and x
    np.testing.assert_array_equal(session([[0, given, 0, 1]])[0], np.array([[0, taken, 0, 1]], np.float32))


INTEGERS = {
    "int64": ([1, 2], [2, 3]),
    "float64 that is whole": ([1.0, -2.0], [2, -1]),
    "uint64": (np.array([1, 2**31 - 2], np.uint64), [2, 2**31 - 1]),
    "big-endian": (np.array([1, 2], ">i8"), [2, 3]),
    "booleans": ([True, False], [2, 1]),
    "2**40": ([5, 2**40], r"input 'x' holds 1099511627776 at \(1,\), int32 holds -2147483648 to 2147483647"),
    "2**32 + 1": ([2**32 + 1, 0], "holds 4294967297"),
    "2**31": ([0, 2**31], "holds 2147483648"),
    "below": ([-(2**31) - 1, 0], "holds -2147483649"),
    "uint64, large": (np.array([0, 2**64 - 1], np.uint64), "holds 18446744073709551615"),
    "uint32": (np.array([0, 2**32 - 1], np.uint32), "holds 4294967295"),
    "2**70": ([0, 2**70], "holds 1180591620717411303424"),
    "a fraction": ([0, 1.5], "holds 1.5"),
    "1e300": ([0, 1e300], r"holds 1e\+300"),
    "NaN": ([0, np.nan], "holds nan"),
    "infinity": ([0, -np.inf], "holds -inf"),
    "big-endian 2**40": (np.array([0, 2**40], ">i8"), "holds 1099511627776"),
    "masked": (np.ma.masked_array([1, 2], [0, 1]), "holds masked values"),
    "seconds": (np.array([1, 2], "m8[s]"), r"is timedelta64\[s\], must be int32"),
    "nothing": ([None, 1], "is object, must be int32"),
}


@pytest.mark.parametrize(("given", "expected"), INTEGERS.values(), ids=INTEGERS.keys())
@pytest.mark.parametrize("device", ["reference", "litert"])
def test_integers_are_those_that_were_given(device: str, given: object, expected: list[int] | str) -> None:
    b = Builder("next")
    x = b.input("x", I32, (2,))
    b.output(b.add("ADD", {"input0": x, "input1": np.ones(2, np.int32), "activation": 0}))
    session = nnapi.compile(b.finish(), devices=device)
    if isinstance(expected, list):
        np.testing.assert_array_equal(session(given)[0], expected)
    else:
        with pytest.raises(ExecutionError, match=expected):
            session(given)
        with pytest.raises(ExecutionError, match=expected):
            session.profile(given)


@pytest.mark.parametrize(
    ("type", "given"),
    [
        pytest.param(Q8, [[1, 2]], id="integers"),
        pytest.param(Q8, [[True, False]], id="booleans"),
        pytest.param(Q16SYMM, [[1, 2]], id="longer integers"),
        pytest.param(Q8S, np.array([[1, 2]], np.uint8), id="bytes of another sign"),
        pytest.param(Q8, [[1.0, 2.0]], id="real values"),
    ],
)
def test_what_is_quantized_comes_as_it_is_stored(type: OperandType, given: object) -> None:
    b = Builder("quantized")
    x = b.input("x", type, (1, 2), scale=0.5)
    b.output(b.add("DEQUANTIZE", {"input": x}))
    with pytest.raises(ExecutionError, match=f"must be {type.dtype} for {type.name}"):
        nnapi.compile(b.finish(), devices="reference")(given)


BAD = {
    "no input": ((), r"0 inputs given, the model takes 1: x"),
    "two inputs": ((X, X), r"2 inputs given"),
    "wrong shape": ((X[:, :3],), r"input 'x' has shape \(1, 3\), must have \(1, 4\)"),
    "wrong rank": ((X[0],), r"has shape \(4,\)"),
    "complex": ((X.astype(np.complex64),), r"input 'x' is complex64, must be float32"),
    "1e300": ((X.astype(np.float64) + 1e300,), r"input 'x' holds 1e\+300 at \(0, 0\), float32 holds -3.40282e\+38 to"),
    "below": ((np.where(X == 2, -1e39, X.astype(float)),), r"holds -1e\+39 at \(0, 2\)"),
    "an integer that is no float32": (([[0, 0, 2**24 + 1, 0]],), r"holds 16777217 .*, integers to 16777216"),
    "masked": ((np.ma.masked_array(X, X > 2),), r"input 'x' holds masked values"),
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
        pytest.param({"x": X, 3: X}, "unknown", id="no name"),
    ],
)
def test_bad_names(session: Session, inputs: dict[str, np.ndarray], message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ExecutionError, match=message):
        session.run(inputs)


@pytest.mark.parametrize("inputs", [[X], X, None, 3], ids=["a list", "an array", "nothing", "a number"])
def test_run_takes_names(session: Session, inputs: Any) -> None:
    with pytest.raises(UsageError, match=r"run takes a mapping of names to arrays.*session\(x\) takes arrays in order"):
        session.run(inputs)


@pytest.mark.parametrize("device", ["reference", "litert"])
def test_rank_0_in_rank_0_out(device: str, tmp_path: Path) -> None:
    class Scaled(torch.nn.Module):
        def forward(self, x: torch.Tensor, factor: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return factor * 2, x * factor, (x * factor).sum()

    model = nnapi.load(Scaled(), (torch.ones(2, 3), torch.tensor(3.0)))
    nnapi.save(model, tmp_path / "scaled.nnapi")
    for source in (model, nnapi.load(tmp_path / "scaled.nnapi")):
        session = nnapi.compile(source, devices=device)
        for factor in (torch.tensor(3.0).numpy(), 3.0, [3.0]):
            doubled, scaled, total = session(torch.ones(2, 3), factor)
            assert (doubled.shape, scaled.shape, total.shape) == ((), (2, 3), ())
            assert (doubled, total) == (6.0, 18.0)


def test_a_session_is_copied_as_itself_and_pickled_never(session: Session) -> None:
    assert copy.deepcopy({"session": session})["session"] is session
    assert copy.copy(session) is session
    with pytest.raises(UsageError, match=r"cannot be pickled: .*nnapi.save its session.plan.model"):
        pickle.dumps(session)


FRAGILE = FakeDriver("fragile", fails_to_compile=("MUL",))


def test_an_engine_that_fails_to_compile_is_reported_and_replaced() -> None:
    session = nnapi.compile(chain("ADD", "MUL"), devices=[FRAGILE])
    assert session.plan.placement == {0: "fragile", 1: "reference"}
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


def stored_in_integers() -> Session:
    """Two inputs, of which one stands for real numbers, and two outputs likewise."""
    b = Builder("ends")
    x, n = b.input("x", Q8S, (2,), 0.5, 1), b.input("n", I32, (2,))
    b.output(b.add("RELU", {"input": x}), b.add("ABS", {"input": n}))
    return nnapi.compile(b.finish(), devices="reference")


def test_real_numbers_go_through_integer_inputs_and_outputs() -> None:
    session = stored_in_integers()
    x, n = session.quantize_inputs([-3.0, 1.26], [-1, 2])
    assert (x.tolist(), x.dtype, n.tolist()) == ([-5, 4], np.int8, [-1, 2])
    real, counted = session.dequantize_outputs(session(x, n))
    assert (real.tolist(), real.dtype, counted.tolist()) == ([0.0, 1.5], np.float32, [1, 2])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (([1.0, 2.0],), "1 inputs given, the model takes 2: x, n"),
        (([1.0], [1, 2]), r"input 'x' has shape \(1,\), must have \(2,\)"),
        ((["a", "b"], [1, 2]), "input 'x'"),
        (([1.0, 2.0], [1.5, 2.0]), "input 'n'"),
    ],
)
def test_real_inputs_that_do_not_fit(inputs: tuple[object, ...], message: str) -> None:
    with pytest.raises(ExecutionError, match=message):
        stored_in_integers().quantize_inputs(*inputs)


def test_as_many_outputs_as_the_model_has() -> None:
    with pytest.raises(ExecutionError, match="1 outputs given, the model has 2"):
        stored_in_integers().dequantize_outputs([np.zeros(2, np.int8)])
