"""A device that computes only when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from nnapi.drivers.driver import Prepared, PrepareOptions
from nnapi.drivers.fake import FakeDriver
from nnapi.drivers.reference import PreparedReference
from nnapi.ir.model import Model
from nnapi.ops.types import Array


@dataclass
class Gated(FakeDriver):
    """A device that computes only when told to."""

    name: str = "gated"
    gate: threading.Event = field(default_factory=threading.Event)
    running: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def prepare(self, model: Model, options: PrepareOptions) -> Prepared:
        return _Prepared(self, PreparedReference(model))


@dataclass
class _Prepared:
    driver: Gated
    inner: PreparedReference

    def run(self, inputs: Sequence[Array | None], outputs: Sequence[Array] | None = None) -> list[Array]:
        self.driver.running.release()
        assert self.driver.gate.wait(30)
        return self.inner.run(inputs, outputs)
