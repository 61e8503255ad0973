"""PyTorch to NNAPI: the entry. What the source is decides how it is exported; program.py converts that."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.utils import _pytree as pytree

from nnapi.errors import ModelError, UsageError
from nnapi.importers.pytorch import archive, program
from nnapi.importers.pytorch.quiet import quiet
from nnapi.ir.model import NARROWED, Model

CONSTANTS: Final = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.layout)
"""Example inputs that become part of the program."""
_log = logging.getLogger("nnapi")


def read(source: Any, example_inputs: Any = None, name: str = "") -> Model:
    """A module with example inputs, an ExportedProgram or the path of a `.pt2` file as a model in NCHW.

    `example_inputs` are a tensor, a tuple of positional or a dict of keyword arguments, and their shapes the model's.
    For shapes that stay open, pass `torch.export.export(module, inputs, dynamic_shapes=...)`.
    Raises ModelError for what cannot be converted, UsageError for a source of another type.

    >>> model = read(nn.Linear(3, 2), torch.zeros(1, 3))
    >>> [o.type for o in model.operations], [o.name for o in model.input_operands]
    (['FULLY_CONNECTED'], ['input'])
    """
    if isinstance(source, torch.export.ExportedProgram):
        exported = source
    elif isinstance(source, nn.Module):
        exported = export(source, example_inputs)
        name = name or type(source).__name__
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        exported = archive.load(path)
        name = name or path.stem
    else:
        raise UsageError(
            f"a {type(source).__name__} is no PyTorch model",
            hint="pass a module and example inputs, a torch.export.ExportedProgram or the path of a .pt2 file",
        )
    with torch.no_grad(), quiet():
        model = program.convert(exported, name)
    if NARROWED in model.metadata:
        _log.warning("%s: %s in 32 bits, 64 in PyTorch: results beyond them wrap", name, model.metadata[NARROWED])
    return model


def export(module: nn.Module, example_inputs: Any) -> torch.export.ExportedProgram:
    """`module` as PyTorch exports it, its weights shared; ModelError where it cannot be captured."""
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError("a TorchScript module cannot be exported", hint="pass the nn.Module that it was made of")
    args, kwargs = _arguments(example_inputs)
    for given in pytree.tree_leaves((args, kwargs)):
        if not isinstance(given, (torch.Tensor, *CONSTANTS)):
            raise ModelError(
                f"{type(module).__name__} is given a {type(given).__name__}, torch.export takes tensors and numbers",
                hint="torch.utils._pytree.register_pytree_node says which tensors are in it (for a dataclass: "
                "torch.export.register_dataclass); or wrap the module in one that takes and returns tensors",
            )
    with torch.no_grad(), quiet():
        try:
            return torch.export.export(module, args, kwargs, strict=False)
        except Exception as error:  # the capture runs the module's own Python
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"torch.export cannot capture {type(module).__name__}: {reason}",
                hint="torch.export.export(module, inputs) shows where",
            ) from error


def _arguments(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if example_inputs is None:
        raise UsageError("a module needs example inputs", hint="nnapi.load(module, (torch.zeros(1, 3, 224, 224),))")
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, Sequence):
        return tuple(example_inputs), {}
    return (example_inputs,), {}
