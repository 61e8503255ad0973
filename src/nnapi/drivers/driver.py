"""The driver protocol: what an engine must say and do to be a device.

A third party registers a class under the entry-point group `nnapi.drivers`; the contract test compares every driver
with `reference` on every operation it accepts.
"""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, runtime_checkable

from nnapi.errors import MissedDeadline, UsageError
from nnapi.ir.model import Model
from nnapi.ir.verdict import ACCEPT as ACCEPT
from nnapi.ir.verdict import Accept as Accept
from nnapi.ir.verdict import Reject as Reject
from nnapi.ir.verdict import Verdict as Verdict
from nnapi.ops.types import Array, Operand


class DeviceType(enum.IntEnum):
    """NNAPI's DeviceTypeCode."""

    UNKNOWN = 0
    OTHER = 1
    CPU = 2
    GPU = 3
    ACCELERATOR = 4


Precision = Literal["fp32", "relaxed"]
Preference = Literal["low_power", "fast_single_answer", "sustained_speed"]
Layout = Literal["nhwc", "nchw"]
Nan = Literal["ignore", "check"]
"""Whether NaN may be lost on the way, or only goes where the reference has it (`nnapi.drivers.nan`)."""
LOOP_TIMEOUT: Final = 2.0
"""Seconds a WHILE may run unless told otherwise (NNAPI's default)."""
THREADS_PER_CORE: Final = 4
"""Threads that an engine may be asked for, times the cores there are: of far more, engines die."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one execution of a model costs on a device."""

    seconds: float
    joules: float
    source: Literal["measured", "modelled"]


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How a model is to be prepared."""

    precision: Precision = "fp32"
    num_threads: int = 1
    preference: Preference = "fast_single_answer"
    cache_dir: Path | None = None
    loop_timeout: float = LOOP_TIMEOUT
    """Seconds a WHILE may run."""
    nan: Nan = "ignore"

    def __post_init__(self) -> None:
        """Raises UsageError for a number of threads that no engine is given."""
        count, cores = self.num_threads, _cores()
        most = THREADS_PER_CORE * cores
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= most:
            raise UsageError(
                f"num_threads is {count!r}, must be an integer from 1 to {most}",
                hint=f"{THREADS_PER_CORE} threads for each core that this process may use, of which there are {cores}",
            )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time (seconds of time.monotonic) after which work stops.

    >>> Deadline.after(None).check("anything")
    """

    at: float | None = None

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        return cls(None if seconds is None else time.monotonic() + seconds)

    def check(self, what: str) -> None:
        """Raise MissedDeadline, naming `what` was running, if the time is over."""
        if self.at is not None and time.monotonic() > self.at:
            raise MissedDeadline(f"{what} did not finish within its deadline")


NO_DEADLINE = Deadline()


class Prepared(Protocol):
    """A model ready to run on one device.

    One that has `checks_inputs`, and it is True, refuses an input of another type or shape with an ExecutionError even
    where it could be converted: nobody needs to look at them before.
    """

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        """One array per model output, in order; an input of None is an omitted optional one.

        Written into `outputs` where given and possible. An array that comes back belongs to the caller. Raises
        ExecutionError for inputs the model does not take and failures of the engine.
        """
        ...


@runtime_checkable
class Driver(Protocol):
    """One device.

    An engine with operations of its own also has `extensions`: extension -> the names of its operations, which come to
    it as `extension/name`. One that takes its time to prepare a model says so in `prepare_seconds`; one that makes use
    of 16-bit floats in `precisions`, which holds "relaxed".
    """

    name: str
    device_type: DeviceType
    feature_level: int
    version: str
    layout: Layout | None
    """The layout the engine prefers; its partitions come in it. None: either."""

    def supported(self, model: Model) -> Sequence[Verdict]:
        """One verdict per operation of `model`, in order."""
        ...

    def estimate(self, model: Model) -> Estimate:
        """What one execution of `model`, all of whose operations the driver takes, costs."""
        ...

    def prepare(self, model: Model, options: PrepareOptions) -> Prepared:
        """`model` ready to run; CompileError where the engine fails."""
        ...


@runtime_checkable
class Interruptible(Protocol):
    """What a prepared model may have besides `run`: it stops by itself when its time is over.

    Others are stopped only before and after a run.
    """

    def run_until(
        self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None, deadline: Deadline, loop_timeout: float
    ) -> list[Array]:
        """`run`, with `loop_timeout` seconds for every WHILE; MissedDeadline when either time is over."""
        ...


@runtime_checkable
class Portable(Protocol):
    """What a driver may have besides: what it prepared can be written down, and read back faster than made anew."""

    def artifact(self, prepared: Prepared) -> bytes | None:
        """What `prepare` gave, for `restore`; None where it cannot be written down."""
        ...

    def restore(
        self, artifact: bytes, inputs: Sequence[Operand], outputs: Sequence[Operand], options: PrepareOptions
    ) -> Prepared:
        """The prepared model with these inputs and outputs; CompileError where the artifact is not this engine's."""
        ...
