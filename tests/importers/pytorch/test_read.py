"""What comes in, what is refused, and what becomes of names, types, shapes and memory."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.export import Dim
from torch.nn.attention.flex_attention import flex_attention

from nnapi.drivers.reference import execute
from nnapi.errors import ModelError, UnsupportedOperation, UsageError
from nnapi.importers.pytorch.read import read
from nnapi.ir.model import Model
from nnapi.ir.verify import feature_level, verify
from nnapi.ops.types import B8, F16, F32, I32, Q8, OperandType

from .conftest import Function, agree, extensions

IMAGE = torch.randn(1, 3, 8, 8)
X = torch.ones(2, 3)


class Block(nn.Module):
    """A convolution and an activation, twice by the same weights, and a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, image: torch.Tensor) -> dict[str, Any]:
        y = self.features(self.features(image)) + image
        return {"logits": self.head(y), "hidden": [y]}


def operations(model: Model) -> list[str]:
    return [o.type for o in model.operations]


# Names


def test_inputs_and_outputs_keep_their_names() -> None:
    model = read(Block().eval(), IMAGE)
    assert [o.name for o in model.input_operands] == ["image"]
    assert [o.name for o in model.output_operands] == ["logits", "hidden.0"]
    assert model.name == "Block"


def test_operations_are_named_after_their_modules() -> None:
    labels = [o.label for o in read(nn.Sequential(Block(), nn.Identity()).eval(), IMAGE).operations]
    assert "CONV_2D '0.features.0.conv2d'" in labels  # one of two by the same module
    assert "CONV_2D '0.features.0.conv2d_1'" in labels
    assert "ADD '0.add'" in labels
    assert "FULLY_CONNECTED '0.head'" in labels


def test_errors_name_the_module_and_the_line() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(x)

    with pytest.raises(ModelError) as caught:
        read(Function(forward), torch.randn(8))
    assert re.search(r"fft_rfft.*complex64.*test_read\.py:\d+", str(caught.value))


def test_outputs_have_names_of_their_own() -> None:
    model = read(Function(lambda x: ((y := x + 1), y, torch.topk(y, 1)[1])), torch.ones(3))
    assert [o.name for o in model.output_operands] == ["add", "add_1", "topk_1"]


def test_a_dictionary_gives_keyword_arguments() -> None:
    class Named(nn.Module):
        def forward(self, left: torch.Tensor, *, right: torch.Tensor) -> torch.Tensor:
            return left - right

    model = read(Named(), {"right": torch.ones(2), "left": torch.zeros(2)})
    assert {o.name for o in model.input_operands} == {"left", "right"}


# Types


TYPES: list[tuple[torch.dtype, OperandType]] = [
    (torch.float32, F32), (torch.float64, F32), (torch.bfloat16, F32), (torch.float16, F16), (torch.int64, I32),
    (torch.int32, I32), (torch.uint8, Q8), (torch.bool, B8), (torch.int8, I32),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "type"), TYPES, ids=[str(t[0]) for t in TYPES])
def test_input_types(dtype: torch.dtype, type: OperandType) -> None:
    model = read(Function(lambda x: x == x), torch.zeros(3, dtype=dtype))
    assert model.input_operands[0].type == type
    is_exact = dtype in (torch.float32, torch.float16, torch.int32, torch.bool, torch.uint8)
    assert model.metadata.get("input inputs_0", "") == ("" if is_exact else f"{dtype} in PyTorch, {type.name} here")


def test_half_precision_weights_and_scalars() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.GroupNorm(2, 4), nn.ELU(), nn.Softmax(1)).half().eval()
    x = IMAGE.half()
    model = read(module, x)
    assert all(o.type not in (F32,) for o in model.operands)
    with torch.no_grad():
        expected = module.float()(x.float()).numpy()
    np.testing.assert_allclose(execute(model, [x.numpy()])[0], expected, atol=5e-3)  # float16 has 11 bits


