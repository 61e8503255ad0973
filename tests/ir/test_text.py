"""The readable form of models that share bodies."""

from __future__ import annotations

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.errors import ModelError
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ir.text import long_constants, parse_model, print_model
from nnapi.ops.types import F32, Operand

DEPTH = 20
"""Of bodies that each appear twice in the next one: 2**20 of them, written one by one."""


def negated(name: str = "negated") -> Model:
    b = Builder(name)
    b.output(b.add("NEG", {"input": b.input("x", F32, (2,))}))
    return b.finish()


def choice(then: Model, other: Model) -> Model:
    """x -> IF(true, then(x), other(x))."""
    b = Builder("choice")
    x, flag = b.input("x", F32, (2,)), b.constant(np.array([True]))
    inputs = {"condition": flag, "then_model": then, "else_model": other, "inputs": [x]}
    b.output(*b.add_many("IF", inputs, [Operand(F32, (2,))]))
    return b.finish()


TEXT = """model "choice" {
  input %0 "x": TENSOR_FLOAT32[2]
  const %1: TENSOR_BOOL8[1] = [true]
  body %2 "negated" shared 1 "negated" {
    input %0 "x": TENSOR_FLOAT32[2]
    %1: TENSOR_FLOAT32[2] = NEG(input=%0)
    output %1
  }
  body %3 "negated" shared 1
  %4: TENSOR_FLOAT32[2] = IF(condition=%1, then_model=%2, else_model=%3, inputs=%0)
  output %4
}"""


@pytest.mark.parametrize("same", [True, False], ids=["one body", "two equal ones"])
def test_a_body_is_written_once(same: bool) -> None:
    body = negated()
    model = choice(body, body if same else negated())
    text = print_model(model)
    assert text == TEXT
    again = parse_model(text)
    assert print_model(again) == text
    x = np.array([1, 2], np.float32)
    np.testing.assert_array_equal(execute(again, [x])[0], -x)


def test_bodies_that_differ_are_written_both() -> None:
    text = print_model(choice(negated("one"), negated("other")))
    assert "shared" not in text
    assert text.count("NEG") == 2


def test_bodies_within_bodies_within_bodies() -> None:
    model = negated()
    for _ in range(DEPTH):
        model = choice(model, model)
    text = print_model(model)
    assert text.count("NEG") == 1
    assert len(text) < DEPTH * 2000
    assert long_constants(model) == {}
    assert print_model(parse_model(text)) == text


WRONG = {
    "unknown": (
        TEXT.replace('%3 "negated" shared 1', '%3 "negated" shared 2'),
        "shared 2 is used before it is written",
    ),
    "no number": (TEXT.replace('%3 "negated" shared 1', '%3 "negated" shared 1.5'), "1.5 where an integer should be"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_is_shared_must_be_there(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        parse_model(text)
