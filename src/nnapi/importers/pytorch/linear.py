"""Matrix products."""

from __future__ import annotations

from nnapi.importers.pytorch import rank
from nnapi.importers.pytorch.convolution import zeros
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.rank import MAX_RANK
from nnapi.importers.pytorch.shape import matrix_transpose
from nnapi.importers.pytorch.tensor import Inexpressible, Tensor
from nnapi.ops.numeric import NONE
from nnapi.ops.types import I32

Number = int | float


def linear(e: Emitter, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., I], weight [O, I] -> [..., O]: FULLY_CONNECTED of two dimensions."""
    if weight.rank == 1:
        return e.reshape(linear(e, x, e.reshape(weight, (1, *weight.shape)), bias), x.shape[:-1])
    flat = e.reshape(x, (rank.product(x.shape[:-1]), x.shape[-1]))
    bias = zeros(e, weight.size(0), x) if bias is None else bias
    y = e.add("FULLY_CONNECTED", input=flat, filter=weight, bias=bias, activation=NONE)
    return e.reshape(y, (*x.shape[:-1], weight.shape[0]))


def matmul(e: Emitter, x: Tensor, y: Tensor) -> Tensor:
    """Any ranks: a constant matrix behind is a FULLY_CONNECTED, all else a BATCH_MATMUL of broadcast batches."""
    if y.is_constant and y.rank <= 2 and x.is_float:
        weight = matrix_transpose(e, y) if y.rank == 2 else y
        return linear(e, x, weight)
    shape = matmul_shape(x, y)
    x = e.reshape(x, (1, *x.shape)) if x.rank == 1 else x
    y = e.reshape(y, (*y.shape, 1)) if y.rank == 1 else y
    batch = rank.broadcast(x.shape[:-2], y.shape[:-2])
    views = []
    for t in (x, y):
        t = e.expand(t, (*batch, *t.shape[-2:]))
        views.append(t if t.rank <= MAX_RANK else e.reshape(t, (rank.product(batch), *t.shape[-2:])))
    product = e.add("BATCH_MATMUL", input0=views[0], input1=views[1], adj_x=False, adj_y=False)
    return e.reshape(product, shape)


def matmul_shape(x: Tensor, y: Tensor) -> rank.Dims:
    """The shape of the product: PyTorch drops the dimensions that it adds to vectors."""
    rows, columns = x.shape[-2:-1], y.shape[-1:] if y.rank > 1 else ()
    return (*rank.broadcast(x.shape[:-2], y.shape[:-2]), *rows, *columns)


def addmm(e: Emitter, bias: Tensor, x: Tensor, y: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """beta * bias + alpha * x * y."""
    if x.type == I32:
        raise Inexpressible("a product of integers")
    if beta == 1 and alpha == 1 and y.is_constant and bias.shape == (y.shape[1],):
        return linear(e, x, matrix_transpose(e, y), bias)
    product = matmul(e, x, y)
    product = product if alpha == 1 else e.binary("MUL", product, alpha)
    return e.binary("ADD", product, bias if beta == 1 else e.binary("MUL", bias, beta))


FUNCTIONS = {
    "aten.linear.default": linear,
    "aten.matmul.default": matmul,
    "aten.mm.default": matmul,
    "aten.bmm.default": matmul,
    "aten.mv.default": matmul,
    "aten.dot.default": matmul,
    "aten.addmm.default": addmm,
    "aten.baddbmm.default": addmm,
}
