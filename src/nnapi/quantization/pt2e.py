"""Quantization-aware training for NNAPI: a quantizer for torchao's PT2E whose annotations follow NNAPI's rules.

    program = torch.export.export(module.train(), inputs, dynamic_shapes={"x": {0: torch.export.Dim.AUTO}})
    trained = prepare_qat_pt2e(program.module(), NnapiQuantizer())
    ...                                                     # train as ever
    model = nnapi.load(convert_pt2e(trained), inputs)  # integers from QUANTIZE to DEQUANTIZE

A module exported in evaluation mode has its batch normalizations folded before training, which makes that simpler and
faster; in training mode they are trained along, and `convert_pt2e` takes a minute to fold them. With `training=False`
the same goes for `prepare_pt2e`: run some inputs instead of training.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from nnapi.errors import MissingExtra, QuantizeError

_disabled = logging.root.manager.disable
logging.disable(logging.CRITICAL)  # torchao says at length which of its CUDA libraries are not for this machine
try:
    import torch
    from torch import fx
    from torch.nn.utils.fusion import fuse_conv_bn_weights
    from torchao.quantization.pt2e import (
        FusedMovingAvgObsFakeQuantize,
        HistogramObserver,
        MinMaxObserver,
        MovingAverageMinMaxObserver,
        MovingAveragePerChannelMinMaxObserver,
        PerChannelMinMaxObserver,
    )
    from torchao.quantization.pt2e.quantizer import (
        FixedQParamsQuantizationSpec,
        QuantizationAnnotation,
        QuantizationSpec,
        Quantizer,
        SharedQuantizationSpec,
    )
    from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY
except ModuleNotFoundError as error:
    raise MissingExtra("nnapi.quantization.pt2e", extra="qat") from error
finally:
    logging.disable(_disabled)

EPSILON: Final = 2.0**-16
"""The finest scale of an activation; a finer one is of a tensor that is zero."""
FILTER_AXIS: Final = {
    "aten.conv1d.default": 0, "aten.conv1d.padding": 0, "aten.conv2d.default": 0, "aten.conv2d.padding": 0,
    "aten.conv_transpose1d.default": 1, "aten.conv_transpose2d.input": 1, "aten.linear.default": None,
}  # fmt: skip
"""Layers, and along which axis their weights have a scale per channel: FULLY_CONNECTED takes one scale only."""
ARITHMETIC: Final = frozenset((
    "aten.add.Tensor", "aten.sub.Tensor", "aten.mul.Tensor", "aten.add.Scalar", "aten.sub.Scalar", "aten.mul.Scalar",
))  # fmt: skip
FUSED: Final = frozenset(("aten.relu.default", "aten.relu6.default", "aten.hardtanh.default", "aten.clamp.default"))
"""Activations that the operation in front of them applies, where their limits are NNAPI's."""
LIMITS: Final = frozenset(((0.0, 6.0), (-1.0, 1.0), (0.0, None)))
SHARING: Final = frozenset((
    *FUSED, "aten.adaptive_avg_pool1d.default", "aten.adaptive_avg_pool2d.default", "aten.adaptive_max_pool2d.default",
    "aten.alias.default", "aten.amax.default", "aten.amin.default", "aten.avg_pool1d.default",
    "aten.avg_pool2d.default", "aten.cat.default", "aten.channel_shuffle.default", "aten.clone.default",
    "aten.concat.default", "aten.constant_pad_nd.default", "aten.contiguous.default", "aten.dropout.default",
    "aten.expand.default", "aten.flatten.using_ints", "aten.index_select.default", "aten.max_pool1d.default",
    "aten.max_pool2d.default", "aten.maximum.default", "aten.mean.dim", "aten.minimum.default", "aten.narrow.default",
    "aten.pad.default", "aten.permute.default", "aten.pixel_shuffle.default", "aten.pixel_unshuffle.default",
    "aten.repeat.default", "aten.reshape.default", "aten.select.int", "aten.slice.Tensor", "aten.squeeze.default",
    "aten.squeeze.dim", "aten.squeeze.dims", "aten.t.default", "aten.transpose.int", "aten.unflatten.int",
    "aten.unsqueeze.default", "aten.upsample_bilinear2d.default", "aten.upsample_bilinear2d.vec",
    "aten.upsample_nearest2d.default", "aten.upsample_nearest2d.vec", "aten.view.default",
))  # fmt: skip
"""What NNAPI lets store its result only as its inputs are stored, or engines compute fastest so."""
SPLITTING: Final = frozenset((
    "aten.split.Tensor", "aten.split_with_sizes.default", "aten.chunk.default", "aten.unbind.int",
))  # fmt: skip
FIXED: Final[Mapping[str, tuple[float, int]]] = {
    "aten.sigmoid.default": (1 / 256, 0), "aten.softmax.int": (1 / 256, 0), "aten.tanh.default": (1 / 128, 128),
}  # fmt: skip
"""Scale and zero point that NNAPI prescribes for a result in unsigned integers."""
FREE: Final = frozenset((
    "aten.bmm.default", "aten.hardswish.default", "aten.leaky_relu.default", "aten.matmul.default",
    "aten.prelu.default",
))  # fmt: skip


