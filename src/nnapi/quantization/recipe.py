"""Recipes: how a model is quantized, as JSON with a validated schema; recipes/*.json are the ones that have names."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

from nnapi.errors import QuantizeError
from nnapi.ir.model import Operation
from nnapi.ir.reading import read_json
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import F16, F32, MAX_FEATURE_LEVEL, Q8, Q8S, Q16SYMM, OperandType

FOLDER: Final = Path(__file__).parent / "recipes"
ACTIVATIONS: Final[Mapping[str, OperandType]] = {
    "float32": F32, "float16": F16, "int8": Q8S, "uint8": Q8, "int16": Q16SYMM,
}  # fmt: skip
INTEGERS: Final = ("int8", "uint8", "int16")
"""Those of ACTIVATIONS that compute in integers."""
WEIGHTS: Final = ("float32", "float16", "int8_per_channel", "per_tensor")
OBSERVERS: Final = ("min_max", "moving_average", "percentile", "mse", "entropy")
RECOVERY: Final = ("scaling", "equalization", "rounding", "bias_correction")
"""What wins accuracy back, in the order it is applied."""
MATCHERS: Final = ("name", "type", "pattern")


@dataclass(frozen=True)
class Override:
    """Operations of one `name`, one `type`, or whose name matches a `pattern` (*, ?) stay in another precision."""

    name: str = ""
    type: str = ""
    pattern: str = ""
    precision: str = "float32"

    def matches(self, operation: Operation) -> bool:
        if self.pattern:
            return fnmatch.fnmatchcase(operation.name, self.pattern)
        return operation.name == self.name if self.name else operation.type == self.type

    @property
    def reason(self) -> str:
        what = next(f"{key} {getattr(self, key)!r}" for key in MATCHERS if getattr(self, key))
        return f"the recipe keeps {what} in {self.precision}"


@dataclass(frozen=True)
class Recipe:
    """How a model is quantized.

    `activations` are stored as float32, float16, int8, uint8 or int16; `weights` as the activations are, per tensor, or
    as int8 with a scale per channel, which int16 always has. `boundary` "float32" keeps the model's inputs and outputs.
    `level` is the highest feature level that integer operations of 8 bits may need. `mixed` looks for the operations
    that cost most accuracy and keeps them in float32 until `target_sqnr` dB are reached or, where that is 0 or labels
    are given, at most `max_loss` (0 to 1) is lost: of accuracy, without labels of the float model's own answers, and of
    the variation of outputs that have no classes.
    """

    name: str
    description: str = ""
    activations: str = "int8"
    weights: str = "int8_per_channel"
    boundary: str = "integer"
    level: int = MAX_FEATURE_LEVEL
    observer: str = "mse"
    percentile: float = 99.99
    mixed: bool = False
    target_sqnr: float = 0.0
    max_loss: float = 0.005
    recovery: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = field(default=())

    @property
    def is_integer(self) -> bool:
        return self.activations in INTEGERS

    @property
    def type(self) -> OperandType:
        """What activations are stored as."""
        return ACTIVATIONS[self.activations]

    def override(self, operation: Operation) -> Override | None:
        """The last override that matches."""
        return next((o for o in reversed(self.overrides) if o.matches(operation)), None)


_CHOICES: Final[Mapping[str, Sequence[str]]] = {
    "activations": tuple(ACTIVATIONS), "weights": WEIGHTS, "boundary": ("integer", "float32"), "observer": OBSERVERS,
}  # fmt: skip
_NUMBERS: Final = {
    "level": (1, MAX_FEATURE_LEVEL),
    "percentile": (50.0, 100.0),
    "target_sqnr": (0.0, 200.0),
    "max_loss": (0.0, 1.0),
}


def names() -> list[str]:
    """The recipes that have names.

    >>> "int8" in names()
    True
    """
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_recipe(source: str | PathLike[str] | Mapping[str, Any] | Recipe) -> Recipe:
    """A recipe by name, from a JSON file, or from a mapping that may extend a named one by `"base"`.

    Raises QuantizeError for unknown names and values, listing the known ones.

    >>> read_recipe({"base": "int8", "observer": "entropy"}).observer
    'entropy'
    """
    if isinstance(source, Recipe):
        return source
    if isinstance(source, Mapping):
        return _from_mapping(dict(source), "recipe")
    if not isinstance(source, (str, PathLike)):
        raise QuantizeError(f"recipe is {source!r}", hint=f"known: {', '.join(names())}, or a .json file or a mapping")
    source = fspath(source)
    if source in names():
        path = FOLDER / f"{source}.json"
    elif source.endswith(".json"):
        path = Path(source)
    else:
        raise QuantizeError(f"no recipe {source!r}", hint=f"known: {', '.join(names())}, or a .json file")
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise QuantizeError(f"cannot read recipe {path}: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(content, dict):
        raise QuantizeError(f"recipe {path} is a {type(content).__name__}, must be an object")
    return _from_mapping(content, path.stem)


def _from_mapping(content: dict[str, Any], name: str) -> Recipe:
    base = content.pop("base", None)
    if base is not None and base not in names():
        raise QuantizeError(f"recipe {name!r}: no base {base!r}", hint=f"known: {', '.join(names())}")
    recipe = read_recipe(base) if base else Recipe(name)
    known = [f.name for f in fields(Recipe)]
    for key, value in content.items():
        if key not in known:
            raise QuantizeError(f"recipe {name!r} has no key {key!r}", hint=f"known: base, {', '.join(known)}")
        content[key] = _checked(name, key, value)
    return replace(recipe, **{"name": name} | content)


def _checked(recipe: str, key: str, value: Any) -> Any:
    where = f"recipe {recipe!r}: {key}"
    if key in _CHOICES:
        return _choice(where, value, _CHOICES[key])
    if key in _NUMBERS:
        low, high = _NUMBERS[key]
        if isinstance(value, bool) or not isinstance(value, int if key == "level" else (int, float)):
            raise QuantizeError(f"{where} is {value!r}, must be a number")
        if not low <= value <= high:
            raise QuantizeError(f"{where} is {value}, must be {low} to {high}")
        return value
    if key in ("recovery", "overrides"):
        if not isinstance(value, (list, tuple)):
            raise QuantizeError(f"{where} is {value!r}, must be a list")
        if key == "recovery":
            return tuple(_choice(where, v, RECOVERY) for v in value)
        return tuple(_override(where, v) for v in value)
    wanted = bool if key == "mixed" else str
    if not isinstance(value, wanted):
        raise QuantizeError(f"{where} is {value!r}, must be a {wanted.__name__}")
    return value


def _choice(where: str, value: Any, known: Sequence[str]) -> str:
    if value not in known:
        raise QuantizeError(f"{where} is {value!r}", hint=f"known: {', '.join(known)}")
    return str(value)


def _override(where: str, value: Any) -> Override:
    if isinstance(value, Override):
        return value
    keys = set(value) if isinstance(value, Mapping) else set()
    if not keys or keys - {*MATCHERS, "precision"} or len(keys & {*MATCHERS}) != 1:
        raise QuantizeError(f"{where}: {value!r} must have one of {', '.join(MATCHERS)}, and perhaps precision")
    if not all(isinstance(v, str) and v for v in value.values()):
        raise QuantizeError(f"{where}: {value!r}: every value must be a word")
    if not all(isinstance(v, str) and v for v in value.values()):
        raise QuantizeError(f"{where}: {value!r}: every value must be a word")
    if "type" in keys and value["type"] not in OPERATIONS and "/" not in value["type"]:
        raise QuantizeError(f"{where}: no operation type {value['type']!r}", hint="`nnapi inspect` shows a model's")
    precision = _choice(f"{where}: precision", value.get("precision", "float32"), ("float32",))
    return Override(**{**value, "precision": precision})
