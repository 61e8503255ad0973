"""ncnn: what the contract does not ask, and tests/exporters/test_ncnn_rows.py does not compare."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import chain
from nnapi.conformance.runner import run_folder
from nnapi.drivers.driver import PrepareOptions, Reject
from nnapi.drivers.reference import execute
from nnapi.errors import CompileError, ExecutionError
from nnapi.exporters.ncnn.writer import Net
from nnapi.ir import composites
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model
from nnapi.ops.types import F32, Array

pytest.importorskip("ncnn")

from nnapi.drivers import ncnn as driver_module
from nnapi.drivers.ncnn import NCNNDriver

DRIVER = NCNNDriver()
OPTIONS = PrepareOptions()
RNG = np.random.default_rng(0)


def decibels(expected: Array, actual: Array) -> float:
    return float(10 * np.log10(np.square(expected).sum() / max(np.square(expected - actual).sum(), 1e-300)))


def random(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def built(write: Callable[[Builder, Ref], Ref], *shape: int) -> Model:
    b = Builder()
    b.output(write(b, b.input("x", F32, shape)))
    return b.finish()


def convolved(b: Builder, x: Ref, channels: int = 8, size: int = 3) -> Ref:
    depth = (x.shape or ())[1] or 0
    given = {
        "input": x, "filter": random(channels, size, size, depth) / (size * depth**0.5),
        "bias": random(channels), "padding": 1, "stride_width": 1, "stride_height": 1, "activation": 1, "layout": True,
    }  # fmt: skip
    return b.add("CONV_2D", given)


def network(channels: int = 8, layers: int = 3, size: int = 12) -> Model:
    """Convolutions of 3x3, and what follows them in a classifier."""

    def write(b: Builder, x: Ref) -> Ref:
        for n in range(layers):
            x = convolved(b, x, channels, 3 if n else 1)
        x = b.add("MEAN", {"input": x, "axes": [2, 3], "keep_dims": False})
        bias = np.zeros(10, np.float32)
        return b.add("FULLY_CONNECTED", {"input": x, "filter": random(10, channels), "bias": bias, "activation": 0})

    return built(write, 1, channels, size, size)


def window(b: Builder, type: str, x: Ref, **given: Any) -> Ref:
    return b.add(
        type,
        {"input": x, "padding": 1, "stride_width": 1, "stride_height": 1, "activation": 0, "layout": True, **given},
    )


FIRST: dict[str, Callable[[Builder, Ref], Ref]] = {
    "convolution": convolved,
    "convolution of 1x1": lambda b, x: convolved(b, x, size=1),
    "depthwise": lambda b, x: window(
        b, "DEPTHWISE_CONV_2D", x, filter=random(1, 3, 3, 8), bias=random(8), depth_multiplier=1
    ),
    "grouped": lambda b, x: window(b, "GROUPED_CONV_2D", x, filter=random(8, 3, 3, 4), bias=random(8), num_groups=2),
    "transposed": lambda b, x: window(
        b, "TRANSPOSE_CONV_2D", x, filter=random(8, 3, 3, 8), bias=random(8), output_shape=[1, 8, 6, 6]
    ),
    "fully connected": lambda b, x: b.add(
        "FULLY_CONNECTED", {"input": x, "filter": random(4, 6), "bias": random(4), "activation": 0}
    ),
    "one row fully connected": lambda b, x: b.add(
        "FULLY_CONNECTED", {"input": x, "filter": random(4, 8 * 36), "bias": random(4), "activation": 0}
    ),
    "maximum pool": lambda b, x: window(b, "MAX_POOL_2D", x, filter_width=2, filter_height=2),
    "average pool": lambda b, x: window(b, "AVERAGE_POOL_2D", x, filter_width=2, filter_height=2),
    "mean": lambda b, x: b.add("MEAN", {"input": x, "axes": [2, 3], "keep_dims": True}),
    "maximum": lambda b, x: b.add("REDUCE_MAX", {"input": x, "axes": [1], "keep_dims": True}),
    "softmax": lambda b, x: b.add("SOFTMAX", {"input": x, "beta": 1.0}),
    **{
        type: lambda b, x, type=type: b.add(type, {"input": x})  # type: ignore[misc]
        for type in ("RELU", "RELU6", "LOGISTIC", "TANH", "HARD_SWISH", "ABS", "FLOOR", "NEG")
    },
    "elu": lambda b, x: b.add("ELU", {"input": x, "alpha": 1.0}),
    "prelu": lambda b, x: b.add("PRELU", {"input": x, "alpha": random(8, 1, 1)}),
    "plus a number": lambda b, x: b.add("ADD", {"input0": x, "input1": random(1), "activation": 0}),
    "times a vector": lambda b, x: b.add("MUL", {"input0": x, "input1": random(8, 1, 1), "activation": 1}),
    "with itself": lambda b, x: b.add("MUL", {"input0": x, "input1": x, "activation": 0}),
    "reshaped, then changed": lambda b, x: b.add("RELU", {"input": b.add("RESHAPE", {"input": x, "shape": [1, -1]})}),
    "squeezed, then changed": lambda b, x: b.add("RELU", {"input": b.add("SQUEEZE", {"input": x, "axes": [0]})}),
    "only reshaped": lambda b, x: b.add("RESHAPE", {"input": x, "shape": [8, 36]}),
    "sliced, then changed": lambda b, x: b.add(
        "RELU", {"input": b.add("SLICE", {"input": x, "begin": [0, 0, 0, 0], "size": [1, 4, 6, 6]})}
    ),
    "padded by nothing": lambda b, x: b.add(
        "RELU", {"input": b.add("PAD", {"input": x, "paddings": np.zeros((4, 2), np.int32)})}
    ),
    "transposed images": lambda b, x: b.add("RELU", {"input": b.add("TRANSPOSE", {"input": x, "perm": [0, 2, 3, 1]})}),
    "instance norm": lambda b, x: b.add(
        "INSTANCE_NORMALIZATION", {"input": x, "gamma": 1.0, "beta": 0.5, "epsilon": 1e-3, "layout": True}
    ),
    "layer norm": lambda b, x: composites.layer_norm(
        b, x, b.constant(random(6)), b.constant(random(6)), epsilon=1e-3
    ),
    "gelu": lambda b, x: composites.gelu(b, x),
    "mish": lambda b, x: composites.mish(b, x),
    "joined": lambda b, x: b.add("CONCATENATION", {"inputs": [x, x], "axis": 1}),
    "shuffled": lambda b, x: b.add("CHANNEL_SHUFFLE", {"input": x, "num_groups": 2, "axis": 1}),
    "doubled": lambda b, x: b.add("RESIZE_NEAREST_NEIGHBOR", {"input": x, "width": 12, "height": 12, "layout": True}),
}  # fmt: skip
"""Layers an input may go to: some write over what they are given."""


def everywhere(x: Array) -> dict[str, Array]:
    """The same numbers, kept in several ways."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    readonly = x.copy()
    readonly.flags.writeable = False
    odd = np.zeros(x.nbytes + 4, np.uint8)[4:].view(np.float32).reshape(x.shape)
    odd[...] = x
    return {
        "contiguous": x, "strided": wide[..., ::2], "fortran": np.asfortranarray(x),
        "backwards": x[..., ::-1].copy()[..., ::-1], "read only": readonly,
        "unaligned to vectors": odd, "repeated": np.broadcast_to(x, x.shape),
    }  # fmt: skip


