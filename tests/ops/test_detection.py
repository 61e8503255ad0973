"""Boxes, proposals, detections, keypoints and regions: by hand, against plain loops, and at the edges."""

import math
from typing import NamedTuple

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.errors import MissedDeadline
from nnapi.ir.builder import Builder
from nnapi.ir.verify import feature_level
from nnapi.ops import boxes, detection, proposals, roi
from nnapi.ops.numeric import dequantize, quantize
from nnapi.ops.types import F16, F32, I32, Q8, Q8S, Q16, Q16SYMM, Operand, OperandType

INF, NAN = np.inf, np.nan


class Form(NamedTuple):
    """Types of scores (or feature maps) and boxes, the quantization of the first, and tolerances for both.

    Coordinates up to 64 in float16 are good to 1/64, and roundings add up; quantized ones to half a step.
    """

    scores: OperandType
    boxes: OperandType
    quant: tuple[float, int] = (0.0, 0)
    score_tolerance: float = 1e-5
    box_tolerance: float = 1e-4


FORMS = {
    "float32": Form(F32, F32),
    "float16": Form(F16, F16, (0.0, 0), 2e-3, 0.1),
    "quant8": Form(Q8, Q16, (1 / 64, 100), 1 / 128, 1 / 16),
    "quant8 signed": Form(Q8S, Q16, (1 / 64, -28), 1 / 128, 1 / 16),
}
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
float_forms = pytest.mark.parametrize("form", list(FORMS.values())[:2], ids=list(FORMS)[:2])


def operand(type, values, quant=(0.0, 0)):
    """Real values as an operand holds them."""
    values = np.asarray(values, np.float32)
    empty = Operand(type, values.shape, *quant) if type.is_quantized else Operand(type, values.shape)
    return empty.with_value(quantize(values, empty))


def in_form(form, inputs, scores=(), rois=(), anchors=()):
    """The inputs with those named stored in the types of a form."""
    quantized = form.boxes == Q16
    stored = {n: operand(form.scores, inputs[n], form.quant) for n in scores}
    stored |= {n: operand(form.boxes, inputs[n], boxes.QUANT) for n in rois}
    stored |= {n: operand(Q16SYMM if quantized else form.boxes, inputs[n], (0.125, 0)) for n in anchors}
    return inputs | stored


def reals(results, operands):
    return [dequantize(array, o) if o.type != I32 else array for array, o in zip(results, operands, strict=True)]


@pytest.fixture
def run(single, apply_all):
    """run(operation, inputs, outputs=None) -> real values of its outputs."""

    def run(operation, inputs, outputs=None):
        operands = single(operation, inputs, outputs).output_operands
        return reals(apply_all(operation, inputs, outputs), operands)

    return run


def close(actual, expected, tolerance):
    assert actual.shape == np.shape(expected)
    np.testing.assert_allclose(actual, expected, atol=tolerance, rtol=0)


# Boxes. A and B share half of A; C is elsewhere.

A, B, C = [0, 0, 8, 8], [0, 0, 8, 4], [16, 16, 24, 24]


@pytest.mark.parametrize(
    ("box", "expected"), [(A, 1), (B, 0.5), (C, 0), ([4, 4, 12, 12], 16 / 112), ([3, 3, 3, 3], 0), ([8, 0, 16, 8], 0)]
)
def test_overlap_is_intersection_over_union(box, expected):
    assert boxes.overlap(np.array(A, np.float32), np.array([box], np.float32)) == pytest.approx(expected)


def test_boxes_without_area_do_not_overlap():
    point = np.zeros((1, 4), np.float32)
    assert boxes.overlap(point[0], point) == 0


# BOX_WITH_NMS_LIMIT. Three boxes in image 0 and one in image 7; two classes and the background.

