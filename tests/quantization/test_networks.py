"""Networks of the zoo in integers: engines agree, trained ones keep their accuracy, memory stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.ir.subgraph import extract
from nnapi.ir.verify import verify
from nnapi.pipeline import load, optimize
from nnapi.quantization.expose import Exposed
from nnapi.quantization.judge import quantized_inputs
from nnapi.quantization.quantize import quantize_model
from nnapi.quantization.report import measure

torch = pytest.importorskip("torch")
slow = pytest.mark.slow
pytest.importorskip("ai_edge_litert")

NETWORKS = [
    "digits",
    "mlp",
    "vdsr",
    *(pytest.param(n, marks=slow) for n in ("mobilenet_v2", "mobilenet_v3_small", "unet", "srgan", "deeplab_v3_plus")),
    *(pytest.param(n, marks=slow) for n in ("mobilenet_v3_large", "inception_v3", "vgg19", "transformer_encoder")),
]


@pytest.mark.parametrize("name", NETWORKS)
def test_reference_and_litert_agree(name: str) -> None:
    """Operation by operation, on the same inputs: random networks amplify one step of rounding without end."""
    from nnapi import zoo
    from nnapi.zoo.weights import sample

    module, inputs = zoo.build(name, small=True)
    generator = torch.Generator().manual_seed(3)
    shape = tuple(inputs[0].shape)
    images = [sample(shape, generator).numpy() for _ in range(4)]
    quantized = quantize_model(optimize(load(module, inputs)), images, {"base": "int8", "recovery": []}).model
    verify(quantized)
    outputs = [i for o in quantized.operations for i in o.outputs]
    example = quantized_inputs(quantized, (images[0],))
    values = dict(zip(quantized.inputs, example)) | dict(Exposed(quantized, outputs).run(example))
    near, total = 0, 0
    for n, operation in enumerate(quantized.operations):
        part = extract(quantized, [n])
        if not all(quantized.operands[i].type.is_quantized for i in part.outputs):
            continue
        exact = execute(part.model, [values[i] for i in part.inputs])
        for i, x in zip(part.outputs, exact):
            apart = np.abs(x.astype(np.int32) - values[i].astype(np.int32))
            assert apart.size
            near, total = near + int((apart <= 1).sum()), total + apart.size
            assert (apart <= 1).mean() >= 0.99, operation.label
    assert near / total >= 0.999


# recipe, points of accuracy that may be lost: the 0.5 and 1, and one image of 360
@pytest.mark.parametrize("recipe, points", [("int8", 0.5), ("uint8", 1.0)])
def test_digits_keep_their_accuracy(recipe: str, points: float) -> None:
    pytest.importorskip("sklearn")
    from nnapi.zoo import train_digits

    module, accuracy, (images, labels) = train_digits(epochs=6)
    model = optimize(load(module, (images[:1],)))
    found = quantize_model(model, images[:100].numpy(), recipe)
    report = measure(model, found, [(x[None],) for x in images.numpy()], [int(v) for v in labels])
    assert report.accuracy_before == pytest.approx(accuracy)
    assert report.accuracy_after is not None
    assert report.accuracy_after >= accuracy - points / 100 - 1 / len(labels)


def test_unknown_batches() -> None:
    """A batch that is unknown until run time is observed with whatever comes."""
    from quantization.graphs import examples, small

    model = small()
    (x,) = model.inputs
    operands = list(model.operands)
    operands[x] = replace(operands[x], dimensions=(0, 6, 6, 3))
    found = quantize_model(replace(model, operands=tuple(operands)), examples(model, 4), "int8")
    verify(found.model)
