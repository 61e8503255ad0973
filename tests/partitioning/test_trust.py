"""What is trusted is a structure: what no process survived runs apart first, what one died of is denied everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import crashing
import nnapi
from models import chain
from nnapi.drivers import registry
from nnapi.drivers.driver import Deadline, Driver
from nnapi.drivers.reference import execute
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ops.types import F32
from nnapi.partitioning.digest import structure
from nnapi.partitioning.isolated import Isolated, Starved
from nnapi.partitioning.samples import random_inputs
from nnapi.pipeline import clear_profile, show_denied
from nnapi.runtime.codes import ResultError
from nnapi.runtime.compile import Target, compile_model
from nnapi.runtime.session import Session


def residual(columns: int = 16, *, seed: int = 0, blocks: int = 1, around: int = 0, rows: int = 4) -> Model:
    """x + y, and to that what two layers make of it, so many times; `around` more operations before and after."""
    generator = np.random.default_rng(seed)
    b = Builder("residual")
    x, y = (b.input(name, F32, (rows, columns)) for name in "xy")

    def layer(x: Ref, units: int, activation: int) -> Ref:
        weights = generator.standard_normal((units, x.operand.dimensions[1])).astype(np.float32) / 4
        bias = generator.standard_normal(units).astype(np.float32)
        inputs = {"input": x, "filter": b.constant(weights), "bias": b.constant(bias), "activation": activation}
        return b.add("FULLY_CONNECTED", inputs)

    def add(x: Ref, y: Ref) -> Ref:
        return b.add("ADD", {"input0": x, "input1": y, "activation": 0})

    for _ in range(around):
        x = b.add("TANH", {"input": x})
    z = add(x, y)
    for _ in range(blocks):
        z = add(z, layer(layer(z, 2 * columns, 1), columns, 0))
    for _ in range(around):
        z = b.add("TANH", {"input": z})
    b.output(z)
    return b.finish()


@pytest.fixture
def ours(third_party: Driver, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """An engine of ours that dies of a residual pattern, and nothing is known of it."""
    monkeypatch.setitem(registry.BUILTIN, crashing.NAME, "crashing:Crashing")  # type: ignore[misc]
    monkeypatch.setenv(crashing.VARIABLE, "aborts")
    monkeypatch.setenv(crashing.OPERATION, crashing.RESIDUAL)
    clear_profile()
    return third_party


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One item for each process that died."""
    found: list[int] = []
    drop = Isolated._drop
    monkeypatch.setattr(Isolated, "_drop", lambda self: found.append(drop(self)) or found[-1])
    return found


def assert_right(session: Session, model: Model) -> None:
    inputs = random_inputs(model.input_operands, seed=5)
    np.testing.assert_allclose(session(*inputs)[0], execute(model, inputs)[0], rtol=1e-4, atol=1e-5)


def compiled(model: Model, devices: str = crashing.NAME, **options: object) -> Session:
    session = nnapi.compile(model, devices=devices, **options)  # type: ignore[arg-type]
    assert_right(session, model)
    return session


def test_what_dies_together_is_denied_together_and_the_rest_stays(ours: Driver, deaths: list[int]) -> None:
    session = compiled(residual(around=3))
    assert deaths
    placement = session.plan.placement
    assert [n for n, device in placement.items() if device == "reference"] in ([3], [6])
    assert len(placement) == 10 and set(placement.values()) == {crashing.NAME, "reference"}
    (row,) = show_denied()
    assert row["operation"] == "ADD + FULLY_CONNECTED + FULLY_CONNECTED + ADD"
    assert "died of SIGABRT preparing 4 operations" in row["reason"]
    assert any("died of SIGABRT" in f.reason for f in session.fallbacks)
    elsewhere = next(n for n, device in placement.items() if device == "reference")
    assert "denied: it died of SIGABRT" in session.plan.reason(elsewhere)


SAME = {
    "other weights": residual(seed=1),
    "a size in the same range": residual(columns=14, seed=2),
    "inside another model": residual(around=2, seed=3),
    "several times": residual(blocks=3, seed=4),
}


@pytest.mark.parametrize("model", SAME.values(), ids=SAME.keys())
def test_it_is_not_died_of_again(model: Model, ours: Driver, deaths: list[int]) -> None:
    compiled(residual())
    deaths.clear()
    session = compiled(model)
    assert not deaths
    assert crashing.NAME in session.plan.devices
    assert any("denied: it died of SIGABRT" in f.reason for f in session.fallbacks)


def test_another_size_is_tried_apart_and_not_denied_unseen(ours: Driver, deaths: list[int]) -> None:
    compiled(residual())
    deaths.clear()
    assert compiled(residual(crashing.SMALL * 2)).plan.devices == (crashing.NAME,)
    assert not deaths
    assert crashing.NAME in compiled(residual(crashing.SMALL)).plan.devices
    assert deaths and len(show_denied()) == 2


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[Model]:
    """The models that were tried in a process of their own."""
    found: list[Model] = []
    run = Isolated.run

    def noted(self: Isolated, model: Model, *rest: object) -> object:
        found.append(model)
        return run(self, model, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Isolated, "run", noted)
    return found


NEW = {
    "as it was": (residual(), 1, False),
    "other weights": (residual(seed=1), 1, False),
    "another size": (residual(17), 1, True),
    "other rows": (residual(rows=3), 1, True),
    "more of the same": (residual(blocks=2), 1, True),
    "more threads": (residual(), 2, True),
}