NMS = {
    "scores": [[1, 0.75, 0], [1, 0.5, 0.75], [1, 0.25, 0.5], [1, 0.5, 0]],
    "boxes": [A * 3, B * 3, C * 3, A * 3],
    "batch_indices": np.array([0, 0, 0, 7], np.int32),
    "score_threshold": 0.125, "max_detections": -1, "nms_kernel": detection.HARD, "iou_threshold": 0.5, "sigma": 0.5,
    "nms_score_threshold": 0.0625,
}  # fmt: skip
LOWERED = 0.5 * math.exp(-0.5)
# change, scores, boxes, classes, images
NMS_GOLDEN = {
    "hard": ({}, [0.75, 0.25, 0.75, 0.5, 0.5], [A, C, B, C, A], [1, 1, 2, 2, 1], [0, 0, 0, 0, 7]),
    "hard, little overlap": (
        {"iou_threshold": 0.625}, [0.75, 0.5, 0.25, 0.75, 0.5, 0.5], [A, B, C, B, C, A], [1, 1, 1, 2, 2, 1],
        [0, 0, 0, 0, 0, 7],
    ),
    "linear": (
        {"nms_kernel": 1}, [0.75, 0.25, 0.25, 0.75, 0.5, 0.5], [A, B, C, B, C, A], [1, 1, 1, 2, 2, 1],
        [0, 0, 0, 0, 0, 7],
    ),
    "linear, little overlap": (
        {"nms_kernel": 1, "iou_threshold": 0.625}, [0.75, 0.5, 0.25, 0.75, 0.5, 0.5], [A, B, C, B, C, A],
        [1, 1, 1, 2, 2, 1], [0, 0, 0, 0, 0, 7],
    ),
    "gaussian": (
        {"nms_kernel": 2}, [0.75, LOWERED, 0.25, 0.75, 0.5, 0.5], [A, B, C, B, C, A], [1, 1, 1, 2, 2, 1],
        [0, 0, 0, 0, 0, 7],
    ),
    "lowered below the threshold": (
        {"nms_kernel": 2, "nms_score_threshold": 0.3125}, [0.75, 0.75, 0.5, 0.5], [A, B, C, A], [1, 2, 2, 1],
        [0, 0, 0, 7],
    ),
    "two of each image": ({"max_detections": 2}, [0.75, 0.75, 0.5], [A, B, A], [1, 2, 1], [0, 0, 7]),
    "none": ({"max_detections": 0}, [], np.zeros((0, 4)), [], []),
    "high scores": ({"score_threshold": 0.625}, [0.75, 0.75], [A, B], [1, 2], [0, 0]),
    "no boxes": (
        {"scores": np.zeros((0, 3)), "boxes": np.zeros((0, 12)), "batch_indices": np.zeros(0, np.int32)}, [],
        np.zeros((0, 4)), [], [],
    ),
}  # fmt: skip


@each_form
@pytest.mark.parametrize(
    ("change", "scores", "found", "classes", "images"), NMS_GOLDEN.values(), ids=NMS_GOLDEN
)  # fmt: skip
def test_box_with_nms_limit(run, form, change, scores, found, classes, images):
    inputs = in_form(form, NMS | change, scores=["scores"], rois=["boxes"])
    results = run("BOX_WITH_NMS_LIMIT", inputs)
    close(results[0], scores, form.score_tolerance)
    np.testing.assert_array_equal(results[1], found)  # as they came in
    np.testing.assert_array_equal(results[2], classes)
    np.testing.assert_array_equal(results[3], images)


# DETECTION_POSTPROCESSING. Anchors that are A, B and C.

DETECTIONS = {
    "scores": [[[0, 0.75, 0.25], [0, 0.5, 0.625], [0, 0.25, 0.5]]],
    "deltas": np.zeros((1, 3, 5), np.float32),
    "anchors": [[4, 4, 8, 8], [4, 2, 8, 4], [20, 20, 8, 8]],
    "scale_y": 10.0, "scale_x": 10.0, "scale_h": 5.0, "scale_w": 5.0, "regular_nms": True, "max_detections": 3,
    "max_classes_per_detection": 1, "max_detections_per_class": 2, "score_threshold": 0.125, "iou_threshold": 0.5,
    "background_in_labels": False,
}  # fmt: skip
# Anchors and boxes have y first: B is [0, 0, 8, 4] in both orders of the words, not of the axes.
MOVED = np.array([[[5, -10, 5 * math.log(2), 0, 99], [0] * 5, [0] * 5]], np.float32)
NOTHING = [0, 0, 0, 0]
DETECTION_GOLDEN = {
    "each class": ({}, [0.75, 0.625, 0.5], [A, B, C], [0, 1, 1], 3),
    "background has a label": ({"background_in_labels": True}, [0.75, 0.625, 0.5], [A, B, C], [1, 2, 2], 3),
    "one per class": ({"max_detections_per_class": 1}, [0.75, 0.625, 0], [A, B, NOTHING], [0, 1, 0], 2),
    "two": ({"max_detections": 2}, [0.75, 0.625], [A, B], [0, 1], 2),
    "high scores": ({"score_threshold": 0.6875}, [0.75, 0, 0], [A, NOTHING, NOTHING], [0, 0, 0], 1),
    "best class": ({"regular_nms": False}, [0.75, 0.5, 0], [A, C, NOTHING], [0, 1, 0], 2),
    "best two classes": (
        {"regular_nms": False, "max_classes_per_detection": 2, "max_detections": 2}, [0.75, 0.25, 0.5, 0.25],
        [A, A, C, C], [0, 1, 1, 0], 4,
    ),
    "more classes than there are": (
        {"regular_nms": False, "max_classes_per_detection": 3, "max_detections": 1}, [0.75, 0.25, 0], [A, A, NOTHING],
        [0, 1, 0], 2,
    ),
    # center (8, -4), size (16, 8)
    "moved": ({"deltas": MOVED, "score_threshold": 0.6875}, [0.75, 0, 0], [[0, -8, 16, 0]] + [NOTHING] * 2, [0] * 3, 1),
}  # fmt: skip


