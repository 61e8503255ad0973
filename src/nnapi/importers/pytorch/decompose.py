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
from nnapi.importers.pytorch.tensor import dims_of

Numbers = Mapping[fx.Node, Any]
MAX_PARTS: Final = 32
"""Beyond it one call of PyTorch's is better than many operations: unrolled loops, interpolation by indexes."""


class Decomposer:
    """Takes operators apart into `known` ones; remembers how, for operators come again."""

    def __init__(self, known: frozenset[str]) -> None:
        self._known = known
        self._found: dict[tuple[Any, ...], torch.export.ExportedProgram | None] = {}

    def parts(self, node: fx.Node, numbers: Numbers) -> torch.export.ExportedProgram | None:
        """A program of known operators that computes what `node` does of its tensors; None where there is none.

        `numbers` are those that it takes from other nodes.
        """
        tensors = [(dims_of(n.meta["val"]), n.meta["val"].dtype) for n in aten.tensors_of(node)]
        if node.target not in _decompositions(self._known):
            return None
        if any(None in shape for shape, _ in tensors):
            return None
        key = (str(node.target), *tensors, *_others(node, numbers))
        if key not in self._found:
            examples = tuple(torch.empty(shape, dtype=dtype) for shape, dtype in tensors)  # values do not count
            self._found[key] = self._taken_apart(_Call(node, numbers), examples)
        return self._found[key]

    def _taken_apart(self, call: _Call, examples: tuple[torch.Tensor, ...]) -> torch.export.ExportedProgram | None:
        try:
            with quiet():
                program = torch.export.export(call, examples, strict=False)
                program = program.run_decompositions(dict(_decompositions(self._known)))
        except Exception:  # the decompositions are Python that may raise anything; then there is none
            return None
        parts = _calls_on_inputs(program)
        known = all(p is operator.getitem or str(p) in self._known for p in parts)
        return program if known and len(parts) <= MAX_PARTS else None


class _Call(nn.Module):
    """One call of a graph, of its tensors."""

    def __init__(self, node: fx.Node, numbers: Numbers) -> None:
        super().__init__()
        self._node = node
        self._numbers = numbers
        self._places = {n: k for k, n in enumerate(aten.tensors_of(node))}

    def forward(self, *tensors: torch.Tensor) -> Any:
        def value(n: fx.Node) -> Any:
            return tensors[self._places[n]] if n in self._places else self._numbers[n]

        args, kwargs = (fx.node.map_arg(a, value) for a in (self._node.args, self._node.kwargs))
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


def _others(node: fx.Node, numbers: Numbers) -> tuple[str, str]:
    """A call's other arguments, with tensors by their place."""
    named = {n: f"tensor {k}" for k, n in enumerate(aten.tensors_of(node))}
    args, kwargs = (fx.node.map_arg(a, lambda n: named.get(n, numbers.get(n))) for a in (node.args, node.kwargs))
    return repr(args), repr(kwargs)


@functools.cache
def _decompositions(known: frozenset[str]) -> Mapping[Any, Callable[..., Any]]:
    """How PyTorch takes apart what is not known."""
    table = torch.export.default_decompositions()
    return {target: function for target, function in table.items() if str(target) not in known}
