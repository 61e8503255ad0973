"""Each pass on small models, text in, text out: tests/golden/passes/<pass>.txt.

A case is a line `# what it shows {options}`, the model before, `=>` and the model after. `--update-golden` writes the
models after anew; look at the difference.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nnapi.ir.model import Model
from nnapi.ir.text import parse_model, print_model
from nnapi.ir.verify import verify
from nnapi.passes.default import DEFAULT
from nnapi.passes.inline_composites import inline_composites
from nnapi.passes.layout import to_layout
from passes.agreement import assert_same_function

FOLDER = Path(__file__).parent.parent / "golden" / "passes"
FILES = {"to_layout": "layout"}
"""Passes whose file has another name."""


class Case(NamedTuple):
    function: Callable[..., Model]
    options: dict[str, Any]
    title: str
    before: str
    after: str

    @property
    def id(self) -> str:
        return f"{self.function.__name__}-{self.title.split('{')[0].strip().replace(' ', '-')}"


def read(path: Path) -> Iterator[Case]:
    name = path.stem
    function = getattr(importlib.import_module(f"nnapi.passes.{FILES.get(name, name)}"), name)
    for block in re.split(r"^# ", path.read_text(), flags=re.MULTILINE)[1:]:
        title, _, models = block.partition("\n")
        before, _, after = models.partition("=>\n")
        options = json.loads(title[title.index("{") :]) if "{" in title else {}
        yield Case(function, options, title, before.strip(), after.strip())


def write(path: Path, cases: list[Case]) -> None:
    blocks = (f"# {c.title}\n{c.before}\n=>\n{run(c)}\n" for c in cases)
    path.write_text("\n".join(blocks))


def run(case: Case) -> str:
    return print_model(case.function(parse_model(case.before), **case.options))


CASES = [case for path in sorted(FOLDER.glob("*.txt")) for case in read(path)]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_the_model_after_is_as_written(case: Case, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        path = FOLDER / f"{case.function.__name__}.txt"
        write(path, list(read(path)))
        pytest.skip("written")
    assert run(case) == case.after


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_the_function_stays_the_same(case: Case) -> None:
    before = parse_model(case.before)
    after = case.function(before, **case.options)
    verify(after)
    assert_same_function(before, after)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_a_model_with_nothing_to_do_is_the_same_object(case: Case) -> None:
    once = case.function(parse_model(case.before), **case.options)
    assert case.function(once, **case.options) is once


def test_every_pass_that_everybody_gets_has_cases() -> None:
    passes = {each.__name__ for each in (*DEFAULT, inline_composites, to_layout)}
    assert passes <= {path.stem for path in FOLDER.glob("*.txt")}
