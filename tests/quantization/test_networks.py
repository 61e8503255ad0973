"""Networks of the zoo in integers: trained ones keep their accuracy, memory stays. Engines: test_engines.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nnapi.ir.verify import verify
from nnapi.pipeline import load, optimize
from nnapi.quantization.quantize import quantize_model
from nnapi.quantization.report import measure

torch = pytest.importorskip("torch")
slow = pytest.mark.slow
pytest.importorskip("ai_edge_litert")


# recipe, points of accuracy that may be lost: the goals' 0.5 and 1, and one image of 360
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
