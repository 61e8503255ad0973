"""How a case is judged, on drivers that behave and drivers that do not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnapi.conformance import Case, read_cases, run_case, run_file, run_folder, summarize
from nnapi.conformance.runner import LOOP_TIMEOUT
from nnapi.drivers.driver import ACCEPT, PrepareOptions, Reject, Verdict
from nnapi.drivers.reference import ReferenceDriver
from nnapi.errors import CompileError, ExecutionError, MissedDeadline
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import F32, Array, Operand

RIGHT = np.uint8([130, 133])


class Scripted(ReferenceDriver):
    """A driver that answers as told: with arrays, or an exception."""

    name = "scripted"

    def __init__(self, answer: Any, verdict: Verdict = ACCEPT) -> None:
        self.answer = answer
        self.verdict = verdict

    def supported(self, model: Model) -> list[Verdict]:
        return [self.verdict]

    def prepare(self, model: Model, options: PrepareOptions) -> Scripted:
        self.options = options
        return self

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer]


@pytest.fixture
def case(document: dict[str, Any], write: Callable[[Any], Path]) -> Case:
    return read_cases(write(document))[0]


FAILS = {"expect_failure": True}
LOOPS = {"expect_failure": True, "infinite_loop": True}
ROWS = [
    ("right", {}, RIGHT, ACCEPT, "passed", ""),
    (
        "wrong",
        {},
        RIGHT + np.uint8(2),
        ACCEPT,
        "failed",
        "output 0: 2 of 2 elements out of tolerance, first at (0,): 132",
    ),
    ("declined", {}, RIGHT, Reject("no ADD here"), "declined", "no ADD here"),
    ("refused", {}, ExecutionError("no"), ACCEPT, "failed", "refused: no"),
    ("crash", {}, KeyError("x"), ACCEPT, "failed", "KeyError, must be an NnapiError: 'x'"),
    ("too demanding", {"level": 0}, RIGHT, ACCEPT, "failed", "needs feature level 1, must be accepted at 0"),
    ("level not stated", {"level": None}, RIGHT, ACCEPT, "passed", ""),
    ("fails at run", FAILS, ExecutionError("no"), ACCEPT, "passed", ""),
    ("fails at compile", FAILS, CompileError("no"), ACCEPT, "passed", ""),
    ("ran", FAILS, RIGHT, ACCEPT, "failed", "ran, expected to be refused"),
    ("fails by crash", FAILS, ValueError("x"), ACCEPT, "failed", "ValueError, must be an NnapiError: x"),
    ("declined, not failed", FAILS, RIGHT, Reject("no ADD here"), "declined", "no ADD here"),
    ("loop timed out", LOOPS, MissedDeadline("WHILE"), ACCEPT, "passed", ""),
    ("loop refused", LOOPS, ExecutionError("no"), ACCEPT, "failed", "refused, expected its loop to time out: no"),
]


@pytest.mark.parametrize(
    ("changes", "answer", "verdict", "status", "detail"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS]
)
def test_a_case_is_judged(case: Case, changes, answer, verdict, status, detail) -> None:
    outcome = run_case(replace(case, **changes), Scripted(answer, verdict))
    assert outcome.status == status
    assert detail in outcome.detail if detail else outcome.detail == ""


def test_a_model_that_does_not_verify_is_refused_before_the_driver_sees_it(case: Case) -> None:
    broken = replace(case, model=replace(case.model, outputs=()))
    assert "no outputs" in run_case(broken, Scripted(RIGHT)).detail
    assert run_case(replace(broken, expect_failure=True), Scripted(RIGHT)).status == "passed"


def test_a_loop_without_end_gets_little_time(case: Case) -> None:
    driver = Scripted(MissedDeadline("WHILE"))
    run_case(replace(case, **LOOPS), driver)
    assert driver.options.loop_timeout < 1
    run_case(case, driver)
    assert driver.options == PrepareOptions()


def test_the_reference_ends_a_loop_without_end(case: Case) -> None:
    bodies = {}
    for name, operation, inputs in (("condition", "EQUAL", ("input0", "input1")), ("body", "ABS", ("input",))):
        b = Builder(name)
        x = b.input("x", F32, (1,))
        b.output(b.add(operation, dict.fromkeys(inputs, x)))
        bodies[f"{name}_model"] = b.finish()
    b = Builder("loop")
    b.output(*b.add_many("WHILE", bodies | {"inputs": [b.input("x", F32, (1,))]}, [Operand(F32, (1,))]))
    endless = replace(case, model=b.finish(), inputs=(np.float32([1]),), level=4, **LOOPS)
    started = time.monotonic()
    assert run_case(endless, ReferenceDriver()).status == "passed"
    assert LOOP_TIMEOUT <= time.monotonic() - started < 20 * LOOP_TIMEOUT


def test_coupled_cases_run_twice_and_operations_are_chosen(
    document: dict[str, Any], write: Callable[[Any], Path]
) -> None:
    path = write(document)
    driver = ReferenceDriver()
    assert [o.case for o in run_folder(path.parent, driver)] == ["V1_0/add/add", "V1_0/add/add@signed"]
    assert len(list(run_file(path, driver, operations={"ADD"}))) == 2
    assert list(run_file(path, driver, operations={"MUL"})) == []
    assert all(o.case.endswith("@unspecified") for o in run_file(path, driver, unspecified=True))
    summary = summarize(run_file(path, driver))
    assert summary.to_json() == {
        "totals": {"passed": 2, "failed": 0, "declined": 0},
        "operations": {"ADD": {"passed": 2, "failed": 0, "declined": 0}},
        "failed": [],
        "declined": [],
    }
