"""Names that files and callers tell operands apart by: each once."""

from __future__ import annotations

from collections.abc import Sequence

from nnapi.ops.types import Operand


class Names:
    """Names given so far in one space.

    >>> names = Names()
    >>> [names.fresh(wanted) for wanted in ("x", "y", "x", "x_1", "x")]
    ['x', 'y', 'x_1', 'x_1_1', 'x_2']
    """

    def __init__(self) -> None:
        self._given: dict[str, int] = {}

    def fresh(self, wanted: str) -> str:
        """`wanted`, or where that is taken the first of `wanted_1`, `wanted_2`, ... that is not."""
        name = wanted
        while name in self._given:
            self._given[wanted] += 1
            name = f"{wanted}_{self._given[wanted]}"
        self._given[name] = 0
        return name


def names_of(operands: Sequence[Operand], kind: str) -> tuple[str, ...]:
    """A distinct name for each input or output: its own, or `input0`, `input1`, ...

    >>> from nnapi.ops.types import F32
    >>> names_of([Operand(F32, name="x"), Operand(F32), Operand(F32, name="x")], "input")
    ('x', 'input1', 'x_1')
    """
    names = Names()
    return tuple(names.fresh(operand.name or f"{kind}{i}") for i, operand in enumerate(operands))
