"""Fragments are found again whatever the weights, and only where the operations read each other as they did."""

from __future__ import annotations

import pytest

from models import chain
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import F32
from nnapi.partitioning.fragment import Fragment, to_leave_out


def cross(*, is_double: bool) -> Model:
    """tanh(x) + neg(tanh(x)), once; or two such whose second halves are exchanged."""
    b = Builder("cross")
    x, y = b.input("x", F32, (4,)), b.input("y", F32, (4,))
    tops = [b.add("TANH", {"input": v}) for v in (x, y)]
    lows = [b.add("NEG", {"input": v}) for v in tops]
    pairs = zip(tops, reversed(lows) if is_double else lows)
    b.output(*(b.add("ADD", {"input0": t, "input1": low, "activation": 0}) for t, low in pairs))
    return b.finish()


PATTERN = Fragment.of(cross(is_double=False), (0, 2, 4))
FOUND = {
    "each one": (PATTERN, cross(is_double=False), [(0, 2, 4), (1, 3, 5)]),
    "not what only looks alike from each operation": (PATTERN, cross(is_double=True), []),
    "nothing of other types": (PATTERN, chain("ADD", "MUL"), []),
    "one operation": (Fragment.of(chain("ADD", "MUL", size=8), (1,)), chain("ADD", "MUL", "MUL", size=7), [(1,), (2,)]),
    "not of another size class": (Fragment.of(chain("MUL", size=8), (0,)), chain("MUL", size=9), []),
    "a chain in a longer one": (Fragment.of(chain("ADD", "ADD"), (0, 1)), chain(*["ADD"] * 4), [(0, 1)]),
    "wherever it reads alike": (
        Fragment.of(chain("ADD", "ADD", "ADD"), (1, 2)),
        chain(*["ADD"] * 4),
        [(0, 1), (1, 2), (2, 3)],
    ),
}


@pytest.mark.parametrize(("fragment", "model", "found"), FOUND.values(), ids=FOUND.keys())
def test_where_it_is(fragment: Fragment, model: Model, found: list[tuple[int, ...]]) -> None:
    assert fragment.occurrences(model) == found
    assert Fragment.from_json(fragment.to_json()) == fragment


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "{}", "[[1]]", '[["ADD","k",[[5,0]]]]', '[["ADD","k",["x"]]]', "0123456789", "[[" * 20_000],
    ids=lambda text: text[:12] or "nothing",
)  # fmt: skip
def test_what_is_no_fragment(text: str) -> None:
    assert Fragment.from_json(text) is None


def test_a_few_cheap_operations_are_left_out() -> None:
    model = chain("ADD", "MUL", "ADD", "MUL", "ADD")
    assert to_leave_out(model, [(0, 1), (1, 2), (3, 4)]) == [1, 3]
    assert to_leave_out(model, []) == []
