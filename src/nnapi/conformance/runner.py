"""Run conformance cases on a driver: each passes, fails or is declined."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nnapi.conformance.compare import first_difference
from nnapi.conformance.reader import Case, case_files, read_cases
from nnapi.conformance.variants import signed, unspecified_outputs
from nnapi.drivers.driver import Driver, PrepareOptions, Reject
from nnapi.errors import MissedDeadline, NnapiError
from nnapi.ir.verify import feature_level

LOOP_TIMEOUT = 0.1
"""Seconds that a case of a loop without end may take."""
Status = Literal["passed", "failed", "declined"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case."""

    case: str
    operations: tuple[str, ...]
    status: Status
    detail: str = ""
    """The first difference, or why the driver declined."""


def run_folder(
    path: Path, driver: Driver, *, operations: Collection[str] = (), unspecified: bool = False
) -> Iterator[Outcome]:
    """The outcomes of every case under a folder, file by file; see `run_file`."""
    for file in case_files(path):
        yield from run_file(file, driver, operations=operations, unspecified=unspecified)


def run_file(
    path: Path, driver: Driver, *, operations: Collection[str] = (), unspecified: bool = False
) -> Iterator[Outcome]:
    """The outcome of every case of a file and of its signed twin; ModelError where the file is not of the format.

    `operations`: only cases that test one of them. `unspecified`: with the outputs' dimensions left unspecified.
    """
    for case in read_cases(path):
        if operations and not set(operations) & set(case.operations):
            continue
        for form in (case, signed(case)) if case.quant_coupling else (case,):
            run = unspecified_outputs(form) if unspecified else form
            if run is not None:
                yield run_case(run, driver)


def run_case(case: Case, driver: Driver) -> Outcome:
    """Verify, prepare and run one case, and compare what comes out."""
    try:
        status, detail = _judge(case, driver)
    except NnapiError as error:
        if case.infinite_loop and not isinstance(error, MissedDeadline):
            status, detail = "failed", f"refused, expected its loop to time out: {error}"
        elif case.expect_failure:
            status, detail = "passed", ""
        else:
            status, detail = "failed", f"refused: {error}"
    except Exception as error:  # a driver may fail in any way; that is a result, not an accident
        status, detail = "failed", f"{type(error).__name__}, must be an NnapiError: {error}"
    return Outcome(case.id, case.operations, status, detail)


def _judge(case: Case, driver: Driver) -> tuple[Status, str]:
    level = feature_level(case.model)
    if case.level is not None and (level is None or level > case.level) and not case.expect_failure:
        return "failed", f"needs feature level {level}, must be accepted at {case.level}"
    for verdict in driver.supported(case.model):
        if isinstance(verdict, Reject):
            return "declined", verdict.reason
    options = PrepareOptions(loop_timeout=LOOP_TIMEOUT) if case.infinite_loop else PrepareOptions()
    outputs = driver.prepare(case.model, options).run(case.inputs)
    if case.expect_failure:
        return "failed", "ran, expected to be refused"
    difference = first_difference(case.expected, outputs, case.rules, case.inputs)
    return ("failed", difference) if difference else ("passed", "")
