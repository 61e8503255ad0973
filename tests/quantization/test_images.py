"""A folder of images calibrates as the arrays it was made from do, once it is said how the model takes images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nnapi.cli import main
from nnapi.drivers.reference import execute
from nnapi.exporters.save import save
from nnapi.ir.file import load as load_file
from nnapi.ir.model import Model
from nnapi.pipeline import load, optimize, quantize
from nnapi.quantization.judge import accuracy, real_outputs
from nnapi.quantization.quantize import QuantizeWarning
from nnapi.runtime.images import KEY, ImageOptions
from quantization.graphs import examples, small

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
image = pytest.importorskip("PIL.Image")
CALIBRATION = 120
BYTES = ImageOptions((0.0,), (1.0,), scale=255.0)
"""The network below takes bytes as they are."""


class Bytes(torch.nn.Module):
    """A network from -1 to 1 that takes 0 to 255."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x * (2 / 255) - 1)


class Digits:
    """A trained network, its test images [N, 1, 8, 8] from 0 to 255 with labels, and a folder of some as PNG."""

    def __init__(self, folder: Path) -> None:
        from nnapi.zoo import train_digits

        module, self.accuracy, (images, labels) = train_digits(epochs=6)
        self.pixels = np.rint((images.numpy() + 1) * 127.5).astype(np.uint8)
        self.labels = [int(v) for v in labels]
        self.model = optimize(load(Bytes(module).eval(), (torch.rand(1, 1, 8, 8) * 255,)))
        self.arrays = self.pixels[:CALIBRATION].astype(np.float32)
        self.folder = folder
        for n, pixels in enumerate(self.pixels[:CALIBRATION]):
            image.fromarray(pixels[0]).save(folder / f"{n}.png")

    def right(self, model: Model) -> float:
        """The share of images read right."""
        return accuracy(real_outputs(model, [(x[None].astype(np.float32),) for x in self.pixels]), self.labels)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    return Digits(tmp_path_factory.mktemp("digits"))


def test_images_calibrate_as_arrays_do(digits: Digits) -> None:
    by_array = digits.right(quantize(digits.model, digits.arrays))
    kept = quantize(digits.model, digits.folder, images=BYTES)
    assert digits.right(kept) == by_array >= digits.right(digits.model) - 0.005  # half a point, as the recipe promises
    assert json.loads(kept.metadata[KEY])["scale"] == 255
    assert digits.right(quantize(BYTES.kept_by(digits.model), digits.folder)) == by_array


def test_what_nobody_said_is_said(digits: Digits) -> None:
    with pytest.warns(QuantizeWarning, match="mean 0.485, 0.456, 0.406, .*ImageNet's"):
        quantize(digits.model, digits.folder)


def test_the_command_keeps_prints_and_uses_them(digits: Digits, capsys: pytest.CaptureFixture[str]) -> None:
    folder = digits.folder
    source, output = str(folder / "m.nnapi"), str(folder / "q.nnapi")
    save(digits.model, source)
    options = ["--mean", "0", "--std", "1", "--scale", "255"]
    assert main(["quantize", source, "-c", str(folder), "-o", output, *options]) == 0
    shown = capsys.readouterr().out
    assert "120 examples, inputs 0..255; images: white is 255, mean 0, std 1, as the options say" in shown
    assert ", on 64 examples" in shown
    assert digits.right(load_file(output)) >= digits.right(digits.model) - 0.005
    assert main(["run", output, "-i", str(folder / "0.png"), "--json"]) == 0
    captured = capsys.readouterr()
    assert "0..255: white is 255, mean 0, std 1, as the model's metadata says" in captured.err
    (values,) = json.loads(captured.out)["outputs"].values()
    assert int(np.argmax(values["values"])) == digits.labels[0]


def test_what_a_file_keeps_is_for_every_command(digits: Digits, capsys: pytest.CaptureFixture[str]) -> None:
    folder = digits.folder
    source, kept = str(folder / "plain.nnapi"), str(folder / "kept.nnapi")
    save(digits.model, source)
    assert main(["convert", source, "-o", kept, "--mean", "0", "--std", "1", "--scale", "255"]) == 0
    said = "white is 255, mean 0, std 1, as the model's metadata says"
    for command in (["run"], ["bench", "--seconds", "0", "--warmup", "0", "--repeats", "1"]):
        capsys.readouterr()
        assert main([*command, kept, "-i", str(folder / "0.png")]) == 0
        assert said in capsys.readouterr().err
    assert main(["quantize", kept, "-c", str(folder)]) == 0
    assert said in capsys.readouterr().out


def test_an_order_that_is_sorted_does_not_matter() -> None:
    """Of examples sorted by size, the first tell nothing of the last: those kept come from everywhere."""
    from nnapi.quantization.quantize import quantize_model

    model = small()
    given = [tuple(x * (0.01 if n < 100 else 1.0) for x in e) for n, e in enumerate(examples(model, 200))]
    found = quantize_model(model, given, "int8")
    large = sum(float(np.abs(x[0]).max()) > 0.5 for x in found.examples)
    assert len(found.examples) == 64
    assert 20 < large < 44
    again = quantize_model(model, given, "int8")
    results = [execute(f.model, [np.full((1, 6, 6, 3), 7, np.int8)])[0] for f in (found, again)]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("command", ["run", "quantize"])
@pytest.mark.parametrize(
    ("option", "message"),
    [
        pytest.param(["--mean", "1,2"], "mean has 2 numbers", id="count"),
        pytest.param(["--mean", "nan"], "mean is nan", id="nan"),
        pytest.param(["--std", "0"], "std is 0", id="zero"),
        pytest.param(["--std", "a"], "--std 'a': numbers", id="word"),
        pytest.param(["--scale", "inf"], "scale is inf", id="scale"),
    ],
)
def test_wrong_options_are_wrong_usage(
    command: str, option: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(small(), tmp_path / "m.nnapi")
    data = ["--random", "0"] if command == "run" else ["-c", str(tmp_path)]
    assert main([command, str(tmp_path / "m.nnapi"), *data, *option]) == 2
    assert message in capsys.readouterr().err
