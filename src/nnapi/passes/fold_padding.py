"""Let convolutions pad their input themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nnapi.ir.model import Model, Operation
from nnapi.ops.op import Call
from nnapi.ops.types import INT32
from nnapi.ops.window import VALID
from nnapi.passes.rewrite import Graph, rewrite

SIDES = ("padding_left", "padding_right", "padding_top", "padding_bottom")
CONVOLUTIONS = frozenset(("CONV_2D", "DEPTHWISE_CONV_2D", "GROUPED_CONV_2D"))


def fold_padding(model: Model) -> Model:
    """A PAD of height and width with zeros becomes the explicit padding of the convolutions that read it.

    before: `t = PAD(x, [[0, 0], [1, 1], [1, 1], [0, 0]]); y = CONV_2D(t, w, b, padding=VALID, ...)`
    after:  `y = CONV_2D(x, w, b, padding_left=1, padding_right=1, padding_top=1, padding_bottom=1, ...)`

    Pools leave padding out of their result, so a PAD in front of them stays.
    """
    return rewrite(model, _fold, CONVOLUTIONS)


def _fold(graph: Graph, operation: Operation) -> bool:
    producer = graph.producer(operation.inputs[0], ("PAD", "PAD_V2"))
    amounts = None if producer is None else _amounts(graph.call(producer), graph.call(operation))
    if producer is None or amounts is None:
        return False
    given = {side: graph.scalar(INT32, amount) for side, amount in amounts.items()}
    folded = replace(operation, inputs=graph.inputs(operation, input=producer.inputs[0], **given))
    if not graph.is_valid(folded):  # NNAPI allows less padding than the filter is large
        return False
    if not graph.uses[operation.inputs[0]]:
        graph.drop(producer)
    graph.emit(folded)
    return True


def _amounts(pad: Call, conv: Call) -> dict[str, int] | None:
    """The explicit paddings, by parameter name, that stand for both; None where there are none."""
    layout, x = conv.scalar("layout"), pad["input"]
    paddings = pad["paddings"].value
    zero = x.zero_point if x.type.is_quantized else 0
    if (
        layout is None
        or not isinstance(paddings, np.ndarray)
        or ("pad_value" in pad and pad.scalar("pad_value") != zero)
    ):
        return None
    n, *image = paddings.tolist()
    channels = image.pop(0 if layout else -1)
    if any((*n, *channels)) or (conv.scalar("padding") != VALID if "padding" in conv else False):
        return None
    (top, bottom), (left, right) = image
    amounts = dict(zip(SIDES, (left, right, top, bottom)))
    if "padding" not in conv:
        own = {side: conv.scalar(side) for side in SIDES}
        if None in own.values():
            return None
        amounts = {side: amounts[side] + own[side] for side in SIDES}
    return amounts
