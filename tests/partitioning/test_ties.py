"""An engine that picks others among equals is not to blame, nor what is computed from its choice; a wrong one is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from nnapi.drivers import reference as reference_module
from nnapi.drivers.driver import PrepareOptions
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import PreparedReference, execute
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ops import search
from nnapi.ops.op import Call
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import F32, Q8, Array, Operand
from nnapi.partitioning.assign import assign
from nnapi.partitioning.database import Database
from nnapi.partitioning.deny import DenyList, denied
from nnapi.partitioning.gate import Gate
from nnapi.partitioning.ties import PICKS
from nnapi.runtime.session import build_session

SAMPLE = np.random.default_rng(0).integers(-3, 4, (1, 40)).astype(np.float32)
"""Few values, often."""


def topk(b: Builder, x: Ref, k: int = 6) -> tuple[Ref, ...]:
    return b.add_many("TOPK_V2", {"input": x, "k": k})


def model_of(end: Callable[[Builder, Ref], Sequence[Ref]]) -> Model:
    b = Builder("ties")
    x = b.input("x", F32, (1, 40))
    b.output(*end(b, b.add("ABS", {"input": x})))
    return b.finish()


def queries(b: Builder, x: Ref) -> list[Ref]:
    """As a detector does: the best of all places, what is there, and more arithmetic."""
    values, indices = topk(b, x)
    places = b.constant(np.random.default_rng(1).standard_normal((40, 8)).astype(np.float32))
    rows = b.add("RESHAPE", {"input": indices, "shape": np.array([6], np.int32)})
    found = b.add("GATHER", {"input": places, "axis": 0, "indices": rows})
    return [values, b.add("MUL", {"input0": found, "input1": found, "activation": 0})]


def twice(b: Builder, x: Ref) -> list[Ref]:
    """The choice among those that were chosen."""
    values, indices = topk(b, x, 20)
    _, again = topk(b, b.add("FLOOR", {"input": values}), 5)
    return [again, indices]


def stored(b: Builder, x: Ref) -> list[Ref]:
    return list(topk(b, b.add("QUANTIZE", {"input": x}, Operand(Q8, (1, 40), 1.0, 3))))


ENDS: dict[str, Callable[[Builder, Ref], Sequence[Ref]]] = {
    "values and indices": topk,
    "indices": lambda b, x: topk(b, x)[1:],
    "all, sorted": lambda b, x: topk(b, x, 40),
    "gathered and computed on": queries,
    "twice": twice,
    "integers": stored,
    "ARGMAX": lambda b, x: [b.add("ARGMAX", {"input": x, "axis": 1})],
    "ARGMIN": lambda b, x: [b.add("ARGMIN", {"input": x, "axis": -1})],
    "ARGMAX of rank 1": lambda b, x: [
        b.add("ARGMAX", {"input": b.add("RESHAPE", {"input": x, "shape": np.array([40], np.int32)}), "axis": 0})
    ],
    "ARGMAX, cast and added": lambda b, x: [
        b.add("ADD", {
            "input0": b.add("CAST", {"input": b.add("ARGMAX", {"input": x, "axis": 1})}, Operand(F32, (1,))),
            "input1": x, "activation": 0,
        })
    ],
}  # fmt: skip


@dataclass
class Picking(FakeDriver):
    """A device whose choice among equals is another; or that is wrong."""

    name: str = "picking"
    offset: int = 0
    default_cost: float | None = 1e-9
    launch_cost: float = 1e-9

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedReference:  # type: ignore[override]
        return _Picking(model, offset=self.offset)


@dataclass(frozen=True)
class _Picking(PreparedReference):
    offset: int = 0

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        with pytest.MonkeyPatch.context() as patch:
            own = {op.name: replace(op, reference=self._picks(op.name)) for op in search.OPERATIONS}
            patch.setattr(reference_module, "OPERATIONS", {**OPERATIONS, **own})
            return super().run(inputs, outputs)

    def _picks(self, name: str) -> Callable[[Call], Sequence[Array]]:
        def reference(call: Call) -> Sequence[Array]:
            x = call.array("input")
            if name == "TOPK_V2":  # the first among equals, where the reference takes the last
                order = np.argsort(-x.astype(np.float64), axis=-1, kind="stable")
                indices = np.roll(order, self.offset, -1)[..., : call.scalar("k")]
                return [np.take_along_axis(x, indices, -1), indices.astype(np.int32)]
            axis = call.scalar("axis")
            is_largest = (name == "ARGMAX") != bool(self.offset)
            best = (np.max if is_largest else np.min)(x, axis=axis, keepdims=True)
            last = x.shape[axis] - 1 - np.argmax(np.flip(x == best, axis), axis=axis)
            return [np.atleast_1d(last).astype(np.int32)]

        return reference


def placed(model: Model, driver: FakeDriver) -> tuple[tuple[str, ...], list[dict[str, object]]]:
    database = Database()
    gate = Gate([SAMPLE], DenyList(database))
    plan = assign(model, [driver], denied=gate.denied)
    session = build_session(plan, {driver.name: driver}, PrepareOptions(), fallback=True, gate=gate)
    return session.plan.devices, denied(database)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_another_order_of_equals_is_no_error(end: Callable[[Builder, Ref], Sequence[Ref]]) -> None:
    model, driver = model_of(end), Picking()
    theirs = driver.prepare(model, PrepareOptions()).run([SAMPLE])
    assert any((a != b).any() for a, b in zip(theirs, execute(model, [SAMPLE]))), "no tie here"
    assert placed(model, driver) == (("picking",), [])


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_smaller_ones_are_an_error(end: Callable[[Builder, Ref], Sequence[Ref]]) -> None:
    if end is ENDS["all, sorted"]:
        pytest.skip("all are picked")
    devices, rows = placed(model_of(end), Picking(offset=11))
    assert "reference" in devices
    assert {row["operation"] for row in rows} <= PICKS and rows


def test_what_picks_is_the_table_s() -> None:
    assert {"ARGMAX", "ARGMIN", "TOPK_V2"} == PICKS
