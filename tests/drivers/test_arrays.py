"""Arrays as users have them, on every driver: what is right, what is refused, and what is left as it was."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import nnapi
from nnapi.drivers import registry
from nnapi.drivers.driver import Accept, Driver, PrepareOptions
from nnapi.drivers.reference import execute
from nnapi.errors import ExecutionError
from nnapi.ir.model import Model
from nnapi.ops.types import F32, I32, Array, OperandType
from nnapi.runtime.build import legalize

DRIVERS = registry.available()
SIZES = {"small": (2, 3, 4), "large": (2, 100, 200)}
"""Engines copy small arrays, and take large ones where they lie."""


def misaligned(x: Array) -> Array:
    bytes = np.zeros(x.nbytes + 1, np.uint8)
    moved = bytes[1:].view(x.dtype).reshape(x.shape)
    moved[...] = x
    return moved


def read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


def mapped(x: Array) -> Array:
    with tempfile.NamedTemporaryFile() as file:
        memory = np.memmap(file, x.dtype, "w+", shape=x.shape)
        memory[...] = x
        return memory


KINDS: dict[str, Callable[[Array], Array]] = {
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "little-endian": lambda x: x.astype(x.dtype.newbyteorder("<")),
    "Fortran order": np.asfortranarray,
    "every second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "transposed": lambda x: x.T.copy().T,
    "read-only": read_only,
    "stride 0": lambda x: np.broadcast_to(x[..., :1], x.shape),
    "misaligned": misaligned,
    "memory-mapped": mapped,
}


def doubled(type: OperandType, dims: tuple[int, ...]) -> tuple[Model, Array]:
    b = nnapi.Builder("doubled")
    x = b.input("x", type, dims)
    b.output(b.add("ADD", {"input0": x, "input1": x, "activation": 0}))
    return b.finish(), (np.random.default_rng(0).standard_normal(dims) * 100).astype(type.dtype)


def takes(driver: Driver, model: Model) -> bool:
    return all(isinstance(v, Accept) for v in driver.supported(model))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("type", [F32, I32], ids=lambda t: t.name)
@pytest.mark.parametrize("driver", DRIVERS, ids=lambda d: d.name)
def test_an_array_of_any_kind_is_right_and_left_alone(driver: Driver, type: OperandType, size: str) -> None:
    model, x = doubled(type, SIZES[size])
    if not takes(driver, model):
        pytest.skip(f"{driver.name} does not add {type.name}")
    prepared = driver.prepare(model, PrepareOptions())
    session = nnapi.compile(model, devices=[driver], fallback=False)
    for kind, make in KINDS.items():
        given = make(x)
        expected = 2 * given.astype(x.dtype)
        np.testing.assert_array_equal(session(given)[0], expected, kind)
        if given.dtype.isnative:
            np.testing.assert_array_equal(prepared.run([given])[0], expected, kind)
        else:
            with pytest.raises(ExecutionError, match=rf"is {given.dtype.str}, must be {x.dtype}"):
                prepared.run([given])
        np.testing.assert_array_equal(given, make(x), kind)


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda d: d.name)
def test_what_was_refused_leaves_no_trace(driver: Driver) -> None:
    model, x = doubled(F32, (2, 3, 4))
    prepared = driver.prepare(model, PrepareOptions())
    for wrong in (x.astype(">f4"), x.astype(np.float64), x[:1], x[..., None], [1.0], None):
        with pytest.raises(ExecutionError):
            prepared.run([wrong])  # type: ignore[list-item]
        np.testing.assert_array_equal(prepared.run([x])[0], 2 * x)


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda d: d.name)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda y: [], "0 output arrays given, the model has 1", id="too few"),
        pytest.param(lambda y: [y, y], "2 output arrays given, the model has 1", id="too many"),
        pytest.param(lambda y: [y.astype(">f4")], "is >f4 ", id="big-endian"),
        pytest.param(lambda y: [y[:1].copy()], "must be float32 ", id="too small"),
        pytest.param(lambda y: [read_only(y)], "is read-only", id="read-only"),
    ],
)
def test_output_arrays_that_do_not_do(driver: Driver, make: Callable[[Array], list[Array]], message: str) -> None:
    model, x = doubled(F32, (2, 3, 4))
    with pytest.raises(ExecutionError, match=message):
        driver.prepare(model, PrepareOptions()).run([x], make(x))


def joined(dims: tuple[int, ...]) -> Model:
    b = nnapi.Builder("joined")
    x = b.input("x", F32, dims)
    b.output(b.add("CONCATENATION", {"inputs": [x, x], "axis": 0}))
    return b.finish()


def pooled(dims: tuple[int, ...]) -> Model:
    b = nnapi.Builder("pooled")
    given = {"input": b.input("x", F32, dims), "padding": 2, "stride_width": 1, "stride_height": 1}
    b.output(b.add("AVERAGE_POOL_2D", given | {"filter_width": 2, "filter_height": 2, "activation": 0}))
    return b.finish()


@pytest.mark.parametrize("width", [8, 200], ids=["small", "large"])
@pytest.mark.parametrize("write", [joined, pooled])
@pytest.mark.parametrize("driver", DRIVERS, ids=lambda d: d.name)
def test_an_output_s_dimensions_may_be_left_open(
    driver: Driver, write: Callable[[tuple[int, ...]], Model], width: int
) -> None:
    whole = write((1, 32, width, 4))
    (y,), operands = whole.outputs, list(whole.operands)
    operands[y] = replace(operands[y], dimensions=(0, 0, 0, 0))
    model = legalize(replace(whole, operands=tuple(operands)), driver)
    x = np.random.default_rng(0).standard_normal((1, 32, width, 4)).astype(np.float32)
    if not takes(driver, model):
        pytest.skip(f"{driver.name} wants to know every dimension")
    (actual,) = driver.prepare(model, PrepareOptions()).run([x])
    np.testing.assert_allclose(actual, execute(whole, [x])[0], atol=1e-6)  # a mean of four in another order
