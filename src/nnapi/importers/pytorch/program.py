"""An exported program as a model: its graph converted, its inputs and outputs under their names."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload
from torch.export.graph_signature import ConstantArgument, OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from nnapi.errors import ModelError
from nnapi.importers.pytorch import quantized
from nnapi.importers.pytorch.aliasing import stale_read
from nnapi.importers.pytorch.decompose import Decomposer
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.graph import FUNCTIONS, Conversion, declare_outputs, functional_name, inputs_of
from nnapi.importers.pytorch.tensor import EXACT, TYPES, Tensor, filled_dims_of, operand_of
from nnapi.ir.builder import Builder
from nnapi.ir.model import RANKLESS, Model


def convert(program: torch.export.ExportedProgram, name: str = "") -> Model:
    """The program's function as a model in NCHW; ModelError where it cannot be one."""
    quantized.check_converted(program.graph)
    program = _prepared(program)
    builder = Builder(name, metadata={"source": f"PyTorch {torch.__version__.partition('+')[0]}"})
    conversion = Conversion(Emitter(builder), program.graph_module, Decomposer(frozenset(FUNCTIONS)))
    placeholders = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
    inputs = inputs_of(program, lambda argument: _user_input(argument, placeholders, builder))
    outputs = [
        value
        for value, spec in zip(conversion.run(program.graph, inputs), program.graph_signature.output_specs)
        if spec.kind == OutputKind.USER_OUTPUT
    ]
    rankless = [k for k, v in enumerate(v for v in outputs if v is not None) if isinstance(v, Tensor) and v.rank == 0]
    if rankless:
        builder.metadata[RANKLESS] = " ".join(map(str, rankless))
    given = {v.ref.index for v in inputs if isinstance(v, Tensor) and v.ref is not None}
    declare_outputs(conversion.emitter, outputs, _output_names(program), given)
    return quantized.in_integers(builder.finish())


def _prepared(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program; where it calls vmap's functions, or writes what is read elsewhere, after PyTorch retraced it."""
    targets = {n.target for n in program.graph.nodes if n.op == "call_function"}
    overloads = {t for t in targets if isinstance(t, OpOverload)}
    unmapped = any(t._schema.is_mutable and functional_name(t) not in FUNCTIONS for t in overloads)
    mapped_over = any(str(getattr(t, "__module__", "")).startswith("torch._functorch") for t in targets)
    if not (unmapped or mapped_over or stale_read(program.graph)):
        return program
    try:
        return program.run_decompositions({})
    except Exception as error:  # the decompositions run as Python
        raise ModelError(f"PyTorch cannot take the program apart: {error}".splitlines()[0]) from error


def _user_input(argument: Any, placeholders: Mapping[str, fx.Node], builder: Builder) -> Any:
    if isinstance(argument, ConstantArgument):
        return argument.value
    if not isinstance(argument, TensorArgument):
        raise ModelError(f"input {argument.name!r} is a number, a model takes tensors", hint="make it a constant")
    value = placeholders[argument.name].meta["val"]
    if value.dtype not in TYPES:
        raise ModelError(f"input {argument.name!r} is {value.dtype}, which NNAPI has no type for")
    shape, type = filled_dims_of(value, f"input {argument.name!r}"), TYPES[value.dtype]
    if value.dtype not in EXACT.values():
        builder.metadata[f"input {argument.name}"] = f"{value.dtype} in PyTorch, {type.name} here"
    ref = builder.input_operand(operand_of(type, shape or (1,), argument.name))
    return Tensor(shape, type, ref)


def _output_names(program: torch.export.ExportedProgram) -> list[str]:
    """One name per output: the path of dictionary keys and attributes that leads to it, else the node's name."""
    specs = [s for s in program.graph_signature.output_specs if s.kind == OutputKind.USER_OUTPUT]
    picked = {n.name: f"{n.args[0]}_{n.args[1]}" for n in program.graph.nodes if n.target is operator.getitem}
    names = [picked.get(s.arg.name, s.arg.name) or f"output_{i}" for i, s in enumerate(specs)]
    spec = program.call_spec.out_spec
    if spec is not None and spec.num_leaves == len(names):
        for path, i in pytree.tree_flatten_with_path(pytree.tree_unflatten(range(len(names)), spec))[0]:
            keys = [str(getattr(p, "key", getattr(p, "name", getattr(p, "idx", "")))) for p in path]
            if not all(isinstance(p, pytree.SequenceKey) for p in path):
                names[i] = ".".join(keys)
    return [f"{name}_{names[:i].count(name)}" if name in names[:i] else name for i, name in enumerate(names)]
