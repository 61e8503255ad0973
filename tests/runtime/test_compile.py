"""Compilations and what is known of devices: what lies is found out, what was measured counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

import crashing
from clients import REFERENCE, compiled, computed, device, elementwise, refused
from nnapi.drivers.driver import Driver, Prepared, PrepareOptions
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import PreparedReference
from nnapi.ir.model import Model as IrModel
from nnapi.ops.types import Array
from nnapi.partitioning import gate, trials
from nnapi.partitioning.database import database
from nnapi.partitioning.digest import digest
from nnapi.partitioning.profile import Profile
from nnapi.runtime import Compilation
from nnapi.runtime import compilation as compilation_module

X, Y = np.arange(4, dtype=np.float32), np.full(4, 2, np.float32)


@dataclass
class Lying(FakeDriver):
    """A device that computes something else, or nothing."""

    name: str = "lying"
    by: float = 1.0
    fails: bool = False
    runs: list[int] = field(default_factory=list)

    def prepare(self, model: IrModel, options: PrepareOptions) -> Prepared:
        return _Lying(self, PreparedReference(model))


@dataclass
class _Lying:
    driver: Lying
    inner: PreparedReference

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        self.driver.runs.append(1)
        if self.driver.fails:
            raise RuntimeError("segment 7")
        return self.inner.run([x if x is None else x + np.float32(self.driver.by) for x in inputs], outputs)


def test_among_all_devices_one_that_lies_is_found_before_it_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NNAPI_LOG", "info")
    monkeypatch.setattr(compilation_module, "devices", lambda: [device(Lying()), REFERENCE])
    np.testing.assert_array_equal(computed(compiled(elementwise(), None), [X, Y])[0], X + Y)
    said = capsys.readouterr().err
    assert "ADD kept off lying: ADD: denied: output" in said and "limit 60 dB" in said
    # What is denied is not taken, named or not.
    model = elementwise()
    assert device(Lying()).supported(model) == [False]
    with refused("BAD_DATA", "denied: output"):
        Compilation(model, [device(Lying())]).finish()


def test_a_named_device_is_the_clients_choice() -> None:
    (z,) = computed(compiled(elementwise(), [device(Lying())]), [X, Y])
    assert not np.array_equal(z, X + Y)


def test_what_was_measured_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    boaster, modest = FakeDriver("boaster", default_cost=0.0), FakeDriver("modest", default_cost=1e-3)
    monkeypatch.setattr(compilation_module, "devices", lambda: [device(boaster), device(modest)])
    model = elementwise()
    assert compiled(model, None).require_program().devices == ("boaster",)
    profile = Profile(database())
    for driver, seconds in ((boaster, 1.0), (modest, 1e-6)):
        profile.record(driver, digest(model.ir), seconds, 3)
    try:
        assert compiled(model, None).require_program().devices == ("modest",)
    finally:
        profile.clear()


def test_a_trusted_placement_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Lying(by=0.0)
    monkeypatch.setattr(compilation_module, "devices", lambda: [device(driver), REFERENCE])
    for _ in range(2):
        assert compiled(elementwise(), None).require_program().devices == ("lying",)
    assert len(driver.runs) == 1


def test_where_no_operation_is_to_blame_the_device_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NNAPI_LOG", "info")
    monkeypatch.setattr(trials.Here, "can_bisect", lambda self, problem: False)
    monkeypatch.setattr(compilation_module, "devices", lambda: [device(Lying(fails=True)), REFERENCE])
    for _ in range(2):
        compilation = compiled(elementwise(), None)
        np.testing.assert_array_equal(computed(compilation, [X, Y])[0], X + Y)
        assert "it fails to run: RuntimeError: segment 7" in capsys.readouterr().err


def test_what_is_not_compared_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NNAPI_LOG", "info")
    monkeypatch.setattr(gate, "_obstacle", lambda model, seconds: f"it would take about 9 s, limit {seconds:g} s")
    monkeypatch.setattr(compilation_module, "devices", lambda: [device(FakeDriver()), REFERENCE])
    compiled(elementwise(), None)
    assert "1 operations are not compared with the reference: the reference: it would take about 9 s, limit 2 s" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("how", ["aborts", "reads nothing"])
def test_a_client_survives_an_engine_that_crashes(
    how: str, third_party: Driver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("NNAPI_LOG", "info"), (crashing.VARIABLE, how), (crashing.OPERATION, "ADD")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(compilation_module, "devices", lambda: [device(third_party), REFERENCE])
    np.testing.assert_array_equal(computed(compiled(elementwise(), None), [X, Y])[0], X + Y)
    assert "ADD kept off crashing: ADD: denied: it died of SIG" in capsys.readouterr().err
