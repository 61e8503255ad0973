"""The accuracy gate: a placement is trusted once its outputs were compared with the reference's on sample inputs."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from nnapi.drivers import registry
from nnapi.drivers.driver import Driver, Prepared, Reject
from nnapi.drivers.null import NullDriver
from nnapi.drivers.reference import ReferenceDriver, execute
from nnapi.errors import (
    CompileError,
    DeadObject,
    DeviceUnavailable,
    ExecutionError,
    MissedDeadline,
    NnapiError,
    UsageError,
)
from nnapi.ir.model import Model
from nnapi.ir.specialize import specialize
from nnapi.ir.subgraph import extract
from nnapi.ops.types import Array
from nnapi.partitioning import warm
from nnapi.partitioning.accuracy import difference
from nnapi.partitioning.candidate import precision_of, threads_of
from nnapi.partitioning.culprit import smallest
from nnapi.partitioning.deadline import within
from nnapi.partitioning.deny import DenyList
from nnapi.partitioning.detours import halves
from nnapi.partitioning.digest import digest, structure
from nnapi.partitioning.guard import Guarded
from nnapi.partitioning.isolated import Isolated, Starved, can_be_isolated, engine_of
from nnapi.partitioning.plan import Plan
from nnapi.partitioning.samples import random_inputs
from nnapi.partitioning.ties import difference_but_for_ties, picks
from nnapi.partitioning.trial import is_starved
from nnapi.partitioning.trials import Apart, B, Here, Legalize, Problem, Trial

UNCHECKED: Final = frozenset({ReferenceDriver.name, NullDriver.name})
"""The reference is what others are compared with; the null device does not pretend to compute."""
RUN_SECONDS: Final = 60.0
"""How long an engine may take to prepare a partition, or to run it once on samples."""
REFERENCE_SECONDS: Final = 20.0
"""Seconds that the reference may take on one partition, by its estimate; what is longer goes unchecked."""
PATIENCE: Final = 10.0
"""Factor by which it may take longer in fact: what is checked must not depend on what else the machine does."""
MAX_PARTS: Final = 64
"""Parts of a partition that are tried, to find the operations to blame, before all of it is refused."""
MAX_DEATHS: Final = 60
"""Processes that may die in one compilation in the search for the operations that they die of."""
PROBE_SECONDS: Final = 4.0
"""How long a part may take of a partition that did not return."""


class AccuracyWarning(UserWarning):
    """A placement that fails the accuracy gate is used, because it was asked for."""


@dataclass(frozen=True)
class Refusal:
    """A placement that is not to be used; `operations` (indexes in the plan's model) are to blame, if any are found."""

    problem: Problem
    operations: tuple[int, ...] = ()

    @property
    def is_inaccurate(self) -> bool:
        """Whether it does compute, but something else."""
        return self.problem.kind == "inaccurate"

    def __str__(self) -> str:
        if self.problem.kind == "starved":
            return f"cannot be tried now: {self.problem.reason}"
        gate = "the accuracy gate" if self.is_inaccurate else "its trial"
        return f"fails {gate}: {self.problem.reason}"


@dataclass
class Gate:
    """Checks placements of one model on `samples`, one array per model input.

    What no process of the engine survived yet, whatever its weights, is tried in one of its own.
    """

    samples: Sequence[Array]
    denied: DenyList
    seconds: float = RUN_SECONDS
    reference_seconds: float = REFERENCE_SECONDS
    compares: bool = True
    """Whether outputs are compared with the reference's; without, engines only have to survive."""
    unchecked: dict[tuple[int, ...], str] = field(default_factory=dict)
    """Why partitions, by their operations, could not be compared."""
    deaths: int = MAX_DEATHS
    """Processes that may still die in the search for the culprits of crashes."""
    _processes: dict[str, Isolated] = field(default_factory=dict, repr=False)

    def admit(self, plan: Plan, number: int, driver: Driver, build: Callable[[], B], legalize: Legalize) -> B | Refusal:
        """Partition `number` of `plan` as `build` gives it, where it may run on `driver`; else why it may not.

        `legalize` puts other parts of the model into the form the device wants. Raises CompileError where the device
        fails to prepare the partition.
        """
        partition = plan.partitions[number]
        model = partition.subgraph.model
        if driver.name in UNCHECKED:
            return build()
        if any(o.elements is None for o in model.input_operands):
            build = self._guarding(build, driver, model, legalize)
        options, key, shape = self.denied.options, digest(model, weights=True), self._shape(driver, model)
        if self.denied.trusts(driver, key) and self.denied.survived(driver, shape):
            # A thread to wait for costs more than preparing a small model.
            return build() if engine_of(driver).name in registry.BUILTIN else self._build(driver, build)
        known = self.denied.reason(driver, key) or self.denied.reason(driver, shape)
        if known is not None:
            return Refusal(Problem(known, "fails"))
        process = self._process_for(driver, shape)
        if process is None and not self.compares:
            return build()
        broken = "" if process is None else warm.failure(driver)
        if broken:
            return Refusal(Problem(broken, "dies"))
        inputs, expected = self._reference_of(plan, number) if self.compares else (_random(model), None)
        trial: Trial[B] = (
            Here(driver, options, legalize, model, build)
            if process is None or not process.is_available()
            else Apart(driver, options, legalize, process)
        )
        with self.denied.noted(driver, shape):
            problem = self._problem(driver, trial, model, inputs, expected, self.patience(driver))
            if problem is None or (problem.kind == "inaccurate" and self.denied.accept_inaccurate):
                if problem is not None:
                    message = f"device {driver.name!r} is used although it {Refusal(problem)}"
                    warnings.warn(message, AccuracyWarning, stacklevel=2)
                elif expected is not None:
                    self.denied.trust(driver, key)
                return trial.built or self._build(driver, build)
            if problem.kind == "starved" or (isinstance(trial, Apart) and not trial.process.has_loaded):
                return Refusal(problem)
            values = self._values(plan, number, inputs) if self.compares and inputs is not None else None
            if problem.kind == "dies":
                return self._deny_culprit(plan.model, partition.operations, driver, trial, values, problem)
            blamed = self._bisect(plan.model, partition.operations, driver, trial, values, problem)
            for n, found in blamed.items():
                self.denied.deny(driver, plan.model, [n], found.reason, is_inaccurate=found.kind == "inaccurate")
            if not blamed:
                self._deny_whole(driver, model, problem)
            return Refusal(problem, tuple(blamed))

    def survives(self, driver: Driver, model: Model, inputs: Sequence[Array], legalize: Legalize) -> bool:
        """Whether `model` may be run here to be measured, before it is compared with the reference.

        What no process survived yet, and third parties' engines that are not trusted, run it once in one of their own.
        """
        return self.lost(driver, model, inputs, legalize) is None

    def lost(self, driver: Driver, model: Model, inputs: Sequence[Array] | None, legalize: Legalize) -> str | None:
        """Why it may not: what became of a process, now or before; None where it survives, or would not be tried."""
        shape = self._shape(driver, model)
        if self.denied.trusts(driver, digest(model, weights=True)) and self.denied.survived(driver, shape):
            return None
        known = self.denied.reason(driver, shape)
        process = None if known is not None else self._process_for(driver, shape)
        if process is None or not process.is_available():
            return known
        trial: Apart[Any] = Apart(driver, self.denied.options, legalize, process)
        problem = self._problem(driver, trial, model, inputs, None, self.patience(driver))
        if problem is not None and problem.kind == "dies" and process.has_loaded:
            self.denied.deny_whole(driver, shape, len(model.operations), problem.reason)
        return None if problem is None else problem.reason

    def _guarding(self, build: Callable[[], B], driver: Driver, model: Model, legalize: Legalize) -> Callable[[], B]:
        def guarded() -> B:
            built: Any = build()
            return cast(B, replace(built, prepared=self.guarded(built.prepared, driver, model, legalize)))

        return guarded

    def guarded(self, prepared: Prepared, driver: Driver, model: Model, legalize: Legalize) -> Prepared:
        """`prepared`, run apart first on shapes that no process of the engine survived, where dimensions are open."""

        def lost(known: Model, inputs: Sequence[Array]) -> str | None:
            gate = replace(self, _processes={})
            try:
                return gate.lost(driver, known, inputs, legalize)
            except CompileError:  # the engine lives, and says so again
                return None
            finally:
                gate.close()

        is_open = any(o.elements is None for o in model.input_operands)
        return Guarded(prepared, model, lost) if is_open and can_be_isolated(driver) else prepared

    def patience(self, driver: Driver) -> float:
        """Seconds that an engine may take to prepare a partition: more where it says so, as a compiler does."""
        return max(self.seconds, float(getattr(engine_of(driver), "prepare_seconds", 0.0)))

    def close(self) -> None:
        """Let go of the processes in which engines were tried."""
        for process in self._processes.values():
            warm.give_back(process)
        self._processes.clear()

    def _shape(self, driver: Driver, model: Model) -> str:
        """The structure that the engine has to survive."""
        return structure(model, threads_of(driver, self.denied.options))

    def _process_for(self, driver: Driver, shape: str) -> Isolated | None:
        """A process, already starting, where the engine cannot be trusted with this structure."""
        if not self._is_suspect(driver, shape):
            return None
        name = engine_of(driver).name
        if name not in self._processes:
            self._processes[name] = warm.borrow(driver)
        process = self._processes[name]
        process.driver = driver
        with contextlib.suppress(DeviceUnavailable):  # said again when it is asked for
            process.start()
        return process

    def _is_suspect(self, driver: Driver, shape: str) -> bool:
        """A third party's, a structure that no process of this version survived, or whose trial one did not end."""
        engine = engine_of(driver)
        if engine.name in UNCHECKED | registry.PRETEND or not can_be_isolated(driver):
            return False
        is_known = engine.name in registry.BUILTIN and self.denied.survived(driver, shape)
        return not is_known or self.denied.was_left(driver, shape)

    def _deny_culprit(
        self,
        model: Model,
        operations: tuple[int, ...],
        driver: Driver,
        trial: Trial[B],
        values: Mapping[int, Array] | None,
        problem: Problem,
    ) -> Refusal:
        """Look for the fewest operations that the engine dies of, and deny them together, whatever their weights."""
        found = {operations: problem}

        def dies(part: tuple[int, ...]) -> bool:
            if self.deaths <= 0:
                return False
            subgraph = extract(model, part)
            inputs = None
            if values is not None and all(i in values and values[i].size for i in subgraph.inputs):
                inputs = [values[i] for i in subgraph.inputs]
            elif not self.compares:
                inputs = _random(subgraph.model)
            try:
                problem = self._problem(driver, trial, subgraph.model, inputs, None, self.seconds)
            except NnapiError:
                return False
            if problem is None or problem.kind != "dies":
                return False
            self.deaths -= 1
            found[part] = problem
            return True

        members = smallest(operations, dies, MAX_PARTS)
        is_found = self.deaths > 0 or len(members) == 1
        hit = self.denied.deny_fragment(driver, model, members, found[members].reason) if is_found else ()
        if not hit:
            shape = self._shape(driver, extract(model, operations).model)
            self.denied.deny_whole(driver, shape, len(operations), problem.reason)
        return Refusal(found[members], hit)

    def _build(self, driver: Driver, build: Callable[[], B]) -> B:
        try:
            return within(self.patience(driver), f"device {driver.name!r}", build)
        except MissedDeadline as error:
            raise CompileError(f"{error.message}: preparing") from None  # the time is ours, not the caller's

    def _bisect(
        self,
        model: Model,
        operations: tuple[int, ...],
        driver: Driver,
        trial: Trial[B],
        values: Mapping[int, Array] | None,
        problem: Problem,
    ) -> dict[int, Problem]:
        """The operations that go wrong alone, on the reference's `values`; without them, that cannot be prepared.

        Where there are none, the parts that go wrong together are denied, so that they are run apart.
        """
        if not trial.can_bisect(problem):
            return {}
        if len(operations) == 1:
            return {operations[0]: problem}
        blamed: dict[int, Problem] = {}
        wrong: list[tuple[Model, Problem]] = []
        seconds = min(self.seconds, PROBE_SECONDS) if problem.kind == "hangs" else self.seconds
        waiting, tried = halves(operations)[::-1], 0
        while waiting and tried < MAX_PARTS:
            part, tried = waiting.pop(), tried + 1
            subgraph = extract(model, part)
            inputs = expected = None
            if values is not None:
                if not all(i in values for i in (*subgraph.inputs, *subgraph.outputs)):
                    continue
                inputs = [values[i] for i in subgraph.inputs]
                if any(not array.size for array in inputs):
                    continue
                expected = [values[o] for o in subgraph.outputs]
            try:
                found = self._problem(driver, trial, subgraph.model, inputs, expected, seconds)
            except NnapiError as error:
                found = Problem(str(error), "fails")
            if found is None:
                if expected is not None:
                    self.denied.trust(driver, digest(subgraph.model, weights=True))
                continue
            if len(part) == 1:
                blamed[part[0]] = found
                continue
            wrong.append((subgraph.model, found))
            waiting += halves(part)[::-1]
        for model, found in [] if blamed else wrong:
            self._deny_whole(driver, model, found)
        return blamed

    def _deny_whole(self, driver: Driver, model: Model, problem: Problem) -> None:
        key, count = digest(model, weights=True), len(model.operations)
        self.denied.deny_whole(driver, key, count, problem.reason, is_inaccurate=problem.kind == "inaccurate")

    def _problem(
        self,
        driver: Driver,
        trial: Trial[B],
        model: Model,
        inputs: Sequence[Array] | None,
        expected: Sequence[Array] | None,
        seconds: float,
    ) -> Problem | None:
        """The fault of `model` there, with the figure; None where it is right, as far as can be seen.

        That the engine lives is remembered, whatever it computes, and even where it refuses in words.
        """
        try:
            actual = trial.run(model, inputs, seconds)
        except Starved as error:
            return Problem(error.message, "starved")
        except DeadObject as error:
            return Problem(error.message, "dies")
        except MissedDeadline as error:
            return Problem(error.message, "hangs")
        except CompileError:
            self.denied.note_survived(driver, self._shape(driver, model))
            raise
        except ExecutionError as error:  # it says so: without the reference nobody knows who is right
            if is_starved(error):
                return Problem(error.message, "starved")
            self.denied.note_survived(driver, self._shape(driver, model))
            return None if expected is None else Problem(f"it fails to run: {error}", "fails")
        self.denied.note_survived(driver, self._shape(driver, model))
        if inputs is not None and any(o.elements is None for o in model.input_operands):
            with contextlib.suppress(NnapiError):
                known = specialize(model, [x.shape for x in inputs])
                self.denied.note_survived(driver, self._shape(driver, known))
        if expected is None:
            return None
        relaxed = precision_of(driver, self.denied.options) == "relaxed" or model.relaxed
        figure = difference(model, expected, actual, relaxed=relaxed)
        if figure is not None and inputs is not None and picks(model):
            figure = self._but_for_ties(trial, model, inputs, seconds, relaxed=relaxed)
        return None if figure is None else Problem(figure, "inaccurate")

    def _but_for_ties(
        self, trial: Trial[B], model: Model, inputs: Sequence[Array], seconds: float, *, relaxed: bool
    ) -> str | None:
        """The fault, where the engine may choose among equal values."""
        try:
            return difference_but_for_ties(
                model, inputs, lambda m, x: trial.run(m, x, seconds), self._reference, relaxed=relaxed
            )
        except NnapiError as error:
            return f"differs, and what it picked cannot be seen: {error}"

    def _reference_of(self, plan: Plan, number: int) -> tuple[list[Array] | None, list[Array] | None]:
        """The reference's values of what a partition reads and of what it writes; None, noted, where there are none."""
        partition = plan.partitions[number]
        wanted = partition.subgraph.inputs
        computed = tuple(i for i in wanted if i in plan.model.producers)
        values = dict(zip(plan.model.inputs, self.samples))
        inputs = None
        try:
            if computed:
                part = extract(plan.model, {n for p in plan.partitions[:number] for n in p.operations})
                new = dict(zip(part.outputs, part.model.outputs))
                before = replace(part.model, outputs=tuple(new[i] for i in computed))
                values |= dict(zip(computed, self._reference(before, [values[i] for i in part.inputs])))
            inputs = [values[i] for i in wanted]
            if any(not array.size for array in inputs):
                raise ExecutionError("an input has no elements, on these samples")
            return inputs, self._reference(partition.subgraph.model, inputs)
        except NnapiError as error:
            where = "" if inputs is not None else ", on what comes before"
            self.unchecked[partition.operations] = f"the reference{where}: {error}"
            # What the reference cannot compute on, an engine need not either.
            return (None if isinstance(error, ExecutionError) else inputs), None

    def _reference(self, model: Model, inputs: Sequence[Array]) -> list[Array]:
        obstacle = _obstacle(model, self.reference_seconds)
        if obstacle is not None:
            raise MissedDeadline(obstacle)
        return execute(model, inputs, deadline=self.reference_seconds * PATIENCE)

    def _values(self, plan: Plan, number: int, inputs: Sequence[Array]) -> dict[int, Array] | None:
        """The reference's value of every operand in a partition, by its index in the plan's model."""
        partition = plan.partitions[number]
        small = partition.subgraph.model
        everything = tuple(o for operation in small.operations for o in operation.outputs)
        try:
            results = self._reference(replace(small, outputs=everything), inputs)
        except NnapiError:
            return None
        whole = [o for n in sorted(partition.operations) for o in plan.model.operations[n].outputs]
        return dict(zip(partition.subgraph.inputs, inputs)) | dict(zip(whole, results))


def foreseen(plan: Plan) -> dict[int, str]:
    """The partitions that the reference will not check, by number, and why; as far as that is known beforehand."""
    found: dict[int, str] = {}
    for number, partition in enumerate(plan.partitions):
        obstacle = _obstacle(partition.subgraph.model, REFERENCE_SECONDS)
        if obstacle is not None and partition.device not in UNCHECKED:
            found[number] = f"the reference: {obstacle}"
    return found


def _random(model: Model) -> list[Array] | None:
    """Inputs to survive on; None where none can be made."""
    try:
        return random_inputs(model.input_operands)
    except UsageError:
        return None


def _obstacle(model: Model, seconds: float) -> str | None:
    """Why the reference does not run a model within so many seconds."""
    reference = ReferenceDriver()
    refused = next((v for v in reference.supported(model) if isinstance(v, Reject)), None)
    if refused is not None:
        return refused.reason
    needed = reference.estimate(model).seconds
    return f"it would take about {needed:.0f} s, limit {seconds:g} s" if needed > seconds else None
