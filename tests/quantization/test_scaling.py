"""Loud channels: scales that move out of normalizations and attention's values, exactly, and what 8 bits gain by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.errors import QuantizeError
from nnapi.ir.model import Model
from nnapi.pipeline import load, optimize
from nnapi.quantization.judge import Judge, quantized_inputs
from nnapi.quantization.quantize import prepare, quantize_model
from nnapi.quantization.recipe import read_recipe
from nnapi.quantization.scaling import choose, moved

torch = pytest.importorskip("torch")
nn = torch.nn
WIDTH, TOKENS, HEADS, LOUD = 64, 12, 4, 80.0
CHANNELS = (3, 17, 40)


class Normed(nn.Module):
    """A normalization whose gamma is loud where the next layers' columns are quiet."""

    def __init__(self, norm: nn.Module, tail: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.norm, self.tail = norm, tail
        self.first, self.second, self.last = nn.Linear(WIDTH, 96), nn.Linear(WIDTH, 96), nn.Linear(96, 16)
        with torch.no_grad():
            for c in CHANNELS:
                for parameter in norm.parameters():
                    parameter[c] *= LOUD
                for layer in (self.first, self.second):
                    layer.weight[:, c] /= LOUD

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tail(self, self.norm(x))


class ByHand(nn.Module):
    """A root-mean-square normalization as people write it, or with a shift."""

    def __init__(self, shift: bool) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(WIDTH))
        self.beta = nn.Parameter(torch.full((WIDTH,), 0.5)) if shift else 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.gamma + self.beta


class Attention(nn.Module):
    """Attention whose values are loud where the last layer's columns are quiet."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.joined, self.last = kind, nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        with torch.no_grad():
            for c in CHANNELS:
                self.joined.weight[2 * WIDTH + c] *= LOUD
                self.joined.bias[2 * WIDTH + c] *= LOUD
                self.last.weight[:, c] /= LOUD
            self.apart = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
            for n, layer in enumerate(self.apart):
                layer.weight.copy_(self.joined.weight[n * WIDTH : (n + 1) * WIDTH])
                layer.bias.copy_(self.joined.bias[n * WIDTH : (n + 1) * WIDTH])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.joined(x).chunk(3, -1) if self.kind == "fused" else [layer(x) for layer in self.apart]
        if self.kind == "one head":
            q, k, v = parts
            return self.last((q @ k.transpose(-1, -2) / WIDTH**0.5).softmax(-1) @ v)
        q, k, v = (p.reshape(*p.shape[:2], HEADS, -1).transpose(1, 2) for p in parts)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.last(y.transpose(1, 2).reshape(x.shape))


class Torchs(nn.Module):
    """PyTorch's own attention."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        with torch.no_grad():
            for c in CHANNELS:
                self.attention.in_proj_weight[2 * WIDTH + c] *= LOUD
                self.attention.out_proj.weight[:, c] /= LOUD

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


MODULES: dict[str, Callable[[], nn.Module]] = {
    "layer norm": lambda: Normed(nn.LayerNorm(WIDTH), lambda m, h: m.last(m.first(h).relu())),
    "layer norm, two readers": lambda: Normed(nn.LayerNorm(WIDTH), lambda m, h: m.first(h) + m.second(h)),
    "layer norm, mean of tokens": lambda: Normed(nn.LayerNorm(WIDTH), lambda m, h: m.first(h.mean(1))),
    "layer norm, first token": lambda: Normed(nn.LayerNorm(WIDTH), lambda m, h: m.first(h[:, 0])),
    "layer norm, convolution": lambda: Normed(
        nn.LayerNorm(WIDTH),
        lambda m, h: nn.functional.conv2d(h.transpose(1, 2).unsqueeze(3), m.first.weight[:, :, None, None]),
    ),
    "rms norm": lambda: Normed(nn.RMSNorm(WIDTH), lambda m, h: m.first(h) + m.second(h)),
    "rms norm by hand": lambda: Normed(ByHand(False), lambda m, h: m.first(h)),
    "rms norm by hand, shifted": lambda: Normed(ByHand(True), lambda m, h: m.first(h)),
    "attention": lambda: Attention("apart"),
    "attention from one layer": lambda: Attention("fused"),
    "attention of one head": lambda: Attention("one head"),
    "PyTorch's attention": Torchs,
}


