"""The accuracy gate: a placement is trusted once its outputs were compared with the reference's on sample inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import numpy as np

from nnapi.drivers.driver import Driver, Prepared
from nnapi.drivers.null import NullDriver
from nnapi.drivers.reference import ReferenceDriver, execute
from nnapi.errors import NnapiError
from nnapi.ir.model import Model
from nnapi.ir.subgraph import extract
from nnapi.ops.types import Array, Operand
from nnapi.partitioning.candidate import precision_of
from nnapi.partitioning.deadline import within
from nnapi.partitioning.deny import DenyList
from nnapi.partitioning.digest import digest
from nnapi.partitioning.plan import Partition, Plan


@dataclass(frozen=True)
class Limit:
    """What an output may be off: at least `sqnr` dB, and no value further than `worst` of the largest one.

    Differences up to `negligible` (in real numbers, or in steps of a quantized type) count as none.
    """

    sqnr: float
    worst: float
    negligible: float
    why: str


LIMITS: Final[Mapping[str, Limit]] = {
    "fp32": Limit(60, 0.01, 1e-5, "sums in another order lose some bits of 24: 100 dB is usual, cancellation costs 30"),
    "relaxed": Limit(20, 0.3, 1e-2, "bfloat16 has 8 bits: 48 dB an operation, about 30 dB after a hundred of them"),
    "fp16": Limit(30, 0.1, 1e-2, "float16 has 11 bits: 66 dB an operation, and engines differ in where they round"),
    "quantized": Limit(15, 0.5, 1.0, "a step of 8 bits is 40 dB; roundings that differ by one step add up"),
    "exact": Limit(20, 1.0, 0.0, "indexes and truth values: 1 in 100 may differ, where values are close to each other"),
}
"""By precision of the output. Noise is at 0 dB or below, so every limit tells it from rounding."""
UNCHECKED: Final = frozenset({ReferenceDriver.name, NullDriver.name})
"""The reference is what others are compared with; the null device does not pretend to compute."""
RUN_SECONDS: Final = 60.0
"""How long an engine may take to prepare a partition, or to run it once on samples."""
REFERENCE_SECONDS: Final = 20.0
"""How long the reference may take on one partition; what is longer goes unchecked."""


class AccuracyWarning(UserWarning):
    """A placement that fails the accuracy gate is used, because it was asked for."""


@dataclass(frozen=True)
class Refusal:
    """A placement that is not to be used; `operations` (indexes in the plan's model) are to blame, if any are found."""

    reason: str
    operations: tuple[int, ...] = ()


Prepare = Callable[[Model], Prepared]


@dataclass
class Gate:
    """Checks placements of one model on `samples`, one array per model input."""

    samples: Sequence[Array]
    denied: DenyList
    accept_inaccurate: bool = False
    seconds: float = RUN_SECONDS
    unchecked: dict[str, str] = field(default_factory=dict)
    """Partitions that could not be compared, and why."""
    _model: Model = field(init=False, repr=False)
    _last_inputs: list[Array] = field(init=False, repr=False)

    def check(self, plan: Plan, number: int, driver: Driver, prepared: Prepared, prepare: Prepare) -> Refusal | None:
        """Whether partition `number` of `plan` may run on `driver`; None where it may.

        `prepared` is the partition there; `prepare` makes other parts of the model ready on the same device.
        """
        partition = plan.partitions[number]
        if driver.name in UNCHECKED:
            return None
        key = digest(partition.subgraph.model, weights=True)
        if self.denied.trusts(driver, key):
            return None
        known = self.denied.reason(driver, key)
        if known is None:
            values = self._inputs_of(plan, number)
            if values is None:
                self.unchecked[partition.subgraph.model.name] = "the reference does not run what comes before it"
                return None
            model = partition.subgraph.model
            try:
                expected = execute(model, values, deadline=REFERENCE_SECONDS)
            except NnapiError as error:
                self.unchecked[model.name] = f"the reference: {error}"
                return None
            known = self._failure(driver, model, prepared, values, expected)
            if known is None:
                self.denied.trust(driver, key, "within limits")
                return None
        if self.accept_inaccurate:
            message = f"device {driver.name!r} is used although it fails the accuracy gate: {known}"
            warnings.warn(message, AccuracyWarning, stacklevel=2)
            return None
        return self._refuse(plan, partition, driver, prepare, key, known)

    def _refuse(
        self, plan: Plan, partition: Partition, driver: Driver, prepare: Prepare, key: str, reason: str
    ) -> Refusal:
        known = self.denied.reason(driver, key) is not None
        hangs = "did not return" in reason
        blamed = () if known or hangs else self._bisect(plan.model, partition, driver, prepare)
        if blamed:
            self.denied.deny(driver, plan.model, blamed, reason)
        elif not known:
            self.denied.deny_whole(driver, key, len(partition.operations), reason)
        return Refusal(reason, blamed)

    def _bisect(self, model: Model, partition: Partition, driver: Driver, prepare: Prepare) -> tuple[int, ...]:
        """The operations of a failing partition that fail alone, on the reference's values."""
        values = self._values(partition)
        if values is None:
            return ()
        blamed: list[int] = []
        waiting = [partition.operations]
        while waiting:
            part = waiting.pop()
            subgraph = extract(model, part)
            wanted = [values[o] for o in subgraph.outputs if o in values]
            inputs = [values[i] for i in subgraph.inputs if i in values]
            if len(wanted) < len(subgraph.outputs) or len(inputs) < len(subgraph.inputs):
                continue
            try:
                prepared = within(self.seconds, f"device {driver.name!r}", partial(prepare, subgraph.model))
                failure = self._failure(driver, subgraph.model, prepared, inputs, wanted)
            except NnapiError as error:
                failure = str(error)
            if failure is None:
                continue
            if len(part) == 1:
                blamed.append(part[0])
                continue
            middle = len(part) // 2
            waiting += [part[middle:], part[:middle]]
        return tuple(sorted(blamed))

    def _values(self, partition: Partition) -> dict[int, Array] | None:
        """The reference's value of every operand in a partition, by its index in the plan's model."""
        subgraph = partition.subgraph
        small = subgraph.model
        inputs = self._last_inputs
        everything = tuple(o for operation in small.operations for o in operation.outputs)
        try:
            results = execute(replace(small, outputs=everything), inputs, deadline=REFERENCE_SECONDS * 2)
        except NnapiError:
            return None
        whole = [o for n in sorted(partition.operations) for o in self._model.operations[n].outputs]
        return dict(zip(subgraph.inputs, inputs)) | dict(zip(whole, results))

    def _inputs_of(self, plan: Plan, number: int) -> list[Array] | None:
        """The reference's values of what a partition reads; None where the reference cannot get there."""
        self._model = plan.model
        wanted = plan.partitions[number].subgraph.inputs
        computed = tuple(i for i in wanted if i in plan.model.producers)
        values = dict(zip(plan.model.inputs, self.samples))
        if computed:
            before = {n for p in plan.partitions[:number] for n in p.operations}
            part = extract(plan.model, before)
            new = dict(zip(part.outputs, part.model.outputs))
            try:
                results = execute(
                    replace(part.model, outputs=tuple(new[i] for i in computed)),
                    [values[i] for i in part.inputs],
                    deadline=REFERENCE_SECONDS,
                )
            except NnapiError:
                return None
            values |= dict(zip(computed, results))
        self._last_inputs = [values[i] for i in wanted]
        return self._last_inputs

    def _failure(
        self, driver: Driver, model: Model, prepared: Prepared, inputs: Sequence[Array], expected: Sequence[Array]
    ) -> str | None:
        """What is wrong with a prepared model on these inputs, with the figure; None where it is right."""
        try:
            actual = within(self.seconds, f"device {driver.name!r}", lambda: prepared.run(inputs))
        except Exception as error:  # whatever an engine raises: it does not compute this
            return f"it fails to run: {error}"
        if len(actual) != len(expected):
            return f"{len(actual)} outputs, {len(expected)} expected"
        relaxed = precision_of(driver, self.denied.options) == "relaxed" or model.relaxed
        for i, wanted, got in zip(model.outputs, expected, actual):
            operand = model.operands[i]
            problem = compare(_as_computed(model, i), *_in_steps(model, i, wanted, np.asarray(got)), relaxed=relaxed)
            if problem is not None:
                name = operand.name or model.operations[-1].label
                return f"output {name}: {problem}"
        return None


def _as_computed(model: Model, output: int) -> Operand:
    """The operand that says how precise an output is: where DEQUANTIZE writes it, the integers that it reads."""
    operation = model.operations[model.producers[output]]
    stored = model.operands[operation.inputs[0]] if operation.type == "DEQUANTIZE" else None
    return stored if stored is not None and stored.type.is_quantized and stored.scale else model.operands[output]


def _in_steps(model: Model, output: int, expected: Array, actual: Array) -> tuple[Array, Array]:
    """Both arrays in steps of the integers that DEQUANTIZE reads; as they are where it does not write them."""
    stored, operand = _as_computed(model, output), model.operands[output]
    if stored is operand or actual.dtype != expected.dtype:
        return expected, actual
    return (
        np.round(expected / np.float32(stored.scale)) + stored.zero_point,
        np.round(actual / np.float32(stored.scale)) + stored.zero_point,
    )


def compare(operand: Operand, expected: Array, actual: Array, *, relaxed: bool) -> str | None:
    """What is wrong with an output, in figures; None where it is within the limits of its type."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return f"{actual.dtype}{list(actual.shape)}, must be {expected.dtype}{list(expected.shape)}"
    limit = LIMITS[_kind(operand, relaxed)]
    wanted, got = np.asarray(expected, np.float64), np.asarray(actual, np.float64)
    finite = np.isfinite(wanted)
    wanted, got = wanted[finite], got[finite]
    if not np.isfinite(got).all():
        return f"{np.count_nonzero(~np.isfinite(got))} values are infinite or not a number"
    if operand.type.is_quantized:
        wanted, got = wanted - operand.zero_point, got - operand.zero_point
    error = np.abs(got - wanted)
    if not error.size or error.max() <= limit.negligible:
        return None
    if _kind(operand, relaxed) == "exact":
        share = float(np.mean(error > 0))
        return f"{share:.1%} of the values differ, limit 1%" if share > 0.01 and error.size > 1 else None
    largest, worst = float(np.abs(wanted).max()), float(error.max())
    # With whole steps, an error of one is what rounding may do to every value.
    noise = np.maximum(error - limit.negligible, 0) if operand.type.is_quantized else error
    power = float(np.sum(noise**2))
    ratio = 10 * np.log10(max(float(np.sum(wanted**2)), 1e-300) / power) if power else np.inf
    if ratio < limit.sqnr:
        return f"SQNR {ratio:.1f} dB, limit {limit.sqnr:g} dB"
    if worst > limit.worst * largest:
        return f"largest error {worst:.3g}, limit {limit.worst:g} of {largest:.3g}"
    return None


def _kind(operand: Operand, relaxed: bool) -> str:
    if operand.type.is_quantized:
        return "quantized"
    if not operand.type.is_float:
        return "exact"
    return "fp16" if operand.type.dtype.itemsize == 2 else "relaxed" if relaxed else "fp32"
