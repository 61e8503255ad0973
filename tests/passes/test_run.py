"""The runner: order, verification, progress, and what it says when a pass is wrong."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models import chain
from nnapi.errors import ModelError, PassError, UsageError
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ir.text import print_model
from nnapi.ops.types import F32
from nnapi.passes.default import DEFAULT
from nnapi.passes.fuse_activations import fuse_activations
from nnapi.passes.layout import to_layout
from nnapi.passes.remove_dead_code import remove_dead_code
from nnapi.passes.run import PassReport, run_passes


def break_activation(model: Model) -> Model:
    """before: `y = ADD(x, x, 0)`; after: `y = ADD(x, x, 7)`"""
    operands = [replace(o, value=np.array(7, np.int32)) if o.type.name == "INT32" else o for o in model.operands]
    return replace(model, operands=tuple(operands))


def raise_key_error(model: Model) -> Model:
    """before: a model; after: no model"""
    raise KeyError("layer")


def fail_on_operation(model: Model) -> Model:
    """before: a model; after: no model"""
    raise ModelError("cannot be", operation=model.operations[0].label, location="net.py:3")


def add_forever(model: Model) -> Model:
    """before: `y = OP(x)`; after: `y = OP(x)` under another name"""
    return replace(model, name=model.name + "+")


FAILURES = {
    "gives a wrong model": (break_activation, r"ADD 'add0': break_activation: activation is 7, must be 0 to 3"),
    "raises anything": (raise_key_error, r"raise_key_error: KeyError 'layer'"),
    "names the operation": (fail_on_operation, r"ADD 'add0': fail_on_operation: cannot be \(from net.py:3\)"),
    "has options": (functools.partial(to_layout, layout="nwhc"), r"to_layout\(layout='nwhc'\): layout is 'nwhc', must"),
}


@pytest.mark.parametrize("each, message", FAILURES.values(), ids=FAILURES)
def test_a_failure_names_the_pass_the_operation_and_the_model_before(each: object, message: str) -> None:
    model = chain("ADD")
    with pytest.raises(PassError, match=message) as caught:
        run_passes(model, (remove_dead_code, each))
    assert isinstance(caught.value.model, Model)
    assert print_model(caught.value.model) == print_model(model)
    assert "nnapi.save(error.model" in caught.value.hint


def test_a_failure_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(PassError):
        run_passes(chain("ADD"), (raise_key_error,))
    assert list(tmp_path.iterdir()) == []


def test_progress_hears_of_every_pass_and_rounds_end_when_nothing_changes() -> None:
    b = Builder("m")
    x = b.input("x", F32, (2,))
    b.output(b.add("RELU", {"input": b.add("ADD", {"input0": x, "input1": x, "activation": 0})}))
    heard: list[PassReport] = []
    run_passes(b.finish(), (fuse_activations, remove_dead_code), progress=heard.append)
    assert [(r.name, r.before, r.after) for r in heard] == [
        ("fuse_activations", 2, 1), ("remove_dead_code", 1, 1), ("fuse_activations", 1, 1), ("remove_dead_code", 1, 1),
    ]  # fmt: skip
    assert all(r.seconds >= 0 for r in heard)


def test_rounds_have_a_limit() -> None:
    assert run_passes(chain("ADD"), (add_forever,), rounds=3).name == "chain+++"


def test_only_changed_models_are_checked() -> None:
    checked: list[Model] = []
    model = chain("ADD")
    assert run_passes(model, check=checked.append) is model
    assert not checked
    run_passes(model, (add_forever,), check=checked.append, rounds=1)
    assert [m.name for m in checked] == ["chain+"]


def test_without_a_check_nothing_is_verified() -> None:
    assert run_passes(chain("ADD"), (break_activation,), check=None, rounds=1).operations


def test_an_unknown_layout_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="layout is 'nwhc', must be nhwc or nchw"):
        to_layout(chain("ADD"), "nwhc")


@pytest.mark.parametrize("each", DEFAULT, ids=lambda p: p.__name__)
def test_every_pass_says_before_and_after(each: object) -> None:
    assert re.search(r"before: .*\n\s+after: ", each.__doc__ or "")


@pytest.mark.parametrize("layout", [None, "nhwc"])
def test_weights_that_do_not_change_are_shared(layout: str | None) -> None:
    b = Builder("m", relaxed=True, metadata={"source": "net.py"})
    x = b.input("x", F32, (1, 4, 3, 3))
    rng = np.random.default_rng(0)
    filter, matrix = (rng.standard_normal(s).astype(np.float32) for s in ((8, 3, 3, 4), (5, 8)))
    bias, zeros = (np.zeros(n, np.float32) for n in (8, 5))
    window = dict.fromkeys(("stride_width", "stride_height"), 1) | {"padding": 2, "layout": True}
    y = b.add("CONV_2D", {"input": x, "filter": filter, "bias": bias, "activation": 0, **window})
    y = b.add("RESHAPE", {"input": b.add("RELU", {"input": y}), "shape": [1, 8]})
    b.output(b.add("FULLY_CONNECTED", {"input": y, "filter": matrix, "bias": zeros, "activation": 0}))
    after = run_passes(b.finish(), layout=layout)
    for weights in (filter, matrix):
        assert any(isinstance(o.value, np.ndarray) and np.shares_memory(o.value, weights) for o in after.operands)
    assert after.relaxed
    assert after.metadata == {"source": "net.py"}
