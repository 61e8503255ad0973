"""Models quantized by PyTorch's PT2E: its conversions become QUANTIZE and DEQUANTIZE, scales and integers stay.

`in_integers` then puts the integers through the operations between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

import numpy as np
import torch
from torch import fx

from nnapi.errors import ModelError
from nnapi.importers.pytorch.emitter import Emitter
from nnapi.importers.pytorch.tensor import Tensor, tensor_of
from nnapi.ir.model import Model
from nnapi.ops.types import F32, I32, Q8, Q8PC, Q8S, ChannelQuant, Operand
from nnapi.passes.fold_quantization import INTEGER_ARITHMETIC
from nnapi.passes.run import run_passes

STORED: Final = {torch.uint8: Q8, torch.int8: Q8S}
MAX_RANK: Final = 4
"""Of what DEQUANTIZE takes."""
WHOLE: Final = {torch.uint8: [(0, 255)], torch.int8: [(-128, 127), (-127, 127)]}
"""Ranges that saturating to the type keeps to, the symmetric one but for its last step."""


def check_converted(graph: fx.Graph) -> None:
    """ModelError where a model is prepared for quantization but was not converted."""
    for node in graph.nodes:
        if str(node.target) in UNCONVERTED:
            raise ModelError(
                "observes or imitates quantization, as in training",
                operation=f"{node.target} {node.name!r}",
                hint="call torchao's convert_pt2e before loading",
            )


def in_integers(model: Model) -> Model:
    """A model with quantizations around its operations as an integer model; another one as it is."""
    if not any(o.type in ("DEQUANTIZE", "QUANTIZE") for o in model.operations):
        return model
    return run_passes(model, INTEGER_ARITHMETIC, rounds=1)


def quantize(
    e: Emitter, x: Tensor, scale: Any, zero_point: Any, low: int, high: int, dtype: torch.dtype, **_: Any
) -> Tensor:
    """x in floats -> the integers that stand for it."""
    output = Operand(_type(dtype), scale=_number(scale), zero_point=int(_number(zero_point)), name=e.name)
    if (low, high) not in WHOLE[dtype]:  # what QUANTIZE would let pass
        for type, limit in (("MAXIMUM", low), ("MINIMUM", high)):
            x = e.elementwise(type, input0=x, input1=e.like((limit - output.zero_point) * output.scale, x))
    return e.elementwise("QUANTIZE", output, input=x)


def dequantize(
    e: Emitter, x: Tensor, scale: Any, zero_point: Any, low: int, high: int, dtype: torch.dtype, **_: Any
) -> Tensor:
    """Integers -> the reals that they stand for, which may be other ones than those they were made of."""
    real, offset = _number(scale), int(_number(zero_point))
    if x.is_constant:
        return _constant(e, x, (real,), (offset,), None)
    if x.type == I32:  # an input of the model: NNAPI has no integers of 8 bits without a scale
        return e.binary("MUL", e.binary("SUB", e.cast(x, F32), offset), real)
    assert x.ref is not None
    stored = x.ref.operand
    if (stored.scale, stored.zero_point) != (real, offset):
        x = e.elementwise("CAST", Operand(x.type, scale=real, zero_point=offset, name=e.name), input=x)
    return e.elementwise("DEQUANTIZE", Operand(F32, name=e.name), input=x)


def dequantize_per_channel(
    e: Emitter, x: Tensor, scales: Tensor, zero_points: Tensor | None, axis: int, *_: Any, **__: Any
) -> Tensor:
    """Weights with one scale per channel along `axis`."""
    if not x.is_constant or not scales.is_constant:
        raise ModelError("has scales per channel on what is no constant", hint="quantize activations per tensor")
    zeros = None if zero_points is None else zero_points.value
    offsets = tuple(0 for _ in scales.value) if zeros is None else tuple(int(z) for z in zeros)
    return _constant(e, x, tuple(float(np.float32(s)) for s in scales.value), offsets, x.axis(axis))


def _constant(
    e: Emitter, x: Tensor, scales: tuple[float, ...], zero_points: tuple[int, ...], axis: int | None
) -> Tensor:
    """Integers that are constant: a DEQUANTIZE of them, or the reals where NNAPI cannot store them so."""
    stored: torch.Tensor = x.value
    like = None
    if axis is None and stored.dtype in STORED:
        like = Operand(STORED[stored.dtype], scale=scales[0], zero_point=zero_points[0])
    elif stored.dtype == torch.int8 and not any(zero_points) and min(scales) > 0:
        like = Operand(Q8PC, channel_quant=ChannelQuant(scales, axis or 0))
    if like is None or not 1 <= stored.ndim <= MAX_RANK:
        shape = [1] * stored.ndim
        if axis is not None:
            shape[axis] = -1
        factors, offsets = (torch.tensor(v, dtype=torch.float64).reshape(shape) for v in (scales, zero_points))
        return tensor_of(((stored - offsets) * factors).float())
    constant = e.builder.constant(stored.detach().contiguous().numpy(), like, name=e.name)
    return e.add("DEQUANTIZE", Operand(F32, name=e.name), input=Tensor(x.shape, like.type, constant))


def _type(dtype: torch.dtype) -> Any:
    if dtype not in STORED:
        raise ModelError(
            f"quantizes to {str(dtype).removeprefix('torch.')}, NNAPI's activations have int8 or uint8",
            hint="quantize with nnapi.quantization.pt2e.NnapiQuantizer",
        )
    return STORED[dtype]


def _number(value: Any) -> float:
    """A scale or zero point, which may come as a tensor."""
    if not isinstance(value, Tensor):
        return float(value)
    if not value.is_constant:
        _dynamic()
    return float(value.value)


def _dynamic(*_: Any, **__: Any) -> NoReturn:
    raise ModelError(
        "chooses scales at run time (dynamic quantization), which no NNAPI operation does",
        hint="quantize activations statically, or leave them in floats",
    )


def _refused(what: str, hint: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise ModelError(f"{what}, which NNAPI has not", hint=hint)

    return refuse


_GROUPS = _refused("quantizes in groups or tokens", "quantize per tensor, weights per channel")
_NAMESPACE: Final = "quantized_decomposed."
FUNCTIONS: Final = {
    **{f"{_NAMESPACE}quantize_per_tensor.{overload}": quantize for overload in ("default", "tensor", "tensor2")},
    **{f"{_NAMESPACE}dequantize_per_tensor.{overload}": dequantize for overload in ("default", "tensor", "tensor2")},
    f"{_NAMESPACE}quantize_per_channel.default": _refused(
        "quantizes activations per channel", "quantize activations per tensor"
    ),
    f"{_NAMESPACE}dequantize_per_channel.default": dequantize_per_channel,
    **dict.fromkeys((
        f"{_NAMESPACE}choose_qparams.tensor", f"{_NAMESPACE}choose_qparams_symmetric.tensor",
        f"{_NAMESPACE}_choose_qparams_per_token_asymmetric_impl.default",
        f"{_NAMESPACE}choose_qparams_per_token.default", f"{_NAMESPACE}choose_qparams_per_token_asymmetric.default",
        "torchao.choose_qparams_affine.default",
    ), _dynamic),
    **dict.fromkeys((
        f"{_NAMESPACE}quantize_per_token.default", f"{_NAMESPACE}dequantize_per_token.default",
        f"{_NAMESPACE}quantize_per_channel_group.default", f"{_NAMESPACE}dequantize_per_channel_group.default",
    ), _GROUPS),
}  # fmt: skip
KEPT: Final = frozenset(
    name for name, function in FUNCTIONS.items() if function in (dequantize, dequantize_per_channel)
)
"""What is not computed on constants: the integers are what matters."""
UNCONVERTED: Final = frozenset((
    "aten.fake_quantize_per_tensor_affine.default", "aten.fake_quantize_per_tensor_affine.tensor_qparams",
    "aten.fake_quantize_per_channel_affine.default", "aten._fake_quantize_learnable_per_tensor_affine.default",
    "aten._fake_quantize_learnable_per_channel_affine.default", "aten.fused_moving_avg_obs_fake_quant.default",
    "aten._fused_moving_avg_obs_fq_helper.default", f"{_NAMESPACE}fake_quant_per_channel.default",
))  # fmt: skip
"""What training and calibration leave in a model until it is converted."""
