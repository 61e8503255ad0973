"""Layouts beyond what the golden cases show: everything NNAPI lets vary, and what must stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import nnapi
from nnapi import zoo
from nnapi.drivers.reference import execute
from nnapi.ir import composites
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ir.verify import verify
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import F32, I32, Q8, Operand
from nnapi.passes.layout import IMAGES, to_layout
from nnapi.passes.layout_rules import RULES
from passes.agreement import assert_same_function

POOL = {"padding": 1, "activation": 0} | dict.fromkeys(("stride_width", "stride_height", "filter_width"), 1)


def pool(b: Builder, x: Ref, layout: bool = True, rows: int = 2) -> Ref:
    return b.add("MAX_POOL_2D", {"input": x, "filter_height": rows, "layout": layout, **POOL})


def types(model: Model) -> list[str]:
    return [o.type for o in model.operations]


def test_every_operation_with_a_layout_flag_is_known() -> None:
    flagged = {
        op.name for op in OPERATIONS.values() if any(p.name == "layout" for s in op.signatures for p in s.inputs)
    }
    assert flagged == set(IMAGES)
    for name, images in IMAGES.items():
        op = OPERATIONS[name]
        named = {p.name for s in op.signatures for p in s.inputs} | {r.name for r in op.outputs}
        assert set(images) <= named, name


def test_every_rule_is_for_an_operation() -> None:
    assert set(RULES) <= set(OPERATIONS)


def test_what_is_unknown_until_run_time_stays_unknown() -> None:
    b = Builder("m")
    x = b.input("x", F32, (0, 3, 0, 4))
    y = b.add("ADD", {"input0": pool(b, x), "input1": np.ones((3, 1, 1), np.float32), "activation": 0})
    b.output(pool(b, y), b.add("MEAN", {"input": y, "axes": [2, 3], "keep_dims": 0}))
    model = b.finish()
    after = to_layout(model, "nhwc")
    verify(after)
    assert types(after).count("TRANSPOSE") == 2
    assert_same_function(model, after)


def test_an_unknown_rank_stays_where_it_is() -> None:
    b = Builder("m")
    x = b.operand(Operand(F32))
    b._inputs.append(x.index)
    (y,) = b.add_raw("RELU", [x], [Operand(F32)])
    b.output(y)
    model = b.finish()
    assert to_layout(model, "nhwc") is model


def test_parameters_that_are_not_constant_keep_the_order() -> None:
    b = Builder("m")
    x, axes = b.input("x", F32, (1, 2, 3, 4)), b.input("axes", I32, (1,))
    (y,) = b.add_raw("MEAN", [pool(b, x), axes, b.scalar(OPERATIONS["MEAN"].signatures[0].inputs[2].type, 1)], [
        Operand(F32, (0, 0, 0, 0)),
    ])  # fmt: skip
    b.output(y)
    after = to_layout(b.finish(), "nhwc")
    verify(after)
    assert types(after) == ["TRANSPOSE", "MAX_POOL_2D", "TRANSPOSE", "MEAN"]


def test_bodies_of_control_flow_are_moved_too() -> None:
    def body(name: str) -> Model:
        b = Builder(name)
        b.output(pool(b, b.input("a", F32, (1, 2, 3, 4))))
        return b.finish()

    b = Builder("m")
    c, x = b.input("c", OPERATIONS["IF"].signatures[0].inputs[0].type, (1,)), b.input("x", F32, (1, 2, 3, 4))
    (y,) = b.add_raw("IF", [c, b.model(body("yes")), b.model(body("no")), x], [Operand(F32, (1, 2, 3, 4))])
    b.output(y)
    model = b.finish()
    after = to_layout(model, "nhwc")
    verify(after)
    assert_same_function(model, after)
    for part in after.referenced(after.operations[0]):
        assert types(part) == ["TRANSPOSE", "MAX_POOL_2D", "TRANSPOSE"]


COMPOSITES = {
    "gelu": lambda b, x: composites.gelu(b, x),
    "gelu tanh": lambda b, x: composites.gelu(b, x, tanh=True),
    "silu": composites.silu,
    "mish": composites.mish,
    "softplus": composites.softplus,
    "erf": composites.erf,
}


@pytest.mark.parametrize("add", COMPOSITES.values(), ids=COMPOSITES)
def test_elementwise_composites_follow_the_layout(add: object) -> None:
    b = Builder("m")
    b.output(pool(b, add(b, pool(b, b.input("x", F32, (1, 2, 3, 4))))))
    model = b.finish()
    after = to_layout(model, "nhwc")
    verify(after)
    assert [t for t in types(after) if t == "TRANSPOSE"] == ["TRANSPOSE"] * 2
    assert_same_function(model, after)


def test_other_composites_see_what_they_saw() -> None:
    b = Builder("m")
    x = pool(b, b.input("x", F32, (1, 4, 3, 3)))
    ones = b.constant(np.ones(3, np.float32))
    b.output(composites.layer_norm(b, x, ones, ones, epsilon=1e-5))
    model = b.finish()
    after = to_layout(model, "nhwc")
    verify(after)
    assert_same_function(model, after)
    assert types(after)[-2:] == ["TRANSPOSE", "org.nnapi.composite/LAYER_NORM"]


def test_a_normalization_over_channels_last_costs_nothing() -> None:
    b = Builder("m")
    x = pool(b, b.input("x", F32, (1, 4, 3, 3)))
    ones = b.constant(np.ones(4, np.float32))
    y = composites.layer_norm(b, b.add("TRANSPOSE", {"input": x, "perm": [0, 2, 3, 1]}), ones, ones, epsilon=1e-5)
    b.output(pool(b, b.add("TRANSPOSE", {"input": y, "perm": [0, 3, 1, 2]})))
    model = b.finish()
    after = to_layout(model, "nhwc")
    assert types(after) == ["TRANSPOSE", "MAX_POOL_2D", "org.nnapi.composite/LAYER_NORM", "MAX_POOL_2D", "TRANSPOSE"]
    assert_same_function(model, after)


def test_patches_of_an_image_become_tokens_without_a_transpose() -> None:
    b = Builder("m")
    x = pool(b, b.input("x", F32, (1, 4, 3, 2)))
    tokens = b.add("RESHAPE", {"input": x, "shape": [1, 4, 6]})
    b.output(b.add("EXP", {"input": b.add("TRANSPOSE", {"input": tokens, "perm": [0, 2, 1]})}))
    model = b.finish()
    after = to_layout(model, "nhwc")
    assert types(after) == ["TRANSPOSE", "MAX_POOL_2D", "RESHAPE", "EXP"]
    assert_same_function(model, after)


def test_the_smaller_operand_moves() -> None:
    b = Builder("m")
    x, y = b.input("x", F32, (1, 4, 3, 2)), b.input("y", F32, (1, 4, 1, 1))
    b.output(pool(b, b.add("MUL", {"input0": pool(b, x), "input1": y, "activation": 0})))
    after = to_layout(b.finish(), "nhwc")
    assert types(after) == ["TRANSPOSE", "MAX_POOL_2D", "RESHAPE", "MUL", "MAX_POOL_2D", "TRANSPOSE"]


def test_transposed_convolutions_with_an_output_shape() -> None:
    b = Builder("m")
    x = b.input("x", F32, (1, 2, 3, 3))
    rng = np.random.default_rng(0)
    given = {"filter": rng.standard_normal((4, 2, 2, 2)).astype(np.float32), "bias": np.zeros(4, np.float32)}
    strides = {"stride_width": 2, "stride_height": 2, "activation": 0, "layout": True}
    shape = np.array([1, 4, 6, 6], np.int32)
    b.output(b.add("TRANSPOSE_CONV_2D", {"input": x, **given, "output_shape": shape, "padding": 1, **strides}))
    model = b.finish()
    after = to_layout(model, "nhwc")
    verify(after)
    assert_same_function(model, after)
    assert after.call(after.operations[1]).array("output_shape").tolist() == [1, 6, 6, 4]


def test_regions_of_an_image() -> None:
    b = Builder("m")
    x = b.input("x", F32, (1, 2, 4, 4))
    given = {"rois": np.array([[0, 0, 3, 3]], np.float32), "batch_indices": np.zeros(1, np.int32)}
    size = {"output_height": 2, "output_width": 2, "height_stride": 1.0, "width_stride": 1.0}
    b.output(b.add("ROI_ALIGN", {"input": x, **given, **size, "height_samples": 2, "width_samples": 2, "layout": True}))
    model = b.finish()
    after = to_layout(model, "nhwc")
    verify(after)
    assert_same_function(model, after)
    assert types(after) == ["TRANSPOSE", "ROI_ALIGN", "TRANSPOSE"]


def test_only_images_of_proposals_move() -> None:
    b = Builder("m")
    scores, deltas = b.input("scores", F32, (1, 1, 2, 2)), b.input("deltas", F32, (1, 4, 2, 2))
    anchors, info = np.array([[0, 0, 2, 2]], np.float32), np.array([[8, 8]], np.float32)
    limits = {"pre_nms_max": -1, "post_nms_max": -1, "iou_threshold": 0.5, "min_size": 0.1}
    b.output(*b.add_many("GENERATE_PROPOSALS", {
        "scores": scores, "deltas": deltas, "anchors": anchors, "image_info": info, "height_stride": 4.0,
        "width_stride": 4.0, **limits, "layout": True,
    }))  # fmt: skip
    model = b.finish()
    after = to_layout(model, "nhwc")
    verify(after)
    assert_same_function(model, after)
    assert types(after) == ["RESHAPE", "TRANSPOSE", "GENERATE_PROPOSALS"]


def test_columns_of_quantized_layers_follow_too() -> None:
    b = Builder("m")
    x = pool(b, b.input("x", Q8, (2, 2, 2, 3), 0.5, 7))
    flat = b.add("RESHAPE", {"input": x, "shape": [2, 12]})
    weights = Operand(Q8, (3, 12), 0.5, 100)
    filter = b.constant(np.arange(36).reshape(3, 12), weights)
    bias = b.constant(np.array([1, 2, 3]), Operand(I32, (3,), 0.25))
    b.output(
        b.add(
            "FULLY_CONNECTED", {"input": flat, "filter": filter, "bias": bias, "activation": 0}, Operand(Q8, (), 9.0, 3)
        )
    )
    model = b.finish()
    after = to_layout(model, "nhwc")
    assert types(after) == ["TRANSPOSE", "MAX_POOL_2D", "RESHAPE", "FULLY_CONNECTED"]
    assert_same_function(model, after)


def test_a_flattened_image_that_others_read_is_transposed() -> None:
    b = Builder("m")
    x = pool(b, b.input("x", F32, (1, 2, 2, 3)))
    flat = b.add("RESHAPE", {"input": x, "shape": [1, 12]})
    filter, bias = np.ones((2, 12), np.float32), np.zeros(2, np.float32)
    y = b.add("FULLY_CONNECTED", {"input": flat, "filter": filter, "bias": bias, "activation": 0})
    b.output(y, b.add("EXP", {"input": flat}))
    model = b.finish()
    after = to_layout(model, "nhwc")
    assert types(after) == ["TRANSPOSE", "MAX_POOL_2D", "TRANSPOSE", "RESHAPE", "FULLY_CONNECTED", "EXP"]
    assert_same_function(model, after)


def unranked(model: Model, inputs: bool) -> Model:
    """The model with no dimensions written down for what operations compute, perhaps not for its inputs either."""
    known = {i for i, o in enumerate(model.operands) if o.is_constant or not o.type.is_tensor}
    known |= set() if inputs else set(model.inputs)
    operands = (o if i in known else replace(o, dimensions=()) for i, o in enumerate(model.operands))
    return replace(model, operands=tuple(operands))


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("inputs", [False, True], ids=["intermediates", "inputs too"])
@pytest.mark.parametrize("network", ["mobilenet_v2", "unet", "srgan", "transformer_encoder"])
def test_unknown_ranks(network: str, inputs: bool, layout: str) -> None:
    module, examples = zoo.build(network, small=True)
    model = nnapi.load(module, examples)
    moved = to_layout(unranked(model, inputs), layout)
    verify(moved)
    arrays = [x.numpy() for x in examples]
    for got, want in zip(execute(moved, arrays), execute(model, arrays), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())  # sums in another order