def model_of(build: Callable[[], nn.Module]) -> Model:
    torch.manual_seed(0)
    return optimize(load(build().eval(), (torch.randn(1, TOKENS, WIDTH),)))


def inputs(count: int, seed: int) -> list[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(1, TOKENS, WIDTH)).astype(np.float32),) for _ in range(count)]


@pytest.mark.parametrize("build", MODULES.values(), ids=MODULES.keys())
def test_loud_channels(build: Callable[[], nn.Module]) -> None:
    model = model_of(build)
    judge = Judge(model, inputs(8, seed=1))
    plain = quantize_model(model, inputs(16, seed=0), {"base": "int8", "recovery": ["bias_correction"]})
    assert judge.sqnr(plain.model) < 15
    for recipe in ("int8", "uint8", {"base": "int8", "recovery": ["equalization"]}):
        found = quantize_model(model, inputs(16, seed=0), recipe)
        assert judge.sqnr(found.model) > 26  # one layer's 8 bits are 35 dB, attention's three in a row 29


@pytest.mark.parametrize("build", MODULES.values(), ids=MODULES.keys())
def test_moves_are_exact(build: Callable[[], nn.Module]) -> None:
    """Powers of two: not a bit of the results changes."""
    recipe = read_recipe("int8")
    prepared = prepare(model_of(build), recipe)
    factors = choose(prepared, inputs(4, seed=0), recipe)
    assert factors
    assert all(np.log2(f).is_integer() for values in factors.values() for f in map(np.float64, values))
    x = list(inputs(1, seed=1)[0])
    np.testing.assert_array_equal(execute(moved(prepared, factors), x)[0], execute(prepared, x)[0])


QUIET: dict[str, Callable[[], nn.Module]] = {
    "nothing is loud": lambda: nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 16)),
    "the norm is an output too": lambda: Normed(nn.LayerNorm(WIDTH), lambda m, h: (m.first(h), h)),  # type: ignore[arg-type, return-value]
    "a residual reads the norm": lambda: Normed(nn.LayerNorm(WIDTH), lambda m, h: m.first(h)[..., :WIDTH] + h),
    "channels are compared": lambda: Normed(nn.LayerNorm(WIDTH), lambda m, h: m.first(h.softmax(-1))),
    "channels are mixed": lambda: Normed(nn.LayerNorm(WIDTH), lambda m, h: m.first(h - h.amax(-1, keepdim=True))),
}


@pytest.mark.parametrize("build", QUIET.values(), ids=QUIET.keys())
def test_what_a_factor_may_not_change(build: Callable[[], nn.Module]) -> None:
    recipe = read_recipe("int8")
    assert choose(prepare(model_of(build), recipe), inputs(4, seed=0), recipe) == {}


def test_tables_keep_the_factors(tmp_path: Path) -> None:
    model = model_of(MODULES["layer norm"])
    found = quantize_model(model, inputs(8, seed=0), {"base": "int8", "recovery": ["scaling"]})
    path = tmp_path / "t.json"
    found.table.save(path, found.prepared)
    again = quantize_model(model, table=path)
    x = quantized_inputs(found.model, inputs(1, seed=1)[0])
    np.testing.assert_array_equal(execute(again.model, x)[0], execute(found.model, x)[0])
    content = json.loads(path.read_text())
    content["factors"] = {n: [-1.0] for n in content["factors"]}
    path.write_text(json.dumps(content))
    with pytest.raises(QuantizeError, match=r"factors of operation \d+ must be 0\.000244"):
        quantize_model(model, table=path)
    with pytest.raises(QuantizeError, match="equalizes by calibration data"):
        quantize_model(model, None, {"base": "int8", "recovery": ["equalization"]}, table=found.table)


def test_a_batch_that_is_unknown() -> None:
    torch.manual_seed(0)
    module = MODULES["attention from one layer"]().eval()
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(module, (torch.randn(2, TOKENS, WIDTH),), dynamic_shapes=({0: batch},))
    model = optimize(load(program))
    assert model.input_operands[0].dimensions[0] == 0
    found = quantize_model(model, inputs(8, seed=0), "int8")
    assert found.table.factors
    assert Judge(model, inputs(4, seed=1)).sqnr(found.model) > 26