class NnapiQuantizer(Quantizer):
    """Annotates an exported module so that what PT2E makes of it is an integer NNAPI model.

    Activations are int8, asymmetric, with one scale each; weights are symmetric int8 with a scale per channel, those of
    linear layers with one; biases stay float and become int32 when the model is loaded (feature level 4). With
    `unsigned` all are uint8 with one scale: what the drivers of Android 8.1 to 10 take.

    `training` is for `prepare_qat_pt2e`; False for `prepare_pt2e`. Modules named in `in_float` (paths, such as "head")
    are left alone, and so is what NNAPI has no integers for. Raises QuantizeError where nothing is left to quantize.
    """

    def __init__(self, *, unsigned: bool = False, training: bool = True, in_float: Sequence[str] = ()) -> None:
        super().__init__()
        self.unsigned = unsigned
        self.in_float = tuple(in_float)
        self._activation = _spec(unsigned, training)
        self._weights = _weights_spec(unsigned, training, None)
        self._by_axis = {axis: _weights_spec(unsigned, training, axis) for axis in (0, 1)}
        self._inside: set[fx.Node] = set()

    def transform_for_annotation(self, model: fx.GraphModule) -> fx.GraphModule:
        """Batch normalizations that are not to be trained go into their convolutions, and smooth gates become what
        NNAPI computes them from, so that what is between is quantized too."""
        for node in list(model.graph.nodes):
            if _name(node) == "aten.batch_norm.default":
                _fold_batch_norm(model, node)
            parts = GATES.get(_name(node))
            if parts is not None and not self._is_float(node):
                with model.graph.inserting_before(node):
                    node.replace_all_uses_with(parts(node))
                model.graph.erase_node(node)
        model.recompile()
        return model

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        self._inside.clear()
        paths = {path for node in model.graph.nodes for path in _paths(node)}
        unknown = [name for name in self.in_float if name not in paths]
        if unknown:
            raise QuantizeError(f"in_float names {unknown[0]!r}, the module has no such part")
        for node in model.graph.nodes:
            if node not in self._inside and not self._is_float(node) and _is_real(node):
                self._annotate(node)
        return model

    def validate(self, model: fx.GraphModule) -> None:
        if not any(Q_ANNOTATION_KEY in node.meta for node in model.graph.nodes):
            raise QuantizeError(
                "nothing in the module has an integer form in NNAPI, or in_float names all of it",
                hint="prepare torch.export.export(module, inputs).module()",
            )

    def _is_float(self, node: fx.Node) -> bool:
        return any(path == name for path in _paths(node) for name in self.in_float)

    def _annotate(self, node: fx.Node) -> None:
        name = _name(node)
        inputs = [n for n in node.all_input_nodes if _is_real(n)]
        if name in FILTER_AXIS:
            self._layer(node, FILTER_AXIS[name])
        elif name in ARITHMETIC:
            self._write(node, {x: self._read(x) for x in inputs}, self._activation, self._last(node))
        elif name in SHARING and inputs:
            first, *others = inputs
            shared = SharedQuantizationSpec((first, node))
            self._write(node, {first: self._read(first)} | dict.fromkeys(others, shared), shared)
        elif name in FIXED:
            self._write(node, {x: self._read(x) for x in inputs}, self._fixed(*FIXED[name]))
        elif name in FREE:
            self._write(node, {x: self._read(x) for x in inputs}, self._activation)
        elif name in SPLITTING:
            self._write(node, {x: self._read(x) for x in inputs}, None)
        elif node.target is operator.getitem and _name(inputs[0]) in SPLITTING:
            (split,) = inputs
            self._write(node, {}, SharedQuantizationSpec((split.all_input_nodes[0], split)))

    def _layer(self, node: fx.Node, axis: int | None) -> None:
        x, weight = node.all_input_nodes[:2]
        groups = node.args[6] if axis == 1 and len(node.args) > 6 else 1
        if weight.op != "get_attr" or groups != 1:
            return
        spec = self._weights if axis is None or self.unsigned else self._by_axis[axis]
        self._write(node, {x: self._read(x), weight: spec}, self._activation, self._last(node))

    def _last(self, node: fx.Node) -> fx.Node:
        """The last of the nodes that are one NNAPI operation: a convolution, its batch normalization, an activation."""
        for names in (("aten.batch_norm.default",), FUSED):
            following = next(iter(node.users)) if len(node.users) == 1 else None
            if following is None or _name(following) not in names or self._is_float(following):
                continue
            if names is FUSED and not _has_limits(following):
                continue
            self._inside.add(following)
            node = following
        return node

    def _read(self, x: fx.Node) -> Any:
        """How an operation reads x: as it is stored, if it is."""
        return SharedQuantizationSpec(x) if _stored(x) else self._activation

    def _fixed(self, scale: float, zero_point: int) -> Any:
        dtype, low, high = _range(self.unsigned)
        return FixedQParamsQuantizationSpec(dtype, scale, zero_point + low, low, high, torch.per_tensor_affine)

    def _write(self, node: fx.Node, inputs: dict[fx.Node, Any], output: Any, last: fx.Node | None = None) -> None:
        last = last or node
        one = last is node
        node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(inputs, output if one else None, _annotated=True)
        if not one:
            last.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation({}, output, _annotated=True)


