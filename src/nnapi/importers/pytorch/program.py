"""An exported program as a model: its graph converted, its inputs and outputs under their names."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import torch
from torch import fx
from torch._ops import OpOverload
from torch.export.graph_signature import ConstantArgument, InputKind, InputSpec, OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from nnapi.errors import ModelError
from nnapi.importers.pytorch import quantized
from nnapi.importers.pytorch.aliasing import stale_read
from nnapi.importers.pytorch.decompose import Decomposer
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.graph import (
    FUNCTIONS,
    Conversion,
    as_output,
    declare_outputs,
    functional_name,
    inputs_of,
)  # fmt: skip
from nnapi.importers.pytorch.narrowing import leaving
from nnapi.importers.pytorch.tensor import EXACT, TYPES, Tensor, dims_of, filled, operand_of
from nnapi.ir.builder import Builder
from nnapi.ir.model import NARROWED, RANKLESS, Model

STATES: Final = (InputKind.PARAMETER, InputKind.BUFFER)
UPDATES: Final = tuple(k for k in OutputKind if k.name in ("BUFFER_MUTATION", "PARAMETER_MUTATION"))
"""Outputs that a program does not return but leaves behind."""


def convert(program: torch.export.ExportedProgram, name: str = "") -> Model:
    """The program's function as a model in NCHW; ModelError where it cannot be one.

    A buffer that it updates becomes an input, and the updated one an output.
    """
    quantized.check_converted(program.graph)
    program = _prepared(program)
    states = _states(program)
    builder = Builder(name, metadata={"source": f"PyTorch {torch.__version__.partition('+')[0]}"})
    conversion = Conversion(Emitter(builder), program.graph_module, Decomposer(frozenset(FUNCTIONS)))
    placeholders = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
    inputs = inputs_of(program, lambda spec: _model_input(spec, placeholders, builder), states)
    results = list(zip(conversion.run(program.graph, inputs), program.graph_signature.output_specs))
    names = _output_names(program)
    outputs = [
        as_output(value, name)
        for (value, _), name in zip([r for r in results if r[1].kind == OutputKind.USER_OUTPUT], names)
    ]
    updated = {spec.target: value for value, spec in results if spec.kind in UPDATES}
    for state in states:
        builder.metadata[f"state {state}"] = f"an input, at first the module's {state}; then output {state}.updated"
        names.append(f"{state}.updated")
        outputs.append(updated[state])
    rankless = [k for k, v in enumerate(v for v in outputs if v is not None) if v.rank == 0]
    if rankless:
        builder.metadata[RANKLESS] = " ".join(map(str, rankless))
    given = {v.ref.index for v in inputs if isinstance(v, Tensor) and v.ref is not None}
    declare_outputs(conversion.emitter, outputs, names, given)
    model = builder.finish()
    narrowed = leaving(model, conversion.emitter.wide)
    if narrowed:
        model = replace(model, metadata={**model.metadata, NARROWED: ", ".join(narrowed)})
    return quantized.in_integers(model)


def _prepared(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program; where it calls what is no operator, or writes what is read elsewhere, after PyTorch retraced it."""
    targets = {n.target for n in program.graph.nodes if n.op == "call_function"}
    overloads = {t for t in targets if isinstance(t, OpOverload)}
    unmapped = any(t._schema.is_mutable and functional_name(t) not in FUNCTIONS for t in overloads)
    composed = any(t.namespace != "aten" and _is_composed(t) for t in overloads)
    mapped_over = any(str(getattr(t, "__module__", "")).startswith("torch._functorch") for t in targets)
    states = {s.arg.name for s in program.graph_signature.input_specs if s.kind in STATES}
    if not (unmapped or composed or mapped_over or stale_read(program.graph, states)):
        return program
    try:
        return program.run_decompositions({})
    except Exception as error:  # the decompositions run as Python
        raise ModelError(f"PyTorch cannot take the program apart: {error}".splitlines()[0]) from error


def _is_composed(target: OpOverload) -> bool:
    """Whether an operator of another library is made of others, which retracing shows."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), "CompositeImplicitAutograd"))


def _states(program: torch.export.ExportedProgram) -> list[str]:
    """The buffers and parameters that the program updates, in order."""
    for spec in program.graph_signature.output_specs:
        if spec.kind == OutputKind.USER_INPUT_MUTATION:
            raise ModelError(
                f"writes into {spec.target!r}, an input, which no NNAPI model does", hint="let forward work on a copy"
            )
        if spec.kind not in (OutputKind.USER_OUTPUT, *UPDATES):
            raise ModelError(f"output {spec.arg.name!r} is a {spec.kind.name.lower()}", hint="export for inference")
    return [s.target for s in program.graph_signature.output_specs if s.kind in UPDATES]


def _model_input(spec: InputSpec, placeholders: Mapping[str, fx.Node], builder: Builder) -> Any:
    argument = spec.arg
    if isinstance(argument, ConstantArgument):
        return argument.value
    if not isinstance(argument, TensorArgument):
        raise ModelError(f"input {argument.name!r} is a number, a model takes tensors", hint="make it a constant")
    name = argument.name if spec.kind == InputKind.USER_INPUT else spec.target
    value = placeholders[argument.name].meta["val"]
    if value.dtype not in TYPES:
        raise ModelError(f"input {name!r} is {value.dtype}, which NNAPI has no type for")
    shape, type = filled(dims_of(value), f"input {name!r}"), TYPES[value.dtype]
    if value.dtype not in EXACT.values():
        builder.metadata[f"input {name}"] = f"{value.dtype} in PyTorch, {type.name} here"
    ref = builder.input_operand(operand_of(type, shape or (1,), name))
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