@pytest.mark.parametrize("first", FIRST)
def test_inputs_are_read_however_they_are_kept_and_never_change(first: str) -> None:
    model = built(FIRST[first], 1, 8, 6, 6)
    assert not [v for v in DRIVER.supported(model) if isinstance(v, Reject)]
    ready = DRIVER.prepare(model, OPTIONS)
    x = random(1, 8, 6, 6)
    (expected,) = execute(model, [x])
    for kept, array in everywhere(x).items():
        (actual,) = ready.run([array])
        # A convolution of 8 channels, transformed: five digits.
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4, err_msg=kept)
        np.testing.assert_array_equal(array, x, err_msg=kept)
        assert not np.shares_memory(actual, array)


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_channels_of_any_size_are_found(groups: int, size: int) -> None:
    """ncnn starts each channel at a multiple of 16 bytes, and an array given to it may not."""
    given = {"filter": random(4 * groups, 1, 1, 3), "bias": random(4 * groups), "num_groups": groups}
    model = built(lambda b, x: window(b, "GROUPED_CONV_2D", x, **given), 1, 3 * groups, size, size)
    x = random(1, 3 * groups, size, size)
    np.testing.assert_allclose(DRIVER.prepare(model, OPTIONS).run([x])[0], execute(model, [x])[0], atol=1e-5)


