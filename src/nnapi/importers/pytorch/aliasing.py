"""In-place operators: `x.relu_()` is `y = relu(x)` unless the memory is read later under another name."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator
from typing import Any, Final

from torch import fx
from torch._ops import OpOverload

from nnapi.errors import ModelError

_TRAINED: Final = "num_batches_tracked"
"""A buffer that only training updates."""


def mutated(node: fx.Node) -> fx.Node | None:
    """The argument that a node writes into; detach_ writes nothing but autograd's notes."""
    if str(node.target) == "aten.detach_.default":
        return None
    return next((n for n, info in _aliases(node) if info.is_write), None)


def stale_read(graph: fx.Graph, states: Collection[str]) -> fx.Node | None:
    """The first node that reads memory by a name from before it was written into under another, or writes into one of
    `states`, a placeholder that outlives the call; None where none does.

    Raises ModelError where a graph writes into its inputs.
    """
    root: dict[fx.Node, fx.Node] = {}
    order: dict[fx.Node, int] = {}
    written: dict[fx.Node, tuple[int, fx.Node]] = {}
    for at, node in enumerate(graph.nodes):
        order[node] = at
        for source in node.all_input_nodes:
            when, through = written.get(root[source], (-1, source))
            if order[source] < when and source is not through:
                return node
        root[node] = next((root[n] for n, _ in _aliases(node)), node)
        target = mutated(node)
        if target is not None:
            if root[target].name in states and not root[target].name.endswith(_TRAINED):
                return node
            _check_writable(node, root[target])
            written[root[target]] = (at, target)
    return None


def _aliases(node: fx.Node) -> Iterator[tuple[fx.Node, Any]]:
    """The arguments whose memory a node's result may share, and the schema's word on it."""
    if node.target is operator.getitem:
        yield node.all_input_nodes[0], _View
    if not isinstance(node.target, OpOverload):
        return
    for i, argument in enumerate(node.target._schema.arguments):
        if argument.alias_info is not None:
            value = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name)
            if isinstance(value, fx.Node):
                yield value, argument.alias_info


class _View:
    """What a schema says of an argument that is looked at only."""

    is_write = False


def _check_writable(node: fx.Node, root: fx.Node) -> None:
    if root.op in ("placeholder", "get_attr"):
        raise ModelError(
            f"writes into {root.name!r}, an input, parameter or buffer of the module, which no NNAPI model does",
            operation=f"{node.target} {node.name!r}",
            hint="call module.eval(), and let forward work on a copy",
        )
