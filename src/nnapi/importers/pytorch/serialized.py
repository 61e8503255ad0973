"""A program as `.pt2` files hold it, JSON: a copy with only what is needed of it and was understood.

PyTorch looks up, evaluates or writes into Python source much of what it finds: targets, sizes, names, the types of
containers, guards. So every text must be of the kind that its place takes, and a place that is not named here takes
names. Guards and most of what is noted beside the nodes are left out.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from nnapi.errors import ModelError
from nnapi.ir.reading import parse_json

MAX_TEXT: Final = 1 << 16
"""Characters of one text."""
MAX_NESTING: Final = 1 << 20
MAX_DEPTH: Final = 64
"""Of what describes how inputs and outputs nest, in bytes and in containers."""
_OPERATOR: Final = re.compile(
    r"torch\.ops\.(aten|quantized_decomposed|torchao|prims)\.[A-Za-z]?\w+\.[A-Za-z]\w*", re.ASCII
)
_FUNCTION: Final = re.compile(
    r"torch\.ops\.higher_order\.(cond|while_loop|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.sym_(float|int|ite|max|min|not|sqrt|sum)"
    r"|_operator\.(abs|add|and_|eq|floordiv|ge|getitem|gt|le|lshift|lt|mod|mul|ne|neg|or_|pos|pow|rshift|sub|truediv)"
    r"|math\.(ceil|floor|trunc|sqrt)"
)
_FILES: Final = re.compile(r"torch\.ops\.aten\.(from_file|save)\..*")
"""Operators that open files."""
_SYMBOLIC: Final = frozenset((
    "Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Max", "Min", "Abs", "Mod", "FloorDiv", "CeilDiv",
    "CleanDiv", "PythonMod", "ModularIndexing", "CeilToInt", "FloorToInt", "TruncToInt", "IntTrueDiv", "ToFloat",
    "Where", "Eq", "Ne", "Equality", "Unequality", "GreaterThan", "LessThan", "StrictGreaterThan", "StrictLessThan",
    "And", "Or", "Not",
))  # fmt: skip
"""Parts of size expressions."""
_POWERS: Final = frozenset(f"Integer({n})" for n in range(-4, 5))
"""Larger ones could keep the evaluator busy for ever."""
_CONTAINERS: Final = ("builtins.tuple", "builtins.list")
_OBJECTS: Final = frozenset(("custom_obj", "as_custom_obj", "class_fqn"))
_Rule = Callable[[str], str | None]
"""(text) -> why it is not of that kind."""
_DROPPED: Final[Mapping[str, Any]] = MappingProxyType({"guards_code": [], "treespec_namedtuple_fields": {}})
"""Fields that are evaluated or looked up and not needed."""
_NOTES: Final = ("stack_trace", "nn_module_stack")
"""Notes beside a node that are kept: where it comes from."""


def checked_program(program: Any) -> dict[str, Any]:
    """A copy of a program's JSON that names operators, sizes and values only; ModelError for anything else in it."""
    if not isinstance(program, dict):
        raise ModelError(f"the program is a {type(program).__name__}, must be an object")
    module = program.get("graph_module")
    tuples = module.get("treespec_namedtuple_fields") if isinstance(module, dict) else None
    copy = _checked("", program, tuples if isinstance(tuples, dict) else {})
    assert isinstance(copy, dict)
    return copy


def _checked(key: str, value: Any, tuples: Mapping[str, Any]) -> Any:
    """A copy of what stands under `key`."""
    if isinstance(value, str):
        if key in ("in_spec", "out_spec"):
            return _containers(key, value, tuples)
        problem = _TEXTS.get(key, _name)(value)
        if problem is not None or len(value) > MAX_TEXT:
            raise ModelError(f"{key or 'a key'} {value[:80]!r} {problem or f'is longer than {MAX_TEXT} characters'}")
        return value
    if isinstance(value, list):
        return [_checked(key, item, tuples) for item in value]
    if not isinstance(value, dict):
        return value
    if key == "metadata":
        value = {k: v for k, v in value.items() if k in _NOTES and isinstance(v, str)}
    if _OBJECTS & value.keys() or value.get("custom_obj_values"):
        raise ModelError("it holds an object, not only tensors")
    return {
        _checked("", k, tuples): _DROPPED[k] if k in _DROPPED else _checked(k, item, tuples)
        for k, item in value.items()
    }


