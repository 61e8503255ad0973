"""What holds for every pass on every model: the same function, a valid model, and nothing left to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnapi.ir.model import Model
from nnapi.ir.text import print_model
from nnapi.ir.verify import verify
from nnapi.passes.default import DEFAULT
from nnapi.passes.inline_composites import inline_composites
from nnapi.passes.layout import IMAGES, to_layout
from nnapi.passes.run import run_passes
from passes.agreement import assert_same_function
from passes.graphs import models

SETTINGS = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
KINDS = pytest.mark.parametrize("quantized", [False, True], ids=["float", "quantized"])


@pytest.mark.parametrize("each", [*DEFAULT, inline_composites], ids=lambda p: p.__name__)
@KINDS
def test_a_pass_keeps_the_function_and_finishes_its_work(each: Callable[[Model], Model], quantized: bool) -> None:
    @SETTINGS
    @given(models(quantized=quantized))
    def check(model: Model) -> None:
        before = print_model(model)
        after = each(model)
        assert print_model(model) == before
        verify(after)
        assert_same_function(model, after)

    check()


@KINDS
def test_the_default_sequence_keeps_the_function_and_is_idempotent(quantized: bool) -> None:
    @settings(SETTINGS, max_examples=60)
    @given(models(quantized=quantized, most=14), st.sampled_from([None, "nhwc", "nchw"]))
    def check(model: Model, layout: str | None) -> None:
        after = run_passes(model, layout=layout)
        assert_same_function(model, after)
        again = run_passes(after, layout=layout)
        assert print_model(again) == print_model(after)

    check()


@KINDS
def test_layouts_keep_every_bit_there_and_back(quantized: bool) -> None:
    @settings(SETTINGS, max_examples=60)
    @given(models(quantized=quantized, most=14))
    def check(model: Model) -> None:
        for layout in ("nhwc", "nchw"):
            there = to_layout(model, layout)
            verify(there)
            assert_same_function(model, there)
            assert layouts(there) <= {layout == "nchw"}
            assert to_layout(there, layout) is there
            back = to_layout(there, "nchw" if layout == "nhwc" else "nhwc")
            verify(back)
            assert_same_function(model, back)

    check()


def layouts(model: Model) -> set[bool]:
    """The layout flags of the operations that have one."""
    calls = [model.call(o) for o in model.operations if o.type in IMAGES]
    return {call.scalar("layout") for call in calls}
