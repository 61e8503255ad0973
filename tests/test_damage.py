"""Damaged files of every kind: shortly here, ten thousand of each with benchmarks/damage.py."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

DAMAGE = Path(__file__).parent.parent / "benchmarks" / "damage.py"


@pytest.fixture(scope="module")
def damage() -> ModuleType:
    spec = importlib.util.spec_from_file_location("damage", DAMAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["damage"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["pt2", "nnapi", "npz", "recipe", "table"])
def test_damaged_files_are_read_or_refused_in_words(damage: ModuleType, kind: str) -> None:
    outcome = damage.damage(kind, 120, seed=7)
    assert outcome.untyped == []
    assert outcome.left_behind == []
    assert outcome.count == 120
    assert sum(outcome.refused.values()) > 60  # the damage is real


def test_the_summary(damage: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    damage.main(["-n", "40", "--json", "recipe"])
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["count"]) == ("recipe", 40)
    assert found["read"] + sum(found["refused"].values()) == 40
    damage.main(["-n", "40", "recipe"])
    assert f"recipe: 40 files, {found['read']} read" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        damage.main(["prose"])


def test_it_sees_what_is_wrong(damage: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(path: Path) -> None:
        path.with_suffix(".left").touch()
        if path.read_bytes() != b"{}":
            raise KeyError("raw")

    monkeypatch.setitem(damage.KINDS, "careless", (lambda _: b"{}", "x.json", careless, (damage.flipped,)))
    outcome = damage.damage("careless", 5)
    assert len(outcome.untyped) == 5
    assert outcome.untyped[0].startswith("KeyError: 'raw'")
    assert [Path(p).name for p in outcome.left_behind] == ["x.left"]
    assert not outcome.is_good


def test_the_same_seed_damages_the_same(damage: ModuleType) -> None:
    text = b'{"a": [1, 2], "b": {"c": "d"}}'
    assert [damage.other_json(random.Random(3), text)] * 2 == [damage.other_json(random.Random(3), text) for _ in "ab"]
