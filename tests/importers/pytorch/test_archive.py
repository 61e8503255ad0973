"""`.pt2` files: damaged, foreign and hostile ones."""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
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
from nnapi.importers.pytorch.read import read
from nnapi.importers.pytorch.serialized import is_arithmetic

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
    ("its directory", lambda data: data.replace(b"PK\x01\x02", b"PK\x01\x03"), "no .pt2 archive, or is damaged"),
    ("a member", lambda data: data.replace(b'"graph_module"', b'"graph_nodule"'), "model.json' is damaged: Bad CRC-32"),
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


def trapped(member: str) -> Callable[[Members], None]:
    return lambda members: members.update({member: pickled(Trap())})


def trapped_weight(members: Members) -> None:
    edited(WEIGHTS, lambda config: config["config"]["0.weight"].update(use_pickle=True))(members)
    members["data/weights/weight_0"] = pickled(Trap())


def object_constant(members: Members) -> None:
    payload = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    edited("data/constants/model_constants_config.json", lambda c: c["config"].update(c=payload))(members)
    members["data/constants/opaque_obj_0"] = pickle.dumps(Trap())


def graph_of(program: Any) -> Any:
    return program["graph_module"]["graph"]


def calls(target: str) -> Callable[[Members], None]:
    return edited(PROGRAM, lambda program: graph_of(program)["nodes"][0].update(target=target))


def code_as_size(program: Any) -> None:
    size = graph_of(program)["tensor_values"]["input"]["sizes"][0]
    size["as_expr"]["expr_str"] = "__import__('os').system('true')"


def code_as_name(members: Members) -> None:
    """A name that becomes a parameter's default in the source of a function."""
    code = f"input=__import__('os').mkdir('{MARK}')"
    members[PROGRAM] = members[PROGRAM].replace(b'"name": "input"', json.dumps({"name": code}).encode()[1:-1])


def code_as_guard(program: Any) -> None:
    program["guards_code"] = [f"__import__('os').mkdir('{MARK}') or True"]


def keywords_in(type: str, context: Any) -> Callable[[Members], None]:
    """Keyword arguments in a container of another type, whose description names what is imported."""

    def change(program: Any) -> None:
        signature = program["graph_module"]["module_call_graph"][0]["signature"]
        version, inputs = json.loads(signature["in_spec"])
        inputs["children_spec"][1].update(type=type, context=context)
        signature["in_spec"] = json.dumps([version, inputs])

    return edited(PROGRAM, change)


def code_as_keyword(program: Any) -> None:
    signature = program["graph_module"]["module_call_graph"][0]["signature"]
    version, inputs = json.loads(signature["in_spec"])
    inputs["children_spec"].reverse()
    part = {
        "type": "builtins.dict",
        "context": '["x=exit()"]',
        "children_spec": inputs["children_spec"].pop()["children_spec"],
    }
    inputs["children_spec"].append(part)
    signature["in_spec"] = json.dumps([version, inputs])


def more_than_is_there(config: Any) -> None:
    config["config"]["0.weight"]["tensor_meta"].update(sizes=[{"as_int": 1 << 40}], strides=[{"as_int": 0}])


def no_values(members: Members) -> None:
    members["data/weights/weight_0"] = b""


def no_program(members: Members) -> None:
    del members[PROGRAM]


def old_format(members: Members) -> None:
    members.clear()
    members.update({"version": b"8.20", "serialized_state_dict.pt": pickled(Trap())})


def nonsense(program: Any) -> None:
    program["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"] = {"as_tensor": {"name": "nobody"}}


