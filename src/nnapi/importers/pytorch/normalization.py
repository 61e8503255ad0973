"""Normalizations: of batches by their statistics, of layers, groups and instances by their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch

from nnapi.errors import ModelError
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.rank import MAX_RANK, product
from nnapi.importers.pytorch.tensor import Inexpressible, Tensor
from nnapi.ir import composites


def batch_norm(
    e: Emitter,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    epsilon: float,
    *_: Any,
) -> Tensor:
    """One MUL and one ADD per channel, computed in double; a pass folds them into the convolution in front."""
    if training or mean is None or variance is None:
        raise ModelError("normalizes by the batch's own statistics, as in training", hint="call module.eval()")
    given = [t for t in (weight, bias, mean, variance) if t is not None]
    if any(t.value is None for t in given):
        raise Inexpressible("its statistics or weights are not constant")
    scale = (variance.value.double() + epsilon).rsqrt()
    scale = scale if weight is None else scale * weight.value.double()
    shift = -mean.value.double() * scale
    shift = shift if bias is None else shift + bias.value.double()
    y = e.binary("MUL", x, e.per_channel(e.like(scale, x), x))
    return e.binary("ADD", y, e.per_channel(e.like(shift, x), x))


def trained_batch_norm(e: Emitter, x: Tensor, *args: Any) -> tuple[Tensor, None, None]:
    """The decomposed form for inference: its other results serve training."""
    weight, bias, mean, variance, momentum, epsilon = args
    return batch_norm(e, x, weight, bias, mean, variance, False, momentum, epsilon), None, None


def layer_norm(
    e: Emitter,
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    epsilon: float = 1e-5,
    *_: Any,
) -> Tensor:
    """Over the last dimensions, which have `shape`; one composite."""
    gamma, beta = _affine(e, x, tuple(shape), weight, bias)
    return e.composite(composites.layer_norm, x, gamma, beta, epsilon=epsilon)


def rms_norm(
    e: Emitter, x: Tensor, shape: Sequence[int], weight: Tensor | None = None, epsilon: float | None = None
) -> Tensor:
    gamma, _ = _affine(e, x, tuple(shape), weight, None)
    epsilon = torch.finfo(torch.float32).eps if epsilon is None else epsilon
    return e.composite(composites.rms_norm, x, gamma, epsilon=epsilon)


def group_norm(
    e: Emitter,
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    epsilon: float = 1e-5,
    *_: Any,
) -> Tensor:
    """x [N, C, ...], each group of channels over all of its image; one composite."""
    gamma, beta = _affine(e, x, (x.size(1),), weight, bias)
    image = x if x.rank <= MAX_RANK else e.viewed(x, (*x.shape[:2], product(x.shape[2:])))
    return e.viewed(e.composite(composites.group_norm, image, gamma, beta, groups=groups, epsilon=epsilon), x.shape)


def native_group_norm(e: Emitter, x: Tensor, *args: Any) -> tuple[Tensor, None, None]:
    weight, bias, _, _, _, groups, epsilon = args
    return group_norm(e, x, groups, weight, bias, epsilon), None, None


def instance_norm(
    e: Emitter,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    epsilon: float,
    *_: Any,
) -> Tensor:
    """Each channel of each image by its own statistics; with tracked ones it is a batch norm."""
    if not use_input_stats:
        return batch_norm(e, x, weight, bias, mean, variance, False, momentum, epsilon)
    image = x if x.rank == 4 else e.reshape(x, (*x.shape[:2], 1, x.shape[2])) if x.rank == 3 else None
    if image is None:
        raise Inexpressible(f"rank {x.rank}, INSTANCE_NORMALIZATION takes images")
    y = e.add("INSTANCE_NORMALIZATION", input=image, gamma=1.0, beta=0.0, epsilon=epsilon, layout=True)
    y = y if weight is None else e.binary("MUL", y, e.per_channel(weight, y))
    y = y if bias is None else e.binary("ADD", y, e.per_channel(bias, y))
    return e.reshape(y, x.shape)


def own_batch_norm(
    e: Emitter,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    epsilon: float,
) -> tuple[Tensor, None, None]:
    """What PyTorch takes instance norm apart to: a batch norm of one sample by its own statistics."""
    if x.shape[0] != 1:
        raise Inexpressible("normalizes by the batch's own statistics")
    return instance_norm(e, x, weight, bias, None, None, True, momentum, epsilon), None, None


def first(function: Any) -> Any:
    """The same for an operator whose second and third result serve training."""
    return lambda e, *args: (function(e, *args), None, None)


def _affine(
    e: Emitter, x: Tensor, shape: tuple[int, ...], weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Scale and shift, 1 and 0 where there is none."""
    gamma = e.like(torch.ones(()).expand(shape), x) if weight is None else weight
    beta = e.like(torch.zeros(()).expand(shape), x) if bias is None else bias
    return gamma, beta


OF_THE_RESULT: Final = frozenset((native_group_norm,))
"""They look at the shape of their tensors, never at sizes given, which may be unknown."""

FUNCTIONS = {
    "aten.batch_norm.default": batch_norm,
    "aten._native_batch_norm_legit_no_training.default": trained_batch_norm,
    "aten._native_batch_norm_legit.no_stats": own_batch_norm,
    "aten._native_batch_norm_legit.default": first(batch_norm),
    "aten._native_batch_norm_legit_functional.default": first(batch_norm),
    "aten.native_batch_norm.default": first(batch_norm),
    "aten.cudnn_batch_norm.default": first(batch_norm),
    "aten.layer_norm.default": layer_norm,
    "aten.native_layer_norm.default": first(layer_norm),
    "aten.rms_norm.default": rms_norm,
    "aten.group_norm.default": group_norm,
    "aten.native_group_norm.default": native_group_norm,
    "aten.instance_norm.default": instance_norm,
}
