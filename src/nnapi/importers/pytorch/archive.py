"""Open a `.pt2` file, and only one that holds data: torch.export.load would unpickle and evaluate what it finds."""

from __future__ import annotations

import ast
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch

from nnapi.errors import ModelError
from nnapi.importers.pytorch.quiet import quiet

HINT: Final = "save it again with torch.export.save, or load it yourself and pass the ExportedProgram"
_CODE: Final = ("data/aotinductor/", "data/executorch/")
"""Members that are compiled programs."""
_OBJECTS: Final = ("custom_obj_", "opaque_obj_")
_TARGETS: Final = ("torch.ops.", "torch.sym_", "_operator.", "math.")
_SYMBOLIC: Final = frozenset((
    "Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Max", "Min", "Abs", "Mod", "FloorDiv", "CeilDiv",
    "CleanDiv", "PythonMod", "ModularIndexing", "CeilToInt", "FloorToInt", "TruncToInt", "IntTrueDiv", "ToFloat",
    "Where", "Eq", "Ne", "Equality", "Unequality", "GreaterThan", "LessThan", "StrictGreaterThan", "StrictLessThan",
    "And", "Or", "Not",
))  # fmt: skip
"""What size expressions are made of."""
_POWERS: Final = frozenset(f"Integer({n})" for n in range(-4, 5))
"""Larger ones could keep the evaluator busy for ever."""


def load(path: Path) -> torch.export.ExportedProgram:
    """The program in a `.pt2` file; ModelError where there is none, or it is damaged, or holds more than data."""
    with _reading(path), zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise ModelError(f"{path} is damaged: {damaged} fails its checksum")
        _check(path, archive)
    with _reading(path), quiet():
        # Programs that PT2E converted name operators which this module registers.
        import_module("torch.ao.quantization.fx._decomposed")
        return torch.export.load(path if path.suffix == ".pt2" else io.BytesIO(path.read_bytes()))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever reading a damaged file raises is a ModelError."""
    try:
        yield
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except zipfile.BadZipFile as error:
        raise ModelError(f"{path} is no .pt2 archive, or is truncated: {error}", hint=HINT) from error
    except Exception as error:  # the loader's own checks raise whatever they like
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path} is no program that PyTorch {torch.__version__} reads: {reason}", hint=HINT) from error


def _check(path: Path, archive: zipfile.ZipFile) -> None:
    """ModelError unless everything in the archive is data of the current format."""
    members = {name.partition("/")[2]: name for name in archive.namelist()}
    if "archive_version" not in members or not any(m.startswith("models/") for m in members):
        raise ModelError(f"{path} holds no exported program in PyTorch's current format", hint=HINT)
    for member, name in members.items():
        if member.startswith(_CODE):
            raise ModelError(f"{path} holds a compiled program ({member}), not only data", hint=HINT)
        if member.startswith("data/") and member.endswith(".pt"):
            _check_pickle(path, member, archive.read(name))
        elif member.endswith("_config.json"):
            _check_payloads(path, archive, members, member)
        elif member.startswith("models/"):
            _check_program(path, json.loads(archive.read(name)))


def _check_payloads(path: Path, archive: zipfile.ZipFile, members: Mapping[str, str], member: str) -> None:
    """Weights and constants: raw bytes, or a tensor that the restricted unpickler takes."""
    folder = member.rpartition("/")[0]
    for name, payload in json.loads(archive.read(members[member]))["config"].items():
        file = payload["path_name"]
        if file.startswith(_OBJECTS):
            raise ModelError(f"{path}: constant {name!r} is an object, not a tensor", hint=HINT)
        if payload["use_pickle"]:
            _check_pickle(path, name, archive.read(members[f"{folder}/{file}"]))


def _check_pickle(path: Path, name: str, data: bytes) -> None:
    """What the restricted unpickler takes, the unrestricted one that may follow takes in the same way."""
    if not data:
        return
    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except Exception as error:  # whatever it meets
        raise ModelError(f"{path}: {name} is pickled and holds more than tensors", hint=HINT) from error


def _check_program(path: Path, value: Any) -> None:
    """Calls are to operators, and sizes are arithmetic: both would be looked up or evaluated as Python."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += item.values()
            target, expression = item.get("target"), item.get("expr_str")
            if isinstance(target, str) and "inputs" in item and not target.startswith(_TARGETS):
                raise ModelError(f"{path} calls {target!r}, which is no PyTorch operator")
            if expression is not None and not _is_arithmetic(expression):
                raise ModelError(f"{path} has a size {expression!r}, which is no arithmetic")
        elif isinstance(item, list):
            stack += item


def _is_arithmetic(expression: Any) -> bool:
    """Whether an expression is only numbers, symbols, operators, and calls of SymPy's arithmetic.

    >>> _is_arithmetic("Mul(Integer(2), Symbol('s77', positive=True, integer=True))")
    True
    >>> _is_arithmetic("__import__('os').getcwd()")
    False
    """
    try:
        tree = ast.parse(expression, mode="eval")
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return False
    arithmetic = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.operator, ast.unaryop, ast.cmpop)
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="Pow"), args=[_, power]) if ast.unparse(power) not in _POWERS:
                return False
            case ast.Call(func=ast.Name(id=name)) if name in _SYMBOLIC:
                pass
            case ast.Name(id=name) if name.isidentifier() and not name.startswith("_"):
                pass
            case ast.Constant(value=str(text)) if not text.isidentifier():
                return False
            case ast.Constant() | ast.keyword() | ast.Load() | ast.Compare():
                pass
            case ast.Pow():
                return False
            case _ if not isinstance(node, arithmetic):
                return False
    return True