@pytest.mark.parametrize(("model", "threads", "is_new"), NEW.values(), ids=NEW.keys())
def test_what_runs_apart_first(
    model: Model, threads: int, is_new: bool, ours: Driver, trials: list[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(crashing.VARIABLE, "")
    compiled(residual())
    assert len(trials) == 1
    compiled(model, num_threads=threads)
    assert (len(trials) > 1) == is_new


def test_an_engine_that_was_right_is_not_trusted_with_another_structure(ours: Driver, deaths: list[int]) -> None:
    assert compiled(chain("ADD", size=16)).plan.devices == (crashing.NAME,)
    compiled(residual())
    assert deaths


def test_tuning_runs_nothing_here_that_was_not_survived(ours: Driver, deaths: list[int]) -> None:
    compiled(residual(), devices=f"{crashing.NAME},litert", tune=True)
    assert deaths


def test_structures_leave_out_weights_only() -> None:
    assert structure(residual(seed=1)) == structure(residual(seed=2))
    different = [residual(), residual(8), residual(rows=2), residual(blocks=2), residual(around=1), chain("ADD")]
    assert len({structure(model) for model in different} | {structure(residual(), 2)}) == len(different) + 1


STARVED = {
    "threads": RuntimeError("can't start new thread"),
    "memory": MemoryError("Unable to allocate 3.00 GiB"),
    "an engine's memory": RuntimeError("std::bad_alloc"),
}


@pytest.mark.parametrize("error", STARVED.values(), ids=STARVED.keys())
@pytest.mark.parametrize("is_apart", [True, False], ids=["apart", "here"])
def test_a_machine_that_is_short_of_something_blames_no_engine(
    is_apart: bool, error: Exception, third_party: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nnapi.drivers.reference import PreparedReference
    from nnapi.partitioning import gate

    clear_profile()
    model = chain("ADD", "SUB", size=8)

    def fail(*arguments: object) -> None:
        raise Starved(str(error)) if is_apart else error

    with monkeypatch.context() as patch:
        if is_apart:
            patch.setattr(Isolated, "run", fail)
        else:
            patch.setattr(gate, "can_be_isolated", lambda driver: False)
            patch.setattr(PreparedReference, "run", fail)
            patch.setattr(gate, "execute", execute)
        session = nnapi.compile(model, devices=crashing.NAME)
    assert session.plan.devices == ("reference",)
    assert "cannot be tried now" in session.fallbacks[0].reason and str(error) in session.fallbacks[0].reason
    assert not show_denied()
    assert nnapi.compile(model, devices=crashing.NAME).plan.devices == (crashing.NAME,)


BENCHMARK = Path(__file__).parent.parent.parent / "benchmarks" / "trust.py"


def test_random_structures_do_not_end_a_process() -> None:
    """A short run of the benchmark."""
    command = [sys.executable, str(BENCHMARK), "--models", "16", "--devices", "openvino,litert,onnxruntime", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    found = json.loads(done.stdout)
    assert all(row["on the engine"] >= 15 for row in found["engines"].values())


def test_what_openvino_dies_of(deaths: list[int]) -> None:
    """z = x + y; z + b(relu(a(z))): neither the first such network nor another of other weights ends this process."""
    pytest.importorskip("openvino")
    clear_profile()
    session = compiled(residual(), devices="openvino")
    assert set(session.plan.devices) == {"openvino", "reference"}
    assert deaths
    deaths.clear()
    for model in (residual(seed=1), residual(columns=12, around=1, seed=2), residual(blocks=2, seed=3)):
        session = compiled(model, devices="openvino")
        assert any("died of SIGSEGV" in f.reason for f in session.fallbacks)
    assert not deaths
    assert compiled(residual(256), devices="openvino").plan.devices == ("openvino",)


def open_rows() -> Model:
    """`residual`, of any number of rows."""
    model = residual(seed=9)
    operands = [
        replace(o, dimensions=(0, *o.dimensions[1:])) if o.value is None and len(o.dimensions) == 2 else o
        for o in model.operands
    ]
    return replace(model, operands=tuple(operands))


def test_what_is_compiled_for_other_shapes_later_runs_apart_first(
    ours: Driver, deaths: list[int], trials: list[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(crashing.VARIABLE, "")
    model = open_rows()
    session = nnapi.compile(model, devices=crashing.NAME)
    assert session.plan.devices == (crashing.NAME,)
    count = len(trials)
    inputs = [np.ones((1, 16), np.float32)] * 2
    session(*inputs)  # as the samples were
    assert len(trials) == count
    monkeypatch.setenv(crashing.VARIABLE, "aborts")
    inputs = [np.ones((5, 16), np.float32)] * 2
    np.testing.assert_allclose(session(*inputs)[0], execute(model, inputs)[0], rtol=1e-4)
    assert deaths
    count = len(trials)
    session(*inputs)
    assert len(trials) == count


def test_a_device_that_is_named_in_the_c_library_is_tried_apart_too(ours: Driver, deaths: list[int]) -> None:
    with pytest.raises(ResultError, match="died of SIGABRT"):
        compile_model(residual(), Target((ours,), is_named=True), Deadline.after(None))
    assert deaths


def test_extensions_only_one_engine_knows_start_a_process_once(trials: list[Model]) -> None:
    """The reference cannot check them, so nothing is ever compared; that they were survived is enough."""
    clear_profile()
    for count in (1, 0, 0):
        trials.clear()

        class Special(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.special.digamma(x) + torch.special.bessel_j0(x)

        module = Special().eval()
        session = nnapi.compile(nnapi.load(module, (torch.ones(2, 4),)), devices="pytorch")
        assert "pytorch" in session.plan.devices and session.plan.unchecked
        assert bool(trials) == bool(count)
