"""Run a model so that tensors inside it can be looked at, on the fastest engine that takes it, and survives it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Final

from nnapi.drivers import registry
from nnapi.drivers.driver import Accept, Driver, Prepared, PrepareOptions
from nnapi.errors import DeviceUnavailable, NnapiError, QuantizeError, UsageError
from nnapi.ir.model import Model
from nnapi.ops.types import Array
from nnapi.partitioning.database import database
from nnapi.partitioning.deny import DenyList
from nnapi.partitioning.gate import Gate
from nnapi.partitioning.samples import random_inputs
from nnapi.passes.remove_dead_code import remove_dead_code

ENGINES: Final = ("litert", "onnxruntime", "openvino", "pytorch", "reference")
"""In order of preference; the reference takes everything and is slow."""
MAX_BYTES: Final = 1 << 28
"""Of looked-at tensors that exist at one time."""


class Exposed:
    """A model with some of its tensors as outputs; as many pieces as memory asks for."""

    def __init__(self, model: Model, operands: Sequence[int]) -> None:
        given = {*model.inputs}
        wanted = [i for i in dict.fromkeys(operands) if i not in given and model.operands[i].value is None]
        self.operands = tuple(i for i in dict.fromkeys(operands) if i in given or i in wanted)
        self._inputs = model.inputs
        self._pieces = [
            (part, prepare(remove_dead_code(replace(model, outputs=tuple(part))))) for part in _parts(model, wanted)
        ]

    def run(self, example: Sequence[Array]) -> Iterator[tuple[int, Array]]:
        """Each operand with its value; a value is valid until the next one comes."""
        for i, array in zip(self._inputs, example):
            if i in self.operands:
                yield i, array
        for part, prepared in self._pieces:
            try:
                arrays = prepared.run(example)
            except NnapiError as error:
                raise QuantizeError(f"the model fails on calibration data: {error}") from error
            yield from zip(part, arrays)


def _parts(model: Model, operands: Sequence[int]) -> Iterator[list[int]]:
    part: list[int] = []
    used = 0
    for i in operands:
        size = model.operands[i].bytes or 0
        if part and used + size > MAX_BYTES:
            yield part
            part, used = [], 0
        part.append(i)
        used += size
    if part:
        yield part


def prepare(model: Model) -> Prepared:
    """`model` on the first engine that takes all of it; what no process survived yet runs apart first."""
    options, problems = PrepareOptions(), []
    with closing(Gate((), DenyList(database(), options), compares=False)) as gate:
        for name in ENGINES:
            try:
                driver: Driver = registry.get(name)
                if not all(isinstance(verdict, Accept) for verdict in driver.supported(model)):
                    continue
                lost = gate.lost(driver, model, _samples(model), _as_it_is)
                if lost is None:
                    return gate.guarded(driver.prepare(model, options), driver, model, _as_it_is)
                problems.append(f"{name}: {lost}")
            except DeviceUnavailable:
                continue
            except NnapiError as error:
                problems.append(f"{name}: {error}")
    raise QuantizeError("no engine here runs the whole model" + "".join(f"; {p}" for p in problems))


def _samples(model: Model) -> list[Array] | None:
    try:
        return random_inputs(model.input_operands)
    except UsageError:  # of unknown rank: the engine only prepares it
        return None


def _as_it_is(model: Model, driver: Driver) -> Model:
    return model
