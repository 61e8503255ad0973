"""A graph of ATen operators as NNAPI operations: node after node through the tables, constants computed on the way."""

from __future__ import annotations

import itertools
import operator
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import fx
from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export.graph_signature import InputKind, InputSpec
from torch.utils import _pytree as pytree

from nnapi.errors import ModelError, UnsupportedOperation
from nnapi.importers.pytorch import (
    activation,
    arithmetic,
    aten,
    attention,
    convolution,
    factories,
    indexing,
    linear,
    normalization,
    pooling,
    quantized,
    recurrent,
    reduction,
    resize,
    shape,
    slicing,
)  # fmt: skip
from nnapi.importers.pytorch.aliasing import mutated
from nnapi.importers.pytorch.decompose import Decomposer
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.rank import MAX_RANK
from nnapi.importers.pytorch.tensor import (
    TYPES,
    UNKNOWN,
    Inexpressible,
    Tensor,
    Unknown,
    check_size,
    dims_of,
    empty,
    filled,
    number_of,
    operand_of,
    sizes_of,
    tensor_of,
)  # fmt: skip
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ops.types import B8

FAMILIES = (
    activation,
    arithmetic,
    attention,
    convolution,
    factories,
    indexing,
    linear,
    normalization,
    pooling,
    quantized,
    recurrent,
    reduction,
    resize,
    shape,
    slicing,
)  # fmt: skip
FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {name: function for family in FAMILIES for name, function in family.FUNCTIONS.items()}
)
"""ATen overload -> the function that writes it as NNAPI operations."""


OF_THE_RESULT: Final = shape.OF_THE_RESULT | factories.OF_THE_RESULT | normalization.OF_THE_RESULT
"""Operators that need no sizes as arguments: they may be unknown."""
UNEXPECTED: Final = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Exceptions that converting a node may raise beside errors in words."""


def functional_name(target: OpOverload) -> str:
    """`aten.relu.default` of the overload `aten.relu_.default`."""
    name = str(target)
    return name.replace("_.", ".", 1) if target._schema.is_mutable else name


def inputs_of(
    program: torch.export.ExportedProgram, given: Callable[[InputSpec], Any], states: Collection[str] = ()
) -> list[Any]:
    """Value of each placeholder of the graph: a constant, or what is `given` for user inputs, and for `states` then."""
    specs = program.graph_signature.input_specs
    values: dict[int, Any] = {}
    for i, spec in sorted(enumerate(specs), key=lambda item: item[1].target in states):
        if spec.kind == InputKind.USER_INPUT or spec.target in states:
            values[i] = given(spec)
        elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            source = program.state_dict if spec.target in program.state_dict else program.constants
            values[i] = tensor_of(source[spec.target])
        else:
            raise ModelError(f"input {spec.arg.name!r} is a {spec.kind.name.lower()}, a model takes tensors")
    return [values[i] for i in range(len(specs))]


def as_output(value: Any, name: str) -> Tensor | None:
    """A result as a tensor, numbers too; None for what is neither, which a model leaves out."""
    if isinstance(value, Unknown):
        raise ModelError(
            f"output {name!r} is a number that is known at run time only", hint="return tensors, or export fixed sizes"
        )
    if isinstance(value, (bool, int, float)):
        return tensor_of(torch.tensor(value))
    return value if isinstance(value, Tensor) else None


def declare_outputs(e: Emitter, outputs: Sequence[Tensor | None], names: Sequence[str], taken: set[int]) -> None:
    """The model's outputs, each written by an operation: inputs (`taken`), constants and repetitions are copied."""
    declared: list[Ref] = []
    kept: list[str] = []
    for value, name in zip(outputs, names):
        if value is None:
            continue
        e.name = name
        value = replace(value, shape=filled(value.shape, f"output {name!r}"))
        ref = e.ref(value)
        if ref.operand.is_constant or ref.index in taken:
            ref = e.ref(_copied(e, value))
        taken.add(ref.index)
        declared.append(ref)
        kept.append(name)
    e.builder.output(*declared, names=kept)


def _copied(e: Emitter, x: Tensor) -> Tensor:
    if x.type == B8:  # which CAST does not take
        return e.elementwise("LOGICAL_OR", input0=x, input1=x)
    return e.elementwise("CAST", operand_of(x.type, name=e.name), input=x)


