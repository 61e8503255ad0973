"""Outputs of several parts: a detector's boxes and scores are stored, judged and reported each by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nnapi.cli import main
from nnapi.exporters.save import save
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ops.types import F32
from nnapi.quantization.judge import Judge, real_outputs
from nnapi.quantization.metrics import sqnr
from nnapi.quantization.parts import parts_of
from nnapi.quantization.quantize import quantize_model
from nnapi.quantization.report import measure
from quantization.graphs import conv, image

BOXES, SCORES = 400.0, 1.0


def reshaped(b: Builder, x: Ref, *shape: int) -> Ref:
    return b.add("RESHAPE", {"input": x, "shape": list(shape)})


def cat(b: Builder, *refs: Ref, axis: int = 2) -> Ref:
    return b.add("CONCATENATION", {"inputs": list(refs), "axis": axis}, name="head")


def transposed(b: Builder, x: Ref, *perm: int) -> Ref:
    return b.add("TRANSPOSE", {"input": x, "perm": list(perm)})


def boxes_and_scores(b: Builder, *, sigmoid: bool) -> tuple[Ref, Ref]:
    """Boxes [1, 36, 4] from 0 to about 400 and scores [1, 36, 3] from 0 to 1."""
    x = conv(b, image(b), 8, 1, activation=1)
    boxes = conv(b, x, 4, 2, activation=1, gain=BOXES)
    scores = conv(b, x, 3, 3, activation=0 if sigmoid else 3, gain=0.2)
    scores = b.add("LOGISTIC", {"input": scores}, name="scores") if sigmoid else scores
    return reshaped(b, boxes, 1, 36, 4), reshaped(b, scores, 1, 36, 3)


HEADS: dict[str, Callable[[Builder, Ref, Ref], list[Ref]]] = {
    "joined": lambda b, x, y: [cat(b, x, y)],
    "scores first": lambda b, x, y: [cat(b, y, x)],
    "transposed": lambda b, x, y: [transposed(b, cat(b, x, y), 0, 2, 1)],
    "along channels": lambda b, x, y: [cat(b, transposed(b, x, 0, 2, 1), transposed(b, y, 0, 2, 1), axis=1)],
    "joined twice": lambda b, x, y: [cat(b, cat(b, x, y), cat(b, x, y), axis=1)],
    "beside another output": lambda b, x, y: [y, cat(b, x, y)],
    "two outputs": lambda b, x, y: [x, y],
}


def head(name: str, *, sigmoid: bool = False) -> Model:
    b = Builder("head")
    b.output(*HEADS[name](b, *boxes_and_scores(b, sigmoid=sigmoid)))
    return b.finish()


def inputs(count: int = 16, seed: int = 0) -> list[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(1, 6, 6, 3)).astype(np.float32),) for _ in range(count)]


# least dB of the scores: 8 bits of a part of its own; mixed may stop where answers agree
RECIPES = {"int8": 30.0, "int8_float_io": 30.0, "uint8": 25.0, "int16x8": 35.0, "mixed": 25.0}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", HEADS)
def test_scores_survive_beside_boxes(name: str, recipe: str) -> None:
    model = head(name)
    found = quantize_model(model, inputs(), recipe)
    judge = Judge(model, inputs(seed=1))
    ratios = judge.ratios(real_outputs(found.model, inputs(seed=1)))
    assert len(ratios) >= 2
    assert min(ratios) > RECIPES[recipe], ratios


def test_sigmoid_scores() -> None:
    model = head("joined", sigmoid=True)
    found = quantize_model(model, inputs(), "int8")
    assert Judge(model, inputs(seed=1)).sqnr(found.model) > 30


@pytest.mark.parametrize("name", HEADS)
def test_parts_are_where_their_values_are(name: str) -> None:
    """The whole hides what the worst part says: noise of 0.1 beside boxes."""
    model = head(name)
    given = inputs(4)
    results = real_outputs(model, given)
    noisy = [[y + np.where(y <= SCORES + 5, np.float32(0.3), 0) for y in r] for r in results]
    judge = Judge(model, given)
    values = [np.concatenate([p.of(r[p.output]) for r in results]) for p in judge.parts]
    assert sum(v.size for v in values) == sum(y.size for r in results for y in r)
    assert min(judge.ratios(noisy)) < 15
    assert {float(v.max()) > 20 for v in values} == {True, False}
    assert not [v for v in values if v.max() <= 6 and v.min() < 0]  # scores are clipped to 0..6


def test_parts_alike_stay_together_in_integers() -> None:
    b = Builder("alike")
    x = conv(b, image(b), 8, 1, activation=1)
    b.output(cat(b, conv(b, x, 4, 2), conv(b, x, 4, 3), axis=3))
    found = quantize_model(b.finish(), inputs(), "int8")
    assert {c.precision for c in found.table.operations.values()} == {"int8"}


def test_a_batch_that_is_unknown() -> None:
    b = Builder("batch")
    x = b.input("x", F32, (0, 4))
    large = b.add("MUL", {"input0": x, "input1": np.full(4, 400, np.float32), "activation": 0})
    b.output(b.add("CONCATENATION", {"inputs": [x, large], "axis": 1}))
    model = b.finish()
    parts = parts_of(model, [(np.zeros((3, 4), np.float32),)])
    assert [p.at.tolist()[:5] for p in parts if p.at is not None] == [[0, 1, 2, 3, 8], [4, 5, 6, 7, 12]]
    assert len(parts_of(model, [(np.zeros((n, 4), np.float32),) for n in (2, 3)])) == 1


def test_the_report_and_the_command_say_each_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = head("joined")
    found = quantize_model(model, inputs(), "int8")
    report = measure(model, found)
    assert len(report.parts) == 2
    assert report.outputs[0] == min(p.sqnr for p in report.parts)
    (row,) = [r for r in report.floats if "head" in r.operation]
    assert "ranges differ" in row.reason
    save(model, tmp_path / "m.nnapi")
    np.savez(tmp_path / "c.npz", x=np.concatenate([x[0] for x in inputs()]))
    assert main(["quantize", str(tmp_path / "m.nnapi"), "-c", str(tmp_path / "c.npz")]) == 0
    shown = capsys.readouterr().out
    assert "the worst part, on 16 examples" in shown
    assert shown.count("  RESHAPE: SQNR") == 2 or shown.count("  CONV_2D 'conv") == 2


def test_the_whole_flatters() -> None:
    """Why parts: scores that are all lost, and 44 dB for the output."""
    given = inputs(4)
    model = head("joined")
    results = real_outputs(model, given)
    lost = [[np.where(y <= 6, np.float32(0), y) for y in r] for r in results]
    whole = sqnr(np.concatenate([r[0].ravel() for r in results]), np.concatenate([r[0].ravel() for r in lost]))
    assert whole > 30
    assert Judge(model, given).ratios(lost)[1] < 3
