"""NaN on its way through engines: what is said to keep it does, and sessions that check lose none."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import nnapi
from nnapi.conformance.generate import Generated, generate
from nnapi.drivers import registry
from nnapi.drivers.driver import Accept, Driver, PrepareOptions
from nnapi.drivers.nan import KEPT, loses_nan
from nnapi.drivers.reference import execute
from nnapi.errors import DeviceUnavailable, ModelError, UsageError
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ops.types import F32, Array
from nnapi.partitioning.candidate import careful
from nnapi.runtime.build import legalize

DRIVERS = [d for d in registry.available() if d.name in KEPT]
SEEDS = range(10)


@cache
def uses(operation: str) -> list[Generated]:
    """Random uses of one operation, of floats that come with the run."""
    found = []
    for seed in SEEDS:
        try:
            sample = generate(seed, length=1, operations=[operation])
        except ModelError:
            continue
        if sample.inputs and sample.model.input_operands[0].type == F32 and sample.inputs[0].size:
            found.append(sample)
    return found


def poisoned(x: Array, share: float) -> Array:
    """`x` with NaN for some values, or for all."""
    x = np.array(x)
    x[np.random.default_rng(0).random(x.shape) < share] = np.nan
    x.reshape(-1)[:1] = np.nan
    return x


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda d: d.name)
def test_what_keeps_nan_gives_it_where_the_reference_does(driver: Driver) -> None:
    seen = set()
    for operation in sorted(KEPT[driver.name].operations):
        for sample in uses(operation):
            model = sample.model
            if loses_nan(driver.name, model, model.operations[0]):
                continue
            model = legalize(model, driver)
            if not all(isinstance(v, Accept) for v in driver.supported(model)):
                continue
            prepared = driver.prepare(model, PrepareOptions())
            for share in (0.3, 1.0):
                inputs = [poisoned(sample.inputs[0], share), *sample.inputs[1:]]
                for actual, expected in zip(prepared.run(inputs), execute(model, inputs), strict=True):
                    kinds = (np.isnan, np.isnan) if expected.dtype.kind == "f" else (np.asarray, np.asarray)
                    np.testing.assert_array_equal(kinds[0](actual), kinds[1](expected), operation)
            seen.add(operation)
    assert len(seen) > 10


def layers(*operations: tuple[str, dict[str, Any]]) -> Model:
    """Operations of an image, one after the other."""
    b = Builder("layers")
    y: Ref = b.input("x", F32, (1, 8, 8, 3))
    for type, given in operations:
        first = "input0" if "input1" in given else "input"
        y = b.add(type, {first: y, **given})
    b.output(y)
    return b.finish()


FILTER = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
STEP = {"padding": 1, "stride_width": 1, "stride_height": 1}
POOL = {**STEP, "filter_width": 2, "filter_height": 2, "activation": 0}
CONV = {**STEP, "filter": FILTER, "bias": np.zeros(4, np.float32)}
MODELS = {
    "clamped convolution": layers(("CONV_2D", {**CONV, "activation": 3})),
    "RELU": layers(("RELU", {})),
    "clamp": layers(("ADD", {"input1": np.float32([1]), "activation": 2}), ("RELU6", {})),
    "max pool": layers(("CONV_2D", {**CONV, "activation": 1}), ("MAX_POOL_2D", POOL)),
    "average pool": layers(("AVERAGE_POOL_2D", POOL), ("TANH", {})),
    "maximum": layers(("MAXIMUM", {"input1": np.float32([0.5])})),
    "largest": layers(("REDUCE_MAX", {"axes": [1, 2], "keep_dims": False})),
    "place of the largest": layers(("ARGMAX", {"axis": 3})),
    "exponential": layers(("EXP", {}), ("LOGISTIC", {})),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_session_that_checks_loses_none(name: str) -> None:
    session = nnapi.compile(MODELS[name], nan="check")
    for share in (0.1, 1.0):
        x = poisoned(np.random.default_rng(1).standard_normal((1, 8, 8, 3)).astype(np.float32), share)
        (expected,) = execute(MODELS[name], [x])
        np.testing.assert_allclose(session(x)[0], expected, atol=1e-4)  # NaN equals NaN; a sum of 27 in another order


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda d: d.name)
@pytest.mark.parametrize("name", MODELS)
def test_an_engine_that_is_asked_to_check_loses_none(driver: Driver, name: str) -> None:
    model = legalize(MODELS[name], driver)
    if not all(isinstance(v, Accept) for v in driver.supported(model)):
        pytest.skip(f"{driver.name} does not take it, checked or not")
    if not all(isinstance(v, Accept) for v in careful(driver).supported(model)):
        assert any("may lose NaN on " in getattr(v, "reason", "") for v in careful(driver).supported(model))
        return
    x = poisoned(np.random.default_rng(1).standard_normal((1, 8, 8, 3)).astype(np.float32), 0.1)
    (actual,), (expected,) = driver.prepare(model, PrepareOptions()).run([x]), execute(model, [x])
    np.testing.assert_allclose(actual, expected, atol=1e-4)  # a sum of 27 in another order


def test_what_is_declined_says_so() -> None:
    session = nnapi.compile(MODELS["max pool"], devices=[DRIVERS[0]], nan="check")
    assert any("may lose NaN on " in fallback.reason for fallback in session.fallbacks)
    with pytest.raises(UsageError, match="nan is 'maybe', must be ignore or check"):
        nnapi.compile(MODELS["RELU"], nan="maybe")  # type: ignore[arg-type]


def test_an_engine_that_nobody_tried_gets_nothing() -> None:
    try:
        registry.get("fake")
    except DeviceUnavailable:
        pytest.skip("there is no fake")
    model = MODELS["RELU"]
    assert loses_nan("fake", model, model.operations[0]) == "whether NaN passes through fake is not known"
