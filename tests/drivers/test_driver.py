"""PrepareOptions: numbers of threads that no engine is given, whatever way they come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nnapi
from models import chain
from nnapi import pipeline
from nnapi.cli import main
from nnapi.drivers.driver import THREADS_PER_CORE, PrepareOptions, _cores
from nnapi.errors import UsageError
from nnapi.ir.file import save

MODEL = chain("ADD", size=4)
MOST = THREADS_PER_CORE * _cores()
ROUTES: dict[str, Callable[[Any], object]] = {
    "options": lambda n: PrepareOptions(num_threads=n),
    "compile": lambda n: nnapi.compile(MODEL, num_threads=n),
    "compile, tuned": lambda n: nnapi.compile(MODEL, num_threads=n, tune=True),
    "partition": lambda n: nnapi.partition(MODEL, num_threads=n),
    "build": lambda n: nnapi.build(nnapi.partition(MODEL), num_threads=n),
    "profile": lambda n: pipeline.profile(MODEL, num_threads=n),
}


@pytest.mark.parametrize("count", [100_000, MOST + 1, 10**30, 0, -1, 1.5, "2", True, None], ids=repr)
@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())
def test_threads_that_no_engine_is_given(route: Callable[[Any], object], count: Any) -> None:
    with pytest.raises(UsageError, match=f"num_threads is .*, must be an integer from 1 to {MOST}; 4 threads for each"):
        route(count)


@pytest.mark.parametrize("count", [1, MOST])
def test_threads_that_it_is_given(count: int) -> None:
    assert PrepareOptions(num_threads=count).num_threads == count


@pytest.mark.parametrize("words", [["run", "--random", "0"], ["bench"], ["bench", "--tune"], ["profile"]], ids=" ".join)
def test_threads_from_the_command_line(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.nnapi"
    save(MODEL, path)
    assert main([words[0], str(path), *words[1:], "-j", "100000"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"num_threads is 100000, must be an integer from 1 to {MOST}" in said


@pytest.mark.parametrize(
    "words", [["--repeats", "10000000000"], ["--seconds", "inf"], ["--warmup", "1e30"]], ids=" ".join
)
def test_measuring_that_would_not_end(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.nnapi"
    save(MODEL, path)
    assert main(["bench", str(path), *words]) == 2
    assert "is not in the range" in capsys.readouterr().err