def test_rank_0_has_one_dimension() -> None:
    model = read(Function(lambda x: x.sum()), torch.ones(3))
    assert model.output_operands[0].dimensions == (1,)


# Memory


def test_weights_are_views_of_the_modules_where_the_layout_allows() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(144, 2)).eval()
    model = read(module, IMAGE)
    values = [o.value for o in model.operands if isinstance(o.value, np.ndarray)]

    def is_shared(parameter: torch.Tensor) -> bool:
        return any(np.shares_memory(v, parameter.detach().numpy()) for v in values)

    shared = {name: is_shared(p) for name, p in module.named_parameters()}
    assert shared == {
        "0.weight": True, "0.bias": True, "1.weight": False, "1.bias": True, "3.weight": True, "3.bias": True,
    }  # fmt: skip


def test_weights_used_twice_are_stored_once() -> None:
    model = read(Block().eval(), IMAGE)
    filters = {o.inputs[1] for o in model.operations if o.type == "CONV_2D"}
    assert len(filters) == 1


def test_constants_are_computed_once_and_here() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        angles = torch.arange(4.0).reshape(-1, 1) * torch.tensor([1.0, 0.1])
        return x * angles.cos() + torch.tril(torch.ones(4, 2))

    assert operations(read(Function(forward), torch.randn(4, 2))) == ["MUL", "ADD"]


def test_what_no_output_needs_is_not_converted() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        x.cumsum(0)
        return x + 1

    assert operations(read(Function(forward), torch.randn(4))) == ["ADD"]


# Numbers, states, nothing


def test_numbers_are_outputs_and_what_is_neither_is_left_out() -> None:
    model = read(Function(lambda x: (x + 1, 3, True, None, 2.5, "name")), X)
    outputs = execute(model, [X.numpy()])
    assert [(y.dtype.name, y.ravel().tolist()) for y in outputs[1:]] == [
        ("int32", [3]), ("bool", [True]), ("float32", [2.5]),
    ]  # fmt: skip


