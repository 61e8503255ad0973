"""A program as an entry of the compilation cache, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from nnapi.drivers.driver import Driver, Portable, Prepared, PrepareOptions
from nnapi.drivers.reference import ReferenceDriver
from nnapi.errors import CompileError, ModelError
from nnapi.ir import file
from nnapi.ir.model import Model
from nnapi.ops.types import Operand, OperandType
from nnapi.runtime.build import legalize
from nnapi.runtime.cache import Entry, Manifest
from nnapi.runtime.compile import Target, optimized, part_of
from nnapi.runtime.program import Program, Step


def write_entry(program: Program, target: Target, directory: Path) -> Manifest:
    """The files of `program`: what the engines made where they can give it, else the parts as models."""
    drivers = _drivers(target)
    return {
        "accepted": program.accepted,
        "optimized": program.is_optimized,
        "inputs": program.inputs,
        "outputs": program.outputs,
        "steps": [_write_step(step, drivers[step.device], directory / str(n)) for n, step in enumerate(program.steps)],
    }


def _write_step(step: Step, driver: Driver, path: Path) -> dict[str, Any]:
    model = step.source()
    manifest = {
        "device": step.device,
        "inputs": step.inputs,
        "outputs": step.outputs,
        "operations": step.operations,
        "input_operands": [_to_json(operand) for operand in model.input_operands],
        "output_operands": [_to_json(operand) for operand in model.output_operands],
    }
    artifact = driver.artifact(step.prepared) if isinstance(driver, Portable) else None
    if artifact is None:
        file.save(legalize(model, driver), path.with_suffix(".nnapi"))
    else:
        path.with_suffix(".artifact").write_bytes(artifact)
    return manifest


def read_entry(entry: Entry, model: Model, target: Target) -> Program:
    """The program of an entry that was made of `model`; CompileError where it is none of them.

    `model` is looked at only where a device fails, and a part goes to the reference.
    """
    drivers = _drivers(target)
    whole = cache(lambda: optimized(model) if entry.manifest["optimized"] else model)
    try:
        steps = [
            _read_step(entry, n, step, drivers, target, target.options(model), whole)
            for n, step in enumerate(entry.manifest["steps"])
        ]
        inputs, outputs, accepted, is_optimized = (
            entry.manifest[field] for field in ("inputs", "outputs", "accepted", "optimized")
        )
        program = Program(steps, inputs, outputs, accepted, is_optimized=is_optimized)
        _check(program, model)
        return program
    except (KeyError, TypeError, ValueError, IndexError, ModelError) as error:
        raise CompileError(f"the cache entry cannot be used: {error}") from error


def _check(program: Program, model: Model) -> None:
    """ValueError unless every value is there before it is used, and there are as many as the client gives and gets."""
    known = set(program.inputs)
    for step in program.steps:
        if not known >= set(step.inputs):
            raise ValueError(f"{step.device} reads what nobody writes")
        known |= set(step.outputs)
    if not known >= set(program.outputs):
        raise ValueError("an output is written by nobody")
    if (len(program.inputs), len(program.outputs)) != (len(model.inputs), len(model.outputs)):
        raise ValueError("it has other inputs or outputs")


def _read_step(
    entry: Entry,
    n: int,
    step: Mapping[str, Any],
    drivers: Mapping[str, Driver],
    target: Target,
    options: PrepareOptions,
    whole: Callable[[], Model],
) -> Step:
    driver = drivers[step["device"]]
    operations = tuple(step["operations"])
    return Step(
        driver.name,
        _prepared(entry, n, step, driver, options),
        step["inputs"],
        step["outputs"],
        operations,
        lambda: part_of(whole(), operations).model,
        falls_back=not target.is_named and driver.name != ReferenceDriver.name,
    )


def _prepared(entry: Entry, n: int, step: Mapping[str, Any], driver: Driver, options: PrepareOptions) -> Prepared:
    artifact = entry.files.get(f"{n}.artifact")
    if artifact is None or not isinstance(driver, Portable):
        name = f"{n}.nnapi"
        return driver.prepare(file.loads(entry.files[name], str(entry.directory / name)), options)
    inputs, outputs = ([_from_json(o) for o in step[field]] for field in ("input_operands", "output_operands"))
    return driver.restore(bytes(artifact), inputs, outputs, options)


def _drivers(target: Target) -> dict[str, Driver]:
    return {ReferenceDriver.name: ReferenceDriver(), **{d.name: d for d in target.asked}}


def _to_json(operand: Operand) -> list[Any]:
    return [operand.type.value, operand.dimensions, operand.scale, operand.zero_point, operand.name]


def _from_json(value: Any) -> Operand:
    type, dimensions, scale, zero_point, name = value
    return Operand(OperandType(type), tuple(dimensions), scale, zero_point, name=name)