@float_forms
@pytest.mark.parametrize(
    ("change", "scores", "found", "classes", "count"), DETECTION_GOLDEN.values(), ids=DETECTION_GOLDEN
)
def test_detection_postprocessing(run, form, change, scores, found, classes, count):
    inputs = in_form(form, DETECTIONS | change, scores=["scores", "deltas", "anchors"])
    results = run("DETECTION_POSTPROCESSING", inputs)
    close(results[0], [scores], form.score_tolerance)
    close(results[1], [found], form.box_tolerance)
    np.testing.assert_array_equal(results[2], [classes])
    np.testing.assert_array_equal(results[3], [count])


# AXIS_ALIGNED_BBOX_TRANSFORM. Image 0 is 20 high and 10 wide.

LOG2 = math.log(2)
TRANSFORM = {
    "rois": [[0, 0, 8, 4], [8, 8, 16, 16]],
    "deltas": [[0, 0, 0, 0, 0.5, -0.5, LOG2, 0], [0, 0, -LOG2, -LOG2, -0.5, 0.5, 0, LOG2]],
    "batch_indices": np.array([0, 1], np.int32),
    "image_info": [[20, 10], [64, 64]],
}
TRANSFORMED = [[0, 0, 8, 4, 0, 0, 10, 2], [10, 10, 14, 14, 4, 8, 12, 24]]


@each_form
def test_axis_aligned_bbox_transform(run, form):
    inputs = in_form(form, TRANSFORM, scores=["deltas"], rois=["rois", "image_info"])
    (result,) = run("AXIS_ALIGNED_BBOX_TRANSFORM", inputs)
    # ln 2 is off by half a step of the deltas, 1/128, times half of 16 pixels
    close(result, TRANSFORMED, form.box_tolerance + 8 * form.score_tolerance)


def test_no_boxes_are_transformed_to_none(run):
    nothing = {"rois": np.zeros((0, 4)), "deltas": np.zeros((0, 8)), "batch_indices": np.zeros(0, np.int32)}
    inputs = in_form(FORMS["float32"], TRANSFORM | nothing, scores=["deltas"], rois=["rois", "image_info"])
    assert run("AXIS_ALIGNED_BBOX_TRANSFORM", inputs)[0].shape == (0, 8)


# GENERATE_PROPOSALS. Two pixels of 8 x 8, one anchor: A and beside it.

BESIDE = [8, 0, 16, 8]
PROPOSALS = {
    "scores": [[[[0.5], [0.75]]]], "deltas": np.zeros((1, 1, 2, 4), np.float32), "anchors": [A],
    "image_info": [[32, 32]], "height_stride": 8.0, "width_stride": 8.0, "pre_nms_max": -1, "post_nms_max": -1,
    "iou_threshold": 0.5, "min_size": 1.0, "layout": False,
}  # fmt: skip
ONTO_A = np.array([[[[0, 0, 0, 0], [-1, 0, 0, 0]]]], np.float32)
PROPOSAL_GOLDEN = {
    "both": ({}, [0.75, 0.5], [BESIDE, A]),
    "the best one": ({"pre_nms_max": 1}, [0.75], [BESIDE]),
    "one after selection": ({"post_nms_max": 1}, [0.75], [BESIDE]),
    "too small": ({"min_size": 8.0}, [], np.zeros((0, 4))),
    "center outside": ({"image_info": [[32, 8]], "min_size": -1.0}, [0.5], [A]),
    "cut off": ({"image_info": [[6, 32]]}, [0.75, 0.5], [[8, 0, 16, 6], [0, 0, 8, 6]]),
    "overlapping": ({"deltas": ONTO_A}, [0.75], [A]),
    "overlapping is fine": ({"deltas": ONTO_A, "iou_threshold": 1.5}, [0.75, 0.5], [A, A]),
}


@each_form
@pytest.mark.parametrize("layout", [False, True], ids=["channels last", "channels first"])
@pytest.mark.parametrize(("change", "scores", "found"), PROPOSAL_GOLDEN.values(), ids=PROPOSAL_GOLDEN)
def test_generate_proposals(run, form, layout, change, scores, found):
    inputs = PROPOSALS | change | {"layout": layout}
    if layout:
        inputs |= {n: np.moveaxis(np.array(inputs[n]), -1, 1) for n in ("scores", "deltas")}
    inputs = in_form(form, inputs, scores=["scores", "deltas"], rois=["image_info"], anchors=["anchors"])
    results = run("GENERATE_PROPOSALS", inputs)
    close(results[0], scores, form.score_tolerance)
    close(results[1], found, form.box_tolerance)
    np.testing.assert_array_equal(results[2], [0] * len(scores))


