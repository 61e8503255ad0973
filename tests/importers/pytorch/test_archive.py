"""`.pt2` files: damaged, foreign and hostile ones."""

from __future__ import annotations

import io
import json
import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

from nnapi.errors import ModelError
from nnapi.importers.pytorch.archive import _is_arithmetic
from nnapi.importers.pytorch.read import read

Members = dict[str, bytes]


MARK = Path(tempfile.gettempdir()) / f"unpickled-{os.getpid()}"


class Trap:
    """Something that leaves a mark where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, (str(MARK),)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with weights, a buffer and an open dimension."""
    path = tmp_path_factory.mktemp("archive") / "model.pt2"
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).eval()
    torch.export.save(torch.export.export(module, (torch.ones(2, 3),), dynamic_shapes=({0: Dim("n")},)), path)
    return path


def rewritten(source: Path, target: Path, change: Callable[[Members], None]) -> Path:
    """A copy of an archive, its members (without the leading folder) changed."""
    with zipfile.ZipFile(source) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"model/{name}", data)
    return target


def edited(member: str, edit: Callable[[Any], None]) -> Callable[[Members], None]:
    """A change of one JSON member."""

    def change(members: Members) -> None:
        value = json.loads(members[member])
        edit(value)
        members[member] = json.dumps(value).encode()

    return change


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_it_reads(saved: Path) -> None:
    assert [o.dimensions for o in read(saved).input_operands] == [(0, 3)]


def test_the_suffix_does_not_matter(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "model.zip"
    other.write_bytes(saved.read_bytes())
    assert read(other).name == "model"


DAMAGED: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("empty", lambda data: b"", "truncated"),
    ("cut in half", lambda data: data[: len(data) // 2], "truncated"),
    ("text", lambda data: b"hello", "no .pt2 archive"),
    ("a pickle", lambda data: pickle.dumps(3), "no .pt2 archive"),
    ("its directory", lambda data: data.replace(b"PK\x01\x02", b"PK\x01\x03"), "truncated"),
    ("a member", lambda data: data.replace(b'"graph_module"', b'"graph_nodule"'), "checksum"),
]


@pytest.mark.parametrize(("damage", "message"), [d[1:] for d in DAMAGED], ids=[d[0] for d in DAMAGED])
def test_damaged(saved: Path, tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = tmp_path / "damaged.pt2"
    path.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(ModelError, match=message):
        read(path)


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_flipped_byte_is_an_error_or_changes_nothing_that_matters(saved: Path, tmp_path: Path, at: float) -> None:
    data = bytearray(saved.read_bytes())
    data[int(len(data) * at)] ^= 0xFF
    path = tmp_path / "flipped.pt2"
    path.write_bytes(data)
    try:
        model = read(path)
    except ModelError:
        return
    assert [o.type for o in model.operations] == ["FULLY_CONNECTED", "MUL", "ADD"]


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pt2", tmp_path):
        with pytest.raises(ModelError, match="cannot read"):
            read(path)


WEIGHTS = "data/weights/model_weights_config.json"
PROGRAM = "models/model.json"


def compiled(members: Members) -> None:
    members["data/aotinductor/model/wrapper.so"] = b"\x7fELF"


def trapped_inputs(members: Members) -> None:
    members["data/sample_inputs/model.pt"] = pickled(Trap())


def trapped_weight(members: Members) -> None:
    edited(WEIGHTS, lambda config: config["config"]["0.weight"].update(use_pickle=True))(members)
    members["data/weights/weight_0"] = pickled(Trap())


def object_constant(members: Members) -> None:
    payload = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    edited("data/constants/model_constants_config.json", lambda c: c["config"].update(c=payload))(members)
    members["data/constants/opaque_obj_0"] = pickle.dumps(Trap())


def other_target(program: Any) -> None:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.hub.load"


def code_as_size(program: Any) -> None:
    size = program["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][0]
    size["as_expr"]["expr_str"] = "__import__('os').system('true')"


def no_program(members: Members) -> None:
    del members[PROGRAM]


def old_format(members: Members) -> None:
    members.clear()
    members.update({"version": b"8.20", "serialized_state_dict.pt": pickled(Trap())})


def nonsense(program: Any) -> None:
    program["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"] = {"as_tensor": {"name": "nobody"}}


HOSTILE: list[tuple[str, Callable[[Members], None], str]] = [
    ("a compiled program", compiled, "compiled program"),
    ("example inputs that are objects", trapped_inputs, "more than tensors"),
    ("a weight that is an object", trapped_weight, "more than tensors"),
    ("a constant that is an object", object_constant, "an object, not a tensor"),
    ("a call of something else", edited(PROGRAM, other_target), "'torch.hub.load', which is no PyTorch operator"),
    ("a size that is code", edited(PROGRAM, code_as_size), "no arithmetic"),
    ("no program", no_program, "no exported program"),
    ("an older format", old_format, "no exported program in PyTorch's current format"),
    ("a program that makes no sense", edited(PROGRAM, nonsense), "no program that PyTorch"),
    ("a list where an object should be", lambda m: m.update({PROGRAM: b"[]"}), "no program that PyTorch"),
    ("no JSON", lambda m: m.update({PROGRAM: b"{"}), "no program that PyTorch"),
    ("no weights", lambda m: m.pop(WEIGHTS), "no program that PyTorch"),  # type: ignore[list-item, return-value]
]


@pytest.mark.parametrize(("change", "message"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_hostile(saved: Path, tmp_path: Path, change: Callable[[Members], None], message: str) -> None:
    path = rewritten(saved, tmp_path / "hostile.pt2", change)
    with pytest.raises(ModelError, match=message):
        read(path)
    assert not MARK.exists()


def test_the_trap_would_spring() -> None:
    pickle.loads(pickle.dumps(Trap()))
    assert MARK.exists()
    MARK.rmdir()


def test_the_rewriting_itself_is_harmless(saved: Path, tmp_path: Path) -> None:
    assert read(rewritten(saved, tmp_path / "same.pt2", lambda members: None)).operations


EXPRESSIONS = [
    ("Symbol('s77', positive=True, integer=True)", True),
    ("Add(Mul(Integer(2), Symbol('s0', integer=True)), Integer(-1))", True),
    ("Pow(Symbol('s0'), Integer(2))", True),
    ("FloorDiv(Symbol('s0'), Integer(3)) + 1 > 2", True),
    ("Pow(Integer(9), Pow(Integer(9), Integer(9)))", False),
    ("9**9**9", False),
    ("eval('1')", False),
    ("Symbol('__import__(1)')", False),
    ("().__class__", False),
    ("[1][0]", False),
    ("lambda: 1", False),
    ("open", True),  # a name alone is a symbol; only calls do things
    ("(" * 500, False),
    (3, False),
]


@pytest.mark.parametrize(("expression", "expected"), EXPRESSIONS, ids=[str(e)[:40] for e, _ in EXPRESSIONS])
def test_what_sizes_may_be(expression: Any, expected: bool) -> None:
    assert _is_arithmetic(expression) is expected
