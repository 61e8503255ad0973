"""A module through the importer and the reference, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from nnapi.drivers.reference import execute
from nnapi.importers.pytorch.read import read
from nnapi.importers.pytorch.tensor import TYPES
from nnapi.ir.model import ATEN, Model


class Function(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs)


def as_module(subject: Any) -> nn.Module:
    """The subject in evaluation mode, its weights and statistics random."""
    if not isinstance(subject, nn.Module):
        return Function(subject)
    with torch.no_grad():
        for name, tensor in (*subject.named_parameters(), *subject.named_buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.5 if "running_var" in name else torch.randn_like(tensor) * 0.5)
    return subject.eval()


def as_tensor(given: Any) -> torch.Tensor:
    """A tensor as it is, or a random one of a shape."""
    return given if isinstance(given, torch.Tensor) else torch.randn(given)


def as_operand(tensor: torch.Tensor) -> np.ndarray:
    """What the model takes for a tensor: NNAPI's types, and no rank 0."""
    return tensor.detach().float().numpy().astype(TYPES[tensor.dtype].dtype).reshape(tensor.shape or (1,))


def extensions(model: Model) -> list[str]:
    """The ATen calls in a model."""
    return [o.type.removeprefix(ATEN) for o in model.operations if o.type.startswith(ATEN)]


def agree(subject: Any, inputs: Sequence[Any], tolerance: float, *, core: bool = False) -> Model:
    """Assert that the model computes what the module does, and give the model.

    `tolerance` is the largest difference, relative to the largest element of each output; `core` goes through PyTorch's
    core operators.
    """
    torch.manual_seed(1)
    module = as_module(subject)
    tensors = tuple(as_tensor(i) for i in inputs)
    model = read(torch.export.export(module, tensors).run_decompositions()) if core else read(module, tensors)
    actual = execute(model, [as_operand(t) for t in tensors])
    with torch.no_grad():
        expected = module(*(t.clone() for t in tensors))
    expected = pytree.tree_leaves(expected)
    assert len(actual) == len(expected)
    for got, want in zip(actual, expected):
        right = as_operand(want)
        assert got.shape == right.shape
        assert got.dtype == right.dtype
        finite = np.isfinite(right.astype(np.float64))
        np.testing.assert_array_equal(got[~finite], right[~finite])
        scale = max(float(np.abs(right[finite].astype(np.float64)).max(initial=0.0)), 1e-3)
        np.testing.assert_allclose(got[finite], right[finite], rtol=0, atol=tolerance * scale)
    return model


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
