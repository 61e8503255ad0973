"""Cut a part of a model out as a model of its own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from nnapi.ir.model import Model, Operation


@dataclass(frozen=True)
class Subgraph:
    """Some operations of a model as a model; `inputs` and `outputs` are operand indexes in the whole model."""

    model: Model
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def extract(model: Model, operations: Collection[int], name: str = "") -> Subgraph:
    """The operations with these indexes as a model that shares their constants.

    Its inputs are what they read and others write, in order of use; its outputs what others or the whole model read.
    """
    indexes = sorted(operations)
    chosen = set(indexes)
    read = dict.fromkeys(i for n in indexes for i in model.operations[n].inputs)
    written = dict.fromkeys(o for n in indexes for o in model.operations[n].outputs)
    results = set(model.outputs)
    inputs = tuple(i for i in read if i not in written and model.operands[i].value is None)
    outputs = tuple(
        o for o in written if o in results or any(n not in chosen for n in model.consumers.get(o, ()))
    )  # fmt: skip
    new = {old: k for k, old in enumerate(dict.fromkeys((*inputs, *read, *written)))}
    part = Model(
        tuple(model.operands[i] for i in new),
        tuple(
            Operation(o.type, tuple(new[i] for i in o.inputs), tuple(new[i] for i in o.outputs), o.name)
            for o in (model.operations[n] for n in indexes)
        ),
        tuple(new[i] for i in inputs),
        tuple(new[i] for i in outputs),
        name or model.name,
        model.relaxed,
        model.metadata,
    )
    return Subgraph(part, inputs, outputs)