def test_a_copy_made_for_the_engine_lives_as_long_as_its_run() -> None:
    """Large enough that its memory goes back to the system when it is dropped too early."""
    model = built(lambda b, x: window(b, "MAX_POOL_2D", x, filter_width=2, filter_height=2), 1, 8, 256, 256)
    ready = DRIVER.prepare(model, OPTIONS)
    x = random(1, 256, 256, 8).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(ready.run([x])[0], execute(model, [x])[0])


def test_outputs_belong_to_the_caller() -> None:
    def write(b: Builder, x: Ref) -> Ref:
        b.output(b.add("RESHAPE", {"input": x, "shape": [4]}))
        b.output(b.add("TANH", {"input": x}))
        return b.add("RELU", {"input": x})

    ready = DRIVER.prepare(built(write, 1, 4), OPTIONS)
    first = ready.run([np.ones((1, 4), np.float32)])
    kept = [y.copy() for y in first]
    for array in (first, ready.run([np.full((1, 4), -2, np.float32)])):
        assert all(y.flags.writeable and y.flags.c_contiguous for y in array)
    for y, before in zip(first, kept):
        np.testing.assert_array_equal(y, before)
    given = [np.empty_like(y) for y in first]
    assert [a is b for a, b in zip(ready.run([np.ones((1, 4), np.float32)], given), given)] == [True] * 3
    np.testing.assert_array_equal(given[1], kept[1])


ONE = np.ones((1, 4), np.float32)
WRONG: dict[str, tuple[Sequence[Any], str]] = {
    "shape": ([np.ones((1, 5), np.float32)], "has shape"),
    "rank": ([np.ones(4, np.float32)], "has shape"),
    "type": ([np.ones((1, 4), np.float64)], "is float64"),
    "none": ([], "0 inputs given"),
    "too many": ([ONE, ONE], "2 inputs given"),
    "omitted": ([None], "is omitted"),
    "text": (["x"], "is <U1"),
}