def test_proposals_of_images_one_after_the_other(run):
    inputs = PROPOSALS | {
        "scores": [[[[0.5], [0.75]]], [[[0.25], [1]]]], "deltas": np.zeros((2, 1, 2, 4), np.float32),
        "image_info": [[32, 32], [32, 8]],
    }  # fmt: skip
    inputs = in_form(FORMS["float32"], inputs, scores=["scores", "deltas"], rois=["image_info"], anchors=["anchors"])
    scores, found, images = run("GENERATE_PROPOSALS", inputs)
    np.testing.assert_array_equal(scores, [0.75, 0.5, 0.25])
    np.testing.assert_array_equal(found, [BESIDE, A, A])
    np.testing.assert_array_equal(images, [0, 0, 1])


# HEATMAP_MAX_KEYPOINT


def keypoint(heatmap, box):
    """heatmap [size, size] -> score, (x, y), pixel by pixel from the definition."""
    size = len(heatmap)
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)

    def at(dy, dx):
        return float(heatmap[tuple(1 if i < 0 else size - 2 if i >= size else i for i in (y + dy, x + dx))])

    gradient = np.array([(at(0, 1) - at(0, -1)) / 2, (at(1, 0) - at(-1, 0)) / 2])
    cross = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    hessian = np.array(
        [[at(0, 1) - 2 * at(0, 0) + at(0, -1), cross], [cross, at(1, 0) - 2 * at(0, 0) + at(-1, 0)]]
    )  # fmt: skip
    delta = np.linalg.solve(hessian, -gradient)
    delta *= 1.5 / max(1.5, np.abs(delta).max())
    score = at(0, 0) + gradient @ delta + delta @ hessian @ delta / 2
    place = (np.array([x, y]) + delta + 0.5) / size
    return score, place * (np.array(box[2:]) - box[:2]) + box[:2]


def keypoints_of(form, heatmaps, rois, layout):
    inputs = {"heatmaps": np.moveaxis(heatmaps, -1, 1) if layout else heatmaps, "boxes": rois, "layout": layout}
    inputs = in_form(form, inputs, scores=["heatmaps"], rois=["boxes"])
    return inputs, [Operand(form.scores, (), *form.quant), Operand(form.boxes, (), *boxes.QUANT)]


def wanted(form, operands):
    """The outputs, None where the inputs determine them."""
    return operands if form.scores.is_quantized else None


@each_form
@pytest.mark.parametrize("layout", [False, True], ids=["channels last", "channels first"])
def test_the_keypoint_is_the_top_of_the_parabola(run, form, layout):
    y, x = np.mgrid[:5, :5]
    # Tops at (2.25, 1.5) and, of a map whose largest pixel is in a corner, beyond it.
    heatmaps = np.stack((2 - 0.25 * (x - 2.25) ** 2 - 0.125 * (y - 1.5) ** 2, 0.25 * x + 0.125 * y), -1)[None]
    inputs, operands = keypoints_of(form, heatmaps, [[0, 0, 10, 20]], layout)
    scores, places = run("HEATMAP_MAX_KEYPOINT", inputs, wanted(form, operands))
    # The parabola through rounded pixels is off by a few roundings, and its top the more the flatter it is.
    close(scores[:, 0], [2], 4 * form.score_tolerance)
    close(places[:, 0], [[5.5, 8]], form.box_tolerance + 64 * form.score_tolerance)
    assert scores.shape == (1, 2)


@pytest.mark.parametrize("seed", range(3))
def test_keypoints_are_found_pixel_by_pixel(run, seed):
    random = np.random.default_rng(seed)
    heatmaps = random.uniform(-1, 1, (4, 6, 6, 3)).astype(np.float32)
    rois = np.sort(random.uniform(0, 50, (4, 2, 2)).astype(np.float32), 1).reshape(4, 4)
    inputs, _ = keypoints_of(FORMS["float32"], heatmaps, rois, False)
    scores, places = run("HEATMAP_MAX_KEYPOINT", inputs)
    for n in range(4):
        for k in range(3):
            score, place = keypoint(heatmaps[n, :, :, k].astype(np.float64), rois[n])
            close(scores[n, k], score, 1e-4)
            close(places[n, k], place, 1e-3)


def test_a_flat_heatmap_has_its_keypoint_in_the_first_pixel(run):
    inputs, _ = keypoints_of(FORMS["float32"], np.full((1, 4, 4, 1), 0.5), [[8, 8, 16, 24]], False)
    scores, places = run("HEATMAP_MAX_KEYPOINT", inputs)
    assert scores == [[0.5]]
    np.testing.assert_array_equal(places, [[[9, 10]]])