class Conversion:
    """Converts one graph, and those it calls.

    Without a `decomposer` it gives up where an operator cannot be expressed: the graph is one operator's parts.
    """

    def __init__(self, emitter: Emitter, module: fx.GraphModule, decomposer: Decomposer | None = None) -> None:
        self.emitter = emitter
        self.module = module
        self.decomposer = decomposer
        self.values: dict[fx.Node, Any] = {}
        self.needed: Mapping[fx.Node, None] = {}

    def run(self, graph: fx.Graph, inputs: Sequence[Any]) -> list[Any]:
        """The graph's results for these inputs, written as operations."""
        self.needed = _needed(graph)
        names = _names(self.needed) if self.decomposer else dict.fromkeys(self.needed, self.emitter.name)
        given = iter(inputs)
        for node in graph.nodes:
            if node.op == "placeholder":
                self.values[node] = next(given)
                self._note_sizes(node)
            elif node.op == "output":
                return list(pytree.tree_leaves(self._values(node.args[0]), is_leaf=lambda v: v is None))
            elif node in self.needed:
                self.emitter.name = names.get(node, node.name)
                self.values[node] = self._value(node)
                target = mutated(node)
                if target is not None:
                    self.values[target] = self.values[node]
                self._note_sizes(node)
        return []

    def _note_sizes(self, node: fx.Node) -> None:
        """Remember which tensor has a size that is unknown until run time: others may be expanded to it."""
        x, value = self.values[node], node.meta.get("val")
        if not self.decomposer or not isinstance(x, Tensor) or not x.ref or not isinstance(value, torch.Tensor):
            return
        if x.type == B8 or x.rank > MAX_RANK:
            return
        for axis, size in enumerate(sizes_of(value)):
            if x.shape[axis] is None:
                self.emitter.sized.setdefault(size, (x, axis))

    def _values(self, arguments: Any) -> Any:
        return fx.node.map_arg(arguments, lambda n: self.values[n])

    def _value(self, node: fx.Node) -> Any:
        """What a node stands for from here on."""
        if node.op == "get_attr":
            found = operator.attrgetter(str(node.target))(self.module)
            return tensor_of(found) if isinstance(found, torch.Tensor) else found
        if node.target is operator.getitem:
            return self.values[node.args[0]][node.args[1]]
        value = node.meta.get("val")
        try:
            if isinstance(node.target, HigherOrderOperator):
                return self._higher_order(node)
            if isinstance(value, torch.Tensor) and not isinstance(node.target, OpOverload):
                raise UnsupportedOperation("is no operator", hint="write it with PyTorch's operators")
            if not isinstance(node.target, OpOverload) or not isinstance(value, (torch.Tensor, tuple, list)):
                known = number_of(value)
                return UNKNOWN if known is None else known
            return self._operator(node, node.target, value)
        except ModelError as error:
            raise type(error)(
                error.message,
                operation=error.operation or f"{node.target} {self.emitter.name!r}",
                location=error.location or _location(node),
                hint=error.hint,
            ) from error
        except MemoryError as error:
            where = f"{node.target} {self.emitter.name!r}"
            raise ModelError(f"takes more memory than there is: {error}", operation=where) from error
        except UNEXPECTED as error:
            raise ModelError(
                f"is not understood: {_said(error)}",
                operation=f"{node.target} {self.emitter.name!r}",
                location=_location(node),
                hint="write it with other operators, and report it",
            ) from error

    def _operator(self, node: fx.Node, target: OpOverload, value: Any) -> Any:
        args, kwargs = self._values(node.args), self._values(node.kwargs)
        given = pytree.tree_leaves((args, kwargs))
        tensors = [v for v in given if isinstance(v, Tensor)]
        unknown = any(isinstance(v, Unknown) for v in given)
        name = functional_name(target)
        if all(t.is_constant for t in tensors) and not unknown and _is_pure(target) and name not in quantized.KEPT:
            return _evaluated(target, args, kwargs)
        results = value if isinstance(value, (tuple, list)) else (value,)
        self.emitter.result = tuple((dims_of(v), _type_of(v)) for v in results if isinstance(v, torch.Tensor))
        if results and all(isinstance(v, torch.Tensor) and 0 in dims_of(v) for v in results):
            folded = [empty(*result) for result in self.emitter.result]
            return folded[0] if isinstance(value, torch.Tensor) else folded
        self.emitter.sizes = sizes_of(results[0]) if results and isinstance(results[0], torch.Tensor) else ()
        picked = (u.args[1] for u in node.users if u.target is operator.getitem and u in self.needed)
        self.emitter.wanted = frozenset(i for i in picked if isinstance(i, int))
        function = FUNCTIONS.get(name)
        if unknown and function not in OF_THE_RESULT:
            raise ModelError("takes a number that is known at run time only", hint="export with fixed sizes")
        mark = self.emitter.builder.mark()
        try:
            with self.emitter.attempt():
                written = self._parts(node) if function is None else function(self.emitter, *args, **kwargs)
                written = self._checked(node, written, value)
            if any(isinstance(v, torch.Tensor) and v.dtype == torch.int64 for v in results):
                self.emitter.wide |= set(range(mark, self.emitter.builder.mark()))
            return written
        except Inexpressible as error:
            reason = str(error)
            if self.decomposer is None:
                raise
        except UNEXPECTED as error:  # arguments that the function does not foresee: PyTorch knows them
            reason = _said(error)
            if self.decomposer is None:
                raise Inexpressible(reason) from error
        if function is not None:
            self.emitter.builder.metadata[f"extension {self.emitter.name}"] = reason
        return self._extension(node, value)

    def _parts(self, node: fx.Node) -> Any:
        """An operator without a function, written as the operators that PyTorch takes it apart to."""
        program = self.decomposer.parts(node, aten.numbers_of(node, self.values)) if self.decomposer else None
        if program is None:
            raise Inexpressible("has no function here, and no parts that have")
        tensors = iter([self.values[n] for n in aten.tensors_of(node)])
        inputs = inputs_of(program, lambda _: next(tensors))
        result, wanted = self.emitter.result, self.emitter.wanted
        try:
            outputs = Conversion(self.emitter, program.graph_module).run(program.graph, inputs)
        except ModelError as error:
            raise Inexpressible(error.message) from error
        finally:
            self.emitter.result, self.emitter.wanted = result, wanted
        return outputs[0] if isinstance(node.meta["val"], torch.Tensor) else outputs

    def _checked(self, node: fx.Node, written: Any, value: Any) -> Any:
        """`written` with the shapes that PyTorch gives; they must be the same but for rank 0."""
        if isinstance(value, torch.Tensor):
            return self._same(written, value)
        results = list(written)
        for i in self.emitter.wanted:
            if i >= len(results) or results[i] is None:
                raise Inexpressible(f"its result {i} is needed, which NNAPI does not give")
        return [r if r is None else self._same(r, v) for r, v in zip(results, value)]

    def _same(self, written: Tensor, value: torch.Tensor) -> Tensor:
        wanted, type = dims_of(value), _type_of(value)
        if 0 in wanted:
            return empty(wanted, type)
        agree = len(wanted) == len(written.shape) and all(
            None in (a, b) or a == b for a, b in zip(wanted, written.shape)
        )
        is_stored = written.type.is_quantized and value.dtype in quantized.STORED
        if not (written.type == type or is_stored) or not (agree or (wanted == () and written.shape == (1,))):
            raise ValueError(f"written as {written.type.name} {written.shape}, PyTorch has {type.name} {wanted}")
        return Tensor(wanted, written.type, written.ref, written.value)

    def _extension(self, node: fx.Node, value: Any) -> Any:
        """The operator as an extension operation."""
        assert isinstance(node.target, OpOverload)
        if node.target.namespace != "aten":
            raise UnsupportedOperation(
                "is no operator of ATen, and nothing here maps it",
                operation=f"{node.target} {self.emitter.name!r}",
                hint="write it with PyTorch's operators, or register it as CompositeImplicitAutograd of them",
            )
        results = value if isinstance(value, (tuple, list)) else (value,)
        if not all(isinstance(v, torch.Tensor) for v in results):
            raise ModelError("gives something else than tensors, and no NNAPI operation says it")
        e = self.emitter
        inputs = [e.ref(self.values[n]) for n in aten.tensors_of(node)]
        is_read = [isinstance(value, torch.Tensor) or i in e.wanted for i in range(len(results))]
        shapes = [filled(dims_of(v), "its result") if read else dims_of(v) for v, read in zip(results, is_read)]
        outputs = [operand_of(_type_of(v), shape or (1,)) for v, shape in zip(results, shapes)]
        overload = aten.SAFE_NAMES.get(str(node.target), str(node.target)).removeprefix("aten.")
        refs = e.call_aten(overload, inputs, aten.encode(node, aten.numbers_of(node, self.values)), outputs)
        written = [Tensor(dims_of(v), r.type, r) for v, r in zip(results, refs)]
        return written[0] if isinstance(value, torch.Tensor) else written

    def _higher_order(self, node: fx.Node) -> Any:
        """A graph called within a graph: IF, WHILE, or one that only switches a mode and becomes part of this one."""
        args = list(self._values(node.args))
        match str(getattr(node.target, "__name__", node.target)), args:
            case "wrap_with_set_grad_enabled", [_, fx.GraphModule() as inner, *inputs]:
                return Conversion(self.emitter, inner, self.decomposer).run(inner.graph, inputs)
            case "wrap_with_autocast", [_, dtype, enabled, _, fx.GraphModule() as inner, *inputs] if (
                dtype != torch.float16 or not enabled
            ):  # bfloat16 is float32 here
                return Conversion(self.emitter, inner, self.decomposer).run(inner.graph, inputs)
            case "cond", [Tensor() as condition, fx.GraphModule() as then, fx.GraphModule() as otherwise, operands]:
                given = {"condition": condition, "then_model": self._body(then, operands)}
                given["else_model"] = self._body(otherwise, operands)
                return self._written(node, "IF", given, operands)
            case "while_loop", [fx.GraphModule() as condition, fx.GraphModule() as body, carried, others]:
                operands = [*map(self.emitter.as_operand, carried), *others]
                given = {"condition_model": self._body(condition, operands), "body_model": self._body(body, operands)}
                return self._written(node, "WHILE", given, operands)
            case name, _:
                raise UnsupportedOperation(
                    "calls a graph in a way that is not converted",
                    operation=f"{name} {self.emitter.name!r}",
                    hint="use torch.cond or while_loop, or no control flow",
                )

    def _body(self, module: fx.GraphModule, operands: Sequence[Tensor]) -> Model:
        """A called graph as a model; constant operands are constants in it, the others its inputs."""
        e = Emitter(Builder(self.emitter.name))
        refs = {i: e.builder.input_operand(self.emitter.ref(t).operand) for i, t in enumerate(operands) if t.ref}
        given = [replace(t, ref=refs.get(i)) for i, t in enumerate(operands)]
        outputs = [as_output(v, "") for v in Conversion(e, module, self.decomposer).run(module.graph, given)]
        declare_outputs(e, outputs, [""] * len(outputs), {r.index for r in refs.values()})
        return e.builder.finish(check=False)  # verified with the model around it

    def _written(self, node: fx.Node, type: str, given: dict[str, Any], operands: Sequence[Tensor]) -> list[Tensor]:
        """IF or WHILE, with what PyTorch says of its results."""
        values = pytree.tree_leaves(node.meta["val"])
        outputs = [operand_of(_type_of(v), name=self.emitter.name) for v in values]
        inputs = [t for t in operands if t.ref]
        written = self.emitter.add_many(type, outputs, **given, inputs=inputs)
        return [self._same(w, v) for w, v in zip(written, values)]


