"""The limit of an output follows from how its values were computed, through everything that only moves or converts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ops.types import B8, F16, F32, I32, Q8, Array, Operand
from nnapi.partitioning.accuracy import difference
from nnapi.partitioning.origins import Origin, Origins

X = np.linspace(-1, 1, 1000, dtype=np.float32)
COMPARISONS = {
    "float32 a bit off": (Operand(F32, (1000,)), X, X + 1e-4, False, None),
    "float32 off": (Operand(F32, (1000,)), X, X * 1.01, False, "SQNR 40.0 dB, limit 60 dB"),
    "16-bit floats, relaxed": (Operand(F32, (1000,)), X, X * 1.01, True, None),
    "one step": (Operand(Q8, (4,), 0.1, 128), np.full(4, 200, np.uint8), np.full(4, 201, np.uint8), False, None),
    "another index": (Operand(I32, (4,)), np.arange(4, dtype="i4"), np.zeros(4, "i4"), False, "75.0% of the values"),
    "another shape": (Operand(F32, (4,)), X[:4], X[:3], False, "float32[3], must be float32[4]"),
    "not a number on both": (Operand(F32, (2,)), np.full(2, np.nan, "f4"), np.ones(2, "f4"), False, None),
}


@pytest.mark.parametrize("case", COMPARISONS.values(), ids=COMPARISONS.keys())
def test_difference(case: tuple[Operand, Array, Array, bool, str | None]) -> None:
    operand, expected, actual, relaxed, problem = case
    model = Model(
        (Operand(operand.type, operand.dimensions, operand.scale, operand.zero_point, name="y"),), (), (), (0,)
    )
    found = difference(model, [expected], [actual], relaxed=relaxed)
    assert found is None if problem is None else found is not None and found.startswith(f"output y: {problem}")


SCALE = 1 / 16
SHAPE = (1, 4, 4, 4)


def ints(*values: int) -> Array:
    return np.array(values, np.int32)


def nested(name: str, body: Callable[[Builder, Ref], Ref]) -> Model:
    b = Builder(name)
    b.output(body(b, b.input("v", F32, SHAPE)))
    return b.finish()


def chosen(b: Builder, x: Ref) -> Ref:
    branch = nested("branch", lambda b, v: b.add("TRANSPOSE", {"input": v, "perm": ints(0, 3, 1, 2)}))
    condition = b.constant(np.ones(1, np.bool_))
    return b.add(
        "IF", {"condition": condition, "then_model": branch, "else_model": branch, "inputs": [x]}, Operand(F32, SHAPE)
    )


MOVES: dict[str, Callable[[Builder, Ref], Ref]] = {
    "as it is": lambda b, x: x,
    "RESHAPE": lambda b, x: b.add("RESHAPE", {"input": x, "shape": ints(4, 16)}),
    "TRANSPOSE": lambda b, x: b.add("TRANSPOSE", {"input": x, "perm": ints(0, 3, 1, 2)}),
    "SQUEEZE": lambda b, x: b.add("SQUEEZE", {"input": x, "axes": ints(0)}),
    "EXPAND_DIMS": lambda b, x: b.add("EXPAND_DIMS", {"input": x, "axis": 0}),
    "SPLIT": lambda b, x: b.add_many("SPLIT", {"input": x, "axis": 1, "num_splits": 2})[0],
    "SLICE": lambda b, x: b.add("SLICE", {"input": x, "begin": ints(0, 1, 0, 0), "size": ints(1, 2, -1, -1)}),
    "STRIDED_SLICE": lambda b, x: b.add("STRIDED_SLICE", {
        "input": x, "begin": ints(0, 3, 0, 0), "end": ints(1, 0, 4, 4), "strides": ints(1, -1, 1, 2),
        "begin_mask": 0, "end_mask": 0, "shrink_axis_mask": 0,
    }),
    "CONCATENATION": lambda b, x: b.add("CONCATENATION", {"inputs": [x, x], "axis": 1}),
    "PAD": lambda b, x: b.add("PAD", {"input": x, "paddings": np.array([[0, 0], [1, 1], [0, 2], [0, 0]], np.int32)}),
    "GATHER": lambda b, x: b.add("GATHER", {"input": x, "axis": 1, "indices": ints(3, 0, 0)}),
    "TILE": lambda b, x: b.add("TILE", {"input": x, "multiples": ints(1, 2, 1, 1)}),
    "REVERSE": lambda b, x: b.add("REVERSE", {"input": x, "axis": ints(1)}),
    "DEPTH_TO_SPACE": lambda b, x: b.add("DEPTH_TO_SPACE", {"input": x, "block_size": 2}),
    "CHANNEL_SHUFFLE": lambda b, x: b.add("CHANNEL_SHUFFLE", {"input": x, "num_groups": 2, "axis": 3}),
    "PACK": lambda b, x: b.add("PACK", {"axis": 0, "inputs": [x, x]}),
    "an index that is computed": lambda b, x: b.add("GATHER", {
        "input": x, "axis": 1, "indices": b.add("CAST", {"input": b.input("i", F32, (3,))}, Operand(I32, (3,))),
    }),
    "IF": chosen,
}  # fmt: skip
COMPUTED: dict[str, Callable[[Builder, Ref], Ref]] = {
    "RELU": lambda b, x: b.add("RELU", {"input": x}),
    "MAX_POOL_2D": lambda b, x: b.add("MAX_POOL_2D", {
        "input": x, "padding_left": 0, "padding_right": 0, "padding_top": 0, "padding_bottom": 0, "stride_width": 1,
        "stride_height": 1, "filter_width": 2, "filter_height": 2, "activation": 0,
    }),
    "NEG": lambda b, x: b.add("NEG", {"input": x}),
    "ABS": lambda b, x: b.add("ABS", {"input": x}),
    "ADD": lambda b, x: b.add("ADD", {"input0": x, "input1": x, "activation": 0}),
    "MAXIMUM": lambda b, x: b.add("MAXIMUM", {"input0": x, "input1": np.full((1,), -9, np.float32)}),
}  # fmt: skip


def rounded(move: Callable[[Builder, Ref], Ref], stored: Operand) -> Model:
    """x, sent through integers or halves and back, then moved."""
    b = Builder("rounded")
    x = b.add("NEG", {"input": b.input("x", F32, SHAPE)})
    there, back = ("CAST", "CAST") if stored.type == F16 else ("QUANTIZE", "DEQUANTIZE")
    y = b.add(back, {"input": b.add(there, {"input": x}, stored)}, Operand(F32, SHAPE))
    b.output(move(b, y))
    return b.finish()


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES.keys())
def test_integers_are_followed_through_what_moves_them(move: Callable[[Builder, Ref], Ref]) -> None:
    """Few steps are used, of which one may be lost in each value; more is too much."""
    model = rounded(move, Operand(Q8, SHAPE, SCALE, 128))
    indexes = [np.zeros(3, np.float32)] * (len(model.inputs) - 1)
    two, three, four = (execute(model, [np.full(SHAPE, n * SCALE, np.float32), *indexes]) for n in (2, 3, 4))
    assert difference(model, two, three, relaxed=False) is None
    assert difference(model, two, four, relaxed=False) is not None


@pytest.mark.parametrize("move", (MOVES | COMPUTED).values(), ids=(MOVES | COMPUTED).keys())
def test_halves_are_followed_through_everything(move: Callable[[Builder, Ref], Ref]) -> None:
    model, fine = rounded(move, Operand(F16, SHAPE)), rounded_not_at_all(move)
    wanted = np.resize(X[::16], model.output_operands[0].dimensions)
    off = [wanted * np.float32(1.003)]
    assert difference(model, [wanted], off, relaxed=False) is None
    assert "limit 60 dB" in (difference(fine, [wanted], off, relaxed=False) or "")
    assert "limit 30 dB" in (difference(model, [wanted], [wanted * np.float32(1.1)], relaxed=False) or "")


def rounded_not_at_all(move: Callable[[Builder, Ref], Ref]) -> Model:
    b = Builder("fine")
    b.output(move(b, b.add("NEG", {"input": b.input("x", F32, SHAPE)})))
    return b.finish()


@pytest.mark.parametrize("operation", COMPUTED.values(), ids=COMPUTED.keys())
def test_what_computes_is_where_values_begin(operation: Callable[[Builder, Ref], Ref]) -> None:
    model = rounded(operation, Operand(Q8, SHAPE, SCALE, 128))
    (output,) = model.outputs
    assert [origin for origin, _ in Origins(model).of(output, model.operands[output].dimensions)] == [
        Origin(output, "rounded")
    ]


def parts() -> Model:
    """Boxes in steps of 2 and scores in steps of 1/256, joined and turned round."""
    b = Builder("detector")
    sides = []
    for name, scale, width in (("boxes", 2.0, 4), ("scores", 1 / 256, 2)):
        x = b.add("ABS", {"input": b.input(name, F32, (1, 8, width))})
        q = b.add("QUANTIZE", {"input": x}, Operand(Q8, (1, 8, width), scale, 0))
        sides.append(b.add("DEQUANTIZE", {"input": q}, Operand(F32, (1, 8, width))))
    joined = b.add("CONCATENATION", {"inputs": sides, "axis": 2})
    b.output(b.add("TRANSPOSE", {"input": joined, "perm": ints(0, 2, 1)}))
    return b.finish()


OFF = {
    "a step of each": (2.0, 1 / 256, None),
    "the scores are gone": (0.0, -0.5, "SQNR"),
    "the boxes are gone": (-300.0, 0.0, "SQNR"),
}


@pytest.mark.parametrize("case", OFF.values(), ids=OFF.keys())
def test_each_part_of_a_concatenation_is_judged_by_itself(case: tuple[float, float, str | None]) -> None:
    boxes, scores, problem = case
    wanted = np.concatenate([np.full((1, 4, 8), 300, np.float32), np.full((1, 2, 8), 0.5, np.float32)], 1)
    got = wanted.copy()
    got[:, :4] += np.float32(boxes)
    got[:, 4:] += np.float32(scores)
    found = difference(parts(), [wanted], [got], relaxed=False)
    assert found is None if problem is None else found is not None and problem in found


def test_integers_that_are_cast_are_integers_still() -> None:
    b = Builder("cast")
    q = b.add("QUANTIZE", {"input": b.input("x", F32, (100,))}, Operand(Q8, (100,), SCALE, 3))
    b.output(b.add("CAST", {"input": q}, Operand(F32, (100,))))
    model, wanted = b.finish(), np.resize(np.arange(-9, 10, dtype=np.float32), 100)
    assert difference(model, [wanted], [wanted + 1], relaxed=False) is None
    assert difference(model, [wanted], [wanted + 9], relaxed=False) is not None


def test_a_coarse_step_outlives_a_finer_one() -> None:
    b = Builder("twice")
    x, coarse, fine = b.input("x", F32, (50,)), Operand(Q8, (50,), 1.0, 0), Operand(Q8, (50,), 1 / 64, 0)
    y = b.add("DEQUANTIZE", {"input": b.add("QUANTIZE", {"input": x}, coarse)}, Operand(F32, (50,)))
    b.output(b.add("QUANTIZE", {"input": y}, fine))
    wanted = np.full(50, 128, np.uint8)
    assert difference(b.finish(), [wanted], [wanted - 64], relaxed=False) is None


def test_truth_values_are_exact() -> None:
    b = Builder("less")
    x = b.input("x", F32, (400,))
    b.output(b.add("LESS", {"input0": x, "input1": np.zeros(1, np.float32)}, Operand(B8, (400,))))
    wanted, got = np.ones(400, np.bool_), np.ones(400, np.bool_)
    got[:3] = False
    assert difference(b.finish(), [wanted], [got], relaxed=False) is None
    got[:9] = False
    assert "2.2% of the values differ" in (difference(b.finish(), [wanted], [got], relaxed=False) or "")


def test_endless_moves_are_followed_for_a_while() -> None:
    b = Builder("moved")
    x = b.add("NEG", {"input": b.input("x", F32, (2, 3))})
    for _ in range(2000):
        x = b.add("TRANSPOSE", {"input": x, "perm": ints(1, 0)})
    b.output(x)
    wanted = np.ones((2, 3), np.float32)
    assert difference(b.finish(), [wanted], [wanted], relaxed=False) is None
    assert difference(b.finish(), [wanted], [-wanted], relaxed=False) is not None