ENUMERATION = {"__enum__": True, "fqn": "antigravity:X", "name": "y"}
OPERATOR = "no PyTorch operator that a model calls"
HOSTILE: list[tuple[str, Callable[[Members], None], str]] = [
    ("a compiled program", compiled, "compiled program"),
    ("a weight that is an object", trapped_weight, "an object and not only a tensor"),
    ("weights that are an object", trapped("data/weights/model.pt"), "holds more than tensors"),
    ("constants that are an object", trapped("data/constants/model.pt"), "holds more than tensors"),
    ("a constant that is an object", object_constant, "an object and not only a tensor"),
    ("example inputs, in another case too", trapped("data/sample_inputs/model.PT"), "same name where case does not"),
    ("a call of something else", calls("torch.hub.load"), f"'torch.hub.load' is {OPERATOR}"),
    ("a call of what loads libraries", calls("torch.ops.load_library"), OPERATOR),
    ("a call of what imports", calls("torch.ops.import_module"), OPERATOR),
    ("a call of what finds attributes", calls("_operator.attrgetter"), OPERATOR),
    ("a call of what calls", calls("_operator.call"), OPERATOR),
    ("a call of an attribute", calls("torch.sym_int.__globals__"), OPERATOR),
    ("a call that opens files", calls("torch.ops.aten.from_file.default"), "opens files"),
    ("a call of what takes for ever", calls("math.factorial"), OPERATOR),
    ("a size that is code", edited(PROGRAM, code_as_size), "no arithmetic"),
    ("a name that is code", code_as_name, "is no name"),
    ("an enumeration that imports", keywords_in("builtins.dict", json.dumps(ENUMERATION)), "nest is damaged"),
    ("a keyword that is code", edited(PROGRAM, code_as_keyword), "is no name"),
    ("a tensor larger than its bytes", edited(WEIGHTS, more_than_is_there), "expands to far more"),
    ("a tensor without bytes", no_values, "holds no values"),
    ("big-endian tensors", lambda m: m.update({"byteorder": b"big"}), "byteorder is b'big'"),
    ("no program", no_program, "no exported program"),
    ("an older format", old_format, "no exported program in PyTorch's current format"),
    ("a program that makes no sense", edited(PROGRAM, nonsense), "no program that PyTorch"),
    ("a list where an object should be", lambda m: m.update({PROGRAM: b"[]"}), "is a list, must be an object"),
    ("no JSON", lambda m: m.update({PROGRAM: b"{"}), "member 'models/model.json'"),
    ("JSON without end", lambda m: m.update({PROGRAM: b"[" * 100_000}), "nests too deeply"),
    ("a gigabyte of JSON", lambda m: m.update({PROGRAM: b" " * (65 << 20)}), "bytes"),
    ("no weights", lambda m: m.pop(WEIGHTS), f"no member '{WEIGHTS}'"),  # type: ignore[list-item, return-value]
]


@pytest.mark.parametrize(("change", "message"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_hostile(saved: Path, tmp_path: Path, change: Callable[[Members], None], message: str) -> None:
    path = rewritten(saved, tmp_path / "hostile.pt2", change)
    with pytest.raises(ModelError, match=message):
        read(path)
    assert not MARK.exists()


DEFAULTS = {"default_factory_module": "antigravity", "default_factory_name": "fly", "dict_context": []}
IGNORED: list[tuple[str, Callable[[Members], None]]] = [
    ("example inputs that are objects", trapped("data/sample_inputs/model.pt")),
    ("extra files", trapped("extra/model.pt")),
    ("another spelling of what is not read", trapped("data/sample_inputs/other.PT")),
    ("another spelling of pickled weights", trapped("data/weights/model.PT")),
    ("guards", edited(PROGRAM, code_as_guard)),
    ("a container that imports", keywords_in("collections.defaultdict", DEFAULTS)),
]


@pytest.mark.parametrize("change", [i[1] for i in IGNORED], ids=[i[0] for i in IGNORED])
def test_what_is_not_needed_is_not_read(saved: Path, tmp_path: Path, change: Callable[[Members], None]) -> None:
    path = rewritten(saved, tmp_path / "ignored.pt2", change)
    assert [o.type for o in read(path).operations] == ["FULLY_CONNECTED", "MUL", "ADD"]
    assert not MARK.exists()
    assert "antigravity" not in sys.modules


class Made(nn.Module):
    """A constant of a size that stands in the file."""

    def __init__(self, make: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.make(x)


MADE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "full": lambda x: torch.full((7, 11), 2.0).sum(),
    "zeros like": torch.zeros_like,
    "triangle": torch.tril,
    "expanded": lambda x: torch.ones(1).expand(7, 11),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_a_constant_of_any_size_is_not_computed(tmp_path: Path, make: Callable[[torch.Tensor], torch.Tensor]) -> None:
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(Made(make), (torch.ones(7, 11),)), path)
    assert read(path).operations

    def enlarged(members: Members) -> None:
        text = members[PROGRAM].decode()
        for small, large in (("7", "70000"), ("11", "30000")):
            text = text.replace(f'{{"as_int": {small}}}', f'{{"as_int": {large}}}')
        members[PROGRAM] = text.replace("[7, 11]", "[70000, 30000]").encode()

    large = rewritten(path, tmp_path / "large.pt2", enlarged)
    with pytest.raises(ModelError, match=r"makes a constant of \d{9,} bytes"):
        read(large)


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
    assert is_arithmetic(expression) is expected
