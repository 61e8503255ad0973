"""Composites: their bodies against PyTorch in float64, and what an engine can read off them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nnapi.drivers.reference import execute
from nnapi.errors import ModelError
from nnapi.ir import composites
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import COMPOSITE, Model
from nnapi.ir.verify import feature_level, verify
from nnapi.ops.types import F16, F32, Array, OperandType

Build = Callable[..., Ref]
LINE = np.concatenate([np.linspace(-12, 12, 2001), [0.0, -0.0, 1e-30, -1e-30, 90, -90]]).astype(np.float32)


def built(build: Build, arrays: list[Array], attributes: dict[str, Any], type: OperandType = F32) -> Model:
    b = Builder()
    b.output(build(b, *(b.input(f"x{i}", type, a.shape) for i, a in enumerate(arrays)), **attributes, name="it"))
    return b.finish()


def noise(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


# Largest difference from float64, relative to the largest result where that exceeds 1: a few roundings of float32.
CURVES: list[tuple[str, Build, dict[str, Any], Callable[[torch.Tensor], torch.Tensor], float]] = [
    ("erf", composites.erf, {}, torch.erf, 3e-7),
    ("gelu", composites.gelu, {}, F.gelu, 2e-8),
    ("gelu by tanh", composites.gelu, {"tanh": True}, lambda x: F.gelu(x, approximate="tanh"), 2e-8),
    ("silu", composites.silu, {}, F.silu, 2e-8),
    ("mish", composites.mish, {}, F.mish, 2e-8),
    ("softplus", composites.softplus, {}, lambda x: F.softplus(x, threshold=1e9), 2e-8),
    ("softplus with beta", composites.softplus, {"beta": 3.0}, lambda x: F.softplus(x, 3.0, 1e9), 2e-8),
]


@pytest.mark.parametrize(
    ("build", "attributes", "exact", "tolerance"), [c[1:] for c in CURVES], ids=[c[0] for c in CURVES]
)
def test_curves(
    build: Build, attributes: dict[str, Any], exact: Callable[[torch.Tensor], torch.Tensor], tolerance: float
) -> None:
    expected = exact(torch.from_numpy(LINE).double()).numpy()
    (actual,) = execute(built(build, [LINE], attributes), [LINE])
    assert np.abs(actual - expected).max() <= tolerance * max(np.abs(expected).max(), 1.0)


def test_gelu_keeps_its_tail() -> None:
    """relu(x) - tail does not cancel: also far left it is right relative to its own size, to the series' 2e-4 there."""
    x = np.linspace(-5, -2, 50).astype(np.float32)
    expected = F.gelu(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(execute(built(composites.gelu, [x], {}), [x])[0], expected, rtol=2e-4, atol=1e-9)


def double(array: Array) -> torch.Tensor:
    return torch.from_numpy(array).double()


QUERY, KEY, VALUE, MASK = noise(2, 3, 5, 8), noise(2, 3, 7, 8), noise(2, 3, 7, 6), noise(2, 1, 5, 7)
sdpa = F.scaled_dot_product_attention
# Largest difference from float64: float32 sums of up to 18 terms of size 1.
LAYERS: list[tuple[str, Build, list[Array], dict[str, Any], Callable[..., torch.Tensor]]] = [
    ("layer_norm", composites.layer_norm, [noise(2, 5, 8), noise(8), noise(8) + 1], {"epsilon": 1e-5},
     lambda x, g, b: F.layer_norm(x, (8,), g, b)),
    ("layer_norm over two dimensions", composites.layer_norm, [noise(2, 3, 6), noise(3, 6), noise(3, 6)],
     {"epsilon": 1e-3}, lambda x, g, b: F.layer_norm(x, (3, 6), g, b, 1e-3)),
    ("rms_norm", composites.rms_norm, [noise(2, 5, 8), noise(8)], {"epsilon": 1e-5},
     lambda x, g: F.rms_norm(x, (8,), g, 1e-5)),
    ("group_norm", composites.group_norm, [noise(2, 6, 3, 2), noise(6), noise(6)], {"groups": 3, "epsilon": 1e-5},
     lambda x, g, b: F.group_norm(x, 3, g, b)),
    ("attention", composites.attention, [QUERY, KEY, VALUE], {"scale": 0.3}, lambda q, k, v: sdpa(q, k, v, scale=0.3)),
    ("attention, masked", composites.attention, [QUERY, KEY, VALUE, MASK], {"scale": 0.3},
     lambda q, k, v, m: sdpa(q, k, v, m, scale=0.3)),
    ("attention, causal", composites.attention, [QUERY, KEY, VALUE], {"scale": 0.3, "causal": True},
     lambda q, k, v: sdpa(q, k, v, is_causal=True, scale=0.3)),
    ("attention by a negative scale", composites.attention, [QUERY, KEY, VALUE], {"scale": -0.3},
     lambda q, k, v: sdpa(q, k, v, scale=-0.3)),
    ("attention of rank 2", composites.attention, [QUERY[0, 0], KEY[0, 0], VALUE[0, 0]], {"scale": 1.0},
     lambda q, k, v: sdpa(q[None], k[None], v[None], scale=1.0)[0]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("build", "arrays", "attributes", "exact"), [c[1:] for c in LAYERS], ids=[c[0] for c in LAYERS]
)
def test_layers(
    build: Build, arrays: list[Array], attributes: dict[str, Any], exact: Callable[..., torch.Tensor]
) -> None:
    (actual,) = execute(built(build, arrays, attributes), arrays)
    np.testing.assert_allclose(actual, exact(*map(double, arrays)).numpy(), rtol=0, atol=2e-6)


ALL = [(n, b, [LINE], a) for n, b, a, *_ in CURVES] + [(n, b, x, a) for n, b, x, a, _ in LAYERS]
SCALARS: dict[str, list[Any]] = {
    "gelu": [False], "gelu by tanh": [True], "softplus": [1.0], "softplus with beta": [3.0], "layer_norm": [1e-5],
    "layer_norm over two dimensions": [1e-3], "rms_norm": [1e-5], "group_norm": [3, 1e-5], "attention": [0.3, False],
    "attention, masked": [0.3, False], "attention, causal": [0.3, True], "attention by a negative scale": [-0.3, False],
    "attention of rank 2": [1.0, False],
}  # fmt: skip
"""What is to be read off; the others have none."""


@pytest.mark.parametrize(("name", "build", "arrays", "attributes"), ALL, ids=[c[0] for c in ALL])
def test_engines_read_kind_and_scalars(
    name: str, build: Build, arrays: list[Array], attributes: dict[str, Any]
) -> None:
    model = built(build, arrays, attributes)
    verify(model)
    (operation,) = model.operations
    assert operation.type.startswith(COMPOSITE)
    assert f"| {operation.type.removeprefix(COMPOSITE)} |" in (composites.__doc__ or "")
    assert operation.name == "it"
    body = model.body(operation)
    assert body is not None
    assert len(body.inputs) == len(operation.inputs) - 1
    scalars = [o.value.item() for o in model.operands_of(operation.inputs[:-1]) if not o.type.is_tensor]
    assert scalars == pytest.approx(SCALARS.get(name, []))


@pytest.mark.parametrize(("build", "arrays", "attributes"), [c[1:] for c in ALL], ids=[c[0] for c in ALL])
def test_float16(build: Build, arrays: list[Array], attributes: dict[str, Any]) -> None:
    halves = [a.clip(-60, 60).astype(np.float16) for a in arrays]
    (half,) = execute(built(build, halves, attributes, F16), halves)
    exact = [h.astype(np.float32) for h in halves]
    (full,) = execute(built(build, exact, attributes), exact)
    scale = max(float(np.abs(full).max()), 1.0)
    assert np.abs(half.astype(np.float32) - full).max() < 0.02 * scale  # twenty roundings of float16


def test_levels_are_those_of_the_bodies() -> None:
    assert feature_level(built(composites.silu, [LINE], {})) == 1
    assert feature_level(built(composites.gelu, [LINE], {})) == 3
    assert feature_level(built(composites.attention, [QUERY, KEY, VALUE], {"scale": 1.0})) == 6


def test_an_open_batch_stays_open() -> None:
    b = Builder()
    x = b.input("x", F32, (0, 6, 3, 2))
    gamma, beta = (b.constant(noise(6)) for _ in range(2))
    b.output(composites.group_norm(b, x, gamma, beta, groups=2, epsilon=1e-5))
    model = b.finish()
    assert model.output_operands[0].dimensions == (0, 6, 3, 2)
    assert execute(model, [noise(4, 6, 3, 2)])[0].shape == (4, 6, 3, 2)


REFUSED: list[tuple[str, Build, list[tuple[int, ...]], dict[str, Any], str]] = [
    ("group_norm of an unknown image", composites.group_norm, [(1, 6, 0, 2), (6,), (6,)],
     {"groups": 2, "epsilon": 1e-5}, "all but the batch"),
    ("causal attention of unknown tokens", composites.attention, [(1, 0, 4), (1, 0, 4), (1, 0, 4)],
     {"scale": 1.0, "causal": True}, "how many tokens"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("build", "shapes", "attributes", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_refusals(build: Build, shapes: list[tuple[int, ...]], attributes: dict[str, Any], message: str) -> None:
    b = Builder()
    with pytest.raises(ModelError, match=message):
        build(b, *(b.input(f"x{i}", F32, s) for i, s in enumerate(shapes)), **attributes)
