"""ATen calls from a model: the importer's, run as PyTorch does, and ones that nobody should run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils import _pytree as pytree

from nnapi.drivers.driver import Accept, PrepareOptions
from nnapi.drivers.pytorch import PyTorchDriver
from nnapi.errors import ExecutionError, UnsupportedOperation
from nnapi.importers.pytorch.read import read
from nnapi.ir.builder import Builder
from nnapi.ir.file import load, save
from nnapi.ir.model import ATEN, Model
from nnapi.ops.types import F32, I32, Q8, Operand


class Function(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs)


X, CUBE, IMAGE = torch.randn(3, 4), torch.randn(1, 2, 3, 4, 4), torch.randn(1, 2, 5, 5)
AT = torch.tensor([[0, 2, 1, 3], [3, 3, 0, 1], [1, 0, 0, 2]])
CALLS: list[tuple[str, Any, list[torch.Tensor], list[str]]] = [
    ("of rank 5", nn.Conv3d(2, 3, 2), [CUBE], ["conv3d.default"]),
    ("of rank 5, around NNAPI's operations", lambda x: torch.relu(x) * 2, [CUBE], ["reshape.default"] * 2),
    ("64-bit indexes", lambda x, i: x.gather(1, i), [X, AT], ["gather.default"]),
    ("tensors in lists, some left out", lambda x, i: x[i[0], :, i[1]], [torch.randn(4, 2, 4), AT], ["index.Tensor"]),
    ("several outputs", lambda x: torch.kthvalue(x, 2, 1), [X], ["kthvalue.default"]),
    ("lists of tensors", nn.GRU(4, 2), [torch.randn(600, 3, 4)], ["gru.input"]),
    ("a type by name", lambda x: x.cumsum(0, dtype=torch.float64).float(), [X], ["cumsum.default"]),
    ("from rank 0", lambda x: torch.histc(torch.median(x), 3, -9, 9), [X], ["median.default", "histc.default"]),
    ("to rank 0", lambda x: torch.median(x), [X], ["median.default"]),
    ("an infinity", lambda x: torch.cdist(x, x + 1, float("inf")), [X], ["cdist.default"]),
    ("strings", lambda x, y: torch.searchsorted(x, y, side="right"), [X.sort()[0], X], ["searchsorted.Tensor"]),
    ("of booleans", lambda x: torch.cumsum(x > 0, 1), [X], ["cumsum.default"]),
    ("a grid", lambda x, g: F.grid_sample(x, g, "nearest", align_corners=True), [IMAGE, torch.rand(1, 3, 3, 2)],
     ["grid_sampler.default"]),
    ("indices of a pool", lambda x: F.max_pool2d(x, 2, return_indices=True), [IMAGE],
     ["max_pool2d_with_indices.default"]),
]  # fmt: skip


def calls(model: Model) -> list[str]:
    return [o.type.removeprefix(ATEN) for o in model.operations if o.type.startswith(ATEN)]


def given(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().numpy()
    array = array.astype({np.dtype("i8"): np.int32, np.dtype("f8"): np.float32}.get(array.dtype, array.dtype))
    return array.reshape(array.shape or (1,))


@pytest.mark.parametrize(("subject", "inputs", "expected"), [c[1:] for c in CALLS], ids=[c[0] for c in CALLS])
def test_calls(subject: Any, inputs: list[torch.Tensor], expected: list[str], tmp_path: Any) -> None:
    module = (subject if isinstance(subject, nn.Module) else Function(subject)).eval()
    model = read(module, tuple(inputs))
    assert calls(model) == expected
    save(model, tmp_path / "model.nnapi")
    model = load(tmp_path / "model.nnapi")  # arguments survive as data
    driver = PyTorchDriver()
    assert all(isinstance(v, Accept) for v in driver.supported(model))
    actual = driver.prepare(model, PrepareOptions()).run([given(x) for x in inputs])
    with torch.no_grad():
        wanted = [given(t) for t in pytree.tree_leaves(module(*inputs))]
    assert len(actual) == len(wanted)
    for got, want in zip(actual, wanted):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=1e-6)


def call(name: str, arguments: Any = None, *, payload: bytes | None = None, constant: bool = True) -> Model:
    """One extension operation `name` of a tensor [2] with these arguments."""
    b = Builder()
    x = b.input("x", F32, (2,))
    data = json.dumps(arguments).encode() if payload is None else payload
    operand = Operand(Q8, (len(data),), 1.0)
    last = b.constant(np.frombuffer(data, np.uint8), operand) if constant else b.input_operand(operand)
    b.output(*b.add_raw(ATEN + name, [x, last], [Operand(F32, (2,))]))
    return b.finish()


ONE = {"args": [{"tensor": 0}], "kwargs": {}}
DEEP: Any = 1
for _ in range(20):
    DEEP = [DEEP]
HOSTILE: list[tuple[str, Model, str]] = [
    ("no such operator", call("no_such.default", ONE), "has no no_such.default"),
    ("no such overload", call("relu.no_such", ONE), "has no relu.no_such"),
    ("no overload", call("relu", ONE), "no OP.OVERLOAD"),
    ("a path", call("../relu.default", ONE), "no OP.OVERLOAD"),
    ("an attribute", call("__class__.mro", ONE), "has no __class__"),
    ("a method", call("relu.__call__", ONE), "has no relu.__call__"),
    ("saving", call("save.default", {"args": [1, "/tmp/x"], "kwargs": {}}), "something else than tensors"),
    ("files", call("from_file.default", {"args": ["/etc/passwd"], "kwargs": {}}), "not run from a model"),
    ("memory without values", call("empty_like.default", ONE), "not run from a model"),
    ("unchecked indexes", call("_unsafe_index.Tensor", ONE), "not run from a model"),
    ("what changes its arguments", call("relu_.default", ONE), "changes its arguments"),
    ("an out argument", call("exp.out", {"args": [{"tensor": 0}], "kwargs": {"out": {"tensor": 0}}}), "changes its"),
    ("what gives a number", call("item.default", ONE), "something else than tensors"),
    ("no JSON", call("relu.default", payload=b"{"), "no JSON"),
    ("no UTF-8", call("relu.default", payload=b"\xff\xfe{"), "no JSON"),
    ("no object", call("relu.default", [1]), "must be"),
    ("other keys", call("relu.default", {"args": [], "kwargs": {}, "more": 1}), "must be"),
    ("arguments of a wrong form", call("relu.default", {"args": {}, "kwargs": {}}), "must be a list"),
    ("a tensor that is not there", call("relu.default", {"args": [{"tensor": 1}], "kwargs": {}}), "not understood"),
    ("a tensor before the first", call("relu.default", {"args": [{"tensor": -1}], "kwargs": {}}), "not understood"),
    ("an unknown object", call("relu.default", {"args": [{"code": "1"}], "kwargs": {}}), "not understood"),
    ("no type", call("cumsum.default", {"args": [{"tensor": 0}, 0], "kwargs": {"dtype": {"dtype": "load"}}}),
     "'load' is no dtype"),
    ("another device", call("relu.default", {"args": [{"device": "cuda"}], "kwargs": {}}), "not understood"),
    ("arguments nested deeply", call("relu.default", {"args": DEEP, "kwargs": {}}), "nest deeper"),
    ("arguments nested endlessly", call("relu.default", payload=b'{"args":' + b"[" * 100000), "no JSON"),
    ("too many arguments", call("relu.default", payload=b" " * (1 << 20) + b"{}"), "up to 1 MiB"),
    ("arguments given at run time", call("relu.default", ONE, constant=False), "must hold its arguments"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "message"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_hostile_calls_are_refused(model: Model, message: str) -> None:
    from nnapi.drivers.aten_call import aten_call

    with pytest.raises(UnsupportedOperation, match=message):
        aten_call(model, model.operations[0])


def test_a_call_without_inputs_is_refused() -> None:
    from nnapi.drivers.aten_call import aten_call

    b = Builder()
    b.output(*b.add_raw(ATEN + "relu.default", [], [Operand(I32, (2,))]))
    model = b.finish()
    with pytest.raises(UnsupportedOperation, match="must hold its arguments"):
        aten_call(model, model.operations[0])


LARGEST = 2**31 - 1


def test_what_leaves_32_bits_is_an_error() -> None:
    prepared = PyTorchDriver().prepare(read(Function(lambda x: x.sum()), torch.arange(3)), PrepareOptions())
    assert prepared.run([np.array([LARGEST, -3, 3], np.int32)])[0].tolist() == [LARGEST]
    with pytest.raises(ExecutionError, match=f"sum.default 'sum_1': gives {LARGEST + 2}, TENSOR_INT32 has 32 bits"):
        prepared.run([np.array([LARGEST, 1, 1], np.int32)])


def test_pytorchs_own_limits_are_cut() -> None:
    def least_of_none(x: torch.Tensor) -> torch.Tensor:
        return torch.full((1,), torch.iinfo(torch.int64).max).expand_as(x).cummin(0)[0] + 0 * x

    prepared = PyTorchDriver().prepare(read(Function(least_of_none), torch.arange(3)), PrepareOptions())
    assert prepared.run([np.zeros(3, np.int32)])[0].tolist() == [LARGEST] * 3