# ROI_ALIGN, ROI_POOLING


def aligned(x, box, rows, columns, samples):
    """x [H, W, C], box in pixels -> [rows, columns, C], point by point."""
    (x1, y1, x2, y2), (height, width, _) = box, x.shape
    steps = max(y2 - y1, 1) / rows, max(x2 - x1, 1) / columns
    counts = [given or math.ceil(step) for given, step in zip(samples, steps)]
    result = np.zeros((rows, columns, x.shape[2]))
    for i, j, m, n in np.ndindex(rows, columns, *counts):
        y = y1 + steps[0] * (i + (m + 0.5) / counts[0])
        x0 = x1 + steps[1] * (j + (n + 0.5) / counts[1])
        y, x0 = min(y, height - 1), min(x0, width - 1)
        top, left = min(int(y), height - 2), min(int(x0), width - 2)
        v, u = y - top, x0 - left
        corners = x[top : top + 2, left : left + 2]
        result[i, j] += np.einsum("ijc,i,j->c", corners, (1 - v, v), (1 - u, u)) / math.prod(counts)
    return result


def pooled(x, box, rows, columns):
    """x [H, W, C], box in pixels -> [rows, columns, C], bin by bin."""
    x1, y1, x2, y2 = (math.floor(edge + 0.5) for edge in box)
    height, width = (y2 - y1 + 1) / rows, (x2 - x1 + 1) / columns
    result = np.zeros((rows, columns, x.shape[2]))
    for i, j in np.ndindex(rows, columns):
        inside = x[
            math.floor(y1 + i * height) : math.ceil(y1 + (i + 1) * height),
            math.floor(x1 + j * width) : math.ceil(x1 + (j + 1) * width),
        ]
        result[i, j] = inside.max((0, 1)) if inside.size else 0
    return result


ROIS = [[0, 0, 12, 16], [2, 4, 6, 5.5], [1.25, 2.5, 1.25, 2.5], [12, 16, 12, 16], [3, 0, 11.5, 15]]
SIZES = {"square": (2, 2), "wide": (1, 5), "more bins than pixels": (9, 3), "one": (1, 1)}


def regions(size, layout, **more):
    random = np.random.default_rng(8)
    x = np.round(random.uniform(-1.5, 2.375, (2, 8, 6, 3)) * 64) / 64  # of steps that every form holds
    inputs = {
        "rois": ROIS, "batch_indices": np.array([0, 0, 1, 1, 1], np.int32), "output_height": size[0],
        "output_width": size[1], "height_stride": 2.0, "width_stride": 2.0, "layout": layout,
    }  # fmt: skip
    return x, inputs | {"input": np.moveaxis(x, -1, 1) if layout else x} | more


