"""The contract: every network by every recipe, through each outside reader that is installed, by names."""

from __future__ import annotations

from pathlib import Path

import pytest

import nnapi
from formats.outside import (
    NETWORKS,
    READERS,
    RECIPES,
    SHORT,
    UNREAD,
    UNWRITTEN,
    UNWRITTEN_NETWORKS,
    readings,
    saved_model,
)

CASES = [(network, recipe) for network in NETWORKS for recipe in SHORT.get(network, RECIPES)]


@pytest.mark.parametrize(("network", "recipe"), CASES, ids=[f"{network} {recipe}" for network, recipe in CASES])
def test_every_reader_computes_what_the_reference_does(network: str, recipe: str, tmp_path: Path) -> None:
    wrong = []
    for name, found in readings(network, recipe, tmp_path):
        least, reason = READERS[name].limit(network, recipe)
        if found < least and (name, network, recipe) not in UNREAD:
            wrong.append(f"{name}: {found:.1f} dB, must be {least:g} ({reason})")
    assert not wrong
    assert_distinct_names(tmp_path / "model.tflite")


def assert_distinct_names(path: Path) -> None:
    """In every subgraph, for readers that go by names."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    for graph in schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes())).subgraphs:
        names = [tensor.name for tensor in graph.tensors]
        assert all(names)
        assert len(set(names)) == len(names)


REFUSALS = [
    *((suffix, "residual", recipe, message) for (suffix, recipe), message in UNWRITTEN.items()),
    *((suffix, network, "float", message) for (suffix, network), message in UNWRITTEN_NETWORKS.items()),
]


@pytest.mark.parametrize(("suffix", "network", "recipe", "message"), REFUSALS, ids=[" ".join(r[:3]) for r in REFUSALS])
def test_what_a_format_cannot_say_is_refused(
    suffix: str, network: str, recipe: str, message: str, tmp_path: Path
) -> None:
    model, _ = saved_model(network, recipe)
    with pytest.raises(nnapi.NnapiError, match=message):
        nnapi.save(model, tmp_path / f"m{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", READERS)
def test_a_reader_is_here_or_said_to_be_missing(name: str) -> None:
    if not READERS[name].is_here:
        pytest.skip(f"{READERS[name].module} is not installed")
