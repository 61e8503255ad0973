"""Calibration looks into a model on an engine; one that a process does not survive is not run here."""

from __future__ import annotations

import numpy as np
import pytest

import crashing
from models import chain
from nnapi.drivers.driver import Driver
from nnapi.drivers.reference import execute
from nnapi.ir.model import Model
from nnapi.pipeline import clear_profile
from nnapi.quantization import expose
from nnapi.quantization.expose import Exposed

X = np.arange(4, dtype=np.float32).reshape(1, 4)


@pytest.fixture
def dying(third_party: Driver, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """The engine of choice, which aborts where there is a MUL."""
    monkeypatch.setattr(expose, "ENGINES", (crashing.NAME, "reference"))
    monkeypatch.setenv(crashing.VARIABLE, "aborts")
    clear_profile()
    return third_party


@pytest.mark.parametrize(
    ("model", "engine"),
    [
        pytest.param(chain("ADD", "SUB"), crashing.NAME, id="survives"),
        pytest.param(chain("ADD", "MUL"), "reference", id="dies"),
    ],
)
def test_what_a_process_does_not_survive_is_not_run_here(
    model: Model, engine: str, dying: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    prepare = type(dying).prepare
    monkeypatch.setattr(
        type(dying), "prepare", lambda *given: used.append(crashing.NAME) or prepare(*given), raising=True
    )
    between = model.operations[0].outputs[0]
    values = dict(Exposed(model, [between, *model.outputs]).run([X]))
    np.testing.assert_array_equal(values[model.outputs[0]], execute(model, [X])[0])
    np.testing.assert_array_equal(values[between], X + X)
    assert used == ([crashing.NAME] if engine == crashing.NAME else [])