def _needed(graph: fx.Graph) -> dict[fx.Node, None]:
    """The nodes that results depend on, in order."""
    needed: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or node in needed or mutated(node) is not None:
            needed |= {node, *node.all_input_nodes}
    return {n: None for n in graph.nodes if n in needed and n.op in ("call_function", "get_attr")}


def _names(nodes: Mapping[fx.Node, None]) -> dict[fx.Node, str]:
    """The path of the module that a node is all of, else the path and the node's own name."""
    paths = {n: _path(n) for n in nodes if n.op == "call_function" and n.target is not operator.getitem}
    parents = (itertools.accumulate(path.split("."), "{}.{}".format) for path in paths.values())
    count = Counter(itertools.chain.from_iterable(parents))
    return {
        n: path if path and count[path] == 1 else ".".join(filter(None, (path, n.name))) for n, path in paths.items()
    }


def _path(node: fx.Node) -> str:
    """Where in the module the node comes from: `features.0.0`."""
    stack = node.meta.get("nn_module_stack") or {}
    path, *_ = next(reversed(stack.values()), ("",))
    return "" if path.startswith("_empty_nn_module_stack") else path


def _said(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _location(node: fx.Node) -> str:
    """The line of the user's code: the innermost one outside PyTorch."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [f for f in frames if "/torch/" not in f[0] and not f[0].startswith("<")]
    return ":".join(own[-1]) if own else ""


def _is_pure(target: OpOverload) -> bool:
    return torch.Tag.nondeterministic_seeded not in target.tags


def _evaluated(target: OpOverload, args: Any, kwargs: Any) -> Any:
    """What an operator on constants gives, computed by PyTorch."""
    args, kwargs = pytree.tree_map_only(Tensor, lambda t: t.value, (args, kwargs))
    check_size(_size_of(target, args, kwargs))
    try:
        result = target(*args, **kwargs)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ModelError(f"cannot be computed on constants: {error}".splitlines()[0]) from error
    return pytree.tree_map_only(torch.Tensor, tensor_of, result)


def _size_of(target: OpOverload, args: Any, kwargs: Any) -> int:
    """Bytes of an operator's results, as far as they follow from the shapes and numbers that it takes."""
    try:
        with FakeTensorMode() as mode:
            given = pytree.tree_map_only(torch.Tensor, mode.from_tensor, (args, kwargs))
            result = target(*given[0], **given[1])
    except Exception:  # what follows from values is told by running it, and so is what is wrong
        return 0
    return sum(t.numel() * t.itemsize for t in pytree.tree_leaves(result) if isinstance(t, torch.Tensor))


def _type_of(value: torch.Tensor) -> Any:
    if value.dtype not in TYPES:
        raise ModelError(f"gives {value.dtype}, which NNAPI has no type for")
    return TYPES[value.dtype]