def _range(unsigned: bool) -> tuple[torch.dtype, int, int]:
    return (torch.uint8, 0, 255) if unsigned else (torch.int8, -128, 127)


def _spec(unsigned: bool, training: bool) -> Any:
    """How activations are quantized."""
    dtype, low, high = _range(unsigned)
    observer = HistogramObserver.with_args(eps=EPSILON)
    if training:
        observer = FusedMovingAvgObsFakeQuantize.with_args(observer=MovingAverageMinMaxObserver, eps=EPSILON)
    return QuantizationSpec(dtype, observer, low, high, torch.per_tensor_affine)


def _weights_spec(unsigned: bool, training: bool, axis: int | None) -> Any:
    """How weights are quantized: with one scale (None), or one for each channel along `axis`.

    In training each step's own range counts, not an average over steps.
    """
    dtype, low, high = _range(unsigned)
    low = low if unsigned else -high
    moving, still = MovingAverageMinMaxObserver, MinMaxObserver
    scheme = torch.per_tensor_affine if unsigned else torch.per_tensor_symmetric
    if axis is not None:
        moving, still = MovingAveragePerChannelMinMaxObserver, PerChannelMinMaxObserver
        scheme = torch.per_channel_symmetric
    constructor = still
    if training:
        constructor = FusedMovingAvgObsFakeQuantize.with_args(observer=moving, averaging_constant=1.0)
    return QuantizationSpec(dtype, constructor, low, high, scheme, axis)


