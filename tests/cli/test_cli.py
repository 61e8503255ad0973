"""The command line as users meet it: what it prints, what it refuses, how it exits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from models import chain
from nnapi.cli import COMMANDS, main
from nnapi.drivers import registry
from nnapi.exporters.save import save
from nnapi.ir.builder import Builder
from nnapi.ir.model import NARROWED
from nnapi.ops.types import I32


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "model.nnapi"
    save(chain("ADD", "MUL"), path)
    return str(path)


@pytest.fixture
def array(tmp_path: Path) -> str:
    path = tmp_path / "x.npy"
    np.save(path, np.array([[1, 2, 3, 4]], np.float32))
    return str(path)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: nnapi {command}")


@pytest.mark.parametrize("arguments", [[], ["capi"]], ids=["nnapi", "capi"])
def test_nothing_asked_for_shows_the_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("Usage: nnapi")
    assert "\nCommands:\n" in captured.err


def test_values_of_many_lines_stand_below_their_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    save(chain("MAXIMUM", size=10), tmp_path / "m.nnapi")
    np.save(tmp_path / "x.npy", np.arange(10, dtype=np.float32)[None] + 0.12345)
    assert main(["run", str(tmp_path / "m.nnapi"), "-i", str(tmp_path / "x.npy"), "-d", "reference"]) == 0
    head, *values = capsys.readouterr().out.splitlines()
    assert head == "y: float32[1, 10]"
    assert values[0].startswith("  [[0.12345, 1.12345")
    assert values[-1].endswith("9.12345]]")


def test_inspect(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", model]) == 0
    out = capsys.readouterr().out
    assert "2 operations" in out
    assert "feature level 1 (Android 8.1)" in out
    assert main(["inspect", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["operations"] == {"ADD": 1, "MUL": 1}
    assert main(["inspect", model, "--text"]) == 0
    assert capsys.readouterr().out.startswith('model "chain" {')


def test_inspect_levels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.nnapi"
    save(chain("MAXIMUM"), path)
    assert main(["inspect", str(path), "--levels"]) == 0
    assert "MAXIMUM needs feature level 3 (Android 10)" in capsys.readouterr().out


def test_run_prints_and_saves(model: str, array: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "y.npz"
    assert main(["run", model, "-i", array, "-d", "reference", "-o", str(output), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["outputs"]["y"]["values"] == [[2, 8, 18, 32]]
    np.testing.assert_array_equal(np.load(output)["y"], [[2, 8, 18, 32]])


def test_run_by_name_and_from_npz(model: str, array: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((1, 4), np.float32))
    assert main(["run", model, "-i", f"x={array}", "-d", "reference"]) == 0
    assert "[[ 2.,  8., 18., 32.]]" in capsys.readouterr().out
    assert main(["run", model, "-i", str(tmp_path / "x.npz"), "-d", "reference"]) == 0
    assert "[[2., 2., 2., 2.]]" in capsys.readouterr().out


def test_check_names_refusals_and_plan(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", model, "-d", "reference,null"]) == 0
    out = capsys.readouterr().out
    assert "reference: takes 2 of 2 operations" in out
    assert "plan: 2 operations in 1 partition" in out
    assert main(["check", model, "-d", "reference", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [p["device"] for p in record["plan"]["placements"]] == ["reference", "reference"]


def test_check_says_what_is_computed_in_32_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    b = Builder("m", metadata={NARROWED: "ADD 'sum'"})
    x = b.input("x", I32, (2,))
    b.output(b.add("ADD", {"input0": x, "input1": x, "activation": 0}, name="sum"))
    save(b.finish(), tmp_path / "m.nnapi")
    assert main(["check", str(tmp_path / "m.nnapi"), "-d", "reference"]) == 0
    assert (
        "computed in 32 bits, 64 in the source, so that results beyond them wrap: ADD 'sum'" in capsys.readouterr().out
    )
    assert main(["check", str(tmp_path / "m.nnapi"), "-d", "reference", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["narrowed"] == "ADD 'sum'"


def test_check_a_level(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.nnapi"
    save(chain("MAXIMUM"), path)
    assert main(["check", str(path), "-d", "reference", "--level", "2"]) == 1
    assert "MAXIMUM needs feature level 3 (Android 10), the target has 2" in capsys.readouterr().err


def test_check_a_level_names_every_operation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.nnapi"
    save(chain("MAXIMUM", "ADD", "SUB", "MAXIMUM"), path)
    assert main(["check", str(path), "-d", "reference", "--level", "1"]) == 1
    captured = capsys.readouterr()
    assert "above feature level 1 (Android 8.1): 3 needs of 4 operations" in captured.out
    for line in ("MAXIMUM 'maximum0'  MAXIMUM needs feature level 3", "SUB 'sub2'", "MAXIMUM 'maximum3'", "plan: 4"):
        assert line in captured.out
    assert captured.err.count("\n") == 1
    assert "MAXIMUM 'maximum0': MAXIMUM needs feature level 3 (Android 10), the target has 1" in captured.err
    assert "(the first of 3 needs)" in captured.err
    assert main(["check", str(path), "-d", "reference", "--level", "1", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)["level"]
    assert [(n["operation"], n["level"]) for n in record["above"]] == [
        ("MAXIMUM 'maximum0'", 3),
        ("SUB 'sub2'", 2),
        ("MAXIMUM 'maximum3'", 3),
    ]
    assert main(["check", str(path), "-d", "reference", "--level", "3"]) == 0
    assert "fits feature level 3 (Android 10)" in capsys.readouterr().out


def test_bench(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", model, "-d", "reference", "--seconds", "0", "--warmup", "0", "--repeats", "3"]
    assert main([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["latency"]["repeats"] == 3
    assert 0 < record["latency"]["p10"] <= record["latency"]["p90"]
    assert record["peak_memory"] > 10_000_000
    assert main(arguments) == 0
    assert "latency p50" in capsys.readouterr().out


def test_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--json"]) == 0
    devices = {d["name"]: d for d in json.loads(capsys.readouterr().out)}
    assert devices["reference"]["available"]
    assert not devices["null"]["used_by_default"]
    assert main(["devices"]) == 0
    assert "reference" in capsys.readouterr().out


def test_convert_round_trip(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "again.nnapi"
    assert main(["convert", model, "-o", str(output), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["files"] == [{"path": str(output), "bytes": output.stat().st_size}]


def bad_files(folder: Path) -> dict[str, Path]:
    """One file per way to be wrong."""
    whole = folder / "whole.nnapi"
    save(chain("ADD", "MUL", size=64), whole)
    data = whole.read_bytes()
    contents = {
        "truncated": data[: len(data) // 2],
        "empty": b"",
        "foreign": b"hello, this is no model, but some text that goes on for a while, longer than a header" * 3,
        "terabytes": (2**40).to_bytes(8, "little") + b'{"__metadata__": {}}',
        "no graph": (2).to_bytes(8, "little") + b"{}",
        "archive": b"PK\x03\x04" + b"\0" * 100,
        "png": b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
        "flipped": bytes(b ^ (0x20 if 40 < i < 400 else 0) for i, b in enumerate(data)),
    }
    paths = {}
    for name, content in contents.items():
        paths[name] = folder / f"{name}.nnapi"
        paths[name].write_bytes(content)
    return paths | {"directory": folder, "missing": folder / "missing.nnapi"}


KINDS = ["truncated", "empty", "foreign", "terabytes", "no graph", "archive", "png", "flipped", "directory", "missing"]


@pytest.mark.parametrize("kind", KINDS)
def test_bad_files(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = bad_files(tmp_path)[kind]
    assert main(["inspect", str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("nnapi: ")
    assert str(path) in captured.err
    assert captured.err.count("\n") == 1
    assert "internal error" not in captured.err


USAGE = {
    "no command": ["frobnicate"],
    "no source": ["inspect"],
    "unknown option": ["inspect", "--frob", "x"],
    "suffix": ["convert", "MODEL", "-o", "x.pb"],
    "no input": ["run", "MODEL", "-d", "reference"],
    "unknown input": ["run", "MODEL", "-d", "reference", "-i", "ARRAY", "-i", "ARRAY"],
    "suffix of output": ["run", "MODEL", "-i", "ARRAY", "-o", "y.txt"],
    "mean": ["run", "MODEL", "-i", "ARRAY", "--mean", "a,b"],
    "threads": ["bench", "MODEL", "--threads", "0"],
    "directory": ["convert", "MODEL", "-o", "FOLDER/none/x.nnapi"],
}


@pytest.mark.parametrize("arguments", USAGE.values(), ids=USAGE.keys())
def test_wrong_usage_exits_with_2(
    arguments: list[str], model: str, array: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replaced = [a.replace("MODEL", model).replace("ARRAY", array).replace("FOLDER", str(tmp_path)) for a in arguments]
    assert main(replaced) == 2
    assert "internal error" not in capsys.readouterr().err


UNKNOWN = {
    "device": (["bench", "MODEL", "-d", "tpu9"], f"no device 'tpu9'; there are {', '.join(registry.BUILTIN)}"),
    "one of the devices": (["check", "MODEL", "-d", "reference, tpu9"], "no device 'tpu9'"),
    "no device's name": (["run", "MODEL", "-d", "", "--random", "0"], "no device ''"),
    "recipe": (["quantize", "MODEL", "-r", "int9"], "no recipe 'int9'; there are dynamic_range, fp16, "),
    "peer": (["bench", "MODEL", "--against", "pytorch,tpu9"], "no peer 'tpu9'; there are pytorch, "),
    "seed": (["run", "MODEL", "--random", "-1"], "-1 is not in the range x>=0"),
}


@pytest.mark.parametrize(("arguments", "message"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_unknown_names_exit_with_2(
    arguments: list[str], message: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([a.replace("MODEL", model) for a in arguments]) == 2
    assert message in capsys.readouterr().err


def test_wrong_shape_is_explained(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 4), np.float32))
    assert main(["run", model, "-i", str(tmp_path / "x.npy"), "-d", "reference"]) == 1
    assert "input 'x' has shape (2, 4), must have (1, 4)" in capsys.readouterr().err


TRIED = {
    "convert": ["convert", "ABSENT", "-o", "FOLDER/x.nnapi", "-o", "FOLDER/none/x.tflite"],
    "the file beside": ["convert", "ABSENT", "-o", "FOLDER/taken.param"],
    "run": ["run", "ABSENT", "--random", "0", "-o", "FOLDER/none/y.npz"],
    "quantize": ["quantize", "ABSENT", "-c", "ABSENT", "-o", "FOLDER/none/q.nnapi"],
    "table": ["quantize", "ABSENT", "-c", "ABSENT", "--save-table", "FOLDER/none/t.json"],
    "report": ["quantize", "ABSENT", "-c", "ABSENT", "--report", "FOLDER"],
}


@pytest.mark.parametrize("arguments", TRIED.values(), ids=TRIED.keys())
def test_outputs_are_tried_before_the_work(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model, which is not there either, is not even looked for."""
    (tmp_path / "taken.bin").mkdir()
    assert main([a.replace("FOLDER", str(tmp_path)).replace("ABSENT", "absent.nnapi") for a in arguments]) == 2
    assert f"cannot write {tmp_path}" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["taken.bin"]


def test_a_file_that_exists_survives_a_failed_write(model: str, tmp_path: Path) -> None:
    target = tmp_path / "readonly"
    target.mkdir()
    (target / "out.nnapi").mkdir()
    assert main(["convert", model, "-o", str(target / "out.nnapi")]) == 2
    assert [p.name for p in target.iterdir()] == ["out.nnapi"]


def test_ctrl_c_leaves_no_half_written_file(tmp_path: Path) -> None:
    target = tmp_path / "big.nnapi"
    program = (
        "import signal, sys, time, nnapi.ir.file as file\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "original = file.struct.pack\n"
        "def slow(*a):\n"
        "    print('writing', flush=True); time.sleep(30); return original(*a)\n"
        "file.struct.pack = slow\n"
        "from nnapi.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    source = tmp_path / "m.nnapi"
    save(chain("ADD"), source)
    process = subprocess.Popen(
        [sys.executable, "-c", program, "convert", str(source), "-o", str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.strip() == "nnapi: interrupted"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.nnapi"]


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="cannot read"):
        main(["--debug", "inspect", str(tmp_path / "none.nnapi")])