class Memory(nn.Module):
    """Rows that are replaced, and a count of calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(3, 2))
        self.register_buffer("count", torch.zeros(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.rows.mul_(0.5).add_(x)
        self.count += 1
        return self.rows.sum(0) * self.count


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PyTorch's decompositions, of its own use of itself
@pytest.mark.parametrize("core", [False, True])
def test_a_buffer_that_is_updated_is_an_input_and_an_output(core: bool) -> None:
    module, x = Memory(), torch.ones(3, 2)
    model = read(torch.export.export(module, (x,)).run_decompositions()) if core else read(module, x)
    assert [o.name for o in model.input_operands] == ["x", "rows", "count"]
    assert [o.name for o in model.output_operands][1:] == ["rows.updated", "count.updated"]
    states = [module.rows.numpy().copy(), module.count.numpy().copy()]
    for _ in range(3):
        y, *states = execute(model, [x.numpy(), *states])
        np.testing.assert_array_equal(y, module(x).numpy())
    np.testing.assert_array_equal(states[0], module.rows.numpy())


EMPTY: list[tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = [
    ("a slice in a cat", lambda x: torch.cat([x, x[:, :0]], 1)),
    ("nothing but in front", lambda x: torch.cat([x[:0] * 2, x]) + 1),
    ("a sum of nothing", lambda x: x[:, :0].sum(1, keepdim=True) + x),
    ("a product over nothing", lambda x: x[:, :0] @ x[:0] + 1),
    ("a piece of a split", lambda x: torch.cat(x.split([0, 2], 0)[::-1])),
    ("what replaces nothing", lambda x: torch.slice_scatter(x, x[:, :0], 1, 1, 1)),
]


@pytest.mark.parametrize("function", [f for _, f in EMPTY], ids=[n for n, _ in EMPTY])
def test_what_is_empty_is_folded(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    agree(function, [(2, 3)], 0.0)


def test_integers_at_pytorchs_limits_are_at_nnapis() -> None:
    mask = torch.tensor([[True, False, True]])
    x = torch.tensor([[3, 9, 5]])
    model = read(Function(lambda x: torch.masked.argmax(x, 1, mask=mask)), x)
    assert execute(model, [x.int().numpy()])[0].tolist() == [2]


NARROWED: list[tuple[str, Callable[[torch.Tensor], torch.Tensor], str]] = [
    ("a square", lambda x: (x * x).sum(), "MUL 'mul'"),
    ("a sum", lambda x: x + 1, "ADD 'add'"),
    ("a matrix product", lambda x: x @ x, "BATCH_MATMUL 'matmul'"),
    ("an index", lambda x: torch.embedding(torch.ones(9, 2), x), ""),
    ("a product that fits", lambda x: x.clamp(0, 9) * x.clamp(-9, 9) + 1, ""),
    ("places", lambda x: x.float().argmax(1) * 3 + 1, ""),
]


@pytest.mark.parametrize(("function", "said"), [n[1:] for n in NARROWED], ids=[n[0] for n in NARROWED])
def test_integers_that_may_leave_32_bits_are_said(
    function: Callable[[torch.Tensor], torch.Tensor], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = read(Function(function), torch.ones(2, 2, dtype=torch.int64))
    assert model.metadata.get("computed in 32 bits", "") == said
    assert [r.getMessage() for r in caplog.records if r.name == "nnapi"] == (
        [f"Function: {said} in 32 bits, 64 in PyTorch: results beyond them wrap"] if said else []
    )
    assert "computed in 32 bits" not in read(Function(function), torch.ones(2, 2, dtype=torch.int32)).metadata


def test_threads_load_at_the_same_time() -> None:
    modules = [nn.Sequential(nn.Linear(3, 2 + i), nn.GELU()) for i in range(4)]
    stream = sys.stderr
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(lambda m: read(m, torch.ones(2, 3)), modules * 2))
    assert [m.output_operands[0].dimensions for m in models] == [(2, 2 + i % 4) for i in range(8)]
    assert sys.stderr is stream


def test_other_threads_may_print_while_one_loads(capfd: pytest.CaptureFixture[str]) -> None:
    def load_and_print(x: torch.Tensor) -> torch.Tensor:
        print("of the module", file=sys.stderr)
        other = threading.Thread(target=lambda: print("of another thread", file=sys.stderr))
        other.start()
        other.join()
        return x + 1

    read(Function(load_and_print), X)
    assert "of another thread" in capfd.readouterr().err


# In-place operators


IN_PLACE: list[tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = [
    ("through the result", lambda x: (x + 1).relu_() * 2),
    ("through the argument", lambda x: (y := x - 1, y.relu_(), y * 2)[2]),
    ("twice", lambda x: (y := x - 1, y.relu_(), y.add_(1), y * 2)[3]),
    ("a view of what was written", lambda x: (y := x * 2, y.relu_(), y.view(-1) + 1)[2]),
    ("what a view was written to", lambda x: (y := x * 2, y.view(-1).relu_(), y + 1)[2]),
    ("a view from before", lambda x: (y := x * 2, v := y.view(-1), y.relu_(), v + 1)[3]),
    ("a slice", lambda x: (y := x * 2, y[0].zero_(), y + 1)[2]),
    ("a constant made here", lambda x: (y := torch.zeros(2, 3), y.copy_(x), y[0].mul_(2), y + 1)[3]),
]


@pytest.mark.parametrize("function", [f for _, f in IN_PLACE], ids=[n for n, _ in IN_PLACE])
def test_in_place(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    agree(function, [(2, 3)], 0.0)


# Shapes that stay open


class Token(nn.Module):
    """One more token in front of each sequence."""

    def __init__(self, how: str = "expand") -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sizes = (x.shape[0], -1, -1) if self.how == "expand" else (x.shape[0], 1, 1)
        return torch.cat([getattr(self.token, self.how)(*sizes), x[:, 1:]], 1).mean(1)


def dynamic(module: nn.Module, x: torch.Tensor, shape: dict[int, Any]) -> Model:
    shapes = ((shape,),) if isinstance(module, Function) else (shape,)  # which takes any number of inputs
    return read(torch.export.export(module.eval(), (x,), dynamic_shapes=shapes))


OPEN: list[tuple[str, nn.Module, torch.Tensor, dict[int, Any], list[tuple[int, ...]]]] = [
    ("batch of a convnet", nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Hardswish(), nn.AdaptiveAvgPool2d(1),
     nn.Flatten(), nn.Linear(4, 2)), torch.randn(2, 3, 8, 8), {0: Dim("n")}, [(1, 3, 8, 8), (5, 3, 8, 8)]),
    ("size of an image", nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU6(), nn.MaxPool2d(2), nn.PReLU(4)),
     torch.randn(1, 3, 8, 8), {2: Dim("h", min=4), 3: Dim("w", min=4)}, [(1, 3, 9, 6)]),
    ("batch of a transformer", nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(2, 5, 8),
     {0: Dim("n")}, [(1, 5, 8), (3, 5, 8)]),
    ("class token", Token(), torch.randn(2, 5, 8), {0: Dim("n")}, [(1, 5, 8), (3, 5, 8)]),
    ("class token, repeated", Token("repeat"), torch.randn(2, 5, 8), {0: Dim("n")}, [(1, 5, 8), (3, 5, 8)]),
    ("zeros", Function(lambda x: torch.cat([torch.zeros(x.shape[0], 1), x], 1)), torch.randn(2, 3), {0: Dim("n")},
     [(4, 3)]),
    ("a mask", Function(lambda x: x.masked_fill(x > 0, 3.0)), torch.randn(2, 3), {0: Dim("n")}, [(4, 3)]),
    ("the last one", Function(lambda x: x[:, -1]), torch.randn(2, 5, 3), {1: Dim("t")}, [(2, 7, 3)]),
    ("all but the ends", Function(lambda x: x[:, 1:][:, :-1]), torch.randn(2, 5, 3), {1: Dim("t", min=4)}, [(2, 7, 3)]),
    ("image doubled", nn.Upsample(scale_factor=2), torch.randn(1, 2, 4, 4), {2: Dim("h"), 3: Dim("w")}, [(1, 2, 5, 3)]),
    ("length of a transformer", nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(2, 5, 8),
     {1: Dim("t")}, [(2, 7, 8)]),
]  # fmt: skip


@pytest.mark.parametrize(("module", "x", "shape", "others"), [o[1:] for o in OPEN], ids=[o[0] for o in OPEN])
def test_open_dimensions(
    module: nn.Module, x: torch.Tensor, shape: dict[int, Any], others: list[tuple[int, ...]]
) -> None:
    model = dynamic(module, x, shape)
    assert extensions(model) == []
    assert all(model.input_operands[0].dimensions[axis] == 0 for axis in shape)
    for size in others:
        y = torch.randn(size)
        with torch.no_grad():
            expected = module(y).numpy()
        np.testing.assert_allclose(execute(model, [y.numpy()])[0], expected, atol=1e-5)  # sums in another order


def test_a_dimension_with_one_possible_value_is_known() -> None:
    x, y = torch.ones(3, 4), torch.ones(5, 4)
    shapes = ({0: Dim.AUTO}, {0: Dim.AUTO})
    program = torch.export.export(Function(lambda x, y: (x + y[:3]).reshape(x.shape[0] * 2, 2)), (x, y),
                                  dynamic_shapes=(shapes,))  # fmt: skip
    model = read(program)
    assert [o.dimensions for o in model.input_operands] == [(3, 4), (0, 4)]
    assert [o.dimensions for o in model.output_operands] == [(6, 2)]
    assert extensions(model) == []


# Control flow


def test_cond_is_an_if() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cond(x.sum() > 0, lambda y: self.scale(y), lambda y: y - 1, (x,))

    module = Branches().eval()
    for x in (torch.ones(2, 3), -torch.ones(2, 3)):
        model = read(module, x)
        assert operations(model) == ["REDUCE_SUM", "GREATER", "IF"]
        np.testing.assert_allclose(execute(model, [x.numpy()])[0], module(x).detach().numpy(), atol=1e-6)


def test_while_loop_is_a_while() -> None:
    from torch._higher_order_ops import while_loop

    class Loop(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2), (torch.tensor(0), x))

    model = read(Loop(), torch.ones(2))
    assert operations(model) == ["WHILE"]
    count, y = execute(model, [np.ones(2, np.float32)])
    assert count.tolist() == [3]
    assert y.tolist() == [8, 8]


def test_no_grad_leaves_no_trace() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        with torch.no_grad():
            y = y + 1
        return y * 3

    assert operations(read(Function(forward), torch.ones(2))) == ["MUL", "ADD", "MUL"]


def test_autocast_is_computed_in_floats() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return x @ x

    model = read(Function(forward), torch.ones(3, 3))
    assert operations(model) == ["BATCH_MATMUL"]
    assert model.output_operands[0].type == F32


def test_vmap_is_resolved() -> None:
    model = agree(torch.vmap(lambda x: x.sum() * x), [(3, 4)], 1e-6)
    assert extensions(model) == []


# Extensions


EXTENSIONS: list[tuple[str, Any, list[Any], list[str]]] = [
    ("conv3d", nn.Conv3d(1, 2, 2), [(1, 1, 3, 3, 3)], ["conv3d.default"]),
    ("cumsum", lambda x: x.cumsum(1), [(2, 3)], ["cumsum.default"]),
    ("beside NNAPI's operations", lambda x: F.relu(x).cumsum(0) + 1, [(2, 3)], ["cumsum.default"]),
    ("a sum of integers", lambda x: x.sum(), [torch.arange(3)], ["sum.default"]),
]


@pytest.mark.parametrize(("subject", "inputs", "expected"), [e[1:] for e in EXTENSIONS], ids=[e[0] for e in EXTENSIONS])
def test_operators_without_a_form_become_extensions(subject: Any, inputs: list[Any], expected: list[str]) -> None:
    module = subject if isinstance(subject, nn.Module) else Function(subject)
    model = read(module.eval(), tuple(i if isinstance(i, torch.Tensor) else torch.randn(i) for i in inputs))
    verify(model)
    assert extensions(model) == expected


def test_what_makes_an_extension_of_a_known_operator_is_noted() -> None:
    model = read(nn.MaxPool2d(2, dilation=2), IMAGE)
    assert extensions(model) == ["max_pool2d.default"]
    assert "dilation" in model.metadata["extension max_pool2d"]


def test_nothing_is_left_of_a_use_that_turns_out_inexpressible() -> None:
    model = read(Function(lambda x: torch.cat([x * 2, x])), torch.arange(3))  # no integers in CONCATENATION
    assert operations(model) == ["MUL", "org.pytorch.aten/cat.default"]


# Feature levels


LEVELS = [("convolution and relu", nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), 3),
          ("linear", nn.Sequential(nn.Linear(8, 4), nn.ReLU6(), nn.Linear(4, 2), nn.Sigmoid()), 1)]  # fmt: skip


@pytest.mark.parametrize(("module", "level"), [row[1:] for row in LEVELS], ids=[row[0] for row in LEVELS])
def test_feature_levels(module: nn.Module, level: int) -> None:
    assert feature_level(read(module.eval(), torch.randn(1, 3, 8, 8) if level > 1 else torch.randn(2, 8))) == level


# Refusals


class Squares(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape[0], x.shape[1], 2, 2)


class Cache:
    """Tensors in what PyTorch does not look into."""

    def __init__(self, keys: torch.Tensor) -> None:
        self.keys = keys


def raises(x: torch.Tensor) -> torch.Tensor:
    raise ValueError("no such thing")


@torch.library.custom_op("nnapi_test::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@twice.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


REFUSED: list[tuple[str, Any, Any, type[Exception], str]] = [
    ("a module without inputs", nn.ReLU(), None, UsageError, "needs example inputs"),
    ("a number", 3, None, UsageError, "a int is no PyTorch model"),
    ("a function", F.relu, X, UsageError, "no PyTorch model"),
    ("inputs of a wrong shape", nn.Linear(4, 2), X, ModelError, "torch.export cannot capture Linear"),
    ("a forward that raises", Function(raises), X, ModelError, "no such thing"),
    ("a branch on data", Function(lambda x: x if x.sum() > 0 else -x), X, ModelError, "data-dependent"),
    ("dropout in training", nn.Dropout(), X, ModelError, r"drops at random.*module\.eval\(\)"),
    ("batch norm in training", nn.BatchNorm1d(3), X, ModelError, r"num_batches_tracked.*module\.eval\(\)"),
    ("functional batch norm in training", Function(lambda x: F.batch_norm(x, None, None, training=True)), X, ModelError,
     "batch's own statistics"),
    ("a written input", Function(lambda x: x.add_(1)), X, ModelError, "writes into 'inputs_0'"),
    ("a written view of an input", Function(lambda x: x.view(-1).add_(1)), X, ModelError, "writes into 'inputs_0'"),
    ("complex numbers", Function(torch.fft.fft), X, ModelError, "complex64"),
    ("a complex input", Function(torch.abs), X.to(torch.complex64), ModelError, "complex64"),
    ("no tensor among what comes in", Function(lambda x, cache: x + cache.keys), (X, Cache(X)), ModelError,
     r"given a Cache.*register_pytree_node"),
    ("a number from data", Function(lambda x: x * x.sum().item()), X, ModelError, "known at run time only"),
    ("no elements", nn.Linear(3, 2), torch.ones(0, 3), ModelError, r"shape \(0, 3\)"),
    ("an output without elements", Function(lambda x: x[:, 3:]), X, ModelError, r"output .* shape \(2, 0\)"),
    ("an operand without elements", Function(lambda x: torch.index_add(x, 0, torch.zeros(0, dtype=torch.int64), x[:0])),
     X, ModelError, r"shape \(0,\)"),
    ("weights without values", nn.Linear(3, 2, device="meta"), X.to("meta"), ModelError, "no values"),
    ("a graph in a graph", Function(flex_attention), [torch.ones(1, 1, 16, 16)] * 3, UnsupportedOperation,
     "calls a graph"),
    ("integers beyond 32 bits", Function(lambda x: x + 2**40), torch.arange(3), ModelError, "32 bits"),
    ("an operator of another library", Function(twice), X, UnsupportedOperation, "nnapi_test.twice"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("subject", "inputs", "error", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_refusals(subject: Any, inputs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read(subject, inputs)


def test_torchscript_is_refused() -> None:
    with pytest.warns(DeprecationWarning):
        module = torch.jit.trace(nn.ReLU(), X)
    with pytest.raises(ModelError, match="TorchScript"):
        read(module, X)


def test_two_open_dimensions_in_a_reshape_are_refused() -> None:
    with pytest.raises(ModelError, match="leaves two dimensions open"):
        dynamic(Squares(), torch.randn(3, 3, 4), {0: Dim("a"), 1: Dim("b")})


def test_nothing_is_logged_or_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError):
        read(Function(lambda x: x if x.sum() > 0 else -x), X)
    assert capfd.readouterr() == ("", "")


def test_a_saved_program_reads_like_the_module(tmp_path: Path) -> None:
    module = Block().eval()
    path = tmp_path / "block.pt2"
    torch.export.save(torch.export.export(module, (IMAGE,)), path)
    model = read(path)
    assert model.name == "block"
    assert operations(model) == operations(read(module, IMAGE))
    assert [o.name for o in model.operations] == [o.name for o in read(module, IMAGE).operations]
    with torch.no_grad():
        expected = module(IMAGE)["logits"].numpy()
    np.testing.assert_allclose(execute(model, [IMAGE.numpy()])[0], expected, atol=1e-5)
