"""The stages as they are called: what just works, and what is refused in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nnapi
from models import chain
from nnapi import pipeline
from nnapi.drivers.reference import ReferenceDriver
from nnapi.errors import DeviceUnavailable, ModelError, NnapiError, QuantizeError, UsageError
from nnapi.quantization.recipe import read_recipe

X = np.arange(4, dtype=np.float32).reshape(1, 4)
MODEL = chain("ADD", "MUL")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    nnapi.save(MODEL, tmp_path / "model.nnapi")
    return tmp_path / "model.nnapi"


WORKS: dict[str, Callable[[Path], nnapi.Session]] = {
    "a path": lambda path: nnapi.compile(path, "reference"),
    "a path as text": lambda path: nnapi.compile(str(path), "reference"),
    "devices one after the other": lambda path: nnapi.compile(path, (name for name in ["reference"])),
    "a driver": lambda path: nnapi.compile(path, ReferenceDriver()),
    "a driver's type": lambda path: nnapi.compile(path, [ReferenceDriver()]),
    "stage by stage": lambda path: nnapi.build(nnapi.partition(path, "reference"), "reference"),
    "optimized": lambda path: nnapi.compile(nnapi.optimize(path), "reference"),
}


@pytest.mark.parametrize("make", WORKS.values(), ids=WORKS.keys())
def test_what_just_works(make: Callable[[Path], nnapi.Session], path: Path) -> None:
    np.testing.assert_array_equal(make(path)(X)[0], (X + X) * X)


def test_paths_for_the_other_stages(path: Path) -> None:
    assert [v.accepted for v in nnapi.check(path, "reference")] == [2]
    assert nnapi.quantize(str(path), [X]).operations
    recipe = path.with_name("mine.json")
    recipe.write_text('{"base": "uint8"}')
    assert read_recipe(recipe).activations == "uint8"


REFUSED: dict[str, tuple[Callable[[], object], type[NnapiError], str]] = {
    "a module alone": (
        lambda: nnapi.compile(torch.nn.Linear(3, 2)),
        UsageError,
        r"a module needs example inputs; nnapi\.load\(module, ",
    ),
    "a module and its inputs": (
        lambda: nnapi.compile(torch.nn.Linear(3, 2), torch.zeros(1, 3)),
        UsageError,
        r"tensor\(.*\) is no device; devices are names",
    ),
    "an array": (lambda: nnapi.compile(np.zeros(3)), UsageError, "an array is no model"),
    "no model": (lambda: nnapi.compile(None), UsageError, "a NoneType is no PyTorch model; pass a module"),
    "no file": (lambda: nnapi.compile("none.nnapi"), ModelError, "cannot read none.nnapi: No such file"),
    "a null character": (lambda: nnapi.load("a\0b"), ModelError, r"cannot read a\\x00b: "),
    "half a character": (lambda: nnapi.load("a\ud800b"), ModelError, r"cannot read a\\ud800b"),
    "devices of 3": (lambda: nnapi.compile(MODEL, devices=3), UsageError, "3 is no device; devices are names"),  # type: ignore[arg-type]
    "a list of numbers": (lambda: nnapi.check(MODEL, [1]), UsageError, "1 is no device"),  # type: ignore[list-item]
    "a driver's class": (lambda: nnapi.compile(MODEL, ReferenceDriver), UsageError, "is no device"),  # type: ignore[arg-type]
    "no devices": (lambda: nnapi.compile(MODEL, []), DeviceUnavailable, "no device is named; there are litert"),
    "no recipe": (lambda: nnapi.quantize(MODEL, [X], None), QuantizeError, "recipe is None; known: dynamic_range"),  # type: ignore[arg-type]
    "threads": (lambda: nnapi.compile(MODEL, num_threads="2"), UsageError, "num_threads is '2'"),  # type: ignore[arg-type]
    "half a thread": (lambda: nnapi.compile(MODEL, num_threads=1.5), UsageError, "num_threads is 1.5"),  # type: ignore[arg-type]
    "layout": (lambda: nnapi.optimize(MODEL, layout="nwhc"), UsageError, "layout is 'nwhc', must be nhwc or nchw"),  # type: ignore[arg-type]
    "precision": (lambda: nnapi.compile(MODEL, precision=None), UsageError, "precision is None"),  # type: ignore[arg-type]
    "cache": (lambda: nnapi.compile(MODEL, cache_dir=3), UsageError, "cache_dir is 3, must be a path"),  # type: ignore[arg-type]
    "no plan": (lambda: nnapi.build(MODEL), UsageError, "a Model is no plan; nnapi.partition makes one"),  # type: ignore[arg-type]
    "no session": (lambda: pipeline.run(MODEL, X), UsageError, "a Model is no session"),  # type: ignore[arg-type]
    "saving a path": (lambda: nnapi.save("x.nnapi", "y.nnapi"), UsageError, "a str is no model; nnapi.load gives one"),  # type: ignore[arg-type]
    "saving to a number": (lambda: nnapi.save(MODEL, 3), UsageError, "cannot write to a int"),  # type: ignore[arg-type]
    "verifying a path": (lambda: nnapi.verify("x.nnapi"), UsageError, "a str is no model"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(call: Callable[[], object], kind: type[NnapiError], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


JUNK: dict[str, Any] = {
    "None": None, "3": 3, "-1": -1, "nan": float("nan"), "text": "x", "a null character": "a\0b", "bytes": b"x",
    "list": [], "nested": [[1]], "dict": {}, "set": {1}, "object": object(), "array": np.array(1), "model": MODEL,
}  # fmt: skip


def _arguments() -> Iterator[tuple[Callable[..., object], dict[str, Any], str]]:
    """Each public function with arguments that do, and the name of one."""
    options = {"precision": "fp32", "num_threads": 1}
    calls: list[tuple[Callable[..., object], dict[str, Any]]] = [
        (nnapi.load, {"source": MODEL}),
        (nnapi.optimize, {"model": MODEL, "layout": "nhwc"}),
        (nnapi.quantize, {"model": MODEL, "calibration": [X], "recipe": "int8", "labels": None, "table": None}),
        (nnapi.partition, {"model": MODEL, "devices": "reference", "preference": "low_power", **options}),
        (nnapi.build, {"plan": nnapi.partition(MODEL, "reference"), "devices": "reference", **options}),
        (nnapi.compile, {"model": MODEL, "devices": "reference", "preference": "low_power", **options}),
        (nnapi.check, {"model": MODEL, "target": "reference"}),
        (pipeline.profile, {"model": MODEL, "devices": "reference", **options}),
        (nnapi.verify, {"model": MODEL}),
    ]
    for function, arguments in calls:
        for name in arguments:
            yield function, arguments, name


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [*_arguments()],
    ids=lambda v: getattr(v, "__name__", v if isinstance(v, str) else ""),
)
def test_whatever_is_given_nothing_raw_is_raised(
    function: Callable[..., object], arguments: dict[str, Any], name: str
) -> None:
    for value in JUNK.values():
        try:
            function(**arguments | {name: value})
        except NnapiError as error:
            assert str(error)
