"""Operators without a function here: taken apart by PyTorch, where all their parts have one."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import fx, nn

from nnapi.importers.pytorch import aten
from nnapi.importers.pytorch.quiet import quiet

MAX_PARTS: Final = 32
"""Beyond it one call of PyTorch's is better than many operations: unrolled loops, interpolation by indexes."""


class Decomposer:
    """Takes operators apart into `known` ones; remembers how, for operators come again."""

    def __init__(self, known: frozenset[str]) -> None:
        self._known = known
        self._found: dict[tuple[Any, ...], torch.export.ExportedProgram | None] = {}

    def parts(self, node: fx.Node) -> torch.export.ExportedProgram | None:
        """A program of known operators that computes what `node` does of its tensors; None where there is none."""
        tensors = [n.meta["val"] for n in aten.tensors_of(node)]
        if node.target not in _decompositions(self._known):
            return None
        if any(not isinstance(d, int) for t in tensors for d in t.shape):
            return None
        key = (str(node.target), *((t.shape, t.dtype) for t in tensors), *_numbers(node))
        if key not in self._found:
            self._found[key] = self._taken_apart(node, tensors)
        return self._found[key]

    def _taken_apart(self, node: fx.Node, tensors: list[torch.Tensor]) -> torch.export.ExportedProgram | None:
        examples = tuple(torch.empty(t.shape, dtype=t.dtype) for t in tensors)  # shapes count, values do not
        try:
            with quiet():
                program = torch.export.export(_Call(node), examples, strict=False)
                program = program.run_decompositions(dict(_decompositions(self._known)))
        except Exception:  # the decompositions are Python that may raise anything; then there is none
            return None
        parts = _calls_on_inputs(program)
        known = all(p is operator.getitem or str(p) in self._known for p in parts)
        return program if known and len(parts) <= MAX_PARTS else None


class _Call(nn.Module):
    """One call of a graph, of its tensors."""

    def __init__(self, node: fx.Node) -> None:
        super().__init__()
        self._node = node
        self._places = {n: k for k, n in enumerate(aten.tensors_of(node))}

    def forward(self, *tensors: torch.Tensor) -> Any:
        args, kwargs = (
            fx.node.map_arg(a, lambda n: tensors[self._places[n]]) for a in (self._node.args, self._node.kwargs)
        )
        return self._node.target(*args, **kwargs)


def _calls_on_inputs(program: torch.export.ExportedProgram) -> list[Any]:
    """The targets of all calls but those on constants, which are computed and not written."""
    names = set(program.graph_signature.user_inputs)
    variable = {n for n in program.graph.nodes if n.op == "placeholder" and n.name in names}
    calls = []
    for node in program.graph.nodes:
        if node.op == "call_function" and not variable.isdisjoint(node.all_input_nodes):
            variable.add(node)
            calls.append(node.target)
    return calls


def _numbers(node: fx.Node) -> tuple[str, str]:
    """A call's other arguments, with tensors by their place."""
    places = {n: k for k, n in enumerate(aten.tensors_of(node))}
    args, kwargs = (fx.node.map_arg(a, lambda n: f"tensor {places.get(n)}") for a in (node.args, node.kwargs))
    return repr(args), repr(kwargs)


@functools.cache
def _decompositions(known: frozenset[str]) -> Mapping[Any, Callable[..., Any]]:
    """How PyTorch takes apart what is not known."""
    table = torch.export.default_decompositions()
    return {target: function for target, function in table.items() if str(target) not in known}
