"""Case files: what is read, and that nothing in a file brings the reader down."""

from __future__ import annotations

import copy
import gzip
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnapi.conformance import case_files, read_cases, run_case
from nnapi.conformance.variants import signed, unspecified_outputs
from nnapi.drivers.reference import ReferenceDriver
from nnapi.errors import ModelError, UsageError
from nnapi.ops.types import OMITTED, Q8, Q8S

Write = Callable[[Any], Path]


def test_a_case_is_read(document: dict[str, Any], write: Write) -> None:
    (case,) = read_cases(write(document))
    assert (case.id, case.operations, case.level, case.quant_coupling) == ("V1_0/add/add", ("ADD",), 1, True)
    assert [o.type for o in case.model.operations] == ["ADD"]
    x, y, *_ = case.model.operands
    assert (x.type, x.dimensions, x.scale, x.zero_point, x.value) == (Q8, (2,), 0.5, 128, None)
    np.testing.assert_array_equal(y.value, np.uint8([128, 129]))
    np.testing.assert_array_equal(case.inputs[0], np.uint8([130, 132]))
    np.testing.assert_array_equal(case.expected[0], np.uint8([130, 133]))
    assert not y.value.flags.writeable


def test_the_signed_twin_is_128_less(document: dict[str, Any], write: Write) -> None:
    twin = signed(read_cases(write(document))[0])
    x, y, _, z = twin.model.operands
    assert (twin.id, twin.level) == ("V1_0/add/add@signed", 4)
    assert [(o.type, o.zero_point) for o in (x, y, z)] == [(Q8S, 0)] * 3
    np.testing.assert_array_equal(y.value, np.int8([0, 1]))
    np.testing.assert_array_equal(twin.inputs[0], np.int8([2, 4]))
    np.testing.assert_array_equal(twin.expected[0], np.int8([2, 5]))


def test_outputs_are_left_unspecified(document: dict[str, Any], write: Write) -> None:
    case = unspecified_outputs(read_cases(write(document))[0])
    assert case is not None
    assert case.model.output_operands[0].dimensions == (0,)
    document["cases"][0]["expectFailure"] = True
    assert unspecified_outputs(read_cases(write(document))[0]) is None


def test_what_has_no_data_is_omitted(document: dict[str, Any], write: Write) -> None:
    x, y, _, z = document["cases"][0]["main"]["operands"]
    del x["data"], y["data"], z["data"]
    z["dimensions"] = [0]
    (case,) = read_cases(write(document))
    assert case.inputs == (None,)
    assert case.model.operands[1].value is OMITTED
    assert case.expected[0] is not None and case.expected[0].shape == (0,)


ADD = {"type": "ADD", "inputs": [0, 1, 2], "outputs": [3]}
MUL = {"type": "MUL", "inputs": [0, 1, 2], "outputs": [3]}


@pytest.mark.parametrize(
    ("operations", "kinds", "tested"),
    [
        ([[ADD]], [], [("ADD",)]),
        ([[MUL, ADD]], [], [("MUL", "ADD")]),
        ([[MUL, ADD]], ["all_inputs_as_internal"], [("MUL",)]),
        ([[ADD, ADD]], ["all_outputs_as_internal"], [("ADD",)]),
        ([[MUL], [ADD, MUL]], [], [("MUL",), ("MUL",)]),
    ],
    ids=["one", "two", "without the one between", "only it", "as in the one-operation case"],
)  # fmt: skip
def test_operations_under_test(operations, kinds, tested, document: dict[str, Any], write: Write) -> None:
    cases = []
    for list_of in operations:
        case = copy.deepcopy(document["cases"][0])
        case["main"]["operations"] = list_of
        case["variations"] = [{"kind": kind, "name": ""} for kind in kinds]
        cases.append(case)
    assert [c.operations for c in read_cases(write(document | {"cases": cases}))] == tested


def nested(depth: int) -> list[dict[str, Any]]:
    """Graphs that each refer to the next twice."""
    held = {"name": "m", "type": "SUBGRAPH", "dimensions": [], "scale": 0, "zeroPoint": 0, "lifetime": "SUBGRAPH"}
    return [
        {"name": "", "operands": [held | {"data": [n + 1]}] * 2, "operations": [], "inputs": [], "outputs": []}
        for n in range(depth)
    ] + [{"name": "", "operands": [], "operations": [], "inputs": [], "outputs": []}]


