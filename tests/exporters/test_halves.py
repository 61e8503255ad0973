"""16-bit floats that are for storage only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import nnapi
from nnapi.drivers.reference import execute
from nnapi.exporters.halves import in_float32
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ir.verify import verify
from nnapi.ops.types import B8, F16, F32, FLOAT16, Operand

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 64)).astype(np.float32)
WIDE = RNG.standard_normal((64, 64)).astype(np.float16)


def at_the_ends() -> Model:
    """As the recipe fp16 makes it: CAST, 16 bits inside, CAST."""
    b = Builder("ends")
    x = b.add("CAST", {"input": b.input("x", F32, (2, 64))}, Operand(F16))
    y = b.add("FULLY_CONNECTED", {"input": x, "filter": WIDE, "bias": np.ones(64, np.float16), "activation": 1})
    b.output(b.add("CAST", {"input": y}, Operand(F32)), names=["y"])
    return b.finish()


def throughout() -> Model:
    """16 bits at the inputs and outputs, and a scalar."""
    b = Builder("throughout")
    y = b.add("ADD", {"input0": b.input("x", F16, (2, 64)), "input1": WIDE[0], "activation": 0})
    b.output(b.add("ELU", {"input": y, "alpha": 0.5}), names=["y"])
    return b.finish()


def read_twice() -> Model:
    """What is cast to float32 for an output is read in 16 bits too, and is an output itself."""
    b = Builder("twice")
    x = b.add("CAST", {"input": b.input("x", F32, (2, 64))}, Operand(F16))
    y = b.add("MUL", {"input0": x, "input1": WIDE[:1], "activation": 0})
    wide = b.add("CAST", {"input": y}, Operand(F32))
    b.output(
        wide,
        b.add("CAST", {"input": b.add("TANH", {"input": y})}, Operand(F32)),
        b.add("CAST", {"input": y}, Operand(F32)),
    )
    return b.finish()


def nothing_inside() -> Model:
    b = Builder("nothing")
    x = b.add("CAST", {"input": b.input("x", F32, (2, 64))}, Operand(F16))
    b.output(b.add("CAST", {"input": x}, Operand(F32)))
    return b.finish()


def in_branches() -> Model:
    def branch(kind: str) -> Model:
        b = Builder(kind)
        b.output(b.add(kind, {"input0": b.input("x", F16, (2, 64)), "input1": WIDE[:2], "activation": 0}))
        return b.finish()

    b = Builder("branches")
    x = b.add("CAST", {"input": b.input("x", F32, (2, 64))}, Operand(F16))
    condition = b.constant(np.array([True]), Operand(B8, (1,)))
    given = {"condition": condition, "then_model": b.model(branch("ADD")), "else_model": b.model(branch("SUB"))}
    (y,) = b.add_many("IF", given | {"inputs": [x]}, [Operand(F16, (2, 64))])
    b.output(b.add("CAST", {"input": y}, Operand(F32)))
    return b.finish()


MODELS: dict[str, Callable[[], Model]] = {
    f.__name__.replace("_", " "): f for f in (at_the_ends, throughout, read_twice, nothing_inside, in_branches)
}


def halves(model: Model) -> list[Operand]:
    return [o for o in model.operands if o.type in (F16, FLOAT16)]


@pytest.mark.parametrize("name", MODELS)
def test_only_large_constants_keep_16_bits(name: str) -> None:
    model = MODELS[name]()
    wide = in_float32(model)
    verify(wide)
    assert all(o.is_constant and o.value.nbytes > 128 for o in halves(wide))
    assert [o.type for o in (*wide.input_operands, *wide.output_operands)] == [F32] * (1 + len(model.outputs))
    assert [o.name for o in wide.output_operands] == [o.name for o in model.output_operands]
    given = X.astype(model.input_operands[0].type.dtype)
    for found, right in zip(execute(wide, [X]), execute(model, [given]), strict=True):
        # 16 bits keep 11 of a number, and of 64 products' sum as many.
        np.testing.assert_allclose(found, right.astype(np.float32), rtol=4e-3, atol=4e-3)


def test_float32_is_left_alone() -> None:
    b = Builder()
    b.output(b.add("RELU", {"input": b.input("x", F32, (2,))}))
    model = b.finish()
    assert in_float32(model) is model


def test_a_tflite_file_of_the_recipe_has_half_the_size(tmp_path: Path) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    b = Builder("layers")
    y = b.input("x", F32, (2, 64))
    for n in range(3):
        w = RNG.standard_normal((64, 64)).astype(np.float32)
        y = b.add("FULLY_CONNECTED", {"input": y, "filter": w, "bias": np.ones(64, np.float32), "activation": n % 2})
    b.output(y, names=["y"])
    model = b.finish()
    half = nnapi.quantize(model, recipe="fp16")
    nnapi.save(model, tmp_path / "float.tflite")
    nnapi.save(half, tmp_path / "half.tflite")
    sizes = [(tmp_path / name).stat().st_size for name in ("half.tflite", "float.tflite")]
    assert sizes[0] < 0.55 * sizes[1]
    reader = interpreter.Interpreter(str(tmp_path / "half.tflite"))
    assert [d["dtype"] for d in (*reader.get_input_details(), *reader.get_output_details())] == [np.float32] * 2
    found = reader.get_signature_runner()(x=X)["y"]
    (right,) = execute(model, [X])
    assert np.abs(found - right).max() < 2e-3 * np.abs(right).max()  # weights of 11 bits