@pytest.mark.parametrize(("inputs", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_inputs(inputs: Sequence[Any], message: str) -> None:
    with pytest.raises(ExecutionError, match=message):
        DRIVER.prepare(chain("ADD"), OPTIONS).run(inputs)


def test_wrong_outputs() -> None:
    with pytest.raises(ExecutionError, match="output array is"):
        DRIVER.prepare(chain("ADD"), OPTIONS).run([ONE], [np.empty((1, 5), np.float32)])


def test_another_object_of_the_same_type_is_taken() -> None:
    x = ONE.astype(np.dtype(np.float32, metadata={"from": "elsewhere"}))
    assert x.dtype is not ONE.dtype
    np.testing.assert_array_equal(DRIVER.prepare(chain("ADD"), OPTIONS).run([x])[0], 2 * ONE)


def test_unused_inputs() -> None:
    b = Builder()
    x, _ = b.input("x", F32, (1, 4)), b.input("unused", F32, (2, 3))
    b.output(b.add("NEG", {"input": x}))
    (actual,) = DRIVER.prepare(b.finish(), OPTIONS).run([ONE, np.ones((2, 3), np.float32)])
    np.testing.assert_array_equal(actual, -ONE)


def test_threads_run_one_model_at_once() -> None:
    model = network()
    ready = DRIVER.prepare(model, PrepareOptions(num_threads=2))
    inputs = [random(1, 8, 12, 12) for _ in range(2)]
    expected = [ready.run([x])[0] for x in inputs]
    wrong: list[int] = []

    def repeat(n: int) -> None:
        for _ in range(200):
            if not np.array_equal(ready.run([inputs[n]])[0], expected[n]):
                wrong.append(n)

    threads = [threading.Thread(target=repeat, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_others_run_while_the_engine_does() -> None:
    """A thread that wakes every 0.1 ms does so in the middle of a run, not only between runs."""
    ready = DRIVER.prepare(network(64, 8, 48), OPTIONS)
    x = random(1, 64, 48, 48)
    ready.run([x])
    woken: list[float] = []
    over = threading.Event()

    def wake() -> None:
        while not over.wait(1e-4):
            woken.append(time.perf_counter())

    thread = threading.Thread(target=wake)
    thread.start()
    inside = 0
    for _ in range(20):
        start = time.perf_counter()
        ready.run([x])
        took = time.perf_counter() - start
        inside += sum(start + took / 4 < t < start + took * 3 / 4 for t in woken)
    over.set()
    thread.join()
    assert inside > 20


THREADS = """
import os, sys
import numpy as np
from nnapi.drivers.driver import PrepareOptions
from nnapi.drivers.ncnn import NCNNDriver
from nnapi.ir.file import load
model = load(sys.argv[1])
before = len(os.listdir("/proc/self/task"))
for threads in (1, 3):
    ready = NCNNDriver().prepare(model, PrepareOptions(num_threads=threads))
    ready.run([np.ones(model.input_operands[0].dimensions, np.float32)])
    print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system does not list threads")
def test_as_many_threads_as_asked_for(tmp_path: Path) -> None:
    from nnapi.ir.file import save

    save(network(32), tmp_path / "m.nnapi")
    command = [sys.executable, "-c", THREADS, str(tmp_path / "m.nnapi")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "2"]


def test_relaxed_keeps_what_16_bits_hold() -> None:
    model = network(64)
    x = random(1, 64, 12, 12)
    (expected,) = execute(model, [x])
    assert decibels(expected, DRIVER.prepare(model, OPTIONS).run([x])[0]) > 90
    assert decibels(expected, DRIVER.prepare(model, PrepareOptions(precision="relaxed")).run([x])[0]) > 40


def test_denormal_numbers_are_left_to_the_rest_of_the_process() -> None:
    DRIVER.prepare(network(), OPTIONS).run([random(1, 8, 12, 12)])
    assert np.float32(1e-40) * np.float32(0.5) > 0


# Files.

TEXT: dict[str, Callable[[str], str]] = {
    "nothing": lambda text: "",
    "prose": lambda text: "no model\n",
    "another magic number": lambda text: text.replace("7767517", "7767518"),
    "no layers": lambda text: text.replace("\n2 2\n", "\n0 0\n"),
    "fewer layers": lambda text: text.replace("\n2 2\n", "\n1 1\n"),
    "more layers": lambda text: text.replace("\n2 2\n", "\n9 9\n"),
    "an unknown layer": lambda text: text.replace("InnerProduct", "Nothing"),
    "a parameter that is no number": lambda text: text.replace(" 0=3", " 0=x"),
    "an unknown blob": lambda text: text.replace(" in0 out0", " other out0"),
    "no output": lambda text: text.replace("out0", "other"),
    "half of it": lambda text: text[: len(text) // 2],
}
WEIGHTS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "nothing": lambda parts: [],
    "no bias": lambda parts: parts[:-1],
    "half a filter": lambda parts: [parts[0], parts[1][:8]],
}


def product(units: int = 3, depth: int = 4) -> Model:
    given = {"filter": random(units, depth), "bias": random(units), "activation": 0}
    return built(lambda b, x: b.add("FULLY_CONNECTED", {"input": x, **given}), 1, depth)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("damage", TEXT)
def test_a_corrupt_text(
    damage: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    text = Net.text
    monkeypatch.setattr(Net, "text", lambda net: TEXT[damage](text(net)))
    with pytest.raises(CompileError, match="ncnn"):
        DRIVER.prepare(product(), OPTIONS)
    assert capfd.readouterr() == ("", "")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("damage", WEIGHTS)
def test_corrupt_weights(
    damage: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = Net.weights
    monkeypatch.setattr(Net, "weights", lambda net: iter(WEIGHTS[damage]([bytes(part) for part in weights(net)])))
    with pytest.raises(CompileError, match=r"ncnn refuses the \.bin file"):
        DRIVER.prepare(product(), OPTIONS)
    assert capfd.readouterr() == ("", "")
    assert not list(folder.iterdir())


def test_the_engine_says_nothing_and_leaves_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ready = DRIVER.prepare(network(), PrepareOptions(num_threads=2))
    ready.run([random(1, 8, 12, 12)])
    assert capfd.readouterr() == ("", "")
    assert not list(folder.iterdir())


def test_a_full_disk_is_a_compile_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "memfd_create", full)
    with pytest.raises(CompileError, match="No space left on device"):
        DRIVER.prepare(product(), OPTIONS)


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from nnapi.drivers.driver import PrepareOptions
from nnapi.drivers.ncnn import NCNNDriver
from nnapi.ir.file import load
model = load(sys.argv[1])
x = np.ones(model.input_operands[0].dimensions, np.float32)
sizes = []
for n in range(50):
    NCNNDriver().prepare(model, PrepareOptions()).run([x])
    sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
print(sizes[-1] - sizes[9])
"""


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="the system does not say")
def test_weights_go_with_their_model(tmp_path: Path) -> None:
    """40 models of 4 MB more, and the process grows by less than two of them."""
    from nnapi.ir.file import save

    save(product(1000, 1000), tmp_path / "m.nnapi")
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "m.nnapi")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8e6


# The library.


def test_the_package_alone_loads_no_engine() -> None:
    code = "import sys, nnapi, nnapi.exporters.ncnn; sys.exit('ncnn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("before", [None, "7"], ids=["unset", "set"])
def test_the_environment_is_left_as_it_was(before: str | None) -> None:
    name = driver_module.SPINS[0]
    environment = {key: value for key, value in os.environ.items() if key != name}
    environment |= {} if before is None else {name: before}
    code = f"import os, nnapi.drivers.ncnn; print(os.environ.get({name!r}))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(before)


# Whole networks.

SLOW = (
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "inception_v3",
    "srgan",
    "deeplab_v3_plus",
    "unet",
    "vgg19",
)
NETWORKS = ("mlp", "digits", "vdsr", "transformer_encoder", *SLOW)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in NETWORKS])
def test_networks(name: str) -> None:
    """Wholly on ncnn, against PyTorch."""
    torch = pytest.importorskip("torch")
    from nnapi import zoo
    from nnapi.pipeline import load, optimize
    from nnapi.runtime.build import legalize

    assert set(NETWORKS) == zoo.NETWORKS.keys()
    module, inputs = zoo.build(name, small=True)
    with torch.no_grad():
        expected = module(*inputs).numpy()
    model = legalize(optimize(load(module, inputs)), DRIVER)
    assert not [v for v in DRIVER.supported(model) if isinstance(v, Reject)]
    (actual,) = DRIVER.prepare(model, OPTIONS).run([x.numpy() for x in inputs])
    assert decibels(expected, actual) >= 80


@pytest.mark.slow
def test_every_conformance_case_it_takes_passes(vectors: Path) -> None:
    """Those of float32, one image at a time, whose weights are constants."""
    outcomes = [
        outcome for folder in sorted(vectors.iterdir()) if folder.is_dir() for outcome in run_folder(folder, DRIVER)
    ]
    assert not [f"{o.case}: {o.detail}" for o in outcomes if o.status == "failed"]
    assert sum(o.status == "passed" for o in outcomes) >= 672
