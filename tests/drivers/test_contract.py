"""The driver contract: every driver computes what the reference computes, on every operation it accepts."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from nnapi.conformance.generate import Generated, generate
from nnapi.drivers import registry
from nnapi.drivers.driver import Accept, Driver, Prepared, PrepareOptions, Reject
from nnapi.drivers.reference import execute
from nnapi.errors import DeviceUnavailable, ExecutionError, ModelError
from nnapi.ir.model import Model
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import B8, F16, F32, I32, Array, Operand
from nnapi.passes.layout import to_layout

SEEDS = range(8)
RANDOM = {"RANDOM_MULTINOMIAL"}
"""Two draws need not agree."""
TOLERANCES = {
    F32: (2e-5, 2e-5, "other summation order, other approximations of exp and tanh"),
    F16: (5e-3, 5e-3, "five units in the last place of float16"),
    I32: (1, 0, "division and casts may round another way"),
    B8: (0, 0, "comparisons are exact"),
}
"""Type -> (absolute, relative to the largest value of the tensor, why)."""
QUANTIZED = (1, 0, "a requantization may round another way")


def drivers() -> list[Driver]:
    found = []
    for name in registry.names():
        try:
            found.append(registry.get(name))
        except DeviceUnavailable:
            continue
    return [d for d in found if d.name not in ("null", "pytorch_compiled")]  # the latter: tests/drivers/test_pytorch.py


DRIVERS = drivers()


@cache
def uses(operation: str) -> list[Generated]:
    """Random uses of one operation, for every driver the same."""
    found = []
    for seed in SEEDS:
        try:
            found.append(generate(seed, length=1, operations=[operation]))
        except ModelError:
            continue
    return found


def close(operand: Operand, actual: Array, expected: Array) -> bool:
    """Whether both are the same within the type's tolerance; NaN equals NaN."""
    absolute, relative, _ = TOLERANCES.get(operand.type, QUANTIZED)
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.abs(expected[np.isfinite(expected)])
    limit = absolute + relative * (float(finite.max()) if finite.size else 0.0)
    with np.errstate(invalid="ignore"):
        good = (np.abs(actual - expected) <= limit) | (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    return bool(good.all())


def check(driver: Driver, sample: Generated) -> bool:
    """Whether the driver took the model; if so, it computed what the reference does."""
    model = sample.model if driver.layout is None else to_layout(sample.model, driver.layout)
    if not all(isinstance(v, Accept) for v in driver.supported(model)):
        return False
    actual = driver.prepare(model, PrepareOptions()).run(list(sample.inputs))
    for operand, a, e in zip(model.output_operands, actual, execute(model, list(sample.inputs)), strict=True):
        assert a.dtype == e.dtype
        assert a.shape == e.shape
        assert close(operand, a, e), f"{model.operations[0].type}: {a} for {e}"
    return True


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda d: d.name)
@pytest.mark.parametrize("operation", sorted(OPERATIONS.keys() - RANDOM))
def test_what_a_driver_accepts_it_computes(driver: Driver, operation: str) -> None:
    if not sum(check(driver, sample) for sample in uses(operation)):
        pytest.skip(f"{driver.name} takes none of these uses of {operation}")


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda d: d.name)
def test_longer_models(driver: Driver) -> None:
    names = sorted(OPERATIONS.keys() - RANDOM)
    for seed in range(20):
        check(driver, generate(seed, length=4, operations=names))


def one(operation: str = "ADD") -> Generated:
    return generate(1, length=1, operations=[operation])


@pytest.mark.parametrize("driver", [*DRIVERS, registry.get("null")], ids=lambda d: d.name)
def test_members(driver: Driver) -> None:
    assert isinstance(driver, Driver)
    assert driver.name in registry.names()
    assert 1 <= driver.feature_level <= 8
    assert driver.version
    estimate = driver.estimate(one().model)
    assert estimate.seconds >= 0
    assert estimate.source in ("measured", "modelled")


def prepared(driver: Driver) -> tuple[Model, Prepared, list[Array]]:
    """A model that the driver takes, ready to run."""
    for seed in range(50):
        sample = generate(seed, length=1, operations=["ADD", "MUL"])
        if all(isinstance(v, Accept) for v in driver.supported(sample.model)):
            return sample.model, driver.prepare(sample.model, PrepareOptions()), list(sample.inputs)
    raise AssertionError(f"{driver.name} takes neither ADD nor MUL")


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda d: d.name)
def test_outputs_may_be_given_and_belong_to_the_caller(driver: Driver) -> None:
    model, ready, inputs = prepared(driver)
    first = ready.run(inputs)
    kept = [a.copy() for a in first]
    given = [np.empty_like(a) for a in first]
    results = ready.run(inputs, given)
    for result, array, before in zip(results, given, kept, strict=True):
        np.testing.assert_array_equal(array, before)
        np.testing.assert_array_equal(result, before)
    ready.run([np.zeros_like(x) for x in inputs])
    for array, before in zip(first, kept, strict=True):
        np.testing.assert_array_equal(array, before)
    assert len(first) == len(model.outputs)


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda d: d.name)
def test_wrong_inputs_are_typed_errors(driver: Driver) -> None:
    _, ready, inputs = prepared(driver)
    if not inputs:
        pytest.skip("a model without inputs")
    with pytest.raises(ExecutionError):
        ready.run([np.zeros((*x.shape, 3), x.dtype) for x in inputs])


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda d: d.name)
def test_refusals_have_reasons(driver: Driver) -> None:
    for operation in sorted(OPERATIONS):
        try:
            sample = generate(3, length=1, operations=[operation])
        except ModelError:
            continue
        for verdict in driver.supported(sample.model):
            assert isinstance(verdict, Accept) or (isinstance(verdict, Reject) and len(verdict.reason) > 10)
