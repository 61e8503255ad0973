"""The pytorch device's ways to compute a convolution: each right, and chosen by what they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from nnapi.drivers import aten_convolution
from nnapi.drivers.aten_convolution import Window, convolve

SAME3 = Window((1, 1), (1, 1), (1, 1), 1)
WINDOWS = [
    pytest.param((1, 64, 32, 32), (64, 64, 3, 3), SAME3, True, id="3x3"),
    pytest.param((2, 32, 40, 24), (48, 32, 3, 3), SAME3, True, id="3x3 of two images"),
    pytest.param((1, 32, 32, 32), (32, 32, 5, 5), Window((1, 1), (2, 2), (1, 1), 1), True, id="5x5"),
    pytest.param((1, 64, 32, 32), (64, 64, 3, 3), SAME3._replace(stride=(2, 2)), False, id="stride 2"),
    pytest.param((1, 64, 32, 32), (64, 64, 3, 3), SAME3._replace(dilation=(2, 2)), False, id="dilation 2"),
    pytest.param((1, 64, 32, 32), (64, 32, 3, 3), SAME3._replace(groups=2), False, id="2 groups"),
    pytest.param((1, 64, 64, 64), (64, 64, 1, 1), SAME3._replace(padding=(0, 0)), False, id="1x1"),
    pytest.param((1, 4, 8, 8), (4, 4, 3, 3), SAME3, False, id="small"),
]
WORST = 1e-4
"""Of the largest output: transforms lose two digits of float32's seven."""


@pytest.fixture(autouse=True)
def nothing_measured() -> Iterator[None]:
    aten_convolution._fastest.cache_clear()
    yield
    aten_convolution._fastest.cache_clear()


@pytest.mark.parametrize(("shape", "weight", "window", "takes"), WINDOWS)
def test_every_way_is_right(shape: tuple[int, ...], weight: tuple[int, ...], window: Window, takes: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(s, generator=generator) for s in (shape, weight, weight[:1]))
    assert aten_convolution._may_be_transformed(x, w, window) == (takes and torch._nnpack_available())
    expected = torch.conv2d(x.double(), w.double(), b.double(), *window)
    ways = [convolve, aten_convolution._usual]
    ways += [aten_convolution._transformed] if takes and torch._nnpack_available() else []
    for way in ways:
        assert (way(x, w, b, window) - expected).abs().max() < WORST * expected.abs().max()


@pytest.mark.parametrize(("slower", "chosen"), [("_usual", "_transformed"), ("_transformed", "_usual")])
def test_the_faster_way_is_kept(monkeypatch: pytest.MonkeyPatch, slower: str, chosen: str) -> None:
    if not torch._nnpack_available():
        pytest.skip("this PyTorch has no NNPACK")
    calls: list[str] = []

    def delayed(name: str, way: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            calls.append(name)
            for _ in range(20 if name == slower else 1):
                y = way(*arguments)
            return y

        return run

    for name in ("_usual", "_transformed"):
        monkeypatch.setattr(aten_convolution, name, delayed(name, getattr(aten_convolution, name)))
    x, w, b = torch.randn(1, 64, 32, 32), torch.randn(64, 64, 3, 3), torch.zeros(64)
    for _ in range(3):
        convolve(x, w, b, SAME3)
    assert calls[-3:] == [chosen] * 3, "measured once, then kept"


def test_a_window_that_cannot_be_transformed_is_computed_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> Any:
        raise RuntimeError("no transform")

    monkeypatch.setattr(aten_convolution, "_transformed", refuse)
    x, w, b = torch.randn(1, 64, 32, 32), torch.randn(64, 64, 3, 3), torch.randn(64)
    assert torch.equal(convolve(x, w, b, SAME3), torch.conv2d(x, w, b, padding=1))
