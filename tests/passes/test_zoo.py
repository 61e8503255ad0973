"""Whole networks from PyTorch: the same function, nothing left to fold, and dimensions that move at the edges only."""

from __future__ import annotations

import numpy as np
import pytest

from nnapi.drivers.reference import execute
from nnapi.ir.verify import verify
from nnapi.passes.run import run_passes

pytest.importorskip("torch")
slow = pytest.mark.slow

# name, operations after, of these TRANSPOSE, RESHAPE in front of or behind an image or of a flattened one
NETWORKS = [
    ("mlp", 3, 0, 0),
    ("digits", 8, 0, 2),
    ("unet", 33, 2, 0),
    ("vdsr", 23, 0, 2),
    pytest.param("srgan", 77, 2, 0, marks=slow),
    pytest.param("vgg19", 26, 1, 1, marks=slow),
    pytest.param("mobilenet_v2", 65, 1, 0, marks=slow),
    pytest.param("mobilenet_v3_small", 109, 1, 1, marks=slow),
    pytest.param("mobilenet_v3_large", 122, 1, 1, marks=slow),
    pytest.param("inception_v3", 135, 1, 1, marks=slow),
    pytest.param("deeplab_v3_plus", 84, 2, 0, marks=slow),
]


@pytest.mark.parametrize("name, operations, transposes, reshapes", NETWORKS)
def test_networks(name: str, operations: int, transposes: int, reshapes: int) -> None:
    from nnapi.importers.pytorch.read import read
    from nnapi.zoo import build

    module, inputs = build(name, small=True)
    before = read(module, inputs)
    after = run_passes(before, layout="nhwc")
    verify(after)
    types = [o.type for o in after.operations]
    assert (len(types), types.count("TRANSPOSE"), types.count("RESHAPE")) == (operations, transposes, reshapes)
    edges = {*after.inputs, *after.outputs}
    assert all(edges & {*o.inputs, *o.outputs} for o in after.operations if o.type == "TRANSPOSE")
    assert run_passes(after, layout="nhwc") is after
    arrays = [x.numpy() for x in inputs]
    for expected, actual in zip(execute(before, arrays), execute(after, arrays), strict=True):
        noise = np.square(actual - expected).mean()
        # float32 rounding of folded weights, amplified by up to 100 layers of random ones
        assert 10 * np.log10(np.square(expected).mean() / max(noise, 1e-30)) > 80
