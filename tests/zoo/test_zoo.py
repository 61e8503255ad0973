"""The zoo's networks: their published sizes, their seeds, and outputs that are worth comparing."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest

torch = pytest.importorskip("torch")

from nnapi import zoo  # noqa: E402
from nnapi.errors import MissingExtra, ModelError, UsageError  # noqa: E402

# name, parameters (as the paper or its reference implementation has them), output at the published size, and small
NETWORKS = (
    ("mobilenet_v2", 3_504_872, (1, 1000), (1, 1000)),
    ("mobilenet_v3_small", 2_542_856, (1, 1000), (1, 1000)),
    ("mobilenet_v3_large", 5_483_032, (1, 1000), (1, 1000)),
    ("inception_v3", 23_834_568, (1, 1000), (1, 1000)),
    ("unet", 31_031_810, (1, 2, 256, 256), (1, 2, 32, 32)),
    ("srgan", 1_550_659, (1, 3, 256, 256), (1, 3, 64, 64)),
    ("vdsr", 664_704, (1, 1, 128, 128), (1, 1, 32, 32)),
    ("deeplab_v3_plus", 2_719_813, (1, 21, 256, 256), (1, 21, 64, 64)),
    ("vgg19", 143_667_240, (1, 1000), (1, 1000)),
    ("mlp", 266_610, (1, 10), (1, 10)),
    ("transformer_encoder", 3_159_040, (1, 128, 256), (1, 8, 256)),
    ("digits", 26_074, (1, 10), (1, 10)),
)
NAMES = [name for name, *_ in NETWORKS]
WITH_BATCH_NORM = [name for name in NAMES if name not in ("unet", "vdsr", "vgg19", "mlp", "transformer_encoder")]
AS_WIDE_AS_THE_INPUT = ("vgg19", "mlp")  # whose weights depend on the size
SIZES = (
    ("inception_v3", 346, (1, 1000)),
    ("deeplab_v3_plus", 129, (1, 21, 129, 129)),
    ("unet", 48, (1, 2, 48, 48)),
    ("vgg19", 64, (1, 1000)),
    ("transformer_encoder", 5, (1, 5, 256)),
    ("mlp", 20, (1, 10)),
)
WRONG_SIZES = (
    ("unet", 100, "unet: size 100 is not 32 to 1024, in steps of 16"),
    ("vgg19", 8, "vgg19: size 8 is not 32 to 448, in steps of 32"),
    ("digits", 28, "digits: size 28 is not 8"),
)


@cache
def small(name):
    return zoo.build(name, small=True)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def relative_difference(a, b):
    return float((a - b).norm() / a.norm())


def test_the_table_lists_every_network():
    assert list(zoo.NETWORKS) == NAMES
    assert all(name == network.name and network.source for name, network in zoo.NETWORKS.items())


@pytest.mark.parametrize(("name", "parameters", "output", "_"), NETWORKS, ids=NAMES)
def test_published_shape(name, parameters, output, _):
    before = torch.get_rng_state()
    module, inputs = zoo.build(name)
    assert torch.equal(torch.get_rng_state(), before)
    assert not module.training
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters
    assert [tuple(x.shape) for x in inputs] == [zoo.NETWORKS[name].input_shape]
    y = module(*inputs)
    assert tuple(y.shape) == output
    assert torch.isfinite(y).all()
    assert 0.1 < float(y.std()) < 10
    if name not in AS_WIDE_AS_THE_INPUT:
        weights = module.state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in small(name)[0].state_dict().items())


@pytest.mark.parametrize(("name", "_", "__", "output"), NETWORKS, ids=NAMES)
def test_small_shape(name, _, __, output):
    module, inputs = small(name)
    assert tuple(inputs[0].shape) == zoo.NETWORKS[name].small_input_shape
    y = module(*inputs)
    assert tuple(y.shape) == output
    assert torch.isfinite(y).all()
    assert 0.1 < float(y.std()) < 10


@pytest.mark.parametrize("name", NAMES)
def test_the_output_depends_on_the_input(name):
    module, (x,) = small(name)
    other = zoo.weights.sample(x.shape, torch.Generator().manual_seed(99))
    assert relative_difference(module(x), module(other)) > 0.25


@pytest.mark.parametrize("name", NAMES)
def test_exportable(name):
    module, inputs = small(name)
    program = torch.export.export(module, inputs)
    torch.testing.assert_close(program.module()(*inputs), module(*inputs))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mlp"])
def test_the_seed_alone_decides(name):
    module, inputs = zoo.build(name, small=True)
    same, same_inputs = small(name)
    assert all(torch.equal(value, same.state_dict()[key]) for key, value in module.state_dict().items())
    assert torch.equal(inputs[0], same_inputs[0])


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "transformer_encoder"])
def test_another_seed_is_another_network(name):
    module, inputs = zoo.build(name, seed=1, small=True)
    weights = small(name)[0].state_dict()
    for key, value in module.state_dict().items():
        assert key.endswith("num_batches_tracked") or not torch.equal(value, weights[key]), key
    assert not torch.equal(inputs[0], small(name)[1][0])


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_folding_a_batch_norm_is_not_trivial(name):
    norms = [layer for layer in small(name)[0].modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert float(norm.running_var.min()) > 0
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert float(values.std()) > 1e-3


@pytest.mark.parametrize(("name", "size", "output"), SIZES)
def test_size(name, size, output):
    module, inputs = zoo.build(name, size=size)
    assert tuple(module(*inputs).shape) == output


@pytest.mark.parametrize(("name", "size", "message"), WRONG_SIZES)
def test_wrong_size(name, size, message):
    with pytest.raises(UsageError, match=message):
        zoo.build(name, size=size)


def test_size_and_small_exclude_each_other():
    with pytest.raises(UsageError, match="exclude"):
        zoo.build("unet", size=64, small=True)


def test_unknown_name():
    with pytest.raises(ModelError, match="no network 'resnet' in the zoo; known: mobilenet_v2, "):
        zoo.build("resnet")


def test_digits_are_read():
    pytest.importorskip("sklearn")
    with torch.enable_grad():
        module, accuracy, (images, labels) = zoo.train_digits()
    assert accuracy >= 0.97
    assert images.shape == (360, 1, 8, 8)
    assert float((module(images).argmax(1) == labels).float().mean()) == pytest.approx(accuracy)
    assert not module.training


def test_training_is_deterministic():
    pytest.importorskip("sklearn")
    with torch.enable_grad():
        weights, again = (zoo.train_digits(seed=3, epochs=1)[0].state_dict() for _ in range(2))
    assert all(torch.equal(value, again[key]) for key, value in weights.items())


def test_a_missing_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r"nnapi\[dev\]"):
        zoo.train_digits()


def test_a_missing_torch_names_the_extra():
    script = "import sys; sys.modules['torch'] = None; import nnapi.zoo"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "MissingExtra: nnapi.zoo needs an extra; pip install 'nnapi[torch]'" in result.stderr