@each_form
@pytest.mark.parametrize("layout", [False, True], ids=["channels last", "channels first"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("samples", [(0, 0), (2, 3)], ids=["adaptive", "2 x 3"])
def test_roi_align_is_the_mean_of_points(run, form, size, layout, samples):
    x, inputs = regions(size, layout, height_samples=samples[0], width_samples=samples[1])
    expected = [
        aligned(x[image], np.array(box) / 2, *size, samples) for image, box in zip(inputs["batch_indices"], ROIS)
    ]  # fmt: skip
    inputs = in_form(form, inputs, scores=["input"], rois=["rois"])
    (result,) = run("ROI_ALIGN", inputs, wanted(form, [Operand(form.scores, (), *form.quant)]))
    close(np.moveaxis(result, 1, -1) if layout else result, expected, max(form.score_tolerance * 1.01, 1e-5))


@each_form
@pytest.mark.parametrize("layout", [False, True], ids=["channels last", "channels first"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_roi_pooling_is_the_largest_of_each_bin(run, form, size, layout):
    x, inputs = regions(size, layout)
    expected = [pooled(x[image], np.array(box) / 2, *size) for image, box in zip(inputs["batch_indices"], ROIS)]
    inputs = in_form(form, inputs, scores=["input"], rois=["rois"])
    (result,) = run("ROI_POOLING", inputs)
    close(np.moveaxis(result, 1, -1) if layout else result, expected, form.score_tolerance)


@pytest.mark.parametrize("operation", ["ROI_ALIGN", "ROI_POOLING"])
def test_no_regions_give_none(run, operation):
    samples = {"height_samples": 2, "width_samples": 2} if operation == "ROI_ALIGN" else {}
    _, inputs = regions((2, 3), False, **samples)
    inputs |= {"rois": np.zeros((0, 4)), "batch_indices": np.zeros(0, np.int32)}
    inputs = in_form(FORMS["float32"], inputs, scores=["input"], rois=["rois"])
    assert run(operation, inputs)[0].shape == (0, 2, 3, 3)


# What is refused

FLOAT = FORMS["float32"]
QUANT = FORMS["quant8"]
VALID = {
    "BOX_WITH_NMS_LIMIT": in_form(FLOAT, NMS, scores=["scores"], rois=["boxes"]),
    "DETECTION_POSTPROCESSING": in_form(FLOAT, DETECTIONS, scores=["scores", "deltas", "anchors"]),
    "AXIS_ALIGNED_BBOX_TRANSFORM": in_form(FLOAT, TRANSFORM, scores=["deltas"], rois=["rois", "image_info"]),
    "GENERATE_PROPOSALS": in_form(
        FLOAT, PROPOSALS, scores=["scores", "deltas"], rois=["image_info"], anchors=["anchors"]
    ),
    "HEATMAP_MAX_KEYPOINT": keypoints_of(FLOAT, np.zeros((1, 4, 4, 2)), [A], False)[0],
    "ROI_ALIGN": in_form(
        FLOAT, regions((2, 2), False, height_samples=2, width_samples=2)[1], scores=["input"], rois=["rois"]
    ),
    "ROI_POOLING": in_form(FLOAT, regions((2, 2), False)[1], scores=["input"], rois=["rois"]),
}  # fmt: skip
# operation, change, message
REFUSED = {
    "nms kernel": ("BOX_WITH_NMS_LIMIT", {"nms_kernel": 3}, r"nms_kernel is 3, must be 0 \(hard\)"),
    "nms sigma": ("BOX_WITH_NMS_LIMIT", {"nms_kernel": 2, "sigma": 0.0}, "sigma is 0.0, must be positive"),
    "nms columns": ("BOX_WITH_NMS_LIMIT", {"boxes": np.zeros((4, 8))}, "scores has 4 x classes 12, must be 8"),
    "nms background alone": (
        "BOX_WITH_NMS_LIMIT", {"scores": np.zeros((4, 1)), "boxes": np.zeros((4, 4))}, "scores has 1 classes, must have"
    ),
    "nms batches": ("BOX_WITH_NMS_LIMIT", {"batch_indices": [0, 0, 1]}, "batch_indices has rois 3, must be 4"),
    "detection scale": ("DETECTION_POSTPROCESSING", {"scale_h": 0.0}, "scale_h is 0.0, must be positive"),
    "detection threshold": ("DETECTION_POSTPROCESSING", {"iou_threshold": -0.1}, "iou_threshold is -0.1.*, must not"),
    "detection number": ("DETECTION_POSTPROCESSING", {"max_detections": 0}, "max_detections is 0, must be at least 1"),
    "detection number per class": (
        "DETECTION_POSTPROCESSING", {"max_detections_per_class": 0}, "max_detections_per_class is 0, must be"
    ),
    "detection encoding": ("DETECTION_POSTPROCESSING", {"deltas": np.zeros((1, 3, 3))}, "box encoding is 3, must"),
    "detection room": (
        "DETECTION_POSTPROCESSING", {"max_detections": 2**31 - 1}, "has 8589934588 elements, limit 2147483647"
    ),
    "transform columns": ("AXIS_ALIGNED_BBOX_TRANSFORM", {"deltas": np.zeros((2, 6))}, "deltas has 6 columns, must"),
    "transform image": (
        "AXIS_ALIGNED_BBOX_TRANSFORM", {"image_info": np.zeros((2, 3))}, "image_info has size 3 in dimension 1, must"
    ),
    "proposal stride": ("GENERATE_PROPOSALS", {"width_stride": -8.0}, "width_stride is -8.0, must be positive"),
    "proposal anchors": ("GENERATE_PROPOSALS", {"anchors": np.zeros((2, 4))}, "anchors has anchors 2, must be 1"),
    "proposal deltas": ("GENERATE_PROPOSALS", {"deltas": np.zeros((1, 1, 2, 8))}, "has 4 x anchors 4, must be 8"),
    "keypoint size": (
        "HEATMAP_MAX_KEYPOINT", {"heatmaps": np.zeros((1, 1, 1, 2))}, "heatmaps have size 1, must be at least 2"
    ),
    "keypoint square": ("HEATMAP_MAX_KEYPOINT", {"heatmaps": np.zeros((1, 4, 5, 2))}, "heatmaps has size 5, must be 4"),
    "align samples": ("ROI_ALIGN", {"height_samples": -1}, "height_samples is -1, must be 0"),
    "align many samples": ("ROI_ALIGN", {"width_samples": 2**31 - 1}, r"width_samples is 2147483647, .* to 4096"),
    "align size": ("ROI_ALIGN", {"output_width": 0}, "output_width is 0, must be at least 1"),
    "align room": ("ROI_ALIGN", {"output_width": 2**31 - 1}, "elements, limit 2147483647"),
    "align stride": ("ROI_ALIGN", {"width_stride": INF}, "width_stride is inf, must be positive and finite"),
    "pooling stride": ("ROI_POOLING", {"height_stride": 0.0}, "height_stride is 0.0, must be positive"),
    "pooling rois": ("ROI_POOLING", {"rois": np.zeros((5, 3))}, "rois has size 3 in dimension 1, must have 4"),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "change", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(refuses, operation, change, message):
    refuses(operation, VALID[operation], change, message)


EIGHTHS = r"has scale and zero point .*, must have \(0.125, 0\)"
# operation, its quantized inputs, the change, message
QUANTIZATION = {
    "nms boxes": (
        "BOX_WITH_NMS_LIMIT", in_form(QUANT, NMS, scores=["scores"], rois=["boxes"]),
        {"boxes": operand(Q16, NMS["boxes"], (0.25, 0))}, "boxes " + EIGHTHS,
    ),
    "keypoint boxes": (
        "HEATMAP_MAX_KEYPOINT", keypoints_of(QUANT, np.zeros((1, 4, 4, 2)), [A], False)[0],
        {"boxes": operand(Q16, [A], (0.125, 8))}, "boxes " + EIGHTHS,
    ),
    "transform image": (
        "AXIS_ALIGNED_BBOX_TRANSFORM", in_form(QUANT, TRANSFORM, scores=["deltas"], rois=["rois", "image_info"]),
        {"image_info": operand(Q16, TRANSFORM["image_info"], (1.0, 0))}, "image_info " + EIGHTHS,
    ),
    "proposal anchors": (
        "GENERATE_PROPOSALS",
        in_form(QUANT, PROPOSALS, scores=["scores", "deltas"], rois=["image_info"], anchors=["anchors"]),
        {"anchors": operand(Q16SYMM, [A], (0.25, 0))}, "anchors has scale 0.25, must have 0.125",
    ),
    "pooling rois": (
        "ROI_POOLING", in_form(QUANT, regions((2, 2), False)[1], scores=["input"], rois=["rois"]),
        {"rois": operand(Q16, ROIS, (0.5, 0))}, "rois " + EIGHTHS,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "inputs", "change", "message"), QUANTIZATION.values(), ids=QUANTIZATION)
def test_coordinates_are_in_eighths(refuses, operation, inputs, change, message):
    outputs = [Operand(Q8, (), *QUANT.quant), Operand(Q16, (), *boxes.QUANT)] if "KEYPOINT" in operation else None
    refuses(operation, inputs, change, message, outputs)


NAN_BOX = [0, 0, NAN, 8]
# What only the values of an execution show: operation, change, message
FAILED = {
    "nms box": ("BOX_WITH_NMS_LIMIT", {"boxes": [A * 3, B * 3, NAN_BOX * 3, A * 3]}, r"boxes has the box .* at 2"),
    "nms box inside out": ("BOX_WITH_NMS_LIMIT", {"boxes": [[8, 0, 0, 8] * 3] * 4}, "must have x1 <= x2 and y1 <= y2"),
    "nms score": ("BOX_WITH_NMS_LIMIT", {"scores": np.full((4, 3), NAN)}, r"scores has a NaN at \(0, 0\)"),
    "nms batches": ("BOX_WITH_NMS_LIMIT", {"batch_indices": [0, 1, 0, 1]}, r"batch_indices are \[0 1 0 1\], must be"),
    "nms batch": ("BOX_WITH_NMS_LIMIT", {"batch_indices": [-1, 0, 0, 1]}, "batch_indices has -1, must not be negative"),
    "detection box": (
        "DETECTION_POSTPROCESSING", {"deltas": np.full((1, 3, 4), NAN)}, "deltas give a box that is no number in"
    ),
    "detection score": ("DETECTION_POSTPROCESSING", {"scores": np.full((1, 3, 3), NAN)}, "scores has a NaN"),
    "transform box": ("AXIS_ALIGNED_BBOX_TRANSFORM", {"rois": [NAN_BOX, A]}, "rois has the box .* at 0, must"),
    "transform batch": ("AXIS_ALIGNED_BBOX_TRANSFORM", {"batch_indices": [0, 2]}, "batch_indices has 2, there are 2"),
    "proposal anchor": ("GENERATE_PROPOSALS", {"anchors": [NAN_BOX]}, "anchors has the box"),
    "proposal score": ("GENERATE_PROPOSALS", {"scores": np.full((1, 1, 2, 1), NAN)}, "scores has a NaN"),
    "keypoint box": ("HEATMAP_MAX_KEYPOINT", {"boxes": [NAN_BOX]}, "boxes has the box"),
    "align box": ("ROI_ALIGN", {"rois": [NAN_BOX] * 5}, "rois has the box"),
    "align outside": (
        "ROI_ALIGN", {"rois": [[0, 0, 12.5, 16]] * 5}, "at 0, must be within the feature map's 6 x 8 pixels of 2 x 2"
    ),
    "align batch": ("ROI_ALIGN", {"batch_indices": [0, 0, 0, 0, -1]}, "batch_indices has -1, there are 2 images"),
    "pooling outside": ("ROI_POOLING", {"rois": [[-1, 0, 4, 4]] * 5}, "must be within the feature map's"),
    "pooling infinite": ("ROI_POOLING", {"rois": [[0, 0, INF, INF]] * 5}, "must be within the feature map's"),
    "pooling batch": ("ROI_POOLING", {"batch_indices": [0, 0, 0, 0, 2]}, "batch_indices has 2, there are 2 images"),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "change", "message"), FAILED.values(), ids=FAILED)
def test_values_that_make_no_sense_fail(fails, operation, change, message):
    fails(operation, VALID[operation], change, message)


WEIRD = {"NaN": NAN, "infinite": INF, "minus infinite": -INF, "huge": 3e38}


@pytest.mark.parametrize("value", WEIRD.values(), ids=WEIRD)
@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("AXIS_ALIGNED_BBOX_TRANSFORM", "deltas"), ("AXIS_ALIGNED_BBOX_TRANSFORM", "image_info"),
        ("GENERATE_PROPOSALS", "deltas"), ("GENERATE_PROPOSALS", "image_info"), ("HEATMAP_MAX_KEYPOINT", "heatmaps"),
        ("ROI_ALIGN", "input"), ("ROI_POOLING", "input"), ("GENERATE_PROPOSALS", "iou_threshold"),
        ("GENERATE_PROPOSALS", "min_size"), ("BOX_WITH_NMS_LIMIT", "score_threshold"),
        ("BOX_WITH_NMS_LIMIT", "iou_threshold"), ("BOX_WITH_NMS_LIMIT", "nms_score_threshold"),
    ],
)  # fmt: skip
def test_strange_values_go_through(apply_all, operation, name, value):
    given = VALID[operation][name]
    strange = given.with_value(np.full_like(given.value, value)) if isinstance(given, Operand) else value
    assert apply_all(operation, VALID[operation] | {name: strange})


def test_selection_stops_at_its_deadline():
    b, count = Builder(), 40_000
    inputs = NMS | {
        "scores": b.input("scores", F32, (count, 2)), "boxes": b.input("boxes", F32, (count, 8)),
        "batch_indices": np.zeros(count, np.int32),
    }  # fmt: skip
    b.output(*b.add_many("BOX_WITH_NMS_LIMIT", inputs))
    scores = np.linspace(0.5, 1, 2 * count, dtype=np.float32).reshape(count, 2)
    far = np.arange(count, dtype=np.float32)[:, None] * 10 + np.array(A * 2, np.float32)
    with pytest.raises(MissedDeadline):
        execute(b.finish(), [scores, far], deadline=0.05)


LEVELS = [
    (operation, form, 4 if name == "quant8 signed" else 3)
    for operation in VALID for name, form in FORMS.items()
    if not (operation == "DETECTION_POSTPROCESSING" and form.boxes == Q16)
]  # fmt: skip
NAMES = {
    "BOX_WITH_NMS_LIMIT": (["scores"], ["boxes"], []),
    "DETECTION_POSTPROCESSING": (["scores", "deltas", "anchors"], [], []),
    "AXIS_ALIGNED_BBOX_TRANSFORM": (["deltas"], ["rois", "image_info"], []),
    "GENERATE_PROPOSALS": (["scores", "deltas"], ["image_info"], ["anchors"]),
    "HEATMAP_MAX_KEYPOINT": (["heatmaps"], ["boxes"], []),
    "ROI_ALIGN": (["input"], ["rois"], []),
    "ROI_POOLING": (["input"], ["rois"], []),
}


@pytest.mark.parametrize(("operation", "form", "level"), LEVELS)
def test_feature_level(single, operation, form, level):
    values = {n: v.value if isinstance(v, Operand) else v for n, v in VALID[operation].items()}
    outputs = {"HEATMAP_MAX_KEYPOINT": [form.quant, boxes.QUANT], "ROI_ALIGN": [form.quant]}.get(operation)
    operands = outputs and [Operand(t, (), *q) for t, q in zip((form.scores, form.boxes), outputs)]
    model = single(operation, in_form(form, values, *NAMES[operation]), wanted(form, operands))
    assert feature_level(model) == level


def test_every_row_has_an_error():
    rows = {op.name for family in (detection, proposals, roi) for op in family.OPERATIONS}
    assert {row[0] for row in REFUSED.values()} == {row[0] for row in FAILED.values()} == rows