def _name(node: fx.Node) -> str:
    """`aten.relu.default`, also of the overload that writes in place."""
    name = str(node.target)
    schema = getattr(node.target, "_schema", None)
    return name.replace("_.", ".", 1) if schema is not None and schema.is_mutable else name


def _is_real(node: fx.Node) -> bool:
    """Whether the node is a tensor of floats, or several of them."""
    value = node.meta.get("val")
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return isinstance(first, torch.Tensor) and first.is_floating_point()


def _stored(node: fx.Node) -> bool:
    annotation = node.meta.get(Q_ANNOTATION_KEY)
    return annotation is not None and annotation.output_qspec is not None


def _has_limits(node: fx.Node) -> bool:
    """Whether NNAPI has the activation with these limits."""
    match _name(node):
        case "aten.hardtanh.default":
            limits = (*node.args[1:], *(-1.0, 1.0)[len(node.args) - 1 :])
        case "aten.clamp.default":
            limits = (*node.args[1:], None, None)[:2]
        case _:
            return True
    return limits in LIMITS


def _paths(node: fx.Node) -> Iterator[str]:
    """The modules that the node is in: `features`, `features.0`."""
    for path, _ in (node.meta.get("nn_module_stack") or {}).values():
        if path:
            yield path.removeprefix("L['self'].")


def _call(like: fx.Node, target: Any, *args: Any) -> fx.Node:
    """A new node of the same shape, type and place as `like`."""
    node: fx.Node = like.graph.call_function(target, args)
    node.meta = {k: v for k, v in like.meta.items() if k != Q_ANNOTATION_KEY}
    return node


def _fold_batch_norm(model: fx.GraphModule, norm: fx.Node) -> None:
    """A batch normalization in evaluation mode, as weights and bias of the convolution in front of it."""
    layer, *statistics, training, _, epsilon, _ = norm.args
    axis = FILTER_AXIS.get(_name(layer))
    if training or axis is None or len(layer.users) > 1:
        return
    given = [layer.args[1], layer.args[2] if len(layer.args) > 2 else None, *statistics]
    if not all(node is None or node.op == "get_attr" for node in given):
        return
    weight, bias, gamma, beta, mean, variance = (n and operator.attrgetter(n.target)(model) for n in given)
    folded = fuse_conv_bn_weights(weight, bias, mean, variance, epsilon, gamma, beta, axis == 1)
    nodes = []
    for kind, value in zip(("weight", "bias"), folded):
        model.register_parameter(f"{layer.name}_folded_{kind}", value)
        with model.graph.inserting_before(layer):
            nodes.append(model.graph.get_attr(f"{layer.name}_folded_{kind}"))
        nodes[-1].meta = {"val": value.detach()}
    layer.args = (layer.args[0], *nodes, *layer.args[3:])
    norm.replace_all_uses_with(layer)
    model.graph.erase_node(norm)


def _hardsigmoid(node: fx.Node) -> fx.Node:
    """relu6(x + 3) / 6."""
    aten = torch.ops.aten
    sum = _call(node, aten.add.Tensor, node.args[0], 3.0)
    return _call(node, aten.mul.Tensor, _call(node, aten.hardtanh.default, sum, 0.0, 6.0), 1 / 6)


def _silu(node: fx.Node) -> fx.Node:
    """x * sigmoid(x)."""
    gate = _call(node, torch.ops.aten.sigmoid.default, node.args[0])
    return _call(node, torch.ops.aten.mul.Tensor, node.args[0], gate)


GATES: Final[Mapping[str, Callable[[fx.Node], fx.Node]]] = {
    "aten.hardsigmoid.default": _hardsigmoid,
    "aten.silu.default": _silu,
}
"""Activations that NNAPI computes from several operations."""
