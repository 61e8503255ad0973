"""Recipes: the named ones, what may be written in one, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnapi.errors import QuantizeError
from nnapi.ir.model import Operation
from nnapi.quantization.recipe import names, read_recipe

NAMED = ["fp16", "dynamic_range", "int8_float_io", "int8", "int16x8", "uint8", "mixed"]


@pytest.mark.parametrize("name", NAMED)
def test_named_recipes_say_what_they_do(name: str) -> None:
    assert name in names()
    assert read_recipe(name).description


@pytest.mark.parametrize(
    "source, message",
    [
        pytest.param("int3", "no recipe 'int3'; known: .*int8", id="name"),
        pytest.param({"base": "int3"}, "no base 'int3'; known: .*int8", id="base"),
        pytest.param({"bits": 4}, "no key 'bits'; known: base, .*activations", id="key"),
        pytest.param({"activations": "int4"}, "activations is 'int4'; known: float32, float16, int8", id="type"),
        pytest.param({"observer": "magic"}, "known: min_max, moving_average, percentile, mse, entropy", id="observer"),
        pytest.param(
            {"recovery": ["prayer"]}, "known: scaling, equalization, rounding, bias_correction", id="recovery"
        ),
        pytest.param({"level": 9}, "level is 9, must be 1 to 8", id="level"),
        pytest.param({"level": True}, "level is True, must be a number", id="bool"),
        pytest.param({"percentile": "high"}, "percentile is 'high', must be a number", id="percentile"),
        pytest.param({"max_loss": 2}, "max_loss is 2, must be 0.0 to 1.0", id="loss"),
        pytest.param({"mixed": 1}, "mixed is 1, must be a bool", id="mixed"),
        pytest.param({"overrides": "all"}, "must be a list", id="overrides"),
        pytest.param({"overrides": [{"type": "CONV_9D"}]}, "no operation type 'CONV_9D'", id="operation"),
        pytest.param({"overrides": [{"name": "a", "type": "ADD"}]}, "must have one of", id="two matchers"),
        pytest.param({"overrides": [{"name": "a", "precision": "int2"}]}, "precision is 'int2'", id="precision"),
        pytest.param({"overrides": [{"type": []}]}, "every value must be a word", id="a list for a type"),
        pytest.param({"overrides": [3]}, "must have one of name, type, pattern", id="a number for an override"),
        pytest.param({"base": []}, "no base", id="a list for a base"),
        pytest.param(None, "recipe is None; known: .*int8", id="nothing"),
        pytest.param(b"int8", "recipe is b'int8'", id="bytes"),
        pytest.param({"activations": ["int8"]}, "activations is", id="list for a type"),
        pytest.param({"percentile": float("nan")}, "percentile is nan, must be", id="nan"),
        pytest.param({"target_sqnr": 10**400}, "target_sqnr is 1000", id="huge"),
        pytest.param({3: 4}, "has no key 3", id="number for a key"),
        pytest.param("/no/such/recipe.json", "cannot read recipe", id="file"),
        pytest.param("/dev/recipe\0.json", "null character", id="null character"),
    ],
)
def test_bad_recipes_are_explained(source: object, message: str) -> None:
    with pytest.raises(QuantizeError, match=message):
        read_recipe(source)  # type: ignore[arg-type]


def test_recipes_come_from_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"base": "int8", "observer": "entropy"}')
    assert (read_recipe(str(path)).name, read_recipe(str(path)).observer) == ("mine", "entropy")
    path.write_text("[1]")
    with pytest.raises(QuantizeError, match="is a list, must be an object"):
        read_recipe(str(path))


@pytest.mark.parametrize(
    "matcher, matches",
    [({"name": "stem"}, True), ({"name": "st*"}, False), ({"pattern": "st*"}, True), ({"type": "ADD"}, True)],
)
def test_overrides_match(matcher: dict[str, str], matches: bool) -> None:
    recipe = read_recipe({"base": "int8", "overrides": [matcher]})
    assert (recipe.override(Operation("ADD", (), (), "stem")) is not None) == matches


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"level": ', "3", "[]", "\ufeff{}", ""],
    ids=["deep", "half", "number", "list", "mark", "empty"],
)
def test_files_of_another_shape(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(QuantizeError, match=r"recipe .*r\.json"):
        read_recipe(tmp_path / "r.json")
