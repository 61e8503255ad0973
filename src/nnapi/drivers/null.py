"""A device that computes nothing: zeros of the right shape, to measure what everything around an engine costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnapi.drivers.driver import ACCEPT, DeviceType, Estimate, PrepareOptions, Reject, Verdict
from nnapi.errors import CompileError
from nnapi.ir.model import Model
from nnapi.ops.types import MAX_FEATURE_LEVEL, Array


class NullDriver:
    """Accepts every operation whose outputs have known shapes, and answers zeros."""

    name = "null"
    device_type = DeviceType.OTHER
    feature_level = MAX_FEATURE_LEVEL
    version = "1"
    layout = None

    def supported(self, model: Model) -> list[Verdict]:
        return [
            ACCEPT
            if all(o.elements is not None for o in model.operands_of(operation.outputs))
            else Reject(f"{operation.type}: an output's dimensions are unknown until run time")
            for operation in model.operations
        ]

    def estimate(self, model: Model) -> Estimate:
        return Estimate(0.0, 0.0, "modelled")

    def prepare(self, model: Model, options: PrepareOptions) -> PreparedNull:
        return PreparedNull(model)


class PreparedNull:
    """A model that answers zeros."""

    def __init__(self, model: Model) -> None:
        if any(o.elements is None for o in model.output_operands):
            raise CompileError("an output's dimensions are unknown", operation=model.name)
        self._outputs = model.output_operands

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array] | None = None) -> list[Array]:
        if outputs is None:
            return [np.zeros(o.dimensions, o.type.dtype) for o in self._outputs]
        for array in outputs:
            array[...] = 0
        return list(outputs)
