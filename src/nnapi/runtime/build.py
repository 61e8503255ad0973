"""Build a plan: each partition put into the form its device wants, and prepared there."""

from __future__ import annotations

import time
from dataclasses import dataclass

from nnapi.drivers.driver import Driver, Prepared, PrepareOptions, Reject
from nnapi.errors import CompileError, NnapiError
from nnapi.ir.model import Model
from nnapi.partitioning.plan import Partition
from nnapi.passes.inline_composites import inline_composites
from nnapi.passes.layout import to_layout
from nnapi.passes.run import run_passes


@dataclass(frozen=True)
class Built:
    """A partition prepared on its device, and how long that took."""

    partition: Partition
    prepared: Prepared
    seconds: float


def legalize(model: Model, driver: Driver) -> Model:
    """`model` as `driver` wants it: its layout, and no composite but those it knows."""
    if driver.layout is not None:
        model = to_layout(model, driver.layout)
    if any(operation.is_extension for operation in model.operations):
        verdicts = driver.supported(model)
        unknown = {n for n, v in enumerate(verdicts) if isinstance(v, Reject) and model.body(model.operations[n])}
        if unknown:
            model = inline_composites(model, which=lambda n: n in unknown)
            model = run_passes(model)
            if driver.layout is not None:
                model = to_layout(model, driver.layout)
    return model


def build_partition(partition: Partition, driver: Driver, options: PrepareOptions) -> Built:
    """Legalize and prepare one partition; CompileError, naming the device, whatever its engine raises."""
    started = time.perf_counter()
    try:
        model = legalize(partition.subgraph.model, driver)
        for operation, verdict in zip(model.operations, driver.supported(model), strict=True):
            if isinstance(verdict, Reject):
                raise CompileError(f"accepted at first, then refused: {verdict.reason}", operation=operation.label)
        prepared = driver.prepare(model, options)
    except NnapiError as error:
        raise CompileError(f"device {driver.name!r}: {error.message}", operation=error.operation) from error
    except Exception as error:  # an engine's own exception must not take the session down
        raise CompileError(f"device {driver.name!r} failed: {type(error).__name__}: {error}") from error
    return Built(partition, prepared, time.perf_counter() - started)
