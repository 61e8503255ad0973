"""The page of all operations, made from the operation table: `python -m nnapi.report.operations docs/operations.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from nnapi.conformance.generate import generate
from nnapi.drivers import registry
from nnapi.drivers.driver import Accept, Driver
from nnapi.ir.model import Model
from nnapi.ops.op import Op, Param, Result, Signature, TypeExpr
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import ANDROID, BEYOND, MAX_RANK, OperandType
from nnapi.passes.layout import to_layout

USES = 24
"""How many uses of an operation each driver is asked about."""
_NO_DRIVERS: Mapping[str, Sequence[str]] = MappingProxyType({})
_HEAD = """\
# Operations

Made from the operation table (`src/nnapi/ops`) by `make docs`; do not edit.

Each operation has a code, the feature level that added it, one or more signatures, and the rows of types that may be
used together. A type of one letter stands for the types of a row. *Level* is the feature level that a type or an input
needs where that is above the operation's own; types at 16x8 are in none, only TFLite's kernels take them
([design/0006](design/0006-int16x8.md)).

| level | first Android release |
|---|---|
"""


def operations_page(drivers: Mapping[str, Sequence[str]] = _NO_DRIVERS) -> str:
    """The page, in Markdown; `drivers` names the devices that take an operation, by operation.

    >>> "## CONV_2D" in operations_page({"CONV_2D": ["litert"]}).splitlines()
    True
    """
    ops = sorted(OPERATIONS.values(), key=lambda op: op.name)
    lines = [_HEAD + "\n".join(f"| {level} | {release} |" for level, release in ANDROID.items())]
    lines += ["", *_index(ops)]
    for op in ops:
        lines += ["", *_section(op, drivers.get(op.name, ()))]
    return "\n".join(lines) + "\n"


def _index(ops: Sequence[Op]) -> Iterator[str]:
    yield f"{len(ops)} operations by the level that added them:"
    yield ""
    for level in sorted({op.since for op in ops}):
        names = [f"[{op.name}](#{op.name.lower()})" for op in ops if op.since == level]
        yield f"- **{level}**: " + ", ".join(names)


def _section(op: Op, drivers: Sequence[str]) -> Iterator[str]:
    yield f"## {op.name}"
    yield ""
    yield f"Code {op.code}, since level {op.since} ({ANDROID[op.since]}). `{op.formula}`"
    for signature in op.signatures:
        yield ""
        yield from _inputs(op, signature)
    yield ""
    yield from _table(("output", "type", "scale and zero point"), map(_output, op.outputs))
    if any(row.bind for row in op.types):
        yield ""
        yield from _types(op)
    if drivers:
        yield ""
        yield f"Taken, for some types and uses at least, by {', '.join(drivers)}."


def _inputs(op: Op, signature: Signature) -> Iterator[str]:
    if signature.name:
        yield f"With {signature.name}:"
        yield ""
    rows = [(p.name, _type(p.type), _rank(p), _notes(op, p)) for p in signature.inputs]
    yield from _table(("input", "type", "rank", "notes"), rows)


def _rank(param: Param) -> str:
    if param.rank is None:
        return ""
    if isinstance(param.rank, int):
        return str(param.rank)
    low, high = param.rank
    return f"{low} or more" if high == MAX_RANK else f"{low} to {high}"


def _notes(op: Op, param: Param) -> str:
    notes = {
        f"level {param.since}": param.since > op.since,
        f"default {param.default}": param.default is not None,
        "may be omitted": param.omissible,
        "any number": param.variadic,
        "constant": param.constant,
    }
    return ", ".join(note for note, holds in notes.items() if holds)


def _output(result: Result) -> tuple[str, str, str]:
    if isinstance(result.quant, str):
        quant = f"as {result.quant}"
    else:
        quant = "; ".join(f"{t.name}: {scale:g}, {zero}" for t, (scale, zero) in (result.quant or {}).items())
    return result.name + (", ..." if result.variadic else ""), _type(result.type), quant


def _types(op: Op) -> Iterator[str]:
    """The rows of types: a table, or one line where they bind one letter."""
    letters = list(op.types[0].bind)
    rows = [([row.bind[letter].name for letter in letters], max(row.since, op.since)) for row in op.types]
    if len(letters) > 1:
        yield from _table((*letters, "level"), [(*types, _level(level)) for types, level in rows])
    else:
        notes = ["" if n == op.since else f" ({_level(n)})" if n == BEYOND else f" (level {n})" for _, n in rows]
        yield f"{letters[0]}: {', '.join(type + note for ((type,), _), note in zip(rows, notes))}"


def _level(level: int) -> str:
    return "16x8" if level == BEYOND else str(level)


def _type(expr: TypeExpr) -> str:
    if isinstance(expr, str):
        return expr
    if isinstance(expr, OperandType):
        return expr.name
    others = [t for t in OperandType if t not in expr and not t.is_oem]
    return " or ".join(t.name for t in expr) if len(others) > 2 else f"any but {' and '.join(t.name for t in others)}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]] | Iterator[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def takers(drivers: Sequence[Driver]) -> dict[str, list[str]]:
    """Which of the drivers take at least one of some seeded uses of an operation, by operation."""
    taken: dict[str, list[str]] = {}
    for name in OPERATIONS:
        samples = [generate(seed, length=1, operations=[name]).model for seed in range(USES)]
        taken[name] = [d.name for d in drivers if any(_takes(d, model) for model in samples)]
    return taken


def _takes(driver: Driver, model: Model) -> bool:
    model = model if driver.layout is None else to_layout(model, driver.layout)
    return all(isinstance(verdict, Accept) for verdict in driver.supported(model))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(operations_page(takers(registry.available())))