def _name(text: str) -> str | None:
    """Why a text is no name, which may be written into the source of a function."""
    return None if re.fullmatch(r"\w*", text) else "is no name"


def _path(text: str) -> str | None:
    """Why a text is no path of a module's attribute, which may be written between quotes."""
    return None if text.isprintable() and not {'"', "'", "\\"} & {*text} else "is no plain path"


def _target(text: str) -> str | None:
    if _FILES.fullmatch(text):
        return "opens files, which no model does"
    return (
        None if _OPERATOR.fullmatch(text) or _FUNCTION.fullmatch(text) else "is no PyTorch operator that a model calls"
    )


def _size(text: str) -> str | None:
    return None if is_arithmetic(text) else "is no arithmetic"


_TEXTS: Final[Mapping[str, _Rule]] = {
    "target": _target,
    "as_operator": _target,
    "expr_str": _size,
    **dict.fromkeys(("parameter_name", "buffer_name", "tensor_constant_name", "user_input_name", "fqn"), _path),
    **dict.fromkeys(("as_string", "as_strings", "torch_version", *_NOTES), lambda text: None),
}


def _containers(key: str, text: str, tuples: Mapping[str, Any]) -> str:
    """Nesting of inputs or outputs, in tuples, lists and dictionaries: other types are looked up, and even imported."""
    try:
        version, spec = parse_json(text.encode(), MAX_NESTING)
        # The second part of the inputs are those passed by name, which are written into the source of a function.
        return json.dumps([version, _plain(spec, tuples, (_name if key == "in_spec" else _path), 0)])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError(f"how inputs or outputs nest is damaged: {error}") from error


def _plain(spec: Any, tuples: Mapping[str, Any], by_name: _Rule, depth: int) -> dict[str, Any]:
    type, context, parts = spec["type"], spec["context"], spec["children_spec"]
    if type is None:
        return {"type": None, "context": None, "children_spec": []}
    if depth > MAX_DEPTH:
        raise ValueError(f"they nest deeper than {MAX_DEPTH}")
    plain = [_plain(part, tuples, by_name, depth + 1) for part in parts]
    keys = None if type in _CONTAINERS else _keys(context, len(plain), tuples)
    if keys is None and type == "builtins.dict":
        raise ValueError(f"a dictionary of {len(plain)} without its keys")
    if keys is None:
        type = type if type in _CONTAINERS else _CONTAINERS[0]
        return {"type": type, "context": "null", "children_spec": plain}
    wrong = next((k for k in keys if isinstance(k, str) and (by_name if depth == 1 else _path)(k)), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is no name")
    return {"type": "builtins.dict", "context": json.dumps(keys), "children_spec": plain}


def _keys(context: Any, count: int, tuples: Mapping[str, Any]) -> list[str | int] | None:
    """The names under which a container keeps its parts, where it has any: a dictionary, or a class with fields."""
    value = context
    if isinstance(context, str):
        value = tuples[context] if context in tuples else parse_json(context.encode(), MAX_NESTING)
    match value:
        case {"field_names": names} | {"dict_context": names} | [list(names), list()]:
            keys = names
        case _:
            keys = value
    is_named = isinstance(keys, list) and len(keys) == count and all(type(k) in (str, int) for k in keys)
    return keys if is_named and len({*keys}) == count else None


def is_arithmetic(expression: Any) -> bool:
    """Whether an expression is only numbers, symbols, operators, and calls of SymPy's arithmetic.

    >>> is_arithmetic("Mul(Integer(2), Symbol('s77', positive=True, integer=True))")
    True
    >>> is_arithmetic("__import__('os').getcwd()")
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
