"""Trials of an engine: prepare a model and run it once, in this process or in one of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

from nnapi.drivers.driver import Driver, Prepared, PrepareOptions
from nnapi.errors import CompileError, ExecutionError, MissedDeadline
from nnapi.ir.model import Model
from nnapi.ops.types import Array
from nnapi.partitioning.deadline import within
from nnapi.partitioning.isolated import Isolated, counted


@dataclass(frozen=True)
class Problem:
    """The fault of a placement: it computes something else, fails, or is lost (dies, or does not return).

    A machine that was starved of memory or threads says nothing about it.
    """

    reason: str
    kind: Literal["inaccurate", "fails", "dies", "hangs", "starved"]


class Built(Protocol):
    """A prepared partition, whatever else is known of it."""

    @property
    def prepared(self) -> Prepared: ...


T = TypeVar("T")
B = TypeVar("B", bound=Built)
B_co = TypeVar("B_co", bound=Built, covariant=True)
Legalize = Callable[[Model, Driver], Model]
"""A part of a model in the form a device wants."""


class Trial(Protocol[B_co]):
    """Where a partition is tried, and parts of it."""

    @property
    def built(self) -> B_co | None:
        """The partition, where trying it prepared it in this process."""
        ...

    def run(self, model: Model, inputs: Sequence[Array] | None, seconds: float) -> list[Array]:
        """Prepare and run once, each within so many seconds; without inputs only prepare.

        Raises CompileError, ExecutionError, MissedDeadline, and DeadObject where a process dies.
        """
        ...

    def can_bisect(self, problem: Problem) -> bool:
        """Whether parts may be tried, after the whole went wrong."""
        ...


@dataclass
class Here(Generic[B]):
    """In this process; `build` prepares `whole`, which is kept."""

    driver: Driver
    options: PrepareOptions
    legalize: Legalize
    whole: Model
    build: Callable[[], B]
    built: B | None = None

    def run(self, model: Model, inputs: Sequence[Array] | None, seconds: float) -> list[Array]:
        what = counted(model)
        prepared = within(seconds, f"preparing {what}", lambda: self._prepare(model))
        if inputs is None:
            return []
        try:
            return within(seconds, f"running {what}", lambda: list(prepared.run(inputs)))
        except (ExecutionError, MissedDeadline):
            raise
        except Exception as error:  # whatever an engine raises: it does not compute this
            raise ExecutionError(f"{type(error).__name__}: {error}") from error

    def can_bisect(self, problem: Problem) -> bool:
        """What does not return keeps a thread: it is not called again."""
        return problem.kind != "hangs"

    def _prepare(self, model: Model) -> Prepared:
        if model is not self.whole:
            return _translated(lambda: self.driver.prepare(self.legalize(model, self.driver), self.options))
        self.built = self.build()
        return self.built.prepared


@dataclass
class Apart(Generic[B]):
    """In a process of its own."""

    driver: Driver
    options: PrepareOptions
    legalize: Legalize
    process: Isolated
    built: None = field(default=None, init=False)

    def run(self, model: Model, inputs: Sequence[Array] | None, seconds: float) -> list[Array]:
        legal = _translated(lambda: self.legalize(model, self.driver))
        return self.process.run(legal, inputs, self.options, seconds)

    def can_bisect(self, problem: Problem) -> bool:
        """An engine that does not even load is no operation's fault."""
        return self.process.has_loaded


def _translated(function: Callable[[], T]) -> T:
    """What `function` returns; CompileError for whatever it raises."""
    try:
        return function()
    except CompileError:
        raise
    except Exception as error:
        raise CompileError(f"{type(error).__name__}: {error}") from error
