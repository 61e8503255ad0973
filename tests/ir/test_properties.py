"""Properties of models: a valid one runs and survives being written; a broken one is refused, and nothing worse."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnapi.conformance.generate import generate
from nnapi.conformance.mutate import mutate
from nnapi.drivers.driver import PrepareOptions
from nnapi.drivers.reference import ReferenceDriver, execute
from nnapi.errors import ExecutionError, MissedDeadline, ModelError
from nnapi.ir.builder import Builder
from nnapi.ir.file import load, save
from nnapi.ir.model import Model
from nnapi.ir.text import long_constants, parse_model, print_model
from nnapi.ir.verify import MAX_DEPTH, levels, verify
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import F32, FLOAT32, I32, Array, Operand

SEEDS = st.integers(0, 2**32 - 1)
MEMORY = 2 * 2**30
"""Bytes that one broken model may take on top of what the process has."""
SECONDS = 10.0


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_generated(name: str) -> None:
    model = generate(0, length=1, operations=[name]).model
    assert [o.type for o in model.operations] == [name]


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS, length=st.integers(1, 8))
def test_a_generated_model_gives_what_its_operations_gave_one_by_one(seed: int, length: int) -> None:
    case = generate(seed, length=length)
    for operand, actual, expected in zip(case.model.output_operands, execute(case.model, case.inputs), case.outputs):
        assert actual.dtype == operand.type.dtype
        assert same_bytes(actual, expected)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, length=st.integers(1, 8))
def test_text_and_file_keep_a_model(tmp_path_factory: pytest.TempPathFactory, seed: int, length: int) -> None:
    case = generate(seed, length=length)
    path = tmp_path_factory.getbasetemp() / "model.nnapi"
    save(case.model, path)
    text = print_model(case.model)
    for again in (parse_model(text, long_constants(case.model)), load(path)):
        assert print_model(again) == text
        assert all(map(same_bytes, execute(again, case.inputs), case.outputs))


@settings(max_examples=300, deadline=None)
@given(seed=SEEDS, length=st.integers(1, 4), mutation=SEEDS, changes=st.integers(1, 3))
def test_a_broken_model_is_refused_or_runs(seed: int, length: int, mutation: int, changes: int) -> None:
    case = generate(seed, length=length)
    model = mutate(case.model, mutation, changes=changes)
    with limits():
        try:
            verify(model)
        except ModelError:
            return
        for inputs in (case.inputs, fitting(model, mutation)):
            run(model, inputs)


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1], ids=["as deep as allowed", "deeper"])
def test_bodies_that_everything_refers_to_are_verified_in_a_moment(depth: int) -> None:
    b = Builder()
    b.output(b.add("ABS", {"input": b.input("x", F32, (1,))}))
    model = b.finish()
    for _ in range(depth):
        b = Builder()
        x, flag = b.input("x", F32, (1,)), b.constant(np.array([True]))
        inputs = {"condition": flag, "then_model": model, "else_model": model, "inputs": [x]}
        b.output(*b.add_many("IF", inputs, [Operand(F32, (1,))]))
        model = b.finish(check=False)
    with limits():
        if depth > MAX_DEPTH:
            with pytest.raises(ModelError, match="nest deeper than 32"):
                verify(model)
        else:
            assert len(levels(model)) == MAX_DEPTH + 1
            np.testing.assert_array_equal(execute(model, [np.float32([-2])]), [[2]])


def test_a_tensor_too_large_for_the_reference_is_refused() -> None:
    b = Builder()
    b.output(b.add("FILL", {"dims": b.input("dims", I32, (1,)), "value": b.scalar(FLOAT32, 1.0)}))
    with limits(), pytest.raises(ExecutionError, match="takes 2147483648 bytes, limit 1073741824"):
        execute(b.finish(), [np.array([2**29], np.int32)])


def run(model: Model, inputs: tuple[Array | None, ...]) -> None:
    """Run a model that may be broken: it may be refused, but not because a kernel stumbled or took too much memory."""
    prepared = ReferenceDriver().prepare(model, PrepareOptions(loop_timeout=0.05))
    try:
        prepared.run(inputs)
    except ExecutionError as error:
        assert error.__cause__ is None or isinstance(error.__cause__, ModelError), repr(error.__cause__)
    except MissedDeadline:
        assert any(o.type == "WHILE" for o in model.operations)


def fitting(model: Model, seed: int) -> tuple[Array | None, ...]:
    """Arrays of the types and dimensions that the model's inputs have now."""
    rng = np.random.default_rng(seed)

    def array(dimensions: tuple[int, ...], dtype: np.dtype) -> Array | None:
        shape = [d if 0 < d < 50 else int(rng.integers(0, 3)) for d in dimensions]
        return None if dtype.kind == "O" else (rng.standard_normal(shape) * 3).astype(dtype)

    with np.errstate(all="ignore"):
        return tuple(array(o.dimensions, o.type.dtype) for o in model.input_operands)


def same_bytes(one: Array, other: Array) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


class Hangs(BaseException):
    """Beyond what anybody catches."""


@contextmanager
def limits() -> Iterator[None]:
    """A block that may neither hang nor take memory without bound."""

    def expire(number: int, frame: FrameType | None) -> None:
        raise Hangs(f"still running after {SECONDS} s")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, expire)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