HELD = nested(1)[0]["operands"][0]
BROKEN = [
    ("format", ["format"], "nnapi-vectors/2", "format 'nnapi-vectors/2' must be 'nnapi-vectors/1'"),
    ("no cases", ["cases"], {}, "cases {} must be a list"),
    ("a case that is none", ["cases", 0], 7, "cases[0] is 7, must be an object"),
    ("no id", ["cases", 0, "id"], None, "id None must be a string"),
    ("flag", ["cases", 0, "expectFailure"], 1, "expectFailure 1 must be true or false"),
    ("version", ["cases", 0, "minSupportedVersion"], "V9", "minSupportedVersion 'V9' must be null or one of V1_0"),
    ("rules", ["cases", 0, "rules"], [], "rules must be 1, one per output"),
    ("rule", ["cases", 0, "rules", 0, "rule"], "close", "rule 'close' must be one of near"),
    ("tolerance", ["cases", 0, "rules", 0, "atol"], "1", "atol '1' must be a number"),
    ("inputs", ["cases", 0, "main", "inputs"], [9], "inputs [9] must be operand indexes, 0 to 3"),
    ("boolean index", ["cases", 0, "main", "inputs"], [True], "inputs [True] must be integers"),
    ("type", ["cases", 0, "main", "operands", 0, "type"], "TENSOR_INT4", "type 'TENSOR_INT4' is no operand type"),
    ("lifetime", ["cases", 0, "main", "operands", 0, "lifetime"], "ETERNAL", "lifetime 'ETERNAL' is none"),
    ("dimensions", ["cases", 0, "main", "operands", 0, "dimensions"], [-1], "dimensions [-1] must be 0 to"),
    ("size", ["cases", 0, "main", "operands", 0, "dimensions"], [3], "data has 2 elements, dimensions are [3]"),
    ("huge", ["cases", 0, "main", "operands", 0, "dimensions"], [2**31 - 1] * 9, "data has 2 elements"),
    ("value", ["cases", 0, "main", "operands", 0, "data"], [0, 256], "data [0, 256] must be 0 to 255 for uint8"),
    ("fraction", ["cases", 0, "main", "operands", 0, "data"], [0, 0.5], "data [0, 0.5] must be integers"),
    ("text", ["cases", 0, "main", "operands", 0, "data"], ["1", "2"], "data ['1', '2'] must be integers"),
    ("buffer", ["cases", 0, "main", "operands", 0, "data"], {"buffer": 1}, "must name one of 1 buffers"),
    ("buffer's type", ["buffers", 0, "dtype"], "<f4", "dtype '<f4' must be '|u1' for the operand that uses it"),
    ("buffer's data", ["buffers", 0, "b64"], "!", "b64 cannot be decoded"),
    ("model", ["cases", 0, "main", "operands", 0], HELD, "must be the index of one of 0 referenced models"),
    ("models without end", ["cases", 0, "referenced"], nested(99), "nests models deeper than 32"),
]  # fmt: skip


@pytest.mark.parametrize(("where", "value", "message"), [r[1:] for r in BROKEN], ids=[r[0] for r in BROKEN])
def test_a_broken_field_is_named(where, value, message, document: dict[str, Any], write: Write) -> None:
    target: Any = document
    for key in where[:-1]:
        target = target[key]
    target[where[-1]] = value
    if where[-1] == "referenced":
        document["cases"][0]["main"]["operands"][0] = HELD | {"data": [0]}
    path = write(document)
    with pytest.raises(ModelError) as error:
        read_cases(path)
    assert message in error.value.message
    assert error.value.location == str(path)


def test_a_model_that_contains_itself(document: dict[str, Any], write: Write) -> None:
    document["cases"][0]["main"]["operands"][0] = HELD | {"data": [0]}
    document["cases"][0]["referenced"] = [nested(1)[0] | {"operands": [HELD | {"data": [0]}]}]
    with pytest.raises(ModelError, match="refers to a model that contains it"):
        read_cases(write(document))


def test_models_are_read_once_however_often_they_are_referred_to(document: dict[str, Any], write: Write) -> None:
    document["cases"][0]["main"]["operands"].append(HELD | {"data": [0]})
    document["cases"][0]["referenced"] = nested(30)
    model = read_cases(write(document))[0].model.operands[-1].value
    assert model.operands[0].value is model.operands[1].value


FILES = [
    ("not compressed", b"{}", "Not a gzipped file"),
    ("truncated", gzip.compress(b"{}" * 999)[:-9], "Compressed file ended"),
    ("damaged", gzip.compress(b"{}")[:-8] + b"x" * 8, "CRC check failed"),
    ("not JSON", gzip.compress(b'{"format"'), "is no JSON"),
    ("not text", gzip.compress(b"\xff\xfe\xfd"), "is no JSON"),
    ("nested without end", gzip.compress(b"[" * 10**6), "is no JSON"),
    ("other JSON", gzip.compress(b"[1]"), "must be an object"),
    ("empty", b"", "is no JSON"),
    ("bomb", gzip.compress(bytes(65 * 2**20), 1), "larger than 64 MiB"),
]


@pytest.mark.parametrize(("data", "message"), [r[1:] for r in FILES], ids=[r[0] for r in FILES])
def test_a_broken_file_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "case.json.gz"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read_cases(path)


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no file \*\.json\.gz"):
        case_files(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        case_files(tmp_path / "nowhere")


ODD = (
    None,
    True,
    -1,
    0,
    3,
    2**31,
    2**70,
    0.5,
    1e300,
    float("nan"),
    "",
    "SUBGRAPH",
    "IF",
    [],
    [0, 0],
    {},
    {"buffer": 0},
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 3))
def test_any_change_is_refused_or_gives_a_case_that_can_be_judged(
    seed: int, changes: int, document: dict[str, Any], write: Write
) -> None:
    broken, rng = copy.deepcopy(document), random.Random(seed)
    for _ in range(changes):
        change(broken, rng)
    try:
        cases = read_cases(write(broken))
    except ModelError:
        return
    for case in cases:
        for form in filter(None, (case, signed(case), unspecified_outputs(case))):
            outcome = run_case(form, ReferenceDriver())
            assert "must be an NnapiError" not in outcome.detail


def change(value: Any, rng: random.Random) -> None:
    """Replace or remove something somewhere in a JSON value."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = rng.choice(keys)
        if not isinstance(value[key], dict | list) or not value[key] or rng.random() < 0.1:
            break
        value = value[key]
    if rng.random() < 0.2:
        del value[key]
    else:
        value[key] = copy.deepcopy(rng.choice(ODD))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json.gz")
    with pytest.raises(ModelError, match="is a pipe, not a regular file"):
        read_cases(tmp_path / "pipe.json.gz")
