"""What is legal and hardly meant is said by the API too."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from nnapi.cli import main
from nnapi.errors import QuantizeError
from nnapi.exporters.save import save
from nnapi.ir.model import Model
from nnapi.pipeline import load, quantize
from nnapi.quantization.quantize import QuantizeWarning, quantize_model
from quantization.graphs import examples, small

torch = pytest.importorskip("torch")


class Recurrent(torch.nn.Module):
    """A recurrent network and a layer on its outputs."""

    def __init__(self, cell: torch.nn.Module) -> None:
        super().__init__()
        self.cell, self.head = cell, torch.nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(x)[0])


def recurrent(cell: type[torch.nn.Module]) -> tuple[Model, np.ndarray]:
    torch.manual_seed(0)
    x = torch.randn(4, 5, 8)
    return load(Recurrent(cell(8, 12)).eval(), (x,)), x.numpy()


LEFT = [
    (torch.nn.LSTM, "int8", "LSTM.*4,320 bytes of constants: NNAPI has no form of it in TENSOR_QUANT8"),
    (torch.nn.LSTM, "int16x8", "UNIDIRECTIONAL_SEQUENCE_LSTM.*no 16-bit integers"),
    (torch.nn.LSTM, "dynamic_range", "UNIDIRECTIONAL_SEQUENCE_LSTM.*no form of it with weights of int8_per_channel"),
    (torch.nn.RNN, "uint8", "UNIDIRECTIONAL_SEQUENCE_RNN.*NNAPI has no form of it in TENSOR_QUANT8_ASYMM"),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "recipe", "message"), LEFT, ids=[f"{c.__name__} {r}" for c, r, _ in LEFT])
def test_weights_left_in_floats(cell: type[torch.nn.Module], recipe: str, message: str) -> None:
    model, x = recurrent(cell)
    with pytest.warns(QuantizeWarning, match=message) as found:
        quantize(model, [x], recipe)
    assert len(found) == 1


@pytest.mark.parametrize(
    "recipe", ["fp16", {"base": "int8", "overrides": [{"type": "UNIDIRECTIONAL_SEQUENCE_LSTM"}]}], ids=str
)
def test_what_was_asked_for_is_no_warning(recipe: object) -> None:
    model, x = recurrent(torch.nn.LSTM)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quantize(model, [x], recipe)  # type: ignore[arg-type]


def test_the_command_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, x = recurrent(torch.nn.LSTM)
    save(model, tmp_path / "m.nnapi")
    np.savez(tmp_path / "c.npz", x=x)
    assert main(["quantize", str(tmp_path / "m.nnapi"), "-c", str(tmp_path / "c.npz")]) == 0
    assert "warning: UNIDIRECTIONAL_SEQUENCE_LSTM" in capsys.readouterr().err


@pytest.mark.parametrize("saved", [True, False], ids=["a file", "in memory"])
def test_tables_of_other_weights_are_refused(saved: bool, tmp_path: Path) -> None:
    model = small()
    found = quantize_model(model, examples(model), "int8")
    path = tmp_path / "table.json"
    found.table.save(path, found.prepared)
    table = path if saved else found.table
    operands = [o if o.dimensions != (8, 3, 3, 3) else o.with_value(o.value * 2) for o in model.operands]
    other = Model(tuple(operands), model.operations, model.inputs, model.outputs, model.name)
    quantize_model(model, table=table)
    with pytest.raises(
        QuantizeError, match=r"made for other weights: their digest is [0-9a-f]{32}, the model's [0-9a-f]{32}"
    ):
        quantize_model(other, table=table)
