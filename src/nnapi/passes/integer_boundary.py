"""Let a model take and give integers."""

from __future__ import annotations

from dataclasses import replace

from nnapi.ir.model import Model
from nnapi.passes.rewrite import assemble


def integer_boundary(model: Model) -> Model:
    """Inputs that are only quantized, all in one way, and outputs that are only dequantized are stored as integers.

    before: `p = QUANTIZE(x); q = CONV_2D(p, ...); y = DEQUANTIZE(q)`
    after:  `q = CONV_2D(x, ...)`, with x and the output q in integers

    Their scales and zero points are those of the operands; names stay.
    """
    operands, outputs = list(model.operands), list(model.outputs)
    merged: dict[int, int] = {}
    for i in model.inputs:
        readers = [model.operations[n] for n in model.consumers.get(i, ())]
        stored = [operands[o.outputs[0]] for o in readers if o.type == "QUANTIZE"]
        alike = len({(o.type, o.scale, o.zero_point) for o in stored}) == 1
        if not alike or len(stored) < len(readers) or any(o.outputs[0] in outputs for o in readers):
            continue
        operands[i] = replace(stored[0], dimensions=operands[i].dimensions, name=operands[i].name)
        merged |= {o.outputs[0]: i for o in readers}
    for k, i in enumerate(outputs):
        writer = model.producers.get(i)
        if writer is None or model.operations[writer].type != "DEQUANTIZE":
            continue
        source = model.operations[writer].inputs[0]
        if source in merged or source not in model.producers or source in outputs:
            continue  # a model's output is written by an operation, and is no other output
        operands[source] = replace(operands[source], name=operands[i].name)
        outputs[k] = source
    if not merged and tuple(outputs) == model.outputs:
        return model
    operations = [
        replace(o, inputs=tuple(merged.get(i, i) for i in o.inputs))
        for o in model.operations
        if not (o.type == "QUANTIZE" and o.outputs[0] in merged)
    ]
    return assemble(model, operands, operations, outputs)
