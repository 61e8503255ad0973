"""READ FIRST: the stages in order. Each takes what the one before gives; every boundary can be saved.

load -> optimize -> quantize -> partition -> build -> run
source  Model       Model       Plan         Session  outputs
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import index
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from nnapi.drivers import registry
from nnapi.drivers.driver import Driver, Layout, Nan, Precision, Preference, PrepareOptions
from nnapi.drivers.reference import ReferenceDriver
from nnapi.errors import UsageError
from nnapi.importers.load import load
from nnapi.ir.model import Model
from nnapi.ops.types import Array, Operand
from nnapi.partitioning.assign import assign
from nnapi.partitioning.candidate import candidates, engine_name
from nnapi.partitioning.database import database
from nnapi.partitioning.deny import DenyList, clear_denied, denied
from nnapi.partitioning.gate import Gate, foreseen
from nnapi.partitioning.plan import Plan
from nnapi.partitioning.profile import Profile
from nnapi.partitioning.samples import random_inputs
from nnapi.partitioning.verdict import Verdicts, judge
from nnapi.passes.run import run_passes
from nnapi.quantization.params import Table
from nnapi.quantization.quantize import Progress, QuantizeWarning, quantize_model
from nnapi.quantization.recipe import Recipe
from nnapi.runtime.images import ASSUMED, ImageOptions, options_for
from nnapi.runtime.inputs import IMAGES, read_inputs
from nnapi.runtime.session import Session, build_session
from nnapi.runtime.tune import Tuner

Devices = str | Driver | Iterable[str | Driver] | None
Source = Any
"""A model, or what `load` takes by itself: a path, `zoo:NAME`, an ExportedProgram."""


def optimize(model: Source, *, layout: Layout | None = "nhwc") -> Model:
    """The same function with fewer operations: folded, fused, in one layout (None: as it is). Model -> Model."""
    _choice("layout", layout, ("nhwc", "nchw", None))
    return run_passes(load(model), layout=layout)


def quantize(
    model: Source,
    calibration: Any = None,
    recipe: str | Mapping[str, Any] | Recipe = "int8",
    *,
    labels: Sequence[int] | None = None,
    table: Table | str | os.PathLike[str] | None = None,
    images: ImageOptions | None = None,
    progress: Progress | None = None,
) -> Model:
    """`model` in the numbers that `recipe` says, optimized first. Model -> Model.

    `calibration`: arrays, mappings by input name, a folder of images or an .npz file. `recipe`: a name, a .json file,
    or a mapping. `labels`, one for each of the first examples, let mixed precision ask for accuracy. A `table` saved
    before replaces what calibration decides. `images` says how images become inputs, instead of the model's metadata,
    which keeps it then. Raises QuantizeError where any of them does not do; what is legal and hardly meant is a
    QuantizeWarning.
    """
    if not isinstance(table, (Table, str, os.PathLike, NoneType)):
        raise UsageError(f"table is {table!r}, must be a path or what quantize_model gave")
    try:
        labels = None if labels is None else list(map(index, labels))
    except TypeError as error:
        raise UsageError(f"labels is {labels!r}, must be a sequence of class numbers") from error
    if progress is not None and not callable(progress):
        raise UsageError(f"progress is {progress!r}, must be a function of a stage and a count")
    model = optimize(model)
    if is_folder(calibration):
        options = images or options_for(model)
        if options.source == ASSUMED:
            warnings.warn(f"images: {options.describe()}; {ASSUMED}", QuantizeWarning, stacklevel=2)
        calibration = read_images(calibration, model.input_operands, options)
        model = options.kept_by(model)
    found = quantize_model(model, calibration, recipe, labels=labels, table=table, progress=progress)
    for warning in found.warnings:
        warnings.warn(warning, QuantizeWarning, stacklevel=2)
    return found.model


def is_folder(calibration: Any) -> bool:
    """Whether calibration data is a folder of images."""
    return isinstance(calibration, (str, os.PathLike)) and Path(calibration).is_dir()


def read_images(folder: str | os.PathLike[str], operands: Sequence[Operand], options: ImageOptions) -> Iterator[Array]:
    """The images of a folder as inputs, one after the other, in an order that is random and always the same."""
    paths = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in IMAGES)
    for k in np.random.default_rng(0).permutation(len(paths)):
        yield read_inputs([str(paths[k])], operands, options)[0]


def partition(
    model: Source,
    devices: Devices = None,
    *,
    preference: Preference = "fast_single_answer",
    precision: Precision = "fp32",
    num_threads: int = 1,
    fallback: bool = True,
    accept_inaccurate: bool = False,
    nan: Nan = "ignore",
) -> Plan:
    """Which device runs what, and why. Model -> Plan.

    `devices` are names or drivers (None: every one that is here); what none of them takes goes to the reference,
    unless `fallback` is False: then it is a PartitionError. What was measured on this machine for this precision and
    these threads counts (`nnapi profile`), and what was found wrong is refused; with `accept_inaccurate` only what
    crashes or hangs.
    """
    options, model = _options(precision, num_threads, preference, nan=nan), load(model)
    plan = assign(
        model,
        _candidates(devices, model, options),
        preference=preference,
        fallback=ReferenceDriver() if fallback else None,
        profile=Profile(database(), options),
        denied=DenyList(database(), options, accept_inaccurate),
    )
    return replace(plan, unchecked=foreseen(plan))


def build(
    plan: Plan,
    devices: Devices = None,
    *,
    precision: Precision = "fp32",
    num_threads: int = 1,
    cache_dir: str | os.PathLike[str] | None = None,
    fallback: bool = True,
    accept_inaccurate: bool = False,
    nan: Nan = "ignore",
) -> Session:
    """Every partition prepared on its device, and compared with the reference the first time. Plan -> Session.

    A device that computes something else is refused with the figure; `accept_inaccurate` only warns of it.
    """
    if not isinstance(plan, Plan):
        raise UsageError(f"a {type(plan).__name__} is no plan", hint="nnapi.partition makes one of a model")
    options = _options(precision, num_threads, plan.preference, cache_dir, nan)
    drivers = {d.name: d for d in _candidates(devices, plan.model, options)}
    if devices is None:  # what fails may go to any device that is here; the plan may have others besides
        others = [n for n in dict.fromkeys(map(engine_name, plan.devices)) if n not in drivers and n != plan.fallback]
        drivers |= {d.name: d for d in candidates([registry.get(n) for n in others], plan.model, options)}
    gate = _gate(plan.model, options, accept_inaccurate)
    profile = Profile(database(), options)
    return build_session(plan, drivers, options, fallback=fallback, gate=gate, profile=profile)


def run(session: Session, *inputs: Any) -> list[Array]:
    """One array per output. Session -> outputs."""
    if not isinstance(session, Session):
        raise UsageError(f"a {type(session).__name__} is no session", hint="nnapi.compile makes one of a model")
    return session(*inputs)


STAGES = (load, optimize, quantize, partition, build, run)


def compile(
    model: Source,
    devices: Devices = None,
    *,
    precision: Precision = "fp32",
    num_threads: int = 1,
    preference: Preference = "fast_single_answer",
    cache_dir: str | os.PathLike[str] | None = None,
    fallback: bool = True,
    tune: bool = False,
    accept_inaccurate: bool = False,
    nan: Nan = "ignore",
) -> Session:
    """Optimize, partition and build `model`, loaded first where it is a path: ready to run.

    With `tune` the model is measured on the devices, and the fastest of the best few plans is kept, now and later. With
    `nan="check"` an engine gets only operations that are known to give NaN where the reference does.

    >>> import numpy as np
    >>> from nnapi.ir.builder import Builder
    >>> from nnapi.ops.types import F32
    >>> b = Builder("double")
    >>> x = b.input("x", F32, (2,))
    >>> b.output(b.add("ADD", {"input0": x, "input1": x, "activation": 0}))
    >>> compile(b.finish(), devices="reference")(np.array([1, 2], np.float32))
    [array([2., 4.], dtype=float32)]
    """
    options = _options(precision, num_threads, preference, cache_dir, nan)
    devices = None if devices is None else registry.choose(devices)
    model = optimize(model)
    if tune:
        gate = _gate(model, options, accept_inaccurate)
        tuner = Tuner(Profile(database(), options), sample_inputs, gate=gate)
        return tuner.choose(model, _candidates(devices, model, options), fallback=fallback)
    plan = partition(
        model, devices, preference=preference, precision=precision, num_threads=num_threads, fallback=fallback,
        accept_inaccurate=accept_inaccurate, nan=nan,
    )  # fmt: skip
    return build(
        plan, devices, precision=precision, num_threads=num_threads, cache_dir=cache_dir, fallback=fallback,
        accept_inaccurate=accept_inaccurate, nan=nan,
    )  # fmt: skip


def check(model: Source, target: Devices = None) -> list[Verdicts]:
    """What each target device says of each operation of the optimized model; reasons where it refuses.

    The verdicts refer to `optimize(model)`.
    """
    drivers = registry.choose(target)
    optimized = optimize(model)
    return [judge(driver, optimized) for driver in drivers]


def devices() -> list[Driver]:
    """The devices that are here, in order of preference."""
    return registry.available()


def profile(
    model: Source, devices: Devices = None, *, precision: Precision = "fp32", num_threads: int = 1
) -> dict[str, dict[str, float]]:
    """Measure `model`, optimized, on the devices, whole and in parts, and remember it: part -> device -> seconds."""
    options, model = _options(precision, num_threads, "fast_single_answer"), load(model)
    tuner = Tuner(Profile(database(), options), sample_inputs, gate=_gate(model, options, False))
    return tuner.measure(model, _candidates(devices, model, options))


def show_denied() -> list[dict[str, Any]]:
    """What devices may not run because it was found wrong there."""
    return denied(database())


def clear_profile(*, times: bool = True, denied: bool = True) -> tuple[int, int]:
    """Forget measurements, and what was found wrong; how many of each there were."""
    return (Profile(database()).clear() if times else 0, clear_denied(database()) if denied else 0)


def sample_inputs(model: Model) -> list[Array]:
    """Seeded random inputs of `model`, to measure and to compare with."""
    return random_inputs(model.input_operands)


def _candidates(devices: Devices, model: Model, options: PrepareOptions) -> list[Driver]:
    """The devices asked for, at each precision and number of threads worth trying; the reference only where named."""
    chosen = registry.choose(devices)
    if devices is None:
        chosen = [d for d in chosen if d.name != ReferenceDriver.name]
    return candidates(chosen, model, options)


def _gate(model: Model, options: PrepareOptions, accept_inaccurate: bool) -> Gate:
    """The gate for placements of `model`; engines only have to survive where no sample inputs can be made."""
    denied = DenyList(database(), options, accept_inaccurate)
    try:
        return Gate(sample_inputs(model), denied)
    except UsageError:
        return Gate([], denied, compares=False)


def _options(
    precision: Precision,
    num_threads: int,
    preference: Preference,
    cache_dir: str | os.PathLike[str] | None = None,
    nan: Nan = "ignore",
) -> PrepareOptions:
    _choice("preference", preference, ("low_power", "fast_single_answer", "sustained_speed"))
    _choice("precision", precision, ("fp32", "relaxed"))
    _choice("nan", nan, ("ignore", "check"))
    if not isinstance(cache_dir, (str, os.PathLike, NoneType)):
        raise UsageError(f"cache_dir is {cache_dir!r}, must be a path")
    return PrepareOptions(precision, num_threads, preference, Path(cache_dir) if cache_dir else None, nan=nan)


def _choice(name: str, value: object, allowed: Sequence[str | None]) -> None:
    if not isinstance(value, (str, NoneType)) or value not in allowed:
        raise UsageError(f"{name} is {value!r}, must be {' or '.join(map(str, allowed))}")


__all__ = ["STAGES", "build", "check", "compile", "devices", "load", "optimize", "partition", "quantize", "run"]
