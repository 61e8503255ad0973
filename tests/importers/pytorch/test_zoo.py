"""The zoo's networks at a small size: the model against PyTorch, on the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnapi import zoo
from nnapi.drivers.reference import execute
from nnapi.importers.pytorch.read import read

from .conftest import extensions

SQNR = 90.0
"""dB: what float32 sums in another order leave of a hundred layers."""
SLOW = {"vgg19", "unet", "inception_v3", "srgan", "deeplab_v3_plus", "mobilenet_v3_large"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in zoo.NETWORKS])
def test_network(name: str) -> None:
    module, inputs = zoo.build(name, small=True)
    model = read(module, inputs, name=name)
    assert extensions(model) == []
    (actual,) = execute(model, [x.numpy() for x in inputs])
    with torch.no_grad():
        expected = module(*inputs).double().numpy()
    noise = np.square(expected - actual).sum()
    assert 10 * np.log10(np.square(expected).sum() / noise) >= SQNR
