"""Mixed precision without labels: the float model's answers, fewer bytes than its, or a word that there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnapi.cli import main
from nnapi.exporters.save import save
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import F32
from nnapi.pipeline import load, optimize, quantize
from nnapi.quantization.islands import islands
from nnapi.quantization.judge import Agreement, Judge, real_outputs
from nnapi.quantization.quantize import QuantizeWarning, quantize_model
from nnapi.quantization.report import measure
from nnapi.quantization.sizes import footprint

SIDE = 24


def layer(rng: np.random.Generator, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    return (rng.normal(size=(outputs, inputs)) / np.sqrt(inputs)).astype(np.float32), np.zeros(outputs, np.float32)


def network(*loud: int, classes: int = 10, depth: int = 6) -> Model:
    """Fully connected layers; after those in `loud` one value of 3000 is beside others of 1, and TANH makes them alike.

    In 8 bits the others are gone.
    """
    b = Builder("loud")
    rng = np.random.default_rng(0)
    x = b.input("x", F32, (1, SIDE))
    for n in range(depth):
        filter, bias = layer(rng, x.operand.dimensions[1], SIDE if n < depth - 1 else classes)
        code = 1 if n < depth - 1 else 0
        x = b.add("FULLY_CONNECTED", {"input": x, "filter": filter, "bias": bias, "activation": code}, name=f"fc{n}")
        if n in loud:
            gain = np.ones(SIDE, np.float32)
            gain[0] = 3000.0
            x = b.add("MUL", {"input0": x, "input1": gain, "activation": 0}, name=f"loud{n}")
            x = b.add("TANH", {"input": x}, name=f"quiet{n}")
    b.output(x)
    return b.finish()


def inputs(count: int = 64, seed: int = 0) -> list[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(1, SIDE)).astype(np.float32),) for _ in range(count)]


def test_what_8_bits_ruin_is_kept_and_nothing_else() -> None:
    model = network(2)
    plain = Judge(model, inputs(seed=1)).agreements(real_outputs(quantize(model, inputs(), "int8"), inputs(seed=1)))
    assert not plain[0].holds(0.005)
    found = quantize_model(model, inputs(), "mixed")
    assert Judge(model, inputs(seed=1)).agreements(real_outputs(found.model, inputs(seed=1)))[0].same > 0.95
    report = measure(model, found)
    assert report.bytes_after < 0.6 * report.bytes_before
    assert report.operations[0] >= 4
    assert not islands(found.prepared, found.table, idle=True)
    assert not found.warnings


def test_it_is_never_larger_than_float_and_says_that_nothing_is_gained() -> None:
    """Nothing multiplies here; what is loud needs floats, and the rest would be converted for nothing."""
    b = Builder("nothing")
    x = b.input("x", F32, (1, SIDE))
    gain = np.where(np.arange(SIDE) == 0, 3000.0, 1.0).astype(np.float32)
    y = b.add("MUL", {"input0": x, "input1": gain, "activation": 0}, name="loud")
    b.output(b.add("TANH", {"input": y}, name="quiet"))
    model = b.finish()
    with pytest.warns(QuantizeWarning, match="mixed: nothing is gained: no operation computes in integers"):
        result = quantize(model, inputs(), "mixed")
    assert footprint(result) <= footprint(model)
    np.testing.assert_array_equal(*(real_outputs(m, inputs(4)) for m in (model, result)))


@pytest.mark.parametrize("classes", [1, 10], ids=["numbers", "classes"])
def test_a_network_that_is_fine_computes_in_integers(classes: int) -> None:
    found = quantize_model(network(classes=classes, depth=2), inputs(), {"base": "mixed", "observer": "min_max"})
    assert {c.precision for c in found.table.operations.values()} == {"int8"}


@pytest.mark.parametrize("recipe", ["mixed", "int8_float_io"])
def test_no_conversions_for_what_only_moves(recipe: str) -> None:
    """RESHAPE between two LOG_SOFTMAX, which stay in floats."""
    b = Builder("moves")
    x = b.input("x", F32, (1, SIDE))
    y = b.add("LOG_SOFTMAX", {"input": x, "beta": 1.0, "axis": -1})
    y = b.add("RESHAPE", {"input": y, "shape": [2, SIDE // 2]})
    y = b.add("LOG_SOFTMAX", {"input": y, "beta": 1.0, "axis": -1})
    filter, bias = layer(np.random.default_rng(0), SIDE // 2, 64)
    b.output(b.add("FULLY_CONNECTED", {"input": y, "filter": filter, "bias": bias, "activation": 0}))
    found = quantize_model(b.finish(), inputs(), recipe)
    assert [o.type for o in found.model.operations] == [
        "LOG_SOFTMAX", "RESHAPE", "LOG_SOFTMAX", "QUANTIZE", "FULLY_CONNECTED", "DEQUANTIZE",
    ]  # fmt: skip


def test_the_zoo_gains_and_the_command_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    from nnapi import zoo

    module, x = zoo.build("digits")
    save(optimize(load(module, x)), tmp_path / "m.nnapi")
    np.savez(tmp_path / "c.npz", np.random.default_rng(0).normal(size=(64, 1, 8, 8)).astype(np.float32))
    command = ["quantize", str(tmp_path / "m.nnapi"), "-c", str(tmp_path / "c.npz"), "-r", "mixed"]
    assert main([*command, "-o", str(tmp_path / "q.nnapi")]) == 0
    shown = capsys.readouterr().out
    assert "mixed: weights 103.5 kB -> " in shown
    assert "% saved)" in shown
    assert "% of the multiply-accumulates in int8" in shown
    assert "as the float model's" in shown
    assert (tmp_path / "q.nnapi").stat().st_size < 0.5 * (tmp_path / "m.nnapi").stat().st_size


# explained, same, lost -> is it as good
AGREEMENTS = {
    "numbers": (Agreement(0.995), True),
    "noisy numbers": (Agreement(0.994), False),
    "classes": (Agreement(0.5, 1.0, 0.0), True),
    "one of ten otherwise": (Agreement(0.5, 0.9, 0.0), False),
    "near ties": (Agreement(0.5, 0.97, 0.004), True),
    "sure answers": (Agreement(0.5, 0.97, 0.02), False),
}


@pytest.mark.parametrize(("agreement", "holds"), AGREEMENTS.values(), ids=AGREEMENTS.keys())
def test_agreements(agreement: Agreement, holds: bool) -> None:
    assert agreement.holds(0.005) is holds


def test_agreement_counts_answers_and_what_other_ones_cost() -> None:
    model = network(depth=1, classes=2)
    given = inputs(4)
    results = [[np.array([[3.0, 1.0]], np.float32)]] * 4
    judge = Judge(model, given)
    judge._expected = results
    other = [[np.array([[1.0, 3.0]], np.float32)], *results[1:]]
    (agreement,) = judge.agreements(other)
    assert agreement.same == 0.75
    chance = 1 / (1 + np.exp(-2.0))
    assert agreement.lost == pytest.approx((chance - (1 - chance)) / 4)
    assert agreement.explained == pytest.approx(1 - 8 / 8)
